"""Events and emitters."""

import asyncio
import builtins
import gc
import logging
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.events import Event, EventEmitter, create_event_emitter, event_handler
from pywebtransport.events import _emitter as events
from pywebtransport.exceptions import (
    ConfigurationError,
    ConnectionError,
    DatagramError,
    StreamError,
    TimeoutError,
    WebTransportError,
)
from pywebtransport.types import EventEmitterProtocol, EventType
from tests.support.leaks import ExpectedLogs

Log = list[Any]


def append(log: Log, *marks: Any) -> Callable[[Event], None]:
    """A handler that writes a mark (or the event's data) to a log."""
    return lambda event: log.append(marks[0] if marks else event.data)


def append_later(log: Log, mark: Any) -> Callable[[Event], Coroutine[Any, Any, None]]:
    async def handler(event: Event) -> None:
        await asyncio.sleep(0)
        log.append(mark)

    return handler


def fail(event: Event) -> None:
    raise ValueError("handler failed")


async def fail_later(event: Event) -> None:
    await asyncio.sleep(0)
    raise ValueError("handler failed")


# ---------------------------------------------------------------------- events


def test_event_type_becomes_the_member() -> None:
    assert Event(type="stream_opened").type is EventType.STREAM_OPENED
    assert Event(type=EventType.STREAM_OPENED).type is EventType.STREAM_OPENED
    assert Event(type="custom").type == "custom"


def test_events_have_different_ids_and_a_time() -> None:
    first, second = Event(type="a"), Event(type="a")
    assert first.event_id != second.event_id
    assert 0 < first.timestamp <= second.timestamp


KINDS = ("connection", "datagram", "session", "stream")


@pytest.mark.parametrize("member", EventType)
def test_event_kind_follows_the_type(member: EventType) -> None:
    event = Event(type=member)
    kinds = {kind for kind in KINDS if getattr(event, f"is_{kind}_event")}
    assert kinds == {member.split("_")[0]} & set(KINDS)
    assert event.is_error_event == (member.endswith(("_error", "_failed")))


@pytest.mark.parametrize("kind", KINDS)
def test_event_constructors(kind: str) -> None:
    make = getattr(Event, f"for_{kind}")
    event = make(**{"event_type": f"{kind}_closed", f"{kind}_info": {"id": 1}})
    assert (event.type, event.data) == (f"{kind}_closed", {"id": 1})
    assert getattr(event, f"is_{kind}_event")


@pytest.mark.parametrize(
    ("error", "event_type"),
    [
        (TimeoutError("m"), EventType.TIMEOUT_ERROR),
        (StreamError("m"), EventType.STREAM_ERROR),
        (DatagramError("m"), EventType.DATAGRAM_ERROR),
        (ConnectionError("m"), EventType.CONNECTION_FAILED),
        (WebTransportError("m"), EventType.PROTOCOL_ERROR),
        (ValueError("m"), EventType.PROTOCOL_ERROR),
    ],
)
def test_error_event(error: Exception, event_type: EventType) -> None:
    event = Event.for_error(error=error, source="here")
    assert (event.type, event.source) == (event_type, "here")
    assert event.is_error_event
    assert event.data["error_type"] == type(error).__name__
    assert event.data["error_message"] == "m"
    assert bool(event.data["error_details"]) == isinstance(error, WebTransportError)


def test_event_to_dict() -> None:
    event = Event(type="a", data=1, source=None, timestamp=2.0, event_id="x")
    assert event.to_dict() == {
        "id": "x",
        "type": "a",
        "timestamp": 2.0,
        "data": 1,
        "source": None,
    }
    assert Event(type="stream_opened", source=[1]).to_dict()["source"] == "[1]"


# -------------------------------------------------------------------- emitting


async def test_handlers_run_in_order_and_are_awaited() -> None:
    emitter, log = EventEmitter(), Log()
    emitter.on("a", append(log, 1))
    emitter.on("a", append_later(log, 2))
    emitter.once("a", append_later(log, 3))
    emitter.on_any(append(log, 4))
    await emitter.emit("a")
    assert log == [1, 2, 3, 4]
    await emitter.emit("a")
    assert log == [1, 2, 3, 4, 1, 2, 4]
    await emitter.emit("b")
    assert log[7:] == [4]


async def test_keywords_of_the_contract() -> None:
    emitter, log = EventEmitter(), Log()
    handler = append(log)
    emitter.on(event_type=EventType.STREAM_OPENED, handler=handler)
    emitter.once(event_type="b", handler=handler)
    emitter.on_any(handler=handler)
    await emitter.emit(event_type="stream_opened", data=1, source="here")
    emitter.off_any(handler=handler)
    emitter.off(event_type=EventType.STREAM_OPENED, handler=handler)
    await emitter.emit(event_type="stream_opened", data=2)
    assert log == [1, 1]
    assert isinstance(emitter, EventEmitterProtocol)


async def test_names_and_members_are_the_same_event_type() -> None:
    emitter, log = EventEmitter(), Log()
    emitter.on("stream_opened", append(log))
    await emitter.emit(EventType.STREAM_OPENED, 1)
    emitter._emit_nowait(EventType.STREAM_OPENED, 2)
    assert log == [1, 2]
    assert emitter.listener_count(EventType.STREAM_OPENED) == 1


async def test_source_is_the_emitter_unless_given() -> None:
    emitter, log = EventEmitter(), Log()
    emitter.on("a", lambda event: log.append(event.source))
    await emitter.emit("a")
    await emitter.emit("a", source="here")
    emitter._emit_nowait("a")
    assert log == [emitter, "here", emitter]


@pytest.mark.parametrize("handler", [fail, fail_later])
async def test_failing_handler_is_logged_and_others_run(
    handler: Callable[[Event], Any],
    caplog: pytest.LogCaptureFixture,
    expected_logs: ExpectedLogs,
) -> None:
    expected_logs("failed for event a")
    emitter, log = EventEmitter(), Log()
    emitter.on("a", handler)
    emitter.on("a", append(log, 1))
    await emitter.emit("a")
    assert log == [1]
    emitter._emit_nowait("a")
    await asyncio.gather(*emitter._emitter_state().tasks)
    assert log == [1, 1]
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(records) == 2
    assert all("handler failed" in (record.exc_text or str(record.exc_info)) for record in records)


async def cancelled_by_its_own(event: Event) -> None:
    """Waits for something that another one cancelled."""
    waited_for = asyncio.get_running_loop().create_future()
    waited_for.cancel()
    await waited_for


async def test_a_handler_whose_own_work_is_cancelled_failed_like_any_other(
    caplog: pytest.LogCaptureFixture, expected_logs: ExpectedLogs
) -> None:
    expected_logs("failed for event a")
    emitter, log = EventEmitter(), Log()
    emitter.on("a", cancelled_by_its_own)
    emitter.on("a", append(log))
    await emitter.emit("a", 1)
    emitter.pause()
    await emitter.emit("a", 2)
    await emitter.emit("a", 3)
    resumed = emitter.resume()
    assert resumed is not None
    await resumed
    emitter._emit_nowait("a", 4)
    await asyncio.gather(*emitter._emitter_state().tasks)
    assert log == [1, 2, 3, 4]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 4


async def test_handler_may_remove_itself_and_others_while_running() -> None:
    emitter, log = EventEmitter(), Log()
    last = append(log, 2)

    def first(event: Event) -> None:
        log.append(1)
        emitter.off("a", first)
        emitter.off("a", last)

    emitter.on("a", first)
    emitter.on("a", last)
    await emitter.emit("a")
    assert log == [1, 2]
    await emitter.emit("a")
    assert log == [1, 2]


async def test_once_handler_runs_once_although_it_emits() -> None:
    emitter, log = EventEmitter(), Log()

    async def again(event: Event) -> None:
        log.append(event.data)
        await emitter.emit("a", event.data + 1)

    emitter.once("a", again)
    await emitter.emit("a", 1)
    assert log == [1]


async def test_cancelling_emit_stops_between_handlers() -> None:
    emitter, log = EventEmitter(), Log()
    started = asyncio.Event()

    async def wait(event: Event) -> None:
        started.set()
        await asyncio.Event().wait()

    emitter.on("a", wait)
    emitter.on("a", append(log, 1))
    task = asyncio.create_task(emitter.emit("a"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == []


# ------------------------------------------------------------------- listeners


def test_off_removes_one_or_all() -> None:
    emitter, log = EventEmitter(), Log()
    one, two, three = append(log), append(log), append(log)
    emitter.off("a")
    emitter.off_any()
    assert emitter.listeners("a") == []
    emitter.on("a", one)
    emitter.on("a", two)
    emitter.once("a", three)
    assert emitter.listeners("a") == [one, two, three]
    emitter.off("a", one)
    emitter.off("a", one)
    assert emitter.listeners("a") == [two, three]
    emitter.off("a", three)
    assert emitter.listeners("a") == [two]
    emitter.off("a")
    assert emitter.listeners("a") == []
    assert not emitter._has_listeners("a")


def test_off_any_removes_one_or_all() -> None:
    emitter, log = EventEmitter(), Log()
    one, two = append(log), append(log)
    emitter.on_any(one)
    emitter.on_any(two)
    assert emitter._has_listeners("whatever")
    emitter.off_any(one)
    emitter.off_any(one)
    assert emitter.get_stats()["wildcard_handlers"] == 1
    emitter.off_any()
    assert not emitter._has_listeners("whatever")


async def test_adding_a_handler_twice_is_adding_it_once() -> None:
    emitter, log = EventEmitter(), Log()
    handler = append(log, 1)
    emitter.on("a", handler)
    emitter.on("a", handler)
    await emitter.emit("a")
    assert log == [1]


def test_remove_all_listeners() -> None:
    emitter, log = EventEmitter(), Log()
    emitter.remove_all_listeners()
    emitter.on("a", append(log))
    emitter.on("b", append(log))
    emitter.on_any(append(log))
    emitter.remove_all_listeners("a")
    assert (emitter.listener_count("a"), emitter.listener_count("b")) == (0, 1)
    emitter.remove_all_listeners()
    assert emitter.get_stats()["event_types"] == 0
    assert not emitter._has_listeners("b")


def test_too_many_listeners_are_refused() -> None:
    emitter, log = create_event_emitter(max_listeners=1), Log()
    emitter.on("a", append(log))
    emitter.once("a", append(log))
    emitter.on("b", append(log))
    emitter.on_any(append(log))
    for add in (emitter.on, emitter.once):
        with pytest.raises(WebTransportError, match="there are 1 already"):
            add("a", append(log))
    with pytest.raises(WebTransportError, match="any event"):
        emitter.on_any(append(log))
    emitter.set_max_listeners(0)
    for _ in range(200):
        emitter.on("a", append(log))
    assert emitter.listener_count("a") == 202


def test_a_refused_handler_leaves_no_trace() -> None:
    emitter = EventEmitter()
    with pytest.raises(WebTransportError, match="not callable"):
        emitter.on("a", 3)  # type: ignore[arg-type]
    assert not emitter._has_listeners("a")


@pytest.mark.parametrize("value", [-1, 1.5, True, None])
def test_bad_max_listeners(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_listeners"):
        EventEmitter(max_listeners=value)


async def test_marked_methods_are_registered() -> None:
    class Target:
        def __init__(self) -> None:
            self.log: Log = []

        @event_handler(event_type=EventType.STREAM_OPENED)
        async def opened(self, event: Event) -> None:
            self.log.append("opened")

        @event_handler("b")
        def other(self, event: Event) -> None:
            self.log.append("other")

        @property
        def unrelated(self) -> None:
            raise AssertionError("properties must not be read")

    emitter, target = EventEmitter(), Target()
    emitter.register_handlers(target)
    await emitter.emit(EventType.STREAM_OPENED)
    await emitter.emit("b")
    assert target.log == ["opened", "other"]


async def test_objects_without_marked_methods_have_nothing_to_register() -> None:
    emitter = EventEmitter()
    for target in (lambda: None, None, 1, "text", b"", Event, range(3), object()):
        emitter.register_handlers(target)
    assert emitter.get_stats()["total_handlers"] == 0


# -------------------------------------------------------------------- wait_for


async def test_wait_for_gives_the_event_that_meets_the_condition() -> None:
    emitter = EventEmitter()
    waiting = asyncio.create_task(emitter.wait_for("a", condition=lambda e: e.data == 2))
    await asyncio.sleep(0)
    assert emitter._has_listeners("a")
    assert emitter.listener_count("a") == 0
    for number in (1, 2, 3):
        emitter._emit_nowait("a", number)
    assert (await waiting).data == 2
    assert not emitter._has_listeners("a")


async def test_several_may_wait() -> None:
    emitter = EventEmitter()
    tasks = [asyncio.create_task(emitter.wait_for("a", timeout=60)) for _ in range(3)]
    await asyncio.sleep(0)
    await emitter.emit("a", 1)
    assert [event.data for event in await asyncio.gather(*tasks)] == [1, 1, 1]


async def test_wait_for_times_out_with_the_contracts_error() -> None:
    emitter = EventEmitter()
    with pytest.raises(TimeoutError, match="no 'stream_opened' event within 0") as caught:
        await emitter.wait_for(EventType.STREAM_OPENED, timeout=0)
    assert caught.value.timeout_duration == 0
    assert not emitter._has_listeners("stream_opened")


@pytest.mark.parametrize("error", [ValueError, builtins.TimeoutError])
async def test_wait_for_passes_on_what_the_condition_raises(error: type[Exception]) -> None:
    emitter = EventEmitter()

    def condition(event: Event) -> bool:
        raise error("condition failed")

    task = asyncio.create_task(emitter.wait_for("a", timeout=60, condition=condition))
    await asyncio.sleep(0)
    await emitter.emit("a")
    with pytest.raises(error, match="condition failed"):
        await task


async def test_a_timeout_that_is_no_number_leaves_nothing() -> None:
    emitter = EventEmitter()
    with pytest.raises(ConfigurationError, match="timeout = 'soon'"):
        await emitter.wait_for("a", timeout="soon")  # type: ignore[arg-type]
    assert not emitter._has_listeners("a")


async def test_cancelled_wait_leaves_nothing() -> None:
    emitter = EventEmitter()
    task = asyncio.create_task(emitter.wait_for("a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not emitter._has_listeners("a")
    assert emitter._emitter_state().waiting == set()


async def test_leaving_the_block_closes_an_emitter() -> None:
    async with create_event_emitter() as emitter:
        emitter.on("a", print)
    assert emitter.listener_count("a") == 0
    with pytest.raises(WebTransportError, match="closed"):
        emitter.on("a", print)


async def test_further_bases_of_an_emitter_get_their_arguments() -> None:
    class Named:
        def __init__(self, name: str, *, size: int) -> None:
            self.name, self.size = name, size

    class Player(EventEmitter, Named):
        pass

    player, log = Player("ada", size=3, max_listeners=1), Log()
    assert (player.name, player.size) == ("ada", 3)
    player.on("a", log.append)
    await player.emit("a")
    assert len(log) == 1
    with pytest.raises(WebTransportError, match="max_listeners"):
        player.on("a", print)
    with pytest.raises(TypeError):
        EventEmitter(surprise=1)


async def test_close_ends_waiting() -> None:
    emitter = EventEmitter()
    task = asyncio.create_task(emitter.wait_for("a"))
    await asyncio.sleep(0)
    await emitter.close()
    with pytest.raises(WebTransportError, match="closed while waiting"):
        await task
    with pytest.raises(WebTransportError, match="is closed"):
        await emitter.wait_for("a")


async def test_close_and_cancel_in_one_turn_leave_no_unseen_exception() -> None:
    unseen: Log = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    emitter = EventEmitter()
    task = asyncio.create_task(emitter.wait_for("a"))
    done = asyncio.create_task(emitter.wait_for("b"))
    await asyncio.sleep(0)
    await emitter.emit("b")
    task.cancel()
    await emitter.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    await done
    second = EventEmitter()
    task = asyncio.create_task(second.wait_for("a"))
    await asyncio.sleep(0)
    await second.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task, done
    gc.collect()
    assert unseen == []


# ------------------------------------------------------------ pause and resume


async def test_paused_events_come_later_in_order() -> None:
    emitter, log = EventEmitter(), Log()
    emitter.on("a", append(log))
    emitter.pause()
    emitter._emit_nowait("a", 1)
    await emitter.emit("a", 2)
    assert (log, emitter.get_stats()["queued_events"]) == ([], 2)
    assert emitter.get_stats()["paused"] is True
    task = emitter.resume()
    assert task is not None
    await emitter.emit("a", 3)
    await task
    assert log == [1, 2, 3]
    await emitter.emit("a", 4)
    assert log == [1, 2, 3, 4]
    assert emitter.resume() is None


async def test_pausing_again_stops_the_delivery() -> None:
    emitter, log = EventEmitter(), Log()

    def handler(event: Event) -> None:
        log.append(event.data)
        emitter.pause()

    emitter.on("a", handler)
    emitter.pause()
    for number in (1, 2):
        await emitter.emit("a", number)
    for expected in ([1], [1, 2]):
        task = emitter.resume()
        assert task is not None
        await task
        assert log == expected
    assert emitter.resume() is None


async def test_resume_while_still_delivering_goes_on_with_the_same_task() -> None:
    emitter, log = EventEmitter(), Log()
    gate = asyncio.Event()

    async def handler(event: Event) -> None:
        await gate.wait()
        log.append(event.data)

    emitter.on("a", handler)
    emitter.pause()
    await emitter.emit("a", 1)
    await emitter.emit("a", 2)
    task = emitter.resume()
    await asyncio.sleep(0)
    emitter.pause()
    assert emitter.resume() is task
    gate.set()
    assert task is not None
    await task
    assert log == [1, 2]


async def test_full_queue_drops_the_oldest_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    emitter, log = EventEmitter(), Log()
    emitter.on("a", append(log))
    emitter.pause()
    for number in range(events.MAX_QUEUE + 5):
        emitter._emit_nowait("a", number)
    stats = emitter.get_stats()
    assert (stats["queued_events"], stats["dropped_events"]) == (events.MAX_QUEUE, 5)
    task = emitter.resume()
    assert task is not None
    await task
    assert log == list(range(5, events.MAX_QUEUE + 5))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_wait_for_inside_a_handler_of_held_back_events() -> None:
    """A handler that waits for an event emitted after the pause is not stuck."""

    emitter, log = EventEmitter(), Log()

    async def handler(event: Event) -> None:
        log.append((await emitter.wait_for("b", timeout=60)).data)

    emitter.on("a", handler)
    emitter.on("b", append(log))
    emitter.pause()
    await emitter.emit("a")
    task = emitter.resume()
    assert task is not None
    await asyncio.sleep(0)
    emitter._emit_nowait("b", 1)
    await task
    assert log == [1, 1]


async def test_held_back_events_wake_waiters_when_delivered() -> None:
    emitter = EventEmitter()
    emitter.pause()
    waiting = asyncio.create_task(emitter.wait_for("a"))
    await asyncio.sleep(0)
    emitter._emit_nowait("a", 1)
    await asyncio.sleep(0)
    assert not waiting.done()
    emitter.resume()
    assert (await waiting).data == 1
    await asyncio.gather(*emitter._emitter_state().tasks)


def test_resume_needs_a_loop_only_for_held_back_events() -> None:
    emitter, log = EventEmitter(), Log()
    assert emitter.resume() is None
    emitter.on("a", append(log))
    emitter.pause()
    assert emitter.resume() is None
    emitter.pause()
    emitter._emit_nowait("a", 1)
    with pytest.raises(RuntimeError):
        emitter.resume()
    assert emitter.get_stats()["queued_events"] == 1
    assert emitter.get_stats()["paused"] is True


# --------------------------------------------------------------- emit, no wait


def test_emit_nowait_without_listeners_makes_nothing() -> None:
    emitter = EventEmitter()
    emitter._emit_nowait("a", 1)
    assert emitter._emitter is None
    emitter.on("b", append([]))
    emitter._emit_nowait("a", 1)
    assert emitter.get_event_history() == []


async def test_emit_nowait_calls_functions_now_and_coroutines_in_tasks() -> None:
    emitter, log = EventEmitter(), Log()
    emitter.on("a", append_later(log, 2))
    emitter.on("a", append(log, 1))
    emitter._emit_nowait("a")
    assert log == [1]
    tasks = emitter._emitter_state().tasks
    assert len(tasks) == 1
    await asyncio.gather(*tasks)
    assert log == [1, 2]
    assert tasks == set()


async def test_emit_nowait_accepts_futures() -> None:
    emitter = EventEmitter()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    emitter.on("a", lambda event: future)
    emitter._emit_nowait("a")
    tasks = set(emitter._emitter_state().tasks)
    future.set_result(None)
    await asyncio.gather(*tasks)


def test_emit_nowait_without_a_loop_reports_coroutine_handlers(
    expected_logs: ExpectedLogs,
) -> None:
    expected_logs("was not run for a: no event loop is running")
    emitter, log = EventEmitter(), Log()
    emitter.on("a", append_later(log, 2))
    emitter.on("a", append(log, 1))
    emitter._emit_nowait("a")
    assert log == [1]
    assert emitter.get_stats()["dropped_events"] == 1


async def test_running_handlers_are_bounded(
    caplog: pytest.LogCaptureFixture,
    expected_logs: ExpectedLogs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected_logs("2 handlers are still running")
    monkeypatch.setattr(events, "MAX_TASKS", 2)
    emitter, log = EventEmitter(), Log()
    emitter.on("a", append_later(log, 1))
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    emitter.on("b", lambda event: future)
    for _ in range(3):
        emitter._emit_nowait("a")
    emitter._emit_nowait("b")
    assert emitter.get_stats()["dropped_events"] == 2
    await asyncio.gather(*emitter._emitter_state().tasks)
    assert log == [1, 1]
    assert caplog.text.count("2 handlers are still running") == 2


# ----------------------------------------------------------------------- close


async def test_close_cancels_handlers_that_run() -> None:
    emitter, log = EventEmitter(), Log()

    async def endless(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cancelled")

    emitter.on("a", endless)
    emitter._emit_nowait("a")
    await asyncio.sleep(0)
    await emitter.close()
    assert log == ["cancelled"]
    await emitter.close()


async def test_close_from_inside_a_handler() -> None:
    emitter, log = EventEmitter(), Log()

    async def handler(event: Event) -> None:
        await emitter.close()
        log.append("closed")

    emitter.on("a", handler)
    emitter._emit_nowait("a")
    await asyncio.gather(*emitter._emitter_state().tasks)
    assert log == ["closed"]


async def test_closed_emitter_is_silent_and_takes_no_handlers() -> None:
    emitter, log = EventEmitter(), Log()
    emitter.on("a", append(log))
    emitter.pause()
    emitter._emit_nowait("a", 1)
    await emitter.close()
    emitter.pause()
    assert emitter.get_stats()["paused"] is False
    await emitter.emit("a", 2)
    emitter._emit_nowait("a", 3)
    assert (log, emitter.get_stats()["queued_events"]) == ([], 0)
    with pytest.raises(WebTransportError, match="the emitter is closed"):
        emitter.on("a", append(log))


# ---------------------------------------------------------- history, statistics


async def test_history_is_kept_from_the_first_listener_on() -> None:
    emitter = EventEmitter()
    assert emitter.get_event_history() == []
    emitter.clear_history()
    emitter.on_any(append([]))
    await emitter.emit("a", 1)
    emitter._emit_nowait("b", 2)
    await emitter.emit("a", 3)
    assert [event.data for event in emitter.get_event_history()] == [1, 2, 3]
    assert [event.data for event in emitter.get_event_history("a")] == [1, 3]
    assert [event.data for event in emitter.get_event_history(limit=1)] == [3]
    assert emitter.get_event_history(limit=0) == []
    emitter.clear_history()
    assert emitter.get_event_history() == []


def test_history_is_bounded() -> None:
    emitter = EventEmitter()
    emitter.on("a", append([]))
    for number in range(events.MAX_HISTORY + 10):
        emitter._emit_nowait("a", number)
    history = emitter.get_event_history(limit=10**6)
    assert len(history) == events.MAX_HISTORY
    assert history[-1].data == events.MAX_HISTORY + 9


def test_stats_have_the_keys_of_the_contract() -> None:
    emitter = EventEmitter()
    empty = emitter.get_stats()
    assert emitter._emitter is None
    assert set(empty) >= {
        "total_handlers",
        "total_once_handlers",
        "wildcard_handlers",
        "event_types",
        "history_size",
        "queued_events",
        "paused",
    }
    assert not any(empty.values())
    emitter.on("a", append([]))
    emitter.once("a", append([]))
    emitter.once("b", append([]))
    stats = emitter.get_stats()
    assert (stats["total_handlers"], stats["total_once_handlers"]) == (1, 2)
    assert stats["event_types"] == 2


# ----------------------------------------------------------------------- shape


async def test_close_before_a_coroutine_handler_made_its_first_step() -> None:
    """It is not called then, and there is no warning that it was never awaited."""
    emitter = EventEmitter()
    calls: Log = []

    async def handler(event: Event) -> None:
        calls.append(event.data)

    emitter.on("a", handler)
    emitter._emit_nowait("a", 1)
    await emitter.close()
    gc.collect()
    assert calls == []


async def test_subclasses_hear_of_listeners() -> None:
    class Source(EventEmitter):
        def __init__(self) -> None:
            super().__init__()
            self.wanted: list[str | None] = []

        def _listener_added(self, event_type: str | None) -> None:
            self.wanted.append(event_type)

    source = Source()
    handler = append([])
    source.on("a", handler)
    source.on("a", handler)
    source.once("b", handler)
    source.on_any(handler)
    with pytest.raises(TimeoutError):
        await source.wait_for("c", timeout=0)
    assert source.wanted == ["a", "b", None, "c"]


def test_subclasses_may_use_slots() -> None:
    class Small(EventEmitter):
        __slots__ = ("name",)

    small = Small()
    assert not hasattr(small, "__dict__")
    small.on("a", append([]))
    assert small.listener_count("a") == 1


def test_an_emitter_without_listeners_is_freed_at_once() -> None:
    class Object(EventEmitter):
        pass

    gc.disable()
    try:
        emitter = Object()
        emitter._emit_nowait("a")
        gone = weakref.ref(emitter)
        del emitter
        assert gone() is None
    finally:
        gc.enable()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30))
def test_each_handler_sees_each_event_of_its_type_in_order(steps: list[tuple[str, bool]]) -> None:
    """Whatever mix of pausing and emitting: nothing is lost, doubled or reordered."""

    async def main() -> None:
        emitter = EventEmitter()
        seen: dict[str, Log] = {name: [] for name in "abc"}
        everything: Log = []
        for name in "abc":
            emitter.on(name, append(seen[name]))
        emitter.on_any(append(everything))
        for number, (name, pause) in enumerate(steps):
            if pause:
                emitter.pause()
            else:
                emitter.resume()
            emitter._emit_nowait(name, number)
        last = emitter.resume()
        if last is not None:
            await last
        await asyncio.gather(*emitter._emitter_state().tasks)
        assert everything == list(range(len(steps)))
        for name, log in seen.items():
            assert log == [number for number, step in enumerate(steps) if step[0] == name]

    asyncio.run(main())
