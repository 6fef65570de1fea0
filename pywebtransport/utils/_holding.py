"""What one message takes of a budget, from its first byte to its end."""

from __future__ import annotations

from typing import Final

from ._budget import ByteBudget

__all__ = ["Holding"]


class Holding:
    """Bytes of a budget that are given back together; a context manager that does so.

    Bytes that come in are taken at once or not at all: nobody waits with half a message, for what
    is not read uses up the credit that the other halves need.

    Args:
        budget: Whose.
        incoming: The part of it that bytes which come in may take; None: all of it.
        least: Messages of no more bytes are not worth counting.

    Attributes:
        budget: As given.
        size: Bytes of decoded messages held now.
    """

    __slots__ = ("_incoming", "_read", "budget", "least", "size")

    def __init__(
        self, budget: ByteBudget, *, incoming: ByteBudget | None = None, least: int = 0
    ) -> None:
        self.budget: Final = budget
        self.least: Final = least
        self.size = 0
        self._incoming: Final = budget if incoming is None else incoming
        self._read = 0

    def fits(self, size: int) -> bool:
        """A message of ``size`` bytes may come in when there is nothing else."""
        return self._incoming.too_small(size) is None

    def take(self, size: int) -> bool:
        """Hold ``size`` bytes that came in; False: there is no room."""
        if not self._incoming.take(size):
            return False
        self._read += size
        return True

    async def acquire(self, size: int) -> bool:
        """Hold ``size`` bytes of a decoded message too, waiting for room.

        Returns:
            False, at once, when there will never be so much.

        Cancellation:
            Safe; what was held before is held on.
        """
        if not await self.budget.acquire(size):
            return False
        self.size += size
        return True

    def decoded(self) -> None:
        """What came in is there no more."""
        read, self._read = self._read, 0
        self._incoming.give_back(read)

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.decoded()
        size, self.size = self.size, 0
        self.budget.give_back(size)
