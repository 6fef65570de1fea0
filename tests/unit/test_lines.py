"""``Line`` and ``Gates``: first come, first served, in time that does not grow with the line."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.utils._gates import ONLY, Gates, TooLate
from pywebtransport.utils._waiters import Line, Waiters

MANY = 10_000


class Store:
    """Things that are taken one by one through gates, and how often anybody tried."""

    def __init__(self) -> None:
        self.gates = Gates()
        self.left = 0
        self.tries = 0
        self.order: list[int] = []

    def take(self) -> bool | None:
        self.tries += 1
        if not self.left:
            return None
        self.left -= 1
        return True

    async def want(self, number: int, timeout: float | None = None) -> None:
        if self.gates or not self.take():
            await self.gates.wait(ONLY, self, self.take, timeout=timeout)
        self.order.append(number)

    def put(self, count: int) -> None:
        self.left += count
        self.gates.open(ONLY)


async def settle(turns: int = 4) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


# ---------------------------------------------------------------------------------- lines


async def test_a_line_serves_in_order_and_waits_for_those_it_served() -> None:
    line, order = Line(), []

    async def wait(number: int) -> None:
        assert await line.wait()
        order.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert len(line) == 5
    assert line.serve()
    assert line.serve()
    assert (len(line), line.served) == (3, 2)
    line.serve_all()
    assert len(line) == 0
    assert line  # nobody overtakes those who were served
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert not line
    assert not line.serve()


async def test_one_who_is_cancelled_when_served_passes_it_on() -> None:
    line = Line()
    tasks = [asyncio.create_task(line.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    line.serve()
    tasks[0].cancel()
    tasks[1].cancel()
    assert await tasks[2]
    assert not line
    passed: list[int] = []
    task = asyncio.create_task(line.wait(pass_on=lambda: passed.append(1)))
    await asyncio.sleep(0)
    line.serve()
    task.cancel()
    await asyncio.wait({task})
    assert passed == [1]
    assert not line


async def test_a_line_forgets_those_who_give_up() -> None:
    line = Line()
    first = asyncio.create_task(line.wait())
    await asyncio.sleep(0)
    for _ in range(50):
        tasks = [asyncio.create_task(line.wait(0.0 if n % 2 else None)) for n in range(100)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert len(line.turns) < 200  # of 5,000
    line.serve()
    assert await first
    assert not line


async def test_a_line_belongs_to_one_loop() -> None:
    line = Line()
    task = asyncio.create_task(line.wait())
    await asyncio.sleep(0)

    def elsewhere() -> None:
        with pytest.raises(ConfigurationError, match="event loop"):
            asyncio.run(line.wait())

    await asyncio.to_thread(elsewhere)
    assert len(line) == 1
    line.serve()
    await task


async def test_a_coroutine_that_is_thrown_away_leaves_the_line() -> None:
    line = Line()
    coroutine = line.wait()
    coroutine.send(None)
    assert len(line) == 1
    coroutine.close()
    assert not line


async def test_many_waiters_leave_in_any_order() -> None:
    """Each of them at the same cost: a list would be searched for each."""
    waiters = Waiters()
    tasks = [asyncio.create_task(waiters.wait()) for _ in range(MANY)]
    await asyncio.sleep(0)
    assert isinstance(waiters.futures, dict)
    for task in reversed(tasks):
        task.cancel()
    await asyncio.wait(tasks)
    assert not waiters


# ---------------------------------------------------------------------------------- gates


async def test_gates_serve_in_order_whoever_comes_between() -> None:
    store = Store()
    tasks = [asyncio.create_task(store.want(number)) for number in range(10)]
    await settle()
    store.put(3)
    # Before those who were told can go on.
    tasks += [asyncio.create_task(store.want(number)) for number in range(10, 13)]
    await settle()
    assert store.order == [0, 1, 2]
    store.put(10)
    await asyncio.gather(*tasks)
    assert store.order == list(range(13))
    assert not store.gates


@pytest.mark.parametrize("portion", [1, 7, 1000])
async def test_the_number_of_tries_does_not_grow_with_the_line(portion: int) -> None:
    """No more coroutines are woken in vain than for a reason."""
    store = Store()
    tasks = [asyncio.create_task(store.want(number)) for number in range(MANY)]
    await settle()
    store.tries = 0
    put = 0
    while put < MANY:
        store.put(portion)
        put += portion
        turns = 0
        while store.left and len(store.order) < MANY:
            await settle(1)
            turns += 1
            assert turns < 10 + portion
        await settle(2)
    await asyncio.gather(*tasks)
    assert store.order == list(range(MANY))
    assert store.tries <= 4 * MANY


@pytest.mark.parametrize("seed", range(10))
async def test_any_order_of_putting_taking_and_cancelling(seed: int) -> None:
    choose = random.Random(seed)
    store, put = Store(), 0
    tasks: list[asyncio.Task[None]] = []
    for number in range(400):
        timeout = choose.choice([None, None, 0.0])
        tasks.append(asyncio.create_task(store.want(number, timeout)))
        if choose.random() < 0.4:
            choose.choice(tasks).cancel()
        if choose.random() < 0.5:
            count = choose.randrange(3)
            put += count
            store.put(count)
        if choose.random() < 0.3:
            await asyncio.sleep(0)
    await settle(3)
    missing = sum(not task.done() for task in tasks)
    put += missing
    store.put(missing)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, None | asyncio.CancelledError | TooLate) for one in results)
    assert store.order == [n for n, one in enumerate(results) if one is None]
    assert store.left == put - len(store.order)
    assert not store.gates


async def test_those_too_late_learn_how_many_were_before() -> None:
    store = Store()
    patient = [asyncio.create_task(store.want(number)) for number in range(3)]
    await settle()
    with pytest.raises(TooLate) as caught:
        await store.want(3, 0.001)
    assert (caught.value.gate, caught.value.ahead, caught.value.waiting) == (ONLY, 3, 3)
    store.put(3)
    await asyncio.gather(*patient)


async def test_the_owner_of_some_fails_them_alone() -> None:
    gates = Gates()

    def never() -> None:
        return None

    waits: list[Callable[[], asyncio.Task[None]]] = [
        lambda: asyncio.create_task(gates.wait(ONLY, "one", never)),
        lambda: asyncio.create_task(gates.wait(ONLY, "other", never)),
    ]
    tasks = [waits[number % 2]() for number in range(6)]
    await settle()
    gates.fail("one", lambda: ValueError("over"))
    await settle()
    assert [task.done() for task in tasks] == [True, False] * 3
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in results] == [ValueError, asyncio.CancelledError] * 3
    assert not gates


async def test_who_passes_one_gate_comes_in_order_to_the_next() -> None:
    """Two limits: one per user, one for all; a user at its own limit does not delay others."""
    gates, order = Gates(), []
    own, shared = {"a": 0, "b": 0}, 0

    async def want(user: str, number: int) -> None:
        def take() -> bool | None:
            nonlocal shared
            if closed() is not None:
                return None
            own[user] -= 1
            shared -= 1
            return True

        def closed() -> str | None:
            return user if own[user] <= 0 else "shared" if shared <= 0 else None

        key = gates.held((user, "shared")) or closed()
        await gates.wait(key or "shared", user, take, closed)
        order.append((user, number))

    tasks = [
        asyncio.create_task(want(user, number))
        for number, user in enumerate(["a", "b", "a", "b", "a"])
    ]
    await settle()
    own["b"] = shared = 2
    gates.open("b")
    gates.open("shared")
    await settle()
    assert order == [("b", 1), ("b", 3)]
    own["a"] = 3
    gates.open("a")
    await settle()
    await settle(8)
    assert gates.waiting("shared") == 3
    shared = 3
    gates.open("shared")
    await settle(8)
    assert order[2:] == [("a", 0), ("a", 2), ("a", 4)]
    await asyncio.gather(*tasks)
    assert not gates
