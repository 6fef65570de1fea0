"""Coroutines that wait for one fact."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Waiters"]


class Waiters:
    """Any number of coroutines behind one wake-up.

    The engine wakes it like a future (``done``, ``set_result``); it can be
    used again after each wake-up. A cancelled waiter leaves nothing behind.

    Attributes:
        futures: Of those who wait. Ask it where asking has to be cheap.
    """

    __slots__ = ("futures",)

    def __init__(self) -> None:
        # There are several of these in every session, and nearly always nobody waits.
        self.futures: list[asyncio.Future[bool]] | None = None

    def __bool__(self) -> bool:
        return bool(self.futures)

    async def wait(
        self, timeout: float | None = None, *, arm: Callable[[], object] | None = None
    ) -> bool:
        """Wait for the next wake-up.

        Args:
            timeout: Seconds; None waits without limit.
            arm: Called once the wake-up cannot be missed any more.

        Returns:
            False when ``timeout`` passed first.

        Cancellation: safe.
        """
        loop = asyncio.get_running_loop()
        future = self.add(loop)
        # A timer on the future costs a third of asyncio.timeout(), which cancels the task.
        timer = None if timeout is None else loop.call_later(timeout, _expire, future)
        try:
            if arm is not None:
                arm()
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if self.futures is not None and future in self.futures:
                self.futures.remove(future)

    def add(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        """Make a future of the next wake-up, for callers that are no coroutines."""
        future: asyncio.Future[bool] = loop.create_future()
        if self.futures is None:
            self.futures = [future]
        else:
            self.futures.append(future)
        return future

    def wake(self) -> None:
        """Let everybody who waits now go on."""
        futures = self.futures
        if futures is None:
            return
        self.futures = None
        for future in futures:
            if not future.done():
                future.set_result(True)

    def done(self) -> bool:
        """Nobody waits."""
        return not self.futures

    def set_result(self, result: None, /) -> None:
        """As ``wake``, for the engine."""
        self.wake()


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
