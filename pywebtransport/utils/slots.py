"""A limit on how many may do something at a time, served in the order of asking."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pywebtransport.utils.waiters import require_loop

__all__ = ["Slots"]


class Slots:
    """A number of slots. Whoever finds none free waits, first come, first served.

    A slot that is given back goes to the first who waits, so nobody can overtake. A
    cancelled waiter leaves nothing behind.

    Attributes:
        count: How many there are.
        free: How many nobody has.
    """

    __slots__ = ("_waiting", "count", "free")

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def unused(self) -> bool:
        """Nobody has a slot, nobody waits for one."""
        return self.free == self.count and not self._waiting

    def take(self) -> bool:
        """Take a slot now; False when none is free, or others wait for one."""
        if self.free and not self._waiting:
            self.free -= 1
            return True
        return False

    async def acquire(self, timeout: float) -> bool:
        """Take a slot.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            False when ``timeout`` passed first.

        Raises:
            Exception: What ``fail`` was given.

        Cancellation: safe; no slot is taken.
        """
        if self.take():
            return True
        loop = asyncio.get_running_loop()
        if self._waiting:
            require_loop(self._waiting[0].get_loop(), loop)
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(future)
        timer = loop.call_later(timeout, _expire, future)
        try:
            return await future
        except asyncio.CancelledError:
            # Cancelled in the same turn in which it was served: the next one gets the slot.
            if not future.cancelled() and future.exception() is None and future.result():
                self.release()
            raise
        finally:
            timer.cancel()
            if future in self._waiting:
                self._waiting.remove(future)

    def release(self) -> None:
        """Give a slot back."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(True)
                return
        self.free += 1

    def fail(self, error: Callable[[], Exception]) -> None:
        """Let everybody who waits go on with an error of their own.

        Args:
            error: Makes one.
        """
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(error())


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
