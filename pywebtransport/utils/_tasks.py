"""Running coroutines within limits."""

from __future__ import annotations

import asyncio
import builtins
import sys
from collections.abc import Callable, Coroutine, Iterable
from types import CoroutineType
from typing import Any, TypeVar, cast

from .._states import Timeout
from ..exceptions import ConfigurationError, TimeoutError
from ._checks import (
    check_callable,
    check_instance,
    check_seconds,
    check_text,
    check_timeout,
)
from ._turns import Turns, for_each

__all__ = [
    "cancel_in_turns",
    "create_task_with_timeout",
    "is_being_cancelled",
    "named",
    "run_with_timeout",
    "start_task",
    "wait_for_condition",
]

T = TypeVar("T")


def cancel_in_turns(tasks: Iterable[asyncio.Task[Any]], turns: Turns | None = None) -> None:
    """Cancel tasks; if they are many, some in each turn of the running event loop.

    Each runs a step when it is cancelled; without this, all tasks of a peer's streams would do so
    in one turn.

    Args:
        tasks: Those to cancel.
        turns: Of the peer whose tasks they are; by default those of the running event loop.
    """
    turns = turns or Turns.of()

    def cancel(task: asyncio.Task[Any]) -> None:
        if not task.done():
            turns.woke()
            task.cancel()

    for_each(turns, tasks, cancel)


async def create_task_with_timeout(
    coro: Coroutine[Any, Any, T],
    *,
    timeout: Timeout | None = None,
    name: str | None = None,
) -> asyncio.Task[T]:
    """Start a task that is cancelled if it takes too long.

    Args:
        coro: The coroutine to run.
        timeout: Seconds; None: no limit. When it passes, the task ends with
            :class:`TimeoutError`.
        name: Name of the task.

    Returns:
        The running task; keep a reference to it.

    Cancellation: does not wait, so there is nothing to cancel.
    """
    limit = _limit_of(coro, timeout, name)
    task = asyncio.create_task(_limited(coro, limit, name or "task"), name=name)
    # A task that is cancelled before it starts never awaits the coroutine.
    task.add_done_callback(lambda _: coro.close())
    return task


def is_being_cancelled() -> bool:
    """Tell who caused the ``CancelledError`` that you just caught.

    True: the current task was cancelled, so re-raise the error. False: it was not; something that
    the task waited for was cancelled, or the code raised the error itself. Then it is an error like
    any other.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs: nothing can have been cancelled
        return False
    return task is not None and task.cancelling() > 0


def named(name: str, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    """Give a coroutine the name of the function that your users called.

    Python shows the name in its warning about a coroutine that was never awaited.
    """
    cast("CoroutineType[Any, Any, T]", coroutine).__qualname__ = name
    return coroutine


async def run_with_timeout(
    coro: Coroutine[Any, Any, T],
    *,
    timeout: float,
    default_value: T | None = None,
) -> T | None:
    """Run a coroutine; cancel it if it takes longer than ``timeout`` seconds.

    Returns:
        Its result, or ``default_value`` if it was cancelled.

    Cancellation: cancels the coroutine.
    """
    scope = asyncio.timeout(_limit_of(coro, timeout))
    try:
        async with scope:
            return await coro
    except builtins.TimeoutError:
        # The coroutine may have raised one of its own, which passes.
        if not scope.expired():
            raise
        return default_value


if sys.version_info >= (3, 12):

    def start_task(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]
    ) -> asyncio.Task[T]:
        """Start a task, which takes its first step at once.

        Where the application has set a task factory, that starts the task.

        Args:
            loop: The running event loop.
            coroutine: What the task runs.

        Returns:
            The task; it may have ended.
        """
        if loop.get_task_factory() is not None:  # the application knows how to start tasks
            return loop.create_task(coroutine)
        return asyncio.Task(coroutine, loop=loop, eager_start=True)

else:

    def start_task(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]
    ) -> asyncio.Task[T]:
        """Start a task; it takes its first step in the next turn of the event loop."""
        return loop.create_task(coroutine)


async def wait_for_condition(
    condition: Callable[[], bool],
    *,
    timeout: Timeout | None = None,
    interval: float = 0.1,
) -> None:
    """Wait until ``condition()`` is true, calling it once per interval.

    If there is an event, wait for that instead.

    Args:
        condition: Called at once, then every ``interval``, and once more at the end.
        timeout: Longest wait in seconds; None: no limit.
        interval: Seconds between two calls.

    Raises:
        TimeoutError: It did not become true in time.
        ConfigurationError: ``interval`` is not greater than 0.

    Cancellation: safe.
    """
    interval = check_seconds("interval", interval)
    limit = check_timeout("timeout", timeout)
    check_callable("condition", condition)
    loop = asyncio.get_running_loop()
    deadline = None if limit is None else loop.time() + limit
    while not condition():
        pause = interval
        if deadline is not None:
            left = deadline - loop.time()
            if left <= 0:
                raise TimeoutError(
                    f"the condition was not met within {limit:g} seconds",
                    timeout_duration=timeout,
                    operation="wait_for_condition",
                )
            pause = min(interval, left)
        await asyncio.sleep(pause)


def _limit_of(
    coro: Coroutine[Any, Any, T], timeout: Timeout | None, name: str | None = None
) -> float | None:
    """Check the arguments; a coroutine that will not run is closed."""
    check_instance("coro", coro, Coroutine)
    try:
        if name is not None:
            check_text("name", name)
        return check_timeout("timeout", timeout)
    except ConfigurationError:
        coro.close()
        raise


async def _limited(coro: Coroutine[Any, Any, T], limit: float | None, operation: str) -> T:
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            return await coro
    except builtins.TimeoutError as error:
        # The coroutine may have raised one of its own, which passes.
        if not scope.expired():
            raise
        raise TimeoutError(
            f"{operation} took longer than {limit} seconds",
            timeout_duration=limit,
            operation=operation,
        ) from error
