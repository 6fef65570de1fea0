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
        self.futures: list[asyncio.Future[None]] | tuple[()] = ()

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
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.futures:
            self.futures.append(future)
        else:
            self.futures = [future]
        try:
            if arm is not None:
                arm()
            if timeout is None:
                await future
            else:
                async with asyncio.timeout(timeout):
                    await future
        except TimeoutError:
            return False
        finally:
            if self.futures and future in self.futures:
                self.futures.remove(future)
        return True

    def wake(self) -> None:
        """Let everybody who waits now go on."""
        futures = self.futures
        if not futures:
            return
        self.futures = ()
        for future in futures:
            if not future.done():
                future.set_result(None)

    def done(self) -> bool:
        """Nobody waits."""
        return not self.futures

    def set_result(self, result: None, /) -> None:
        """As ``wake``, for the engine."""
        self.wake()
