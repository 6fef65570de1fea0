"""Tasks that continue in the turn in which a peer's data woke them: what stays as with asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from pywebtransport._quic import EagerTurn, QuicStream
from tests.support.steps import until

from .harness import Lab
from .test_loop import Net, Peer, net, read

MakeFuture = Callable[[], "asyncio.Future[Any]"]


class Failure(Exception):
    """What a test lets happen."""


@pytest.fixture(params=["asyncio", "eager"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which future a test looks at: it has to find no difference."""
    name: str = request.param
    return name


def maker(kind: str) -> MakeFuture:
    loop = asyncio.get_running_loop()
    turn = EagerTurn.of(loop)
    return loop.create_future if kind == "asyncio" else lambda: turn.create_future(loop)


# ----------------------------------------------------------------------- as a future


async def test_results_and_exceptions(kind: str) -> None:
    make = maker(kind)
    for value in (None, 5, (1, 2), ValueError("a value"), StopIteration(3)):
        future = make()
        asyncio.get_running_loop().call_soon(future.set_result, value)
        assert await future is value
        assert await future is value
        assert future.done()
        assert not future.cancelled()
        assert future.result() is value
        assert future.exception() is None
    for error in (Failure("one"), Failure):
        future = make()
        future.set_exception(error)
        with pytest.raises(Failure):
            await future
        assert isinstance(future.exception(), Failure)


async def test_what_is_not_done_has_no_result(kind: str) -> None:
    future = maker(kind)()
    assert asyncio.isfuture(future)
    assert future.get_loop() is asyncio.get_running_loop()
    for look in (future.result, future.exception):
        with pytest.raises(asyncio.InvalidStateError):
            look()
    future.set_result(1)
    for again in (future.set_result, future.set_exception):
        with pytest.raises(asyncio.InvalidStateError):
            again(Failure())
    assert not future.cancel()
    assert future.result() == 1


async def test_cancellation_with_a_message(kind: str) -> None:
    future = maker(kind)()
    assert future.cancel("enough")
    assert not future.cancel()
    assert future.cancelled()
    for look in (future.result, future.exception):
        with pytest.raises(asyncio.CancelledError, match="enough"):
            look()
    with pytest.raises(asyncio.InvalidStateError):
        future.set_result(1)
    silent = maker(kind)()
    silent.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        silent.result()
    assert caught.value.args == ()


async def test_callbacks_in_order_and_removed(kind: str) -> None:
    future = maker(kind)()
    told: list[tuple[str, object]] = []
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def first(of: object) -> None:
        told.append((f"first {variable.get()}", of))

    def second(of: object) -> None:
        told.append((f"second {variable.get()}", of))

    context = contextvars.copy_context()
    context.run(variable.set, "given")
    for _ in range(2):
        future.add_done_callback(first)
    future.add_done_callback(second, context=context)
    assert future.remove_done_callback(first) == 2
    assert future.remove_done_callback(first) == 0
    future.add_done_callback(first)
    future.set_result(None)
    future.add_done_callback(second)
    assert told == []
    await asyncio.sleep(0)
    assert told == [("second given", future), ("first unset", future), ("second unset", future)]


async def test_order_against_call_soon_outside_a_receive_turn(kind: str) -> None:
    loop = asyncio.get_running_loop()
    future = maker(kind)()
    order: list[str] = []

    async def wait() -> None:
        await future
        order.append("task")

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    loop.call_soon(order.append, "before")
    future.set_result(None)
    loop.call_soon(order.append, "behind")
    assert order == []
    await task
    assert order == ["before", "task", "behind"]


async def test_several_tasks_and_the_tools_of_asyncio(kind: str) -> None:
    make = maker(kind)
    loop = asyncio.get_running_loop()
    future = make()

    async def wait() -> Any:
        return await future

    tasks = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait({tasks[1]})
    # As with asyncio: to cancel one task that waits is to cancel what all of them wait for.
    assert all(task.cancelled() for task in (await asyncio.wait(tasks))[0])

    future = make()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(future, 0.001)
    assert future.cancelled()
    future = make()
    shielded = asyncio.shield(future)
    shielded.cancel()
    assert not future.done()
    loop.call_soon(future.set_result, 7)
    assert set(await asyncio.gather(wait(), asyncio.wait_for(future, 5))) == {7}
    done, pending = await asyncio.wait({asyncio.ensure_future(wait())})
    assert (len(done), len(pending)) == (1, 0)


async def test_a_future_of_another_loop_is_refused(kind: str) -> None:
    future = maker(kind)()

    async def wait() -> None:
        await future

    def elsewhere() -> BaseException | None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(wait())
        except RuntimeError as error:
            return error
        finally:
            loop.close()
        return None

    error = await asyncio.to_thread(elsewhere)
    assert "different loop" in str(error)
    future.set_result(None)


def test_only_a_turn_makes_futures() -> None:
    async def kind_of() -> type:
        loop = asyncio.get_running_loop()
        return type(EagerTurn.of(loop).create_future(loop))

    with pytest.raises(TypeError, match="create_future"):
        asyncio.run(kind_of())()


# ------------------------------------------------------------------ in a receive turn


class Clock:
    """Counts turns of the event loop, without keeping it busy between two looks."""

    def __init__(self) -> None:
        self.turn = 0
        self._handle: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()

    def _tick(self) -> None:
        self.turn += 1
        self._handle = self._loop.call_soon(self._tick)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._tick()
        try:
            yield
        finally:
            assert self._handle is not None
            self._handle.cancel()


class Lines:
    """Both ends of some streams; whatever arrives at the far end is told of in ``events``."""

    def __init__(self, pair: Net, far: Peer, near: list[QuicStream], ends: list[QuicStream]):
        self.pair = pair
        self.far = far
        self.near = near
        self.ends = ends
        self.clock = Clock()
        self.turn = EagerTurn.of(asyncio.get_running_loop())
        self.events: list[tuple[str, int]] = []
        for end in ends:
            end.sink = self._arrived

    def _arrived(self, stream: QuicStream) -> None:
        self.note("deliver")

    def note(self, what: str) -> None:
        self.events.append((what, self.clock.turn))

    def turns(self, what: str) -> list[int]:
        return [turn for event, turn in self.events if event == what]

    def wait(self, index: int) -> asyncio.Future[Any]:
        """Something to await until data is there at the far end of a stream."""
        future = self.turn.create_future(asyncio.get_running_loop())
        self.ends[index].set_read_waiter(future)
        return future

    async def receive(self, index: int = 0) -> bytes:
        await self.wait(index)
        self.note("task")
        return self.ends[index].read() or b""

    def send(self, data: bytes = b"data") -> None:
        """Write to all streams; all of it leaves and arrives together."""
        for stream in self.near:
            stream.write(data)


# Seconds, less than the share of a turn that tasks have. Longer: the machine did something else.
UNDISTURBED = 0.001


@contextlib.asynccontextmanager
async def lines(lab: Lab, count: int = 1) -> AsyncIterator[Lines]:
    async with net(lab) as pair:
        conn, _, far = await pair.connect()
        near, ends = [], []
        for _ in range(count):
            stream = conn.open_stream(False)
            assert stream is not None
            stream.write(b"x")
            near.append(stream)
            end = await far.incoming.get()
            assert end.read() == b"x"
            ends.append(end)
        made = Lines(pair, far, near, ends)
        with made.clock.running():
            yield made


async def all_of(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*tasks)


async def test_tasks_continue_in_the_turn_that_delivers_behind_all_deliveries(lab: Lab) -> None:
    async with lines(lab, 3) as there:
        took = UNDISTURBED + 1.0
        while took > UNDISTURBED:  # else the share of the turn may have been over
            there.events.clear()
            tasks = [asyncio.create_task(there.receive(index)) for index in range(3)]
            await asyncio.sleep(0)
            begun = time.monotonic()
            there.send()
            assert await all_of(tasks) == [b"data"] * 3
            took = time.monotonic() - begun
            assert [what for what, _ in there.events] == ["deliver"] * 3 + ["task"] * 3
        assert len({turn for _, turn in there.events}) == 1


async def test_what_a_task_writes_leaves_in_the_same_turn(lab: Lab) -> None:
    async with lines(lab) as there:
        queued: list[int] = []

        async def answer() -> None:
            await there.receive()
            assert there.ends[0].write(b"answer") > 0
            # A flush that was left to the event loop would come behind this.
            asyncio.get_running_loop().call_soon(lambda: queued.append(there.ends[0].queued))

        task = asyncio.create_task(answer())
        await asyncio.sleep(0)
        there.send()
        await task
        await asyncio.sleep(0)
        assert queued == [0]


async def test_order_against_call_soon_in_a_receive_turn(lab: Lab) -> None:
    """What deliver hands to ``call_soon`` runs behind the tasks of its turn."""
    async with lines(lab, 2) as there:
        loop = asyncio.get_running_loop()
        for end in there.ends:
            end.sink = lambda stream: loop.call_soon(there.note, "call_soon")
        tasks = [asyncio.create_task(there.receive(index)) for index in range(2)]
        await asyncio.sleep(0)
        there.send()
        await all_of(tasks)
        await until(lambda: len(there.events) == 4)
        assert [what for what, _ in there.events] == ["task", "task", "call_soon", "call_soon"]


async def test_a_task_that_is_cancelled_between_the_wake_up_and_its_step(lab: Lab) -> None:
    async with lines(lab) as there:
        task = asyncio.create_task(there.receive())
        await asyncio.sleep(0)
        there.ends[0].sink = lambda stream: task.cancel()
        there.send()
        await asyncio.wait({task})
        assert task.cancelled()
        assert there.turns("task") == []
        assert there.ends[0].read() == b"data"


async def test_a_cancelled_task_leaves_the_data_to_the_next(lab: Lab) -> None:
    async with lines(lab) as there:
        task = asyncio.create_task(there.receive())
        await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        there.send()
        assert await there.receive() == b"data"


async def test_a_task_may_cancel_another_one_of_its_turn(lab: Lab) -> None:
    async with lines(lab, 2) as there:
        second = asyncio.create_task(there.receive(1))

        async def first() -> None:
            await there.receive(0)
            second.cancel()

        task = asyncio.create_task(first())
        await asyncio.sleep(0)
        there.send()
        await asyncio.wait({task, second})
        assert len(there.turns("task")) in (1, 2)  # the order of streams in a packet is not fixed
        assert second.cancelled() or second.result() == b"data"
        assert task.exception() is None


async def test_exceptions_of_tasks_stay_theirs(lab: Lab) -> None:
    async with lines(lab, 3) as there:

        async def fail(index: int) -> None:
            await there.receive(index)
            raise Failure(index)

        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(fail(index)) for index in range(2)]
        tasks.append(asyncio.create_task(there.receive(2)))
        await asyncio.sleep(0)
        there.send()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [Failure, Failure, bytes]


async def test_exceptions_of_other_callbacks_go_to_the_event_loop(lab: Lab) -> None:
    async with lines(lab, 2) as there:
        loop = asyncio.get_running_loop()
        heard: list[BaseException | None] = []
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: heard.append(context.get("exception")))

        def fail(_: object) -> None:
            raise Failure

        there.wait(0).add_done_callback(fail)
        task = asyncio.create_task(there.receive(1))
        await asyncio.sleep(0)
        there.send()
        assert await task == b"data"
        loop.set_exception_handler(handler)
        assert [type(error) for error in heard] == [Failure]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_interruption_ends_the_loop_and_loses_no_other_task(
    lab: Lab, kind: type[BaseException]
) -> None:
    left: list[bytes] = []

    async def main() -> None:
        async with lines(lab, 3) as there:

            async def stop(index: int) -> None:
                await there.receive(index)
                raise kind

            async def stay(index: int) -> None:
                left.append(await there.receive(index))

            tasks = [
                asyncio.ensure_future(stop(0)),
                *(map(asyncio.ensure_future, map(stay, (1, 2)))),
            ]
            await asyncio.sleep(0)
            there.send()
            await asyncio.wait(tasks)
            assert type(tasks[0].exception()) is kind

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    loop.close()
    assert left == [b"data"] * 2


async def test_each_task_has_its_context(lab: Lab) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    async with lines(lab, 2) as there:
        seen: dict[str, str] = {}

        async def work(index: int, name: str) -> None:
            variable.set(name)
            await there.receive(index)
            seen[name] = variable.get()
            variable.set(f"{name} again")

        tasks = [asyncio.create_task(work(index, f"task {index}")) for index in range(2)]
        await asyncio.sleep(0)
        outside: list[str | None] = []
        there.far.datagrams_received = lambda _: outside.append(variable.get(None))
        there.send()
        await all_of(tasks)
        assert seen == {"task 0": "task 0", "task 1": "task 1"}
        assert there.near[0] is not None
        connection = there.near[0].connection
        connection.send_datagram(b"", b"later")
        await until(lambda: outside)
        assert outside == [None]


async def test_tasks_that_share_a_context(lab: Lab) -> None:
    shared = contextvars.copy_context()
    async with lines(lab, 2) as there:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(there.receive(index), context=shared) for index in range(2)]
        await asyncio.sleep(0)
        there.send()
        assert await all_of(tasks) == [b"data"] * 2


async def test_the_current_task(lab: Lab) -> None:
    async with lines(lab, 2) as there:
        found: list[object] = []

        async def look(index: int) -> None:
            await there.receive(index)
            found.append(asyncio.current_task())

        for end in there.ends:
            end.sink = lambda stream: found.append(asyncio.current_task())
        tasks = [asyncio.create_task(look(index)) for index in range(2)]
        await asyncio.sleep(0)
        there.send()
        await all_of(tasks)
        assert found[:2] == [None, None]
        assert set(found[2:]) == set(tasks)


async def test_timeouts(lab: Lab) -> None:
    async with lines(lab) as there:
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.001):
                await there.receive()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(there.receive(), 0.001)
        there.send()
        async with asyncio.timeout(60) as timeout:
            assert await there.receive() == b"data"
        assert not timeout.expired()
        task = asyncio.create_task(asyncio.wait_for(there.receive(), 60))
        await asyncio.sleep(0)
        there.send()
        assert await task == b"data"


async def test_a_timeout_that_has_passed_when_the_data_arrives(lab: Lab) -> None:
    """The data comes first, as with a future that is done before the timer is looked at."""
    async with lines(lab) as there:

        async def wait() -> bytes:
            async with asyncio.timeout(None) as timeout:
                loop = asyncio.get_running_loop()
                there.ends[0].sink = lambda stream: timeout.reschedule(loop.time() - 1)
                data = await there.receive()
                assert not timeout.expired()
                return data

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        there.send()
        assert await task == b"data"


async def test_a_turn_is_bounded_in_time(lab: Lab) -> None:
    """Behind a task that takes all of it, the others continue in the next turn."""
    count = 5
    async with lines(lab, count) as there:

        async def work(index: int) -> None:
            await there.receive(index)
            end = time.monotonic() + 0.0025  # more than a slice of a turn
            while time.monotonic() < end:
                pass

        tasks = [asyncio.create_task(work(index)) for index in range(count)]
        await asyncio.sleep(0)
        there.send()
        await all_of(tasks)
        first = there.turns("deliver")[0]
        assert there.turns("task") == [first] + [first + 1] * (count - 1)


async def test_a_task_that_is_woken_by_a_task_continues_in_the_next_turn(lab: Lab) -> None:
    async with lines(lab) as there:
        second = there.turn.create_future(asyncio.get_running_loop())

        async def pass_on() -> None:
            await there.receive()
            second.set_result(None)

        async def wait() -> None:
            await second
            there.note("second")

        tasks = [asyncio.create_task(pass_on()), asyncio.create_task(wait())]
        await asyncio.sleep(0)
        there.send()
        await all_of(tasks)
        (first,) = there.turns("task")
        assert there.turns("second") == [first + 1]


async def test_a_task_that_never_waits_long_does_not_keep_the_turn(lab: Lab) -> None:
    async with lines(lab) as there:
        other = there.turn.create_future(asyncio.get_running_loop())

        async def play() -> None:
            await there.receive()
            for _ in range(5):
                future = there.turn.create_future(asyncio.get_running_loop())
                future.set_result(None)
                await future
            await asyncio.sleep(0)
            there.note("later")
            other.set_result(None)

        task = asyncio.create_task(play())
        await asyncio.sleep(0)
        there.send()
        await other
        await task
        assert there.turns("later") == [there.turns("task")[0] + 1]


async def test_a_task_may_flush_in_its_step(lab: Lab) -> None:
    async with lines(lab, 2) as there:

        async def answer(index: int) -> None:
            await there.receive(index)
            there.ends[index].write(b"answer")
            there.pair.server.flush()
            assert there.ends[index].queued == 0

        tasks = [asyncio.create_task(answer(index)) for index in range(2)]
        await asyncio.sleep(0)
        there.send()
        await all_of(tasks)
        for stream in there.near:
            assert await read(stream) == b"answer"


async def test_a_task_may_close_the_endpoint_in_its_step(lab: Lab) -> None:
    async with lines(lab, 2) as there:

        async def end(index: int) -> None:
            await there.receive(index)
            there.pair.server.close()

        tasks = [asyncio.create_task(end(index)) for index in range(2)]
        await asyncio.sleep(0)
        there.send()
        await all_of(tasks)
        assert there.pair.server.is_closed


async def test_inside_a_task_the_others_continue_in_the_next_turn(lab: Lab) -> None:
    """A task cannot be entered while another one runs: they fall back by themselves."""
    async with lines(lab) as there:
        task = asyncio.create_task(there.receive())
        await asyncio.sleep(0)
        there.send()
        there.pair.client.flush()
        (udp,) = there.pair.server.sockets
        while not there.turns("deliver"):
            there.pair.server.quic.receive(udp.quic, time.monotonic_ns())
        assert there.turns("task") == []
        assert await task == b"data"
        assert there.turns("task")[0] > there.turns("deliver")[0]


@pytest.mark.loops("asyncio")
async def test_in_debug_mode_the_event_loop_sees_each_task(lab: Lab) -> None:
    deliver: list[int] = []
    step: list[int] = []

    async def main() -> None:
        async with lines(lab) as there:
            task = asyncio.create_task(there.receive())
            await asyncio.sleep(0)
            there.send()
            assert await task == b"data"
            deliver.extend(there.turns("deliver"))
            step.extend(there.turns("task"))

    await asyncio.to_thread(asyncio.run, main(), debug=True)
    assert step == [deliver[0] + 1]


# uvloop hands arguments to task factories that Python's own refuses in some versions.
@pytest.mark.loops("asyncio")
async def test_a_new_task_of_an_eager_factory(lab: Lab) -> None:
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip(f"Python {sys.version_info[0]}.{sys.version_info[1]} starts no task eagerly")
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    async with lines(lab) as there:

        async def inner() -> object:
            return asyncio.current_task()

        async def outer() -> None:
            await there.receive()
            task = asyncio.create_task(inner())
            assert task.done()
            assert task.result() is task
            assert asyncio.current_task() is not task

        try:
            waiting = asyncio.create_task(outer())
            there.send()
            await waiting
        finally:
            loop.set_task_factory(None)


async def test_several_loops_have_their_own(lab: Lab) -> None:
    turns: list[EagerTurn] = []
    events: list[list[tuple[str, int]]] = []
    barrier = threading.Barrier(2, timeout=30)

    async def main() -> None:
        async with lines(lab) as there:
            turns.append(there.turn)
            task = asyncio.create_task(there.receive())
            await asyncio.sleep(0)
            barrier.wait()
            there.send()
            assert await task == b"data"
            events.append(there.events)

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, main()) for _ in range(2)))
    assert len({id(turn) for turn in turns}) == 2
    for one in events:
        assert [what for what, _ in one] == ["deliver", "task"]
        assert one[0][1] == one[1][1]


async def test_c_code_gets_the_result_without_a_method() -> None:
    """A task calls ``result`` with a name that it builds; Python code has the method."""
    loop = asyncio.get_running_loop()
    future = EagerTurn.of(loop).create_future(loop)
    built = "".join(["res", "ult"])  # not interned
    for name in ("result", built):
        with pytest.raises(asyncio.InvalidStateError):
            getattr(future, name)()
    future.set_result(7)
    assert getattr(future, built)() == future.result() == 7
    assert future.result.__name__ == "result"
    assert future.get_loop() is loop
    assert future._asyncio_future_blocking is False
    failed = EagerTurn.of(loop).create_future(loop)
    failed.set_exception(ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        getattr(failed, built)()
    with pytest.raises(AttributeError, match="nothing"):
        getattr(failed, "nothing")  # noqa: B009
