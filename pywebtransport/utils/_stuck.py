"""Waits for code of the application, within limits, and names code that does not end."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, TypeVar
from weakref import WeakSet

from ._failures import session_among
from ._logs import shared_log
from ._text import printable
from ._turns import Turns

__all__ = [
    "LAST_WORDS",
    "describe_running",
    "describe_task",
    "describe_tasks",
    "describe_thread",
    "end_tasks",
    "given_up",
    "run_within",
]

LAST_WORDS = 0.25
"""Seconds that cancelled code gets to end, even if the time of the caller is up."""

# Most tasks named in one log record; most frames checked for one task.
_MOST_NAMED = 20
_DEEPEST = 1000
_PACKAGE = "pywebtransport"
# Modules that may surround code of the application on a stack.
_LIBRARIES = frozenset({_PACKAGE, "asyncio", "concurrent", "threading", "queue", "contextlib"})
# The awaitable of an asynchronous generator: it does not say which one.
_STEPS = frozenset({"async_generator_asend", "async_generator_athrow"})

_T = TypeVar("_T")

_given_up: WeakSet[asyncio.Task[Any]] = WeakSet()


def given_up(task: asyncio.Task[Any]) -> bool:
    """Whether ``end_tasks`` has named this task, and stopped waiting for it."""
    return task in _given_up


async def end_tasks(
    tasks: Iterable[asyncio.Task[Any]], *, timeout: float, logger: logging.Logger, what: str
) -> None:
    """Cancel tasks that run code of the application, and wait for them for a limited time.

    A task that ignores its cancellation is named in the log, with its function, session and
    position, and no longer waited for. The task of the caller, which cannot wait for itself, is
    skipped.

    Args:
        tasks: The tasks.
        timeout: Longest wait in seconds, at least ``LAST_WORDS``.
        logger: The logger.
        what: What the tasks are, in the plural.

    Cancellation: they are cancelled anyway.
    """
    current = asyncio.current_task()
    own = [task for task in tasks if task is not current]
    turns = Turns.of()
    try:
        for task in own:
            if not task.done():
                turns.woke()  # its next step is that of the next turn
                task.cancel()
                await turns.pause()
    except BaseException:
        for task in own:
            task.cancel()
        raise
    if not own:
        return
    _, pending = await asyncio.wait(own, timeout=max(timeout, LAST_WORDS))
    new = [task for task in pending if task not in _given_up]
    if new:
        _given_up.update(new)
        shared_log(logger).tell(
            "left behind",
            logging.ERROR,
            "%d %s did not end when they were cancelled, and are no longer waited for: %s",
            len(new),
            what,
            "; ".join(map(describe_task, new[:_MOST_NAMED])),
        )


async def run_within(
    work: Callable[[], Coroutine[Any, Any, _T]],
    *,
    timeout: float,
    logger: logging.Logger,
    what: str,
) -> _T | None:
    """Run code of the application; cancel it if it takes too long.

    Args:
        work: Creates the coroutine, which runs in a new task.
        timeout: Seconds.
        logger: The logger for what is cancelled.
        what: What it is.

    Returns:
        The result; None if it was cancelled.

    Raises: what ``work`` raises in time.

    Cancellation: ``work`` is cancelled, too.
    """
    task = asyncio.get_running_loop().create_task(work())
    try:
        await asyncio.wait({task}, timeout=max(timeout, LAST_WORDS))
    finally:
        if not task.done():
            task.cancel()
    if task.done():
        return task.result()
    shared_log(logger).tell(
        "cut short", logging.ERROR, "%s did not end in time: %s", what, describe_task(task)
    )
    await end_tasks([task], timeout=LAST_WORDS, logger=logger, what=what)
    return None


def describe_tasks(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Describe what suspended tasks run for the application; "" if they run nothing of it."""
    told = [text for text in map(_describe_foreign, tasks) if text is not None]
    parts = told[:_MOST_NAMED]
    if len(told) > _MOST_NAMED:
        parts.append(f"and {len(told) - _MOST_NAMED} more")
    return "; ".join(parts)


def describe_task(task: asyncio.Task[Any]) -> str:
    """The function that a task runs for the application, its session, and where it waits."""
    work = task.get_coro()
    return _describe(_frames_of(work)) or printable(getattr(work, "__qualname__", task.get_name()))


def describe_running(task: asyncio.Task[Any] | None, frame: FrameType) -> str:
    """As ``describe_task``, for a task that is running now.

    Args:
        task: The task; None: any code in the thread.
        frame: Current frame of the thread.
    """
    frames = [frame]
    stop = None if task is None else next(iter(_frames_of(task.get_coro())), None)
    while frames[-1] is not stop and frames[-1].f_back is not None and len(frames) < _DEEPEST:
        frames.append(frames[-1].f_back)
    return _describe(frames[::-1])


def describe_thread(name: str, frame: FrameType) -> str:
    """Describe what a thread runs for the application; "" if it runs nothing of it."""
    text = describe_running(None, frame)
    return text and f"in thread {printable(name)}: {text}"


def _describe_foreign(task: asyncio.Task[Any]) -> str | None:
    frames = _frames_of(task.get_coro())
    return describe_task(task) if not all(map(_is_library, frames)) else None


def _describe(frames: Sequence[FrameType]) -> str:
    """The first and the last frame of the application, from the outermost on."""
    foreign = [frame for frame in frames if not _is_library(frame)]
    if not foreign:
        return ""
    first, last = foreign[0], foreign[-1]
    text = f"{printable(first.f_globals.get('__name__'))}.{printable(first.f_code.co_qualname)}"
    session = session_among(*_values(frames))
    if session is not None:
        text += f" of session {session.session_id} ({printable(session.path)})"
    text += f" at {_place_of(first)}"
    if last is not first:
        text += f", in {printable(last.f_code.co_qualname)} at {_place_of(last)}"
    return text


def _place_of(frame: FrameType) -> str:
    """File and line."""
    return f"{printable(frame.f_code.co_filename)}:{frame.f_lineno}"


def _frames_of(work: Any) -> list[FrameType]:
    """The frames of a suspended coroutine, from the outermost to what it waits in."""
    frames: list[FrameType] = []
    while len(frames) < _DEEPEST:
        if isinstance(work, CoroutineType):
            frame, inner = work.cr_frame, work.cr_await
        elif isinstance(work, GeneratorType):
            frame, inner = work.gi_frame, work.gi_yieldfrom
        elif isinstance(work, AsyncGeneratorType):
            frame, inner = work.ag_frame, work.ag_await
        elif type(work).__name__ in _STEPS:
            referents = gc.get_referents(work)
            work = next((one for one in referents if isinstance(one, AsyncGeneratorType)), None)
            continue
        else:
            break
        if frame is not None:
            frames.append(frame)
        work = inner
    return frames


def _is_library(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES


def _values(frames: Iterable[FrameType]) -> list[object]:
    """Objects of this package that the frames hold, and their sessions."""
    held = [value for frame in frames for value in frame.f_locals.values()]
    # Not other objects, whose attributes may run code.
    own = [value for value in held if type(value).__module__.partition(".")[0] == _PACKAGE]
    return [*own, *(getattr(value, "session", None) for value in own)]
