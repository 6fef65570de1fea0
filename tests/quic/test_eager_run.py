"""``EagerTurn.run``: tasks continue in the turn in which a transport in Python delivers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport._quic import EagerTurn


class Broken(Exception):
    """What the work of a test raises."""


class Room:
    """Tasks that wait, each for a future of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.turn = EagerTurn()
        self.futures: list[Any] = []
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def add(self, name: str, then: Callable[[], object] = lambda: None) -> None:
        """Start a task, and let it come to its wait."""
        future = self.turn.create_future(self.loop)
        self.futures.append(future)

        async def wait() -> None:
            await future
            self.order.append(name)
            then()

        self.tasks.append(asyncio.create_task(wait()))
        await asyncio.sleep(0)

    def wake(self, *names: int) -> None:
        for place in names:
            self.futures[place].set_result(None)
            self.order.append(f"woke {place}")

    async def within(self, work: Callable[[Any], object], argument: Any) -> None:
        """Run work in a callback of the loop, where no task is the current one."""
        done = self.loop.create_future()

        def call() -> None:
            try:
                self.turn.run(work, argument)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)
            self.order.append("returned")

        self.loop.call_soon(call)
        await done


async def test_tasks_continue_behind_the_work() -> None:
    room = Room()
    await room.add("a")
    await room.add("b")
    await room.within(lambda places: room.wake(*places), (1, 0))
    assert room.order == ["woke 1", "woke 0", "b", "a", "returned"]
    await asyncio.gather(*room.tasks)


async def test_a_task_that_a_task_wakes_continues_in_the_next_turn() -> None:
    room = Room()
    await room.add("a", lambda: room.wake(1))
    await room.add("b")
    await room.within(lambda _: room.wake(0), None)
    assert room.order[:4] == ["woke 0", "a", "woke 1", "returned"]
    await asyncio.gather(*room.tasks)
    assert room.order[4:] == ["b"]


async def test_work_inside_work_lets_the_outer_one_continue_tasks() -> None:
    room = Room()
    await room.add("a")

    def outer(_: object) -> None:
        room.turn.run(lambda place: room.wake(place), 0)
        room.order.append("outer")

    await room.within(outer, None)
    assert room.order == ["woke 0", "outer", "a", "returned"]
    await asyncio.gather(*room.tasks)


async def test_work_that_raises_lets_tasks_continue() -> None:
    room = Room()
    await room.add("a")

    def work(place: int) -> None:
        room.wake(place)
        raise Broken

    with pytest.raises(Broken):
        await room.within(work, 0)
    assert room.order == ["woke 0", "a", "returned"]
    await asyncio.gather(*room.tasks)


async def test_in_a_task_others_continue_in_the_next_turn() -> None:
    room = Room()
    await room.add("a")
    room.turn.run(lambda place: room.wake(place), 0)
    assert room.order == ["woke 0"]
    await asyncio.gather(*room.tasks)
    assert room.order == ["woke 0", "a"]


async def test_a_disabled_one_leaves_tasks_to_the_event_loop() -> None:
    room = Room()
    room.turn = EagerTurn(False)
    await room.add("a")
    await room.within(lambda place: room.wake(place), 0)
    assert room.order[:2] == ["woke 0", "returned"]
    await asyncio.gather(*room.tasks)
    assert room.order[2:] == ["a"]


async def test_only_so_many_continue_at_once() -> None:
    room = Room()
    for _ in range(300):
        await room.add("task")
    await room.within(lambda places: room.wake(*places), range(300))
    # At least one, and no more than there is time for; the others lose nothing.
    at_once = room.order.index("returned") - 300
    assert 1 <= at_once <= 128
    await asyncio.gather(*room.tasks)
    assert room.order.count("task") == 300
