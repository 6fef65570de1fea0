"""A limit on concurrent work, first come, first served."""

from __future__ import annotations

from collections.abc import Callable

from ._waiters import Line

__all__ = ["Slots"]


class Slots:
    """A number of slots. When none is free, callers wait: first come, first served.

    A returned slot goes to the first waiting caller, so nobody can overtake. A cancelled caller
    leaves nothing behind.

    Attributes:
        count: Number of slots.
        free: Number of free slots.
    """

    __slots__ = ("_waiting", "count", "free")

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self._waiting: Line = Line()

    @property
    def unused(self) -> bool:
        """Whether nobody has a slot or waits for one."""
        return self.free == self.count and not self._waiting.turns

    @property
    def waiting(self) -> int:
        """About how many callers wait: some of them may have given up."""
        return len(self._waiting.turns)

    def count_waiting(self) -> int:
        """Exactly how many wait; this takes longer than ``waiting``."""
        return len(self._waiting)

    def take(self) -> bool:
        """Take a slot now; return False if none is free, or others wait for one."""
        if self.free and not self._waiting.turns:
            self.free -= 1
            return True
        return False

    async def acquire(self, timeout: float | None) -> bool:
        """Take a slot.

        Args:
            timeout: Longest wait in seconds; None waits without limit.

        Returns:
            False if ``timeout`` passed first.

        Raises:
            Exception: The error that was passed to ``fail``.

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
        """Let all waiting callers continue with an error.

        Args:
            error: Creates the error of each caller.
        """
        self._waiting.fail(error)
