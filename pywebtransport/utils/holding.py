"""What one message takes of a budget, from its announcement to its end."""

from __future__ import annotations

from typing import Final

from pywebtransport.utils.budget import ByteBudget

__all__ = ["Holding"]


class Holding:
    """Bytes of a budget that are given back together; a context manager that does so.

    Args:
        budget: Whose.
        least: Messages of no more bytes are not worth counting.

    Attributes:
        size: Bytes held now.
    """

    __slots__ = ("_budget", "least", "size")

    def __init__(self, budget: ByteBudget, *, least: int = 0) -> None:
        self._budget: Final = budget
        self.least: Final = least
        self.size = 0

    async def acquire(self, size: int) -> ByteBudget | None:
        """Hold ``size`` bytes more, waiting for room.

        Returns:
            None; or at once the budget that will never have room for so many.

        Cancellation:
            Safe; what was held before is held on.
        """
        budget = self._budget
        if not await budget.acquire(size):
            return budget.too_small(size)
        self.size += size
        return None

    def shrink(self, size: int) -> None:
        """Hold only ``size`` bytes from now on, if that is less."""
        if size < self.size:
            surplus, self.size = self.size - size, size
            self._budget.give_back(surplus)

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shrink(0)
