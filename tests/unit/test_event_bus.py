"""The bus: subscriptions, order, limits; with and without a backend in this process."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from typing import Any

import pytest

from pywebtransport.events import Event, EventBus, MemoryBackend, create_event_bus
from pywebtransport.exceptions import (
    ConfigurationError,
    ConnectionError,
    SerializationError,
    WebTransportError,
)
from pywebtransport.serializer import MsgPackSerializer
from pywebtransport.types import EventType
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until


async def test_subscribers_get_the_events_of_their_type() -> None:
    async with EventBus() as bus:
        heard: list[Event] = []
        source = object()
        identifier = bus.subscribe(event_type=EventType.SESSION_READY, handler=heard.append)
        event = Event(type=EventType.SESSION_READY, data={"not": object()}, source=source)
        await bus.publish(event=event)
        await bus.emit(event_type=EventType.SESSION_CLOSED)
        await bus.emit(event_type="session_ready", data=2, source=source)
        # Within one process these are the very objects, whatever they hold.
        assert heard[0] is event
        assert [(one.type, one.data, one.source) for one in heard[1:]] == [
            (EventType.SESSION_READY, 2, source)
        ]
        bus.unsubscribe(subscription_id=identifier)
        bus.unsubscribe(identifier)
        await bus.publish(event)
        assert len(heard) == 2
        assert bus.get_stats() == {
            "subscriptions": 0,
            "event_types": 0,
            "queued": 0,
            "running": 0,
            "published": 4,
            "received": 0,
            "malformed": 0,
            "dropped": 0,
            "errors": 0,
        }


async def test_once_is_for_one_event() -> None:
    async with EventBus() as bus:
        heard: list[Any] = []

        async def later(event: Event) -> None:
            heard.append(event.data)

        bus.subscribe("a", lambda event: heard.append(event.data), once=True)
        bus.subscribe("a", later, True)
        assert bus.get_subscription_count() == 2
        await bus.emit("a", 1)
        await bus.emit("a", 2)
        assert heard == [1, 1]
        assert bus.get_subscription_count() == 0


async def test_clear_all_subscriptions() -> None:
    async with EventBus() as bus:
        heard: list[Event] = []
        for name in ("a", "a", "b"):
            bus.subscribe(name, heard.append)
        assert bus.get_subscription_count() == 3
        bus.clear_all_subscriptions()
        await bus.emit("a")
        assert (bus.get_subscription_count(), heard) == (0, [])


async def test_a_handler_may_be_subscribed_twice_and_end_others() -> None:
    async with EventBus() as bus:
        heard: list[str] = []
        ids: list[str] = []

        def first(event: Event) -> None:
            heard.append("first")
            bus.unsubscribe(ids[1])

        def second(event: Event) -> None:
            heard.append("second")

        ids += [bus.subscribe("a", first), bus.subscribe("a", second), bus.subscribe("a", second)]
        assert len(set(ids)) == 3
        await bus.emit("a")
        assert heard == ["first", "second"]


async def test_a_slow_handler_keeps_its_order_and_nobody_waiting() -> None:
    async with EventBus() as bus:
        may_go_on = asyncio.Event()
        slow: list[int] = []
        quick: list[int] = []

        async def handler(event: Event) -> None:
            await may_go_on.wait()
            slow.append(event.data)

        bus.subscribe("a", handler)
        bus.subscribe("a", lambda event: quick.append(event.data))
        for number in range(5):
            await bus.emit("a", number)
        assert (slow, quick) == ([], [0, 1, 2, 3, 4])
        assert (bus.get_stats()["queued"], bus.get_stats()["running"]) == (4, 1)
        may_go_on.set()
        await until(lambda: bus.get_stats()["running"] == 0)
        assert slow == [0, 1, 2, 3, 4]


async def test_a_full_queue_drops_the_oldest_and_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with EventBus(max_queue_size=2) as bus:
        may_go_on = asyncio.Event()
        heard: list[int] = []

        async def handler(event: Event) -> None:
            await may_go_on.wait()
            heard.append(event.data)

        bus.subscribe("a", handler)
        for number in range(6):
            await bus.emit("a", number)
        assert bus.get_stats()["dropped"] == 3
        may_go_on.set()
        await until(lambda: bus.get_stats()["running"] == 0)
        assert heard == [0, 4, 5]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "is too slow for a" in warnings[0]


async def test_unsubscribe_lets_a_running_handler_end_and_forgets_the_rest() -> None:
    async with EventBus() as bus:
        may_go_on = asyncio.Event()
        heard: list[int] = []

        async def handler(event: Event) -> None:
            await may_go_on.wait()
            heard.append(event.data)

        identifier = bus.subscribe("a", handler)
        for number in range(3):
            await bus.emit("a", number)
        bus.unsubscribe(identifier)
        may_go_on.set()
        await until(lambda: bus.get_stats()["running"] == 0)
        assert heard == [0]


async def test_handlers_that_fail_are_logged_and_counted(expected_logs: ExpectedLogs) -> None:
    expected_logs("failed for event a")
    async with EventBus() as bus:
        heard: list[int] = []

        def broken(event: Event) -> None:
            raise LookupError("at once")

        async def broken_later(event: Event) -> None:
            heard.append(event.data)
            await asyncio.sleep(0)
            raise LookupError("later")

        bus.subscribe("a", broken)
        bus.subscribe("a", broken_later)
        for number in range(3):
            await bus.emit("a", number)
        await until(lambda: bus.get_stats()["errors"] == 6)
        assert heard == [0, 1, 2]


async def test_a_handler_whose_own_wait_was_cancelled_gets_the_next_events(
    expected_logs: ExpectedLogs,
) -> None:
    expected_logs("failed for event a")
    async with EventBus() as bus:
        heard: list[int] = []
        gone = asyncio.get_running_loop().create_future()

        async def handler(event: Event) -> None:
            heard.append(event.data)
            if event.data == 0:
                await gone

        bus.subscribe("a", handler)
        for number in range(3):
            await bus.emit("a", number)
        gone.cancel()
        await until(lambda: bus.get_stats()["running"] == 0)
        assert heard == [0, 1, 2]
        assert bus.get_stats()["errors"] == 1


async def test_a_handler_that_is_sometimes_a_coroutine() -> None:
    async with EventBus() as bus:
        heard: list[int] = []

        def handler(event: Event) -> Any:
            if event.data % 2:
                heard.append(event.data)
                return None
            return later(event)

        async def later(event: Event) -> None:
            await asyncio.sleep(0)
            heard.append(event.data)

        bus.subscribe("a", handler)
        for number in range(6):
            await bus.emit("a", number)
        await until(lambda: len(heard) == 6)
        assert heard == [0, 1, 2, 3, 4, 5]


async def test_a_handler_may_publish_to_itself() -> None:
    async with EventBus() as bus:
        heard: list[int] = []

        async def handler(event: Event) -> None:
            heard.append(event.data)
            if event.data < 3:
                await bus.emit("a", event.data + 1)

        bus.subscribe("a", handler)
        await bus.emit("a", 0)
        await until(lambda: heard == [0, 1, 2, 3])


async def test_close_cancels_handlers_and_ends_everything() -> None:
    bus = EventBus()
    cancelled = asyncio.Event()

    async def handler(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    bus.subscribe("a", handler)
    await bus.emit("a")
    await bus.close()
    await bus.close()
    assert cancelled.is_set()
    assert bus.get_stats()["running"] == 0
    for operation in (bus.emit("a"), bus.publish(Event(type="a")), bus.start()):
        with pytest.raises(WebTransportError, match="closed"):
            await operation
    with pytest.raises(WebTransportError, match="closed"):
        bus.subscribe("a", handler)


async def test_close_before_a_handler_made_its_first_step() -> None:
    backend = MemoryBackend()
    bus = await create_event_bus(backend)
    heard: list[Event] = []

    async def handler(event: Event) -> None:
        heard.append(event)

    bus.subscribe("a", handler)
    bus._dispatch(Event(type="a"))
    await bus.close()
    assert heard == []


async def test_a_handler_may_close_its_bus() -> None:
    bus = EventBus()
    closed = asyncio.Event()

    async def handler(event: Event) -> None:
        await bus.close()
        closed.set()

    bus.subscribe("a", handler)
    await bus.emit("a")
    await closed.wait()


async def test_limits_and_bad_arguments() -> None:
    async with EventBus(max_subscriptions=1) as bus:
        with pytest.raises(WebTransportError, match="not callable"):
            bus.subscribe("a", None)  # type: ignore[arg-type]
        identifier = bus.subscribe("a", lambda event: None)
        with pytest.raises(WebTransportError, match="max_subscriptions is 1"):
            bus.subscribe("b", lambda event: None)
        bus.unsubscribe(identifier)
        bus.subscribe("b", lambda event: None)
    with pytest.raises(ConfigurationError, match="channel_prefix"):
        EventBus(channel_prefix="")
    for key in ("max_queue_size", "max_subscriptions"):
        with pytest.raises(ConfigurationError, match=f"{key} = 0: expected a whole number"):
            EventBus(**{key: 0})  # type: ignore[arg-type]


async def test_one_instance_per_loop() -> None:
    bus = await EventBus.get_instance()
    assert await EventBus.get_instance() is bus
    heard: list[Event] = []
    bus.subscribe("a", heard.append)
    await (await EventBus.get_instance()).emit("a", 1)
    assert len(heard) == 1
    await bus.close()
    other = await EventBus.get_instance()
    assert other is not bus
    await other.close()


@pytest.mark.parametrize("factory", ["asyncio", "uvloop"])
def test_an_instance_goes_away_with_its_loop(factory: str) -> None:
    from tests.support.loops import FACTORIES

    found: list[weakref.ref[EventBus]] = []

    async def use() -> None:
        bus = await EventBus.get_instance()
        bus.subscribe("a", lambda event: None)
        await bus.emit("a")
        found.append(weakref.ref(bus))

    for _ in range(2):
        with asyncio.Runner(loop_factory=FACTORIES[factory]) as runner:
            runner.run(use())
    gc.collect()
    assert found[0]() is None
    assert found[1]() is None


async def test_get_instance_is_create_event_bus_without_sharing() -> None:
    bus = await create_event_bus()
    assert await EventBus.get_instance() is not bus
    await bus.close()
    await (await EventBus.get_instance()).close()


# --------------------------------------------------------------------- backend


def collect(bus: EventBus, event_type: str) -> list[Event]:
    """The events of a type, as they come."""
    heard: list[Event] = []
    bus.subscribe(event_type, heard.append)
    return heard


async def test_buses_on_one_backend_hear_each_other_and_themselves() -> None:
    async with MemoryBackend() as backend:
        one = EventBus(backend, close_backend=False)
        two = EventBus(backend, close_backend=False)
        stranger = EventBus(backend, channel_prefix="others:", close_backend=False)
        async with one, two, stranger:
            heard = [collect(bus, "chat") for bus in (one, two, stranger)]
            event = Event(type="chat", data={"text": "hi", "to": [1, 2]}, source=object())
            await one.publish(event)
            assert [len(events) for events in heard] == [1, 1, 0]
            for copy in (heard[0][0], heard[1][0]):
                assert copy is not event
                assert (copy.type, copy.timestamp, copy.data, copy.event_id) == (
                    event.type,
                    event.timestamp,
                    event.data,
                    event.event_id,
                )
                assert copy.source.startswith("<object object")
            await two.emit(EventType.SESSION_READY, source="here")
            mine = collect(one, EventType.SESSION_READY)
            await two.emit(EventType.SESSION_READY, source="here")
            assert mine[0].type is EventType.SESSION_READY
            assert mine[0].source == "here"
            assert one.get_stats()["received"] == 3
        await backend.publish("events:chat", b"the backend is open still")


async def test_a_bus_starts_its_backend_and_closes_it() -> None:
    backend = MemoryBackend()
    bus = EventBus(backend)
    heard = collect(bus, "a")
    # The first event starts it.
    await bus.emit("a", 1)
    assert [event.data for event in heard] == [1]
    await bus.close()
    assert backend.get_stats()["subscriptions"] == 0
    with pytest.raises(ConnectionError):
        await backend.publish("events:a", b"")


async def test_a_bus_releases_what_it_did_not_start() -> None:
    backend = MemoryBackend()
    bus = EventBus(backend)
    await bus.close()
    with pytest.raises(WebTransportError, match="closed"):
        await bus.start()


async def test_another_serializer() -> None:
    async with MemoryBackend() as backend:
        payloads: list[bytes] = []
        await backend.subscribe("*", lambda channel, payload: payloads.append(payload))
        bus = EventBus(backend, serializer=MsgPackSerializer(), close_backend=False)
        async with bus:
            heard = collect(bus, "a")
            await bus.emit("a", b"\x00\xff")
            assert heard[0].data == b"\x00\xff"
            with pytest.raises(UnicodeDecodeError):
                payloads[0].decode()


async def test_events_that_cannot_be_serialized() -> None:
    async with EventBus(MemoryBackend()) as bus:
        heard = collect(bus, "a")
        with pytest.raises(SerializationError):
            await bus.emit("a", object())
        assert heard == []
        assert bus.get_stats()["published"] == 0


async def test_a_serializer_of_the_application_that_fails() -> None:
    class Broken:
        def serialize(self, *, obj: Any) -> bytes:
            raise LookupError("no bytes")

        def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any:
            raise LookupError("no object")

    backend = MemoryBackend()
    async with EventBus(backend, serializer=Broken()) as bus:
        with pytest.raises(SerializationError, match="no bytes") as caught:
            await bus.emit("a")
        assert isinstance(caught.value.original_exception, LookupError)
        await backend.publish("events:a", b"{}")
        assert bus.get_stats()["malformed"] == 1


async def test_events_too_large_for_the_backend() -> None:
    async with EventBus(MemoryBackend(max_payload_size=1000)) as bus:
        with pytest.raises(SerializationError, match="max_payload_size is 1000"):
            await bus.emit("a", "x" * 1000)


def message(**changes: Any) -> bytes:
    """An event as it travels, with changes."""
    fields = {"type": "a", "timestamp": 1.5, "data": None, "event_id": "1", "source": None}
    fields.update(changes)
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"type": "a"}',
        message(type=1),
        message(type=None),
        message(timestamp="now"),
        message(event_id=7),
        message(source={}),
        message(more=1),
        b'{"type":"a","timestamp":NaN,"data":null,"event_id":"1","source":null}',
        message(data=0)[:-4] + b"[" * 100_000,
        message(data=[]).replace(b"[]", b"[" * 5000 + b"]" * 5000),
    ],
    ids=lambda payload: repr(payload[:40]),
)
@pytest.mark.loops("asyncio")
async def test_messages_that_are_no_events_are_dropped_and_counted(
    payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with MemoryBackend() as backend, EventBus(backend, close_backend=False) as bus:
        heard = collect(bus, "a")
        for _ in range(2):
            await backend.publish("events:a", payload)
        assert heard == []
        assert bus.get_stats()["malformed"] == 2
        assert len(caplog.records) == 1
        await backend.publish("events:a", message(data=[1]))
        assert [event.data for event in heard] == [[1]]


async def test_a_start_that_fails_can_be_repeated() -> None:
    class Late(MemoryBackend):
        tries = 0

        async def start(self) -> None:
            self.tries += 1
            if self.tries < 3:
                raise ConnectionError("not yet")
            await super().start()

    backend = Late()
    bus = EventBus(backend)
    heard = collect(bus, "a")
    for _ in range(2):
        with pytest.raises(ConnectionError, match="not yet"):
            await bus.emit("a")
    await bus.emit("a", 3)
    assert [event.data for event in heard] == [3]
    await bus.close()


async def test_create_event_bus_leaves_nothing_when_it_fails() -> None:
    ended: list[bool] = []

    class Never(MemoryBackend):
        async def start(self) -> None:
            raise ConnectionError("never")

        async def close(self) -> None:
            ended.append(True)

    with pytest.raises(ConnectionError, match="never"):
        await create_event_bus(Never())
    assert ended == [True]


async def test_a_cancelled_publisher_leaves_the_bus_in_order() -> None:
    async with EventBus(MemoryBackend()) as bus:
        heard = collect(bus, "a")
        task = asyncio.create_task(bus.emit("a", 1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bus.emit("a", 2)
        assert [event.data for event in heard][-1] == 2
