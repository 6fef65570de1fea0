"""``ByteBudget``: all levels or none, first come first served, and no byte is lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.utils._budget import ByteBudget


def levels(session: int, connection: int, process: int) -> tuple[ByteBudget, ...]:
    top = ByteBudget("process", process)
    middle = ByteBudget("connection", connection, top)
    return ByteBudget("session", session, middle), middle, top


def test_bytes_are_taken_of_all_levels_or_of_none() -> None:
    session, connection, process = levels(10, 100, 15)
    assert session.take(10)
    other = ByteBudget("session", 10, connection)
    assert not other.take(6)
    assert other.lacking(6) is process
    assert (other.used, connection.used, process.used) == (0, 10, 10)
    assert (other.refused, process.refused) == (0, 1)
    assert other.take(5)
    session.give_back(10)
    assert (session.used, connection.used, process.used) == (0, 5, 5)
    assert (session.peak, process.peak) == (10, 15)


def test_what_is_held_already_counts_even_above_the_limit() -> None:
    session, _, process = levels(10, 10, 10)
    session.take_anyway(25)
    assert process.used == 25
    assert not session.take(0)
    session.give_back(25)
    assert session.take(10)


async def test_those_who_wait_are_served_in_order_and_not_overtaken() -> None:
    session, _, process = levels(10, 100, 100)
    assert await session.acquire(10)
    order: list[int] = []

    async def wait(size: int) -> None:
        assert await session.acquire(size)
        order.append(size)

    tasks = [asyncio.create_task(wait(size)) for size in (9, 1, 2)]
    await asyncio.sleep(0)
    session.give_back(5)
    await asyncio.sleep(0)
    assert order == []
    assert not session.take(1)
    session.give_back(5)
    await asyncio.gather(*tasks[:2])
    assert order == [9, 1]
    session.give_back(10)
    await tasks[2]
    assert order == [9, 1, 2]
    session.give_back(2)
    assert process.used == 0


async def test_what_never_fits_is_told_at_once() -> None:
    session, connection, process = levels(10, 100, 8)
    assert not await session.acquire(9)
    assert session.too_small(9) is process
    assert session.too_small(11) is session
    assert session.too_small(8) is None
    assert connection.used == 0


async def test_sessions_share_the_room_above() -> None:
    session, connection, process = levels(10, 100, 10)
    other = ByteBudget("session", 10, connection)
    assert session.take(10)
    first = asyncio.create_task(other.acquire(8))
    second = asyncio.create_task(session.acquire(4))
    await asyncio.sleep(0)
    assert (process.waiting, session.waiting) == (1, 1)
    session.give_back(10)
    assert await first
    await asyncio.sleep(0)
    # It waited for room in its session; now it waits behind the other one above.
    assert (process.waiting, session.waiting) == (1, 0)
    other.give_back(8)
    assert await second
    session.give_back(4)
    assert process.used == 0


async def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    session, _, process = levels(10, 10, 10)
    assert session.take(10)
    first = asyncio.create_task(session.acquire(9))
    second = asyncio.create_task(session.acquire(5))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert session.waiting == 1
    session.give_back(10)  # the second is served, and cancelled in the same turn
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert (session.used, process.used, session.waiting) == (0, 0, 0)


async def test_those_behind_a_cancelled_waiter_go_on_if_there_is_room_for_them() -> None:
    session, _, _ = levels(10, 10, 10)
    assert session.take(6)
    large = asyncio.create_task(session.acquire(8))
    small = asyncio.create_task(session.acquire(4))
    await asyncio.sleep(0)
    large.cancel()
    assert await small
    assert session.used == 10


def test_a_closed_budget_gives_back_what_was_taken_of_the_larger_ones() -> None:
    session, connection, process = levels(10, 100, 100)
    other = ByteBudget("session", 10, connection)
    assert session.take(7)
    assert other.take(2)
    session.close()
    assert (session.used, connection.used, process.used) == (7, 2, 2)
    # What its owner still holds, or takes, is nobody else's business any more.
    session.give_back(3)
    assert session.take(6)
    assert (session.used, connection.used, process.used) == (10, 2, 2)
    assert not session.take(1)
    session.close()
    assert (connection.used, process.used) == (2, 2)


async def test_closing_lets_go_who_waits_for_room_in_it_and_above() -> None:
    """The session has ended: nothing would give back the bytes that they wait for."""
    session, connection, process = levels(10, 12, 100)
    other = ByteBudget("session", 10, connection)
    assert session.take(8)
    here = asyncio.create_task(session.acquire(4))
    assert other.take(4)
    last = ByteBudget("session", 10, connection)
    above = asyncio.create_task(last.acquire(5))
    await asyncio.sleep(0)
    assert (session.waiting, connection.waiting) == (1, 1)
    session.close()
    assert await here
    # The other session had only to wait for this one's bytes.
    assert await above
    assert (session.used, last.used, connection.used, process.used) == (12, 5, 9, 9)
    assert session.waiting == connection.waiting == process.waiting == 0
    session.give_back(12)
    assert process.used == 9


async def test_closing_lets_go_who_waits_above_for_it() -> None:
    session, connection, process = levels(10, 10, 100)
    other = ByteBudget("session", 10, connection)
    assert other.take(8)
    waiting = asyncio.create_task(session.acquire(5))
    await asyncio.sleep(0)
    assert connection.waiting == 1
    session.close()
    assert await waiting
    assert (session.used, connection.used, process.used) == (5, 8, 8)
    assert connection.waiting == 0
    session.give_back(5)
    assert (session.used, connection.used) == (0, 8)


def test_another_loop_may_not_wait_beside() -> None:
    budget = ByteBudget("process", 1)
    assert budget.take(1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(budget.acquire(1))
    loop.run_until_complete(asyncio.sleep(0))
    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(budget.acquire(1))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert budget.waiting == 0


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_or_invented(seed: int) -> None:
    choice = random.Random(seed)
    process = ByteBudget("process", 50)
    sessions = [ByteBudget("session", 20, process) for _ in range(4)]

    async def work(session: ByteBudget) -> None:
        for _ in range(30):
            size = choice.randint(0, 20)
            assert await session.acquire(size)
            assert session.used <= 20
            assert process.used <= 50
            try:
                for _ in range(choice.randint(0, 3)):
                    await asyncio.sleep(0)
            finally:
                session.give_back(size)

    tasks = [asyncio.create_task(work(choice.choice(sessions))) for _ in range(30)]
    for task in choice.sample(tasks, 15):
        for _ in range(choice.randint(0, 20)):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() or task.exception() is None for task in tasks)
    assert process.used == process.waiting == 0
    assert all(session.used == session.waiting == 0 for session in sessions)
