"""``Deadlines``: many time limits of a loop, one timer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport.utils._deadlines import Deadlines
from tests.support.timers import Timers

MODULE = "pywebtransport.utils._deadlines"
LATER = 1000.0


@pytest.fixture
def log() -> list[object]:
    return []


@pytest.mark.loops("asyncio")  # timers of uvloop cannot be watched
async def test_limits_of_any_length_share_one_timer(log: list[object]) -> None:
    deadlines = Deadlines.of(asyncio.get_running_loop())
    with Timers(MODULE) as timers:
        limits = [deadlines.call_later(LATER + n % 3, log.append, n) for n in range(30)]
        assert timers.count == 1
        assert timers.pending == 1
        for limit in limits[:-1]:
            limit.cancel()
            limit.cancel()
        assert timers.pending == 1
        limits[-1].cancel()
        assert timers.pending == 0
    assert log == []


@pytest.mark.loops("asyncio")  # timers of uvloop cannot be watched
async def test_an_earlier_limit_comes_first(log: list[object]) -> None:
    deadlines = Deadlines.of(asyncio.get_running_loop())
    with Timers(MODULE) as timers:
        late = deadlines.call_later(LATER, log.append, "late")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadlines.call_later(0.02, log.append, "third")
        deadlines.call_later(0.01, log.append, "first")
        deadlines.call_later(0.01, log.append, "second")
        deadlines.call_later(0.03, done.set_result, None)
        assert timers.pending == 1
        await done
        assert log == ["first", "second", "third"]
        assert timers.pending == 1  # of the late one
        late.cancel()
        assert timers.pending == 0


async def test_no_limit_is_lost(log: list[object]) -> None:
    """Of hundreds, less apart than the milliseconds of uvloop's timers."""
    deadlines = Deadlines.of(asyncio.get_running_loop())
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for number in range(300):
        deadlines.call_later(0.0001 + number * 0.00007, log.append, number)
    deadlines.call_later(0.1, done.set_result, None)
    await done
    assert sorted(map(str, log)) == sorted(map(str, range(300)))


async def test_a_cancelled_limit_leaves_the_others_alone(log: list[object]) -> None:
    """The timer was set for the first one: it fires, and is set for the next one."""
    loop = asyncio.get_running_loop()
    deadlines = Deadlines.of(loop)
    done: asyncio.Future[None] = loop.create_future()
    first = deadlines.call_later(0.01, log.append, "cancelled")
    began = loop.time()
    deadlines.call_later(0.05, done.set_result, None)
    first.cancel()
    await done
    assert log == []
    assert loop.time() - began >= 0.049


async def test_a_limit_that_is_due_can_still_be_cancelled(log: list[object]) -> None:
    """Both are due in one turn, and the first cancels the second."""
    loop = asyncio.get_running_loop()
    deadlines = Deadlines.of(loop)
    second: Any = None

    def cancel() -> None:
        log.append("first")
        second.cancel()

    deadlines.call_later(0.01, cancel)
    second = deadlines.call_later(0.01, log.append, "second")
    done: asyncio.Future[None] = loop.create_future()
    deadlines.call_later(0.03, done.set_result, None)
    await done
    assert log == ["first"]


@pytest.mark.loops("asyncio")  # timers of uvloop cannot be watched
async def test_no_delay_is_the_next_turn(log: list[object]) -> None:
    deadlines = Deadlines.of(asyncio.get_running_loop())
    with Timers(MODULE) as timers:
        deadlines.call_later(0, log.append, "soon")
        deadlines.call_later(0, log.append, "cancelled").cancel()
        assert log == []
        await asyncio.sleep(0)
        assert log == ["soon"]
        assert timers.count == 0


async def test_an_exception_stops_nobody_else(log: list[object]) -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines.of(loop)
    seen: list[object] = []
    loop.set_exception_handler(lambda _, context: seen.append(type(context["exception"])))
    done: asyncio.Future[None] = loop.create_future()
    deadlines.call_later(0.01, [].remove, 1)
    deadlines.call_later(0.01, done.set_result, None)
    await done
    loop.set_exception_handler(None)
    assert seen == [ValueError]


def test_each_loop_has_its_own() -> None:
    async def one() -> Deadlines:
        loop = asyncio.get_running_loop()
        assert Deadlines.of(loop) is Deadlines.of(loop)
        return Deadlines.of(loop)

    assert asyncio.run(one()) is not asyncio.run(one())
