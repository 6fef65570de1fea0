"""Ends a process even if code of the application does not end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Self

from ..config import ServerConfig
from ..exceptions import ServerError
from ..utils._checks import check_instance
from ..utils._stuck import LAST_WORDS, describe_running, describe_tasks, describe_thread, given_up
from ..utils._system import LOOP_DESCRIPTORS, explain_os_error, require_descriptors
from ._loops import LoopFactory

__all__ = ["STUCK_STATUS", "ExitGuard", "run_to_end", "time_to_end"]

STUCK_STATUS = 70
"""Exit status of a process that ended although something of the application went on."""

# Seconds for the report itself: a log that nobody reads may block.
_REPORT_TIME = 2.0


def time_to_end(config: ServerConfig) -> float:
    """Seconds that a process may take to end after it was told to."""
    draining = config.drain_spread + config.drain_timeout
    return draining + config.close_timeout + config.shutdown_timeout


class ExitGuard:
    """Ends this process some time after it should have ended, with an alarm.

    The alarm (``SIGALRM``) interrupts a loop that waits for a task, code that blocks the loop,
    and the wait for threads. It logs what still runs; then the process ends with ``STUCK_STATUS``,
    without any cleanup.

    Only for the main thread of a process that belongs to the server: ``run()`` and workers.

    Args:
        config: Returns the configuration in force; its timeouts are read when it is armed.
        logger: Logger for the report.
    """

    def __init__(self, config: Callable[[], ServerConfig], logger: logging.Logger) -> None:
        self._config = config
        self._logger = logger
        self._loop: asyncio.AbstractEventLoop | None = None
        self._armed = False
        self._previous: Any = None
        self._timer = (0.0, 0.0)
        self._seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._armed:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, *self._timer)
            signal.signal(signal.SIGALRM, self._previous or signal.SIG_DFL)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Report the tasks of this loop if they do not end."""
        self._loop = loop

    def listen(self) -> None:
        """Report and end even if another process sends the alarm."""
        signal.signal(signal.SIGALRM, self._expired)

    def arm(self) -> None:
        """Start the time limit; only the first call counts. Signal handlers may call it."""
        if self._armed:
            return
        self._armed = True
        self._seconds = time_to_end(self._config())
        self._previous = signal.signal(signal.SIGALRM, self._expired)
        # 0 would disable it.
        self._timer = signal.setitimer(signal.ITIMER_REAL, max(self._seconds, 0.001))

    async def end_leftovers(self) -> None:
        """Cancel all other tasks and wait for them, as a ``Runner`` does at its end.

        Tasks that the server has waited for already get only a short time.
        """
        loop = asyncio.get_running_loop()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        patient = [task for task in tasks if not given_up(task)]
        if patient:
            await asyncio.wait(patient)
        if len(patient) < len(tasks):
            await asyncio.wait(tasks, timeout=LAST_WORDS)
            if not all(task.done() for task in tasks):
                self._give_up("its tasks were cancelled twice", None)
        for task in tasks:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                what = "an exception ended a task that was cancelled at the end"
                loop.call_exception_handler({"message": what, "exception": error, "task": task})

    def _expired(self, number: int, frame: FrameType | None) -> None:
        why = f"it should have ended {self._seconds:g} s ago"
        self._give_up(why if self._armed else "it was told to end and did not react", frame)

    def _give_up(self, why: str, frame: FrameType | None) -> None:
        # The supervisor's alarm may come now, too: the report goes on until its own time is up.
        last = time.monotonic() + _REPORT_TIME

        def expired(number: int, frame: FrameType | None) -> None:
            if time.monotonic() >= last:
                _exit_now()

        signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, _REPORT_TIME, _REPORT_TIME / 8)
        try:
            self._logger.error(
                "the process ends now with status %d: %s, and this still runs: %s",
                STUCK_STATUS,
                why,
                self._describe(frame) or "nothing known",
            )
            logging.shutdown()
        finally:
            _exit_now()

    def _describe(self, frame: FrameType | None) -> str:
        parts = []
        if self._loop is not None and not self._loop.is_closed():
            current = asyncio.current_task(self._loop)
            if current is not None and frame is not None:
                parts.append(describe_running(current, frame))
            parts.append(describe_tasks(asyncio.all_tasks(self._loop) - {current}))
        elif frame is not None:
            parts.append(describe_running(None, frame))
        main = threading.main_thread()
        stacks = sys._current_frames()
        for thread in threading.enumerate():
            # The process does not wait for daemon threads.
            if thread is not main and not thread.daemon and thread.ident in stacks:
                parts.append(describe_thread(thread.name, stacks[thread.ident]))
        return "; ".join(filter(None, parts))


def run_to_end(
    main: Callable[[], Coroutine[Any, Any, None]],
    *,
    guard: ExitGuard,
    loop_factory: LoopFactory | None,
) -> None:
    """Run ``main`` in a new event loop, and end everything that is left of it.

    Args:
        main: The coroutine function to run.
        guard: Armed at the end of ``main`` at the latest.
        loop_factory: Creates the loop.

    Raises:
        ServerError: The loop cannot be created.
        ConfigurationError: ``loop_factory`` returned something else.
        BaseException: Any exception of ``main``.
    """
    with guard:
        runner = asyncio.Runner(loop_factory=loop_factory)
        try:
            require_descriptors(LOOP_DESCRIPTORS)
            loop = runner.get_loop()
            check_instance("loop_factory", loop, asyncio.AbstractEventLoop)
            guard.watch(loop)
        except OSError as error:
            text = f"the event loop cannot be created: {explain_os_error(error)}"
            raise ServerError(text, details={"errno": error.errno}) from error
        with runner:
            try:
                runner.run(main())
            finally:
                guard.arm()
                runner.run(guard.end_leftovers())


def _exit_now() -> None:
    try:
        for stream in (sys.stdout, sys.stderr):
            # It may be closed, full, or in the middle of something that the alarm interrupted.
            with contextlib.suppress(Exception):
                stream.flush()
    finally:
        os._exit(STUCK_STATUS)
