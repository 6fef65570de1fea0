"""``BusyPoll``: the loop stays awake, serves everything else, and sleeps when that does not pay."""

from __future__ import annotations

import asyncio
import socket

import pytest

from pywebtransport._loop import polling as module
from pywebtransport._loop.polling import BusyPoll

SPAN = 60


class Machine:
    """Stands in for ``time`` and ``os``: each look at the clock takes a microsecond."""

    def __init__(self) -> None:
        self.now = 0
        self.step = 1000
        self.yields = 0
        self.taken = 0  # nanoseconds that others take at each yield

    def monotonic_ns(self) -> int:
        self.now += self.step
        return self.now

    def sched_yield(self) -> None:
        self.yields += 1
        self.now += self.taken

    def work(self, microseconds: int) -> None:
        self.now += microseconds * 1000


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(module, "time", machine)
    monkeypatch.setattr(module, "os", machine)
    return machine


async def finish(poll: BusyPoll) -> int:
    """Wait for the end of a poll; return how many turns of the loop that takes."""
    turns = 0
    while poll.is_active:
        turns += 1
        assert turns < 1000
        await asyncio.sleep(0)
    return turns


def new_poll() -> BusyPoll:
    return BusyPoll(asyncio.get_running_loop(), SPAN)


async def missed(poll: BusyPoll) -> bool:
    """One turn of the endpoint, after which nothing comes; return whether it was polled."""
    poll.sent()
    was_active = poll.is_active
    await finish(poll)
    return was_active


async def test_the_loop_turns_until_the_time_is_over(machine: Machine) -> None:
    poll = new_poll()
    started = machine.now
    poll.sent()
    # A turn takes two looks at the clock.
    assert await finish(poll) == pytest.approx(SPAN / 2, abs=2)
    assert machine.now - started == pytest.approx(SPAN * 1000, abs=3000)
    assert machine.yields == pytest.approx(SPAN / 2, abs=2)


async def test_a_turn_of_the_endpoint_prolongs_the_poll(machine: Machine) -> None:
    poll = new_poll()
    poll.sent()
    for _ in range(10):
        machine.work(SPAN // 2)
        poll.sent()
        await asyncio.sleep(0)
        assert poll.is_active
    await finish(poll)


async def test_everything_else_is_served_meanwhile(machine: Machine) -> None:
    machine.step = 0  # this poll ends when the test says so
    loop = asyncio.get_running_loop()
    poll = new_poll()
    poll.sent()
    # Callbacks: one in each turn.
    yields = machine.yields
    for _ in range(10):
        await asyncio.sleep(0)
    assert machine.yields - yields <= 11
    # Timers.
    fired = asyncio.Event()
    loop.call_later(0.002, fired.set)
    await fired.wait()
    assert poll.is_active
    # Other sockets.
    here, there = socket.socketpair()
    with here, there:
        readable = asyncio.Event()
        loop.add_reader(here, readable.set)
        there.send(b"x")
        await readable.wait()
        loop.remove_reader(here)
    assert poll.is_active
    machine.work(SPAN)
    await finish(poll)


async def test_a_turn_with_work_offers_the_processor_to_nobody(machine: Machine) -> None:
    poll = new_poll()
    poll.sent()
    machine.work(30)
    await asyncio.sleep(0)
    assert poll.is_active
    assert machine.yields == 0
    await asyncio.sleep(0)
    assert machine.yields == 1
    await finish(poll)


async def test_a_poll_ends_when_others_want_the_processor(machine: Machine) -> None:
    machine.taken = 25_000
    poll = new_poll()
    poll.sent()
    await finish(poll)
    assert machine.yields == 1
    # Soon, turns are not followed by a poll: two points are lost each time, out of four.
    assert [await missed(poll) for _ in range(4)] == [True, True, False, False]


async def test_polls_that_bring_nothing_become_rare(machine: Machine) -> None:
    poll = new_poll()
    tried = 0
    while await missed(poll):
        tried += 1
    assert tried == 5
    skipped: list[int] = []
    for _ in range(9):
        count = 1 if not skipped else 0
        while not await missed(poll):
            count += 1
        skipped.append(count)
    assert skipped == [16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
    assert machine.yields < 20 * SPAN


async def test_packets_during_a_poll_keep_it_up(machine: Machine) -> None:
    poll = new_poll()
    for _ in range(100):
        poll.sent()
        assert poll.is_active
        await asyncio.sleep(0)
        poll.received()  # pays for the end of this poll
        await finish(poll)
    # Packets that the loop had to wake up for say nothing.
    tried = 0
    while True:
        poll.received()
        if not await missed(poll):
            break
        tried += 1
    assert tried <= 5


async def test_after_a_pause_a_success_is_believed(machine: Machine) -> None:
    poll = new_poll()
    while await missed(poll):
        pass
    while not poll.is_active:
        poll.sent()
    for _ in range(8):
        poll.received()
    await finish(poll)
    assert all([await missed(poll) for _ in range(7)])


async def test_a_closed_poll_is_over() -> None:
    poll = new_poll()
    poll.close()
    poll.sent()
    assert poll.is_active
    poll.close()
    poll.close()
    assert not poll.is_active
    await asyncio.sleep(0)
    assert not poll.is_active
