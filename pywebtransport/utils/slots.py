"""A limit on how many may do something at a time, served in the order of asking."""

from __future__ import annotations

from collections.abc import Callable

from pywebtransport.utils.waiters import Line

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
        self._waiting: Line = Line()

    @property
    def unused(self) -> bool:
        """Nobody has a slot, nobody waits for one."""
        return self.free == self.count and not self._waiting.turns

    @property
    def waiting(self) -> int:
        """About how many wait: some of them may have given up."""
        return len(self._waiting.turns)

    def count_waiting(self) -> int:
        """Exactly how many wait; this takes longer than ``waiting``."""
        return len(self._waiting)

    def take(self) -> bool:
        """Take a slot now; False when none is free, or others wait for one."""
        if self.free and not self._waiting.turns:
            self.free -= 1
            return True
        return False

    async def acquire(self, timeout: float | None) -> bool:
        """Take a slot.

        Args:
            timeout: Seconds to wait at most; None waits without limit.

        Returns:
            False when ``timeout`` passed first.

        Raises:
            Exception: What ``fail`` was given.

        Cancellation: safe; no slot is taken.
        """
        if self.take():
            return True
        return await self._waiting.wait(timeout, pass_on=self.release)

    def release(self) -> None:
        """Give a slot back."""
        if not self._waiting.serve():
            self.free += 1

    async def __aenter__(self) -> None:
        await self.acquire(None)

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def fail(self, error: Callable[[], Exception]) -> None:
        """Let everybody who waits go on with an error of their own.

        Args:
            error: Makes one.
        """
        self._waiting.fail(error)
