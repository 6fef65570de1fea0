"""``Lender``: what all pools have in common."""

from __future__ import annotations

import asyncio
import math

import pytest

from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import SessionError, TimeoutError
from pywebtransport.types import EventType
from pywebtransport.utils._pooling import Leaving, Lender
from tests.support.timers import Timers


class Item(EventEmitter):
    def end(self) -> None:
        self._emit_nowait(EventType.STREAM_CLOSED)


class Pool:
    """A lender of items, and what left it."""

    def __init__(self, size: int, *, max_idle_time: float = math.inf) -> None:
        self.left: list[tuple[Item, str, Leaving]] = []
        self.lender: Lender[str, Item] = Lender(
            size,
            noun="item",
            size_name="size",
            ending=EventType.STREAM_CLOSED,
            left=lambda *what: self.left.append(what),
            closed_error=lambda: SessionError("the pool is closed"),
            max_idle_time=max_idle_time,
        )
        self.fit = True
        self.failure: Exception | None = None

    async def get(self, key: str = "a", timeout: float = 50) -> Item:
        return await self.lender.lend(
            key,
            timeout,
            where=f"of {key}",
            limit=f"timeout={timeout}",
            reuse=self._reuse,
            create=self._create,
        )

    def _reuse(self, item: Item) -> bool:
        if self.failure is not None:
            raise self.failure
        return self.fit

    async def _create(self) -> Item:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return Item()


def counts(pool: Pool) -> tuple[int, int, int, int]:
    """Idle and lent items, those in use or being created, and keys."""
    lender = pool.lender
    return len(lender.idle), len(lender.lent), lender.in_use, lender.keys


async def test_the_item_that_came_back_last_is_lent_first() -> None:
    pool = Pool(2)
    first, second = await pool.get(), await pool.get()
    other = await pool.get("b")
    assert counts(pool) == (0, 3, 3, 2)
    pool.lender.give_back(first, fit=True)
    pool.lender.give_back(second, fit=True)
    assert await pool.get() is second
    assert await pool.get() is first
    pool.lender.give_back(other, fit=False)
    assert counts(pool) == (0, 2, 2, 1)
    assert pool.left == [(other, "b", Leaving.UNFIT)]


async def test_callers_wait_in_order_for_a_limited_time() -> None:
    pool = Pool(1)
    item = await pool.get()
    with pytest.raises(TimeoutError, match=r"all 1 items of a .*timeout=0 s") as caught:
        await pool.get(timeout=0)
    assert caught.value.operation == "wait for a pooled item"
    waiting = [asyncio.create_task(pool.get()) for _ in range(3)]
    await asyncio.sleep(0)
    assert pool.lender.waiting == 3
    waiting[0].cancel()
    pool.lender.give_back(item, fit=True)
    assert await waiting[1] is item
    assert waiting[0].cancelled()
    assert pool.lender.waiting == 1
    item.end()  # its place is free without its being given back
    assert await waiting[2] is not item
    assert pool.left == [(item, "a", Leaving.LOST)]
    assert counts(pool) == (0, 1, 1, 1)


async def test_an_idle_item_that_ends_leaves() -> None:
    pool = Pool(1)
    item = await pool.get()
    pool.lender.give_back(item, fit=True)
    item.end()
    assert pool.left == [(item, "a", Leaving.ENDED)]
    assert counts(pool) == (0, 0, 0, 0)
    pool.lender.remove(item)  # not there any more
    assert len(pool.left) == 1


async def test_an_idle_item_that_is_not_fit_is_replaced() -> None:
    pool = Pool(1)
    item = await pool.get()
    pool.lender.give_back(item, fit=True)
    pool.fit = False
    assert await pool.get() is not item
    assert pool.left == [(item, "a", Leaving.UNFIT)]
    item.end()  # nobody listens any more
    assert counts(pool) == (0, 1, 1, 1)


async def test_errors_cost_no_place_and_no_item() -> None:
    pool = Pool(1)
    pool.failure = ValueError("cannot be created")
    with pytest.raises(ValueError, match="created"):
        await pool.get()
    assert counts(pool) == (0, 0, 0, 0)
    pool.failure = None
    item = await pool.get()
    pool.lender.give_back(item, fit=True)
    pool.failure = ValueError("a fault of the caller")
    with pytest.raises(ValueError, match="caller"):
        await pool.get()
    assert counts(pool) == (1, 0, 0, 1)
    assert pool.left == []


async def test_one_timer_for_the_item_that_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    clock = loop.time
    pool = Pool(3, max_idle_time=1000)
    items = [await pool.get() for _ in range(3)]
    with Timers(Lender.__module__) as timers:
        for item, ago in zip(items, (1000, 999, 0), strict=True):
            with monkeypatch.context() as patch:
                patch.setattr(loop, "time", lambda ago=ago: clock() - ago)
                pool.lender.give_back(item, fit=True)
        assert timers.count == 1
        timers.fire()
        assert pool.left == [(items[0], "a", Leaving.EXPIRED)]
        assert (timers.count, timers.pending) == (2, 1)
        assert await pool.get() is items[2]
        assert timers.pending == 1  # another one is idle
        assert await pool.get() is items[1]
        assert timers.pending == 0  # nothing to wake up for
        pool.lender.give_back(items[1], fit=True)
        assert timers.pending == 1
        pool.lender.close()
        assert timers.pending == 0


async def test_a_closed_pool_lends_nothing() -> None:
    pool = Pool(1)
    creating, waiting = [asyncio.create_task(pool.get()) for _ in range(2)]
    await asyncio.sleep(0)
    assert (pool.lender.in_use, pool.lender.waiting) == (1, 1)
    pool.lender.close()
    for task in (creating, waiting):
        with pytest.raises(SessionError, match="the pool is closed"):
            await task
    ((_, key, why),) = pool.left
    assert (key, why) == ("a", Leaving.UNFIT)
    assert counts(pool) == (0, 0, 0, 0)
    with pytest.raises(SessionError, match="the pool is closed"):
        await pool.get()
    pool.lender.close()


async def test_waiting_callers_can_be_given_an_error_without_closing() -> None:
    pool = Pool(1)
    item = await pool.get()
    waiting = asyncio.create_task(pool.get())
    await asyncio.sleep(0)
    pool.lender.fail(lambda: ValueError("over"))
    with pytest.raises(ValueError, match="over"):
        await waiting
    pool.lender.give_back(item, fit=True)
    assert await pool.get() is item


@pytest.mark.parametrize("fit", [True, False], ids=["idle", "new"])
async def test_a_caller_that_was_served_when_the_pool_closed_gets_nothing(fit: bool) -> None:
    """Its place became free, and before it took its step, the pool was closed."""
    pool = Pool(1)
    item = await pool.get()
    waiting = asyncio.create_task(pool.get())
    await asyncio.sleep(0)
    pool.lender.give_back(item, fit=fit)
    pool.lender.close()
    with pytest.raises(SessionError, match="the pool is closed"):
        await waiting
    assert counts(pool) == ((1, 0, 0, 1) if fit else (0, 0, 0, 0))
