"""The share of a budget that one message uses, from its first byte to its end."""

from __future__ import annotations

from typing import Final

from ._budget import ByteBudget

__all__ = ["Holding"]


class Holding:
    """Bytes of a budget that a context manager gives back together.

    Incoming bytes are taken at once or not at all. Nobody waits with half a message: unread data
    would use up the credit that the other halves need.

    Args:
        budget: The budget.
        incoming: The part of it that incoming bytes may take; None: all of it.
        decoded: A budget on its own, in which decoded messages wait, so that they leave room for
            incoming bytes. A message that is larger waits until it is the only one. None: they
            wait in ``budget``.
        least: Messages up to this size are not counted.

    Attributes:
        budget: The budget.
        size: Bytes of decoded messages held now.
    """

    __slots__ = ("_decoded", "_incoming", "_read", "_share", "budget", "least", "size")

    def __init__(
        self,
        budget: ByteBudget,
        *,
        incoming: ByteBudget | None = None,
        decoded: ByteBudget | None = None,
        least: int = 0,
    ) -> None:
        self.budget: Final = budget
        self.least: Final = least
        self.size = 0
        self._incoming: Final = budget if incoming is None else incoming
        self._decoded: Final = decoded
        self._read = 0
        self._share = 0

    def fits(self, size: int) -> bool:
        """Whether a message of ``size`` bytes would fit if there were nothing else."""
        return self._incoming.too_small(size) is None

    def take(self, size: int) -> bool:
        """Hold ``size`` incoming bytes; return False if there is no room."""
        if not self._incoming.take(size):
            return False
        self._read += size
        return True

    async def acquire(self, size: int) -> bool:
        """Hold ``size`` bytes of a decoded message too, waiting for room.

        Returns:
            False, at once, if it will never fit.

        Cancellation:
            Safe; what was held before is kept.
        """
        if self.budget.too_small(size) is not None:
            return False
        if self._decoded is not None:
            share = min(size, self._decoded.limit - self._share)
            await self._decoded.acquire(share)
            self._share += share
        if not await self.budget.acquire(size):
            return False
        self.size += size
        return True

    def decoded(self) -> None:
        """The incoming bytes are gone."""
        read, self._read = self._read, 0
        self._incoming.give_back(read)

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.decoded()
        size, self.size = self.size, 0
        self.budget.give_back(size)
        if self._decoded is not None:
            share, self._share = self._share, 0
            self._decoded.give_back(share)
