"""``VirtualClockLoop``: waiting takes no time, unless something outside is awaited."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport.testing import VirtualClockLoop
from pywebtransport.utils import clock

pytestmark = pytest.mark.loops("virtual")


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.limit(1e9)
async def test_waiting_jumps_to_the_next_timer() -> None:
    started, real = now(), time.monotonic()
    order: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append((name, now() - started))

    await asyncio.gather(sleeper("week", 604800), sleeper("hour", 3600), sleeper("day", 86400))
    assert [name for name, _ in order] == ["hour", "day", "week"]
    assert [seconds for _, seconds in order] == pytest.approx([3600, 86400, 604800])
    assert time.monotonic() - real < 3600


async def test_timeouts_follow_the_clock() -> None:
    started = now()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await asyncio.Event().wait()
    assert now() - started == pytest.approx(30)


async def test_time_does_not_jump_while_a_thread_works() -> None:
    go = threading.Event()
    asyncio.get_running_loop().call_later(0.05, go.set)

    def work() -> str:
        assert go.wait(30)
        return "done"

    # With a jump the timeout would be first.
    assert await asyncio.wait_for(asyncio.to_thread(work), timeout=50) == "done"
    started = now()
    await asyncio.sleep(40)  # and it jumps again
    assert now() - started == pytest.approx(40)


async def test_time_does_not_jump_while_a_descriptor_is_watched() -> None:
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    arrived: asyncio.Future[bytes] = loop.create_future()
    loop.add_reader(reading, lambda: arrived.set_result(os.read(reading, 10)))
    thread = threading.Timer(0.05, os.write, (writing, b"x"))
    thread.start()
    try:
        assert await asyncio.wait_for(arrived, timeout=50) == b"x"
        started, real = now(), time.monotonic()
        await asyncio.sleep(0.02)
        assert time.monotonic() - real >= 0.02
        assert now() - started == pytest.approx(0.02)
    finally:
        loop.remove_reader(reading)
        thread.join()
        os.close(reading)
        os.close(writing)


async def test_the_executor_can_be_shut_down() -> None:
    await asyncio.to_thread(int)
    started = now()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert now() - started < 30


async def test_code_that_looks_at_the_clock_gets_somewhere() -> None:
    end = now() + 0.001
    turns = 0
    while now() < end:
        turns += 1
        await asyncio.sleep(0)
    assert turns > 1000
    # A few turns take no time.
    await asyncio.sleep(1)
    started = now()
    await asyncio.sleep(0)
    assert now() == started


async def test_the_package_follows_the_clock_of_the_running_loop() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    await asyncio.sleep(12)
    assert clock.monotonic() == loop.time()
    assert clock.monotonic_ns() == loop.time_ns() == round(loop.time() * 1e9)
    assert clock.clock_of(loop)() == loop.time_ns()
    # In another thread it is the system's.
    before = time.monotonic(), time.monotonic_ns()
    seconds, nanoseconds = await asyncio.to_thread(
        lambda: (clock.monotonic(), clock.monotonic_ns())
    )
    assert before[0] <= seconds <= time.monotonic()
    assert before[1] <= nanoseconds <= time.monotonic_ns()


def names() -> tuple[Callable[[], Any], Callable[[], Any]]:
    return clock.monotonic, clock.monotonic_ns


def test_without_such_a_loop_the_clock_is_the_systems_itself() -> None:
    assert names() == (time.monotonic, time.monotonic_ns)
    first, second = VirtualClockLoop(), VirtualClockLoop()
    assert time.monotonic not in names()
    first.close()
    first.close()
    assert time.monotonic not in names()
    second.close()
    assert names() == (time.monotonic, time.monotonic_ns)
    with asyncio.Runner() as runner:
        assert clock.clock_of(runner.get_loop()) is time.monotonic_ns
