"""An event loop whose clock skips the time in which nothing happens."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from ..utils import _clock as clock

__all__ = ["VirtualClockLoop"]

# Seconds; not 0, which some code might take for "never".
_START = 1000.0
# Turns without a jump that code may need; with more, it is probably polling the clock.
_PATIENCE = 1000
# Seconds that each turn after these takes.
_TURN = 1e-6


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop on which waiting takes no time.

    When every task waits, the clock of the loop jumps to the next timer: ``asyncio.sleep(3600)``
    returns at once, and ``loop.time()`` is 3600 seconds later. All timeouts and timers of
    pywebtransport follow this clock. ``time.time()`` and ``time.monotonic()`` do not.

    While something outside the loop is awaited (a file descriptor that the loop watches, such as a
    socket, or a call in an executor), time passes as usual. Sessions from ``session_pair`` and
    servers with a ``Network`` have no socket. The loop does not know about threads that call
    ``call_soon_threadsafe`` without an executor.

    The clock stands still while code runs. After a thousand turns of the loop without a jump, each
    further turn takes a microsecond, so that code that polls the clock makes progress.

    Use it as a factory: ``asyncio.Runner(loop_factory=VirtualClockLoop)``.
    """

    def __init__(self) -> None:
        self._seconds = _START
        self._outside = 0  # calls in executors
        selector = _Selector(self)
        super().__init__(selector)
        selector.own = len(selector.get_map())
        clock.follow(self)

    def time(self) -> float:
        """Seconds of the virtual clock, which starts at 1000."""
        return self._seconds

    def time_ns(self) -> int:
        """The same in nanoseconds."""
        return round(self._seconds * 1e9)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As ``asyncio.AbstractEventLoop.run_in_executor``; time passes as usual meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._outside += 1
        future.add_done_callback(self._returned)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As ``asyncio.AbstractEventLoop.shutdown_default_executor``."""
        self._outside += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._outside -= 1

    def close(self) -> None:
        """Close the loop. Idempotent."""
        super().close()
        clock.unfollow(self)

    def _returned(self, future: asyncio.Future[Any]) -> None:
        self._outside -= 1


class _Selector(selectors.DefaultSelector):
    """Lets the clock of the loop jump where the loop would sleep.

    Attributes:
        own: Number of descriptors that the loop uses to wake itself.
    """

    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self.own = 0
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As ``selectors.BaseSelector.select``."""
        loop = self._loop
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            self._turns += 1
            if self._turns > _PATIENCE:
                loop._seconds += _TURN
            return events
        self._turns = 0
        if timeout is None:
            # No timer: only a signal, a thread or a descriptor can wake the loop.
            return self._wait(None)
        if loop._outside or len(self.get_map()) > self.own:
            return self._wait(timeout)
        loop._seconds += timeout
        return events

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Really wait, and advance the clock by as much time."""
        started = time.monotonic()
        events = super().select(timeout)
        passed = time.monotonic() - started
        if timeout is not None:
            # Do not go beyond the timer, and go right up to it if the timer ended the wait.
            passed = min(passed, timeout) if events else timeout
        self._loop._seconds += passed
        return events
