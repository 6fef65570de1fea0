"""``Slots``: first come, first served, and no slot is ever lost or invented."""

from __future__ import annotations

import asyncio
import random

import pytest

from pywebtransport.utils._slots import Slots


async def test_waiters_are_served_in_order() -> None:
    slots = Slots(2)
    assert await slots.acquire(1)
    assert await slots.acquire(1)
    order = []

    async def wait(number: int) -> None:
        assert await slots.acquire(50)
        order.append(number)
        slots.release()

    tasks = [asyncio.create_task(wait(number)) for number in range(5)]
    await asyncio.sleep(0)
    slots.release()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    slots.release()
    assert slots.unused


async def test_time_runs_out() -> None:
    slots = Slots(1)
    assert await slots.acquire(0)
    assert not await slots.acquire(0.001)
    assert not slots.unused
    slots.release()
    assert slots.unused


async def test_time_runs_out_in_the_turn_of_a_release() -> None:
    slots = Slots(1)
    assert await slots.acquire(1)
    waiting = asyncio.create_task(slots.acquire(50))
    await asyncio.sleep(0)
    slots._waiting.turns[0].set_result(None)
    slots.release()  # the slot is not handed to somebody who has given up
    assert not await waiting
    assert slots.unused


async def test_failing_wakes_everybody_with_an_error_of_their_own() -> None:
    slots = Slots(1)
    assert await slots.acquire(1)
    tasks = [asyncio.create_task(slots.acquire(50)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    slots._waiting.turns[1].set_result(None)
    slots.fail(lambda: ValueError("over"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] is False
    assert isinstance(results[2], ValueError)
    slots.release()
    assert slots.unused


@pytest.mark.parametrize("seed", range(10))
async def test_any_order_of_use_cancellation_and_release(seed: int) -> None:
    choose = random.Random(seed)
    slots = Slots(3)
    held = 0

    async def use() -> None:
        nonlocal held
        if not await slots.acquire(choose.choice([0, 50])):
            return
        held += 1
        assert held <= 3
        try:
            for _ in range(choose.randrange(4)):
                await asyncio.sleep(0)
        finally:
            held -= 1
            slots.release()

    tasks = []
    for _ in range(200):
        tasks.append(asyncio.create_task(use()))
        if choose.random() < 0.5:
            choose.choice(tasks).cancel()
        if choose.random() < 0.3:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert held == 0
    assert slots.unused
