"""Running a coroutine test on an event loop, with a limit and checks at its end."""

from __future__ import annotations

import asyncio
import gc
import socket
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from pywebtransport.testing import VirtualClockLoop

from .leaks import engine_objects, more_objects

FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
    "virtual": VirtualClockLoop,
}
# On which a test runs that chooses none.
DEFAULT_LOOPS = ("asyncio", "uvloop")

# Turns that finished work may take to be gone: callbacks of callbacks, never timers.
_SETTLE_TURNS = 25


def run_test(test: Callable[[], Awaitable[object]], loop_name: str, limit: float) -> None:
    """Run ``test`` to its end on a new loop.

    Args:
        test: Gives the coroutine.
        loop_name: A key of ``FACTORIES``.
        limit: Seconds after which the test is cancelled and fails.

    Raises:
        AssertionError: It took too long, left something behind, or the loop heard of an error
            that nobody handled. What the test itself raises passes.
    """
    complaints: list[str] = []
    with asyncio.Runner(loop_factory=FACTORIES[loop_name]) as runner:
        runner.get_loop().set_exception_handler(
            lambda _, context: complaints.append(_describe(context))
        )
        problems = runner.run(_limited(test, limit))
        gc.collect()
    problems += [f"event loop: {complaint}" for complaint in complaints]
    assert not problems, "\n".join(problems)


def warm_up() -> None:
    """Let both loops open what they open once per process."""
    for factory in FACTORIES.values():
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_resolve())


async def _resolve() -> None:
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 1, type=socket.SOCK_DGRAM)


async def _limited(test: Callable[[], Awaitable[object]], limit: float) -> list[str]:
    before = engine_objects()
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            await test()
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise AssertionError(f"the test did not end within {limit} seconds") from error
    # A thread still holds the call whose result was taken, until it gets to run again.
    await asyncio.get_running_loop().shutdown_default_executor()
    for _ in range(_SETTLE_TURNS):
        await asyncio.sleep(0)
    if more_objects(before, engine_objects()):
        gc.collect()
    problems = [
        f"task left: {task!r}" for task in asyncio.all_tasks() if task is not asyncio.current_task()
    ]
    # asyncio keeps its timers in a list that can be looked at; uvloop does not show them.
    timers = getattr(asyncio.get_running_loop(), "_scheduled", ())
    problems += [f"timer left: {timer!r}" for timer in timers if not timer.cancelled()]
    if more := more_objects(before, engine_objects()):
        problems.append(f"engine objects left: {more}")
    return problems


def _describe(context: dict[str, Any]) -> str:
    exception = context.get("exception")
    if exception is None:
        return str(context)
    trace = "".join(traceback.format_exception(exception))
    return f"{context.get('message')}: {trace}"
