"""``Turns``: long work is cut in slices, and everybody else has turns in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from pywebtransport.utils import _turns as module
from pywebtransport.utils._turns import Turns, for_each


class Clock:
    """Time that passes only during work."""

    def __init__(self) -> None:
        self.now = time.monotonic_ns()

    def monotonic_ns(self) -> int:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "clock", clock)
    return clock


def worker(clock: Clock, name: str, items: int, log: list[str]) -> Callable[[], None]:
    """Work off so many items of a quarter of a slice; what is left, later."""
    turns = Turns.of()
    left = [items]

    def go_on() -> None:
        while left[0]:
            clock.work(module.SLICE / 4)
            left[0] -= 1
            log.append(name)
            if turns.is_over:
                turns.later(go_on)
                return

    return go_on


async def test_work_goes_on_in_slices_in_turn(clock: Clock) -> None:
    log: list[str] = []
    first, second = worker(clock, "a", 8, log), worker(clock, "b", 5, log)
    first()
    second()  # the slice is used up: one item, and then its turn
    turn = 0
    while Turns.of().waiting:
        turn += 1
        log.append("|")
        await asyncio.sleep(0)
        assert turn < 20
    assert "".join(log).split("|")[0] == "aaaaab"
    assert "".join(log).replace("|", "") == "aaaaab" + "aaa" + "bbbb"
    # At most one slice in a turn, and one item more.
    assert all(len(part) <= 6 for part in "".join(log).split("|"))


async def test_peers_go_on_in_turn_however_much_of_their_work_waits(clock: Clock) -> None:
    busy, quiet = Turns.of().for_peer(), Turns.of().for_peer()
    log: list[str] = []

    def work(name: str) -> Callable[[], None]:
        def run() -> None:
            clock.work(module.SLICE)
            log.append(name)

        return run

    for number in range(100):
        busy.later(work(f"busy {number}"))
    quiet.later(work("quiet 0"))
    Turns.of().later(work("own"))
    quiet.later(work("quiet 1"))
    assert Turns.of().waiting == busy.waiting == 103
    for _ in range(2 * 103):
        await asyncio.sleep(0)
    assert Turns.of().waiting == 0
    # One of each in turn; what one of them put off stays in order.
    assert log[:5] == ["busy 0", "quiet 0", "own", "busy 1", "quiet 1"]
    assert [name for name in log if name.startswith("busy")] == [f"busy {n}" for n in range(100)]


async def test_a_coroutine_of_a_quiet_peer_waits_for_one_of_a_busy_one(clock: Clock) -> None:
    busy, quiet = Turns.of().for_peer(), Turns.of().for_peer()
    log: list[str] = []

    async def work(turns: Turns, name: str) -> None:
        await turns.pause()
        clock.work(module.SLICE)
        log.append(name)

    assert not busy.is_over
    clock.work(module.SLICE)
    await asyncio.gather(*(work(busy, "busy") for _ in range(50)), work(quiet, "quiet"))
    # Behind the first one, which found a slice that was not used up, and one that waited.
    assert log.index("quiet") == 2


async def test_a_coroutine_pauses_only_when_the_slice_is_over(clock: Clock) -> None:
    turns = Turns.of()
    assert not turns.is_over
    await turns.pause()
    assert turns.waiting == 0
    clock.work(1)
    waiting = asyncio.create_task(turns.pause())
    await asyncio.sleep(0)
    await waiting
    assert not turns.is_over


async def test_of_many_coroutines_one_goes_on_in_a_turn(clock: Clock) -> None:
    turns = Turns.of()
    running = 0

    async def work() -> None:
        nonlocal running
        for _ in range(5):
            clock.work(module.STEP_SLICE)
            running += 1
            await turns.pause()

    tasks = [asyncio.create_task(work()) for _ in range(20)]
    await asyncio.sleep(0)
    done = running  # nobody knew of the others yet
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        assert running - done <= 1
        done = running
    assert running == 100


async def test_a_coroutine_that_goes_on_has_one_slice(clock: Clock) -> None:
    """Not a second one, because its turn had not begun when it was woken."""
    turns, loop = Turns.of(), asyncio.get_running_loop()
    done: list[int] = [0]

    def next_turn() -> None:
        done.append(0)
        handles.append(loop.call_soon(next_turn))

    handles = [loop.call_soon(next_turn)]
    for _ in range(20):
        await turns.pause()
        clock.work(module.STEP_SLICE)
        done[-1] += 1
    handles[-1].cancel()
    assert sum(done) == 20
    assert max(done) == 1


async def test_after_long_work_others_have_as_many_turns(clock: Clock) -> None:
    """A parser cannot be interrupted; what waits behind it leaves turns to those who do not."""
    turns, loop = Turns.of(), asyncio.get_running_loop()
    log: list[str] = []

    def next_turn() -> None:
        log.append("|")
        handles.append(loop.call_soon(next_turn))

    async def work(name: str, slices: int) -> None:
        for _ in range(3):
            await turns.pause()
            clock.work(slices * module.STEP_SLICE)
            turns.took(int(slices * module.STEP_SLICE * 1e9))
            log.append(name)

    assert not turns.is_over
    clock.work(module.STEP_SLICE)
    handles = [loop.call_soon(next_turn)]
    await asyncio.gather(work("long", 5), work("short", 1))
    handles[-1].cancel()
    parts = "".join(log).replace("long", "l").replace("short", "s").split("|")
    assert sum(part.count("l") for part in parts) == sum(part.count("s") for part in parts) == 3
    after_long = [
        parts[number + 1 : number + 5] for number, part in enumerate(parts) if part == "l"
    ]
    assert all(part == "" for turn in after_long for part in turn)
    # Short work owes nothing, and a debt is paid back in the end.
    assert max(map(len, "".join(part or "." for part in parts).split("l"))) <= 16
    turns.took(int(1000 * module.STEP_SLICE * 1e9))
    paid = asyncio.create_task(turns.pause())
    for _ in range(40):
        clock.work(module.STEP_SLICE)
        await asyncio.sleep(0)
    assert paid.done()


async def test_a_cancelled_pause_holds_nobody_up(clock: Clock) -> None:
    turns = Turns.of()

    async def work() -> None:
        assert turns.waiting or not turns.is_over
        clock.work(1)
        await turns.pause()

    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await asyncio.sleep(0)
    assert turns.waiting == 3
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [True, False, False]
    assert turns.waiting == 0


async def test_work_that_fails_does_not_stop_the_rest() -> None:
    turns = Turns.of()
    loop = asyncio.get_running_loop()
    seen: list[object] = []
    loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
    error = ZeroDivisionError()

    def fail() -> None:
        raise error

    done = asyncio.Event()
    turns.later(fail)
    turns.later(done.set)
    await done.wait()
    loop.set_exception_handler(None)
    assert seen == [error]


def test_each_loop_has_its_own_and_takes_it_along() -> None:
    async def mine() -> Turns:
        return Turns.of()

    assert asyncio.run(mine()) is not asyncio.run(mine())
    with pytest.raises(RuntimeError):
        Turns.of()


def test_nothing_is_scheduled_on_a_loop_that_is_closed() -> None:
    loop = asyncio.new_event_loop()
    turns = Turns.of(loop)
    loop.close()
    assert not turns.is_over
    turns.later(lambda: None)


async def test_each_of_many_has_its_turn_in_slices(clock: Clock) -> None:
    done: list[int] = []
    ended: list[bool] = []

    def work(number: int) -> None:
        clock.work(0.0001)
        done.append(number)

    assert not for_each(Turns.of(), range(1000), work, lambda: ended.append(True))
    most = before = 0
    while not ended:
        most, before = max(most, len(done) - before), len(done)
        await asyncio.sleep(0)
    assert done == list(range(1000))
    # As many as fit into a slice, and those done before the first and the last question.
    assert most <= module.SLICE / 0.0001 + 2 * 8
    assert for_each(Turns.of(), range(5), work)
    assert done[-5:] == [0, 1, 2, 3, 4]


async def test_what_is_woken_counts_like_time(clock: Clock) -> None:
    """It takes no time to wake a coroutine; but each of them takes its step in the next turn."""
    turns, loop = Turns.of(), asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(1000)]
    ended: list[int] = []  # in which turn
    turn = 0

    async def wait(future: asyncio.Future[None]) -> None:
        await future
        ended.append(turn)

    def wake(future: asyncio.Future[None]) -> None:
        turns.woke()
        future.set_result(None)

    tasks = [asyncio.create_task(wait(future)) for future in futures]
    await asyncio.sleep(0)
    for_each(turns, futures, wake)
    while len(ended) < 1000:
        turn += 1
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert max(ended.count(number) for number in set(ended)) <= 32 + 8
    assert len(set(ended)) >= 1000 / (32 + 8)


async def test_one_of_many_that_fails_does_not_stop_the_others() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        if number == 3:
            raise ZeroDivisionError

    ended = asyncio.Event()
    with pytest.raises(ZeroDivisionError):
        for_each(Turns.of(), range(10), work, ended.set)
    assert done == [0, 1, 2, 3]
    await ended.wait()
    assert done == list(range(10))


def test_nothing_is_kept_for_a_loop_that_was_closed() -> None:
    """There is no later turn; what waits would keep its connection as long as the loop is kept."""
    loop = asyncio.new_event_loop()
    turns = Turns.of(loop)

    def fail(_: int) -> None:
        raise ZeroDivisionError

    turns.later(lambda: None)
    assert turns.waiting == 1
    loop.close()
    with pytest.raises(ZeroDivisionError):
        for_each(turns, range(2), fail)
    assert turns.waiting == 0
