"""Limits the bytes that are held on behalf of peers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from ..constants import DEFAULT_MAX_MEMORY
from ._waiters import require_loop

__all__ = ["PROCESS", "ByteBudget"]


class _Claim:
    """A waiting caller."""

    __slots__ = ("budget", "future", "size")

    def __init__(self, budget: ByteBudget, size: int, future: asyncio.Future[None]) -> None:
        self.budget = budget
        self.size = size
        self.future = future


def _grant(claim: _Claim) -> None:
    """Callers that wait for a closed budget get what they asked for."""
    claim.budget.used += claim.size
    if not claim.future.done():
        claim.future.set_result(None)


class ByteBudget:
    """A limit on bytes that may be held at a time; a budget may be part of a larger one.

    The budget of a session is part of that of its connection, which is part of that of the process.
    Bytes are taken from all of them or from none. Waiting callers are served in the order of their
    calls; a smaller size does not overtake.

    Attributes:
        limit: Bytes that may be held.
        line: A budget in which callers wait before they wait here; None: there is none.
        name: What errors and statistics call it, such as ``max_session_memory``.
        on_refused: Called when :meth:`take` found no room here.
        parent: The larger budget; None: this is the largest.
        peak: Most bytes that were held at a time.
        refused: How often :meth:`take` found no room.
        used: Bytes held now.
    """

    __slots__ = (
        "_claims",
        "limit",
        "line",
        "name",
        "on_refused",
        "parent",
        "peak",
        "refused",
        "used",
    )

    def __init__(self, name: str, limit: int, parent: ByteBudget | None = None) -> None:
        self.name: Final = name
        self.limit = limit
        self.parent = parent
        self.line: ByteBudget | None = None
        self.on_refused: Callable[[], object] | None = None
        self.used = self.peak = self.refused = 0
        # Created only when a task waits, because every session has a budget.
        self._claims: deque[_Claim] | None = None

    @property
    def waiting(self) -> int:
        """Number of callers that wait for room here, or in the line."""
        before = 0 if self.line is None else self.line.waiting
        return before if self._claims is None else before + len(self._claims)

    def lacking(self, size: int) -> ByteBudget | None:
        """The first budget, from this one up, that has no room for ``size`` bytes now."""
        level: ByteBudget | None = self
        while level is not None:
            if level._claims or level.used + size > level.limit:
                return level
            level = level.parent
        return None

    def too_small(self, size: int) -> ByteBudget | None:
        """The first budget, from this one up, that could not hold ``size`` bytes even if empty."""
        level: ByteBudget | None = self
        while level is not None:
            if size > level.limit:
                return level
            level = level.parent
        return None

    def take(self, size: int) -> bool:
        """Take ``size`` bytes now; False, and nothing taken, when there is no room.

        Args:
            size: Bytes; 0 or more.
        """
        lacking = self.lacking(size)
        if lacking is not None:
            lacking.refused += 1
            if lacking.on_refused is not None:
                lacking.on_refused()
            return False
        self._add(size)
        return True

    def take_anyway(self, size: int) -> None:
        """Take ``size`` bytes that are held already, even above the limit."""
        self._add(size)

    async def acquire(self, size: int) -> bool:
        """Take ``size`` bytes, waiting for room.

        Returns:
            False, at once, when ``size`` is above the limit: there will never be room.

        Raises:
            ConfigurationError: The caller runs on another event loop than others who wait.

        Cancellation:
            Safe; nothing is taken.
        """
        if self.too_small(size) is not None:
            return False
        lacking = self.lacking(size)
        if lacking is None:
            self._add(size)
            return True
        loop = asyncio.get_running_loop()
        claim = _Claim(self, size, loop.create_future())
        lacking._queue(claim)
        try:
            await claim.future
        except asyncio.CancelledError:
            if claim.future.done() and not claim.future.cancelled():
                self.give_back(size)  # cancelled in the turn in which it was served
            else:
                self._forget(claim)
            raise
        return True

    def give_back(self, size: int) -> None:
        """Give back bytes that were taken, and serve waiting callers."""
        level: ByteBudget | None = self
        while level is not None:
            level.used -= size
            level = level.parent
        level = self
        while level is not None:
            if level._claims:
                level._serve()
            level = level.parent

    def close(self) -> None:
        """The owner has ended: give the bytes that are still taken back to the larger budgets.

        Waiting callers continue, and so do others that waited for these bytes. From now on, taking
        and giving back counts only here.
        """
        larger: list[ByteBudget] = []
        level = self.parent
        self.parent = None
        held = self.used
        while level is not None:
            larger.append(level)
            level.used -= held
            for claim in [c for c in level._claims or () if c.budget is self]:
                level._claims.remove(claim)  # type: ignore[union-attr]
                _grant(claim)
            level = level.parent
        for claim in self._claims or ():
            _grant(claim)
        self._claims = None
        for level in larger:
            level._serve()

    def figures(self) -> dict[str, int]:
        """Return statistics: bytes ``used``, ``peak`` and ``limit``, and how often ``refused``."""
        return {
            "used": self.used,
            "peak": self.peak,
            "limit": self.limit,
            "refused": self.refused,
        }

    def _add(self, size: int) -> None:
        level: ByteBudget | None = self
        while level is not None:
            level.used += size
            if level.used > level.peak:
                level.peak = level.used
            level = level.parent

    def _queue(self, claim: _Claim, *, first: bool = False) -> None:
        if self._claims is None:
            self._claims = deque()
        elif self._claims:
            require_loop(self._claims[0].future.get_loop(), claim.future.get_loop())
        if first:
            self._claims.appendleft(claim)
        else:
            self._claims.append(claim)

    def _serve(self) -> None:
        """Serve the callers that wait here, in order, while there is room."""
        claims = self._claims
        while claims:
            claim = claims[0]
            if claim.future.done():  # cancelled; it is about to remove itself
                claims.popleft()
                continue
            lacking = self._still_lacking(claim)
            if lacking is self:
                return
            claims.popleft()
            if lacking is None:
                claim.budget._add(claim.size)
                claim.future.set_result(None)
            else:
                # It was first in line in the smaller budgets already.
                lacking._queue(claim, first=not self._is_part_of(lacking))

    def _is_part_of(self, budget: ByteBudget) -> bool:
        level: ByteBudget | None = self.parent
        while level is not None and level is not budget:
            level = level.parent
        return level is not None

    def _still_lacking(self, claim: _Claim) -> ByteBudget | None:
        """The first budget that has no room for the first caller that waits here."""
        size = claim.size
        # Those below may have been filled while it waited here.
        level = claim.budget
        while level is not self:
            if level.used + size > level.limit:
                return level
            assert level.parent is not None  # a caller only waits in budgets that it is part of
            level = level.parent
        if self.used + size > self.limit:
            return self
        return None if self.parent is None else self.parent.lacking(size)

    def _forget(self, claim: _Claim) -> None:
        """A caller stopped waiting: those behind it may have room."""
        level: ByteBudget | None = self
        while level is not None:
            if level._claims and claim in level._claims:
                level._claims.remove(claim)
                level._serve()
            level = level.parent


PROCESS: Final = ByteBudget("max_memory", DEFAULT_MAX_MEMORY)
"""The budget of the process: all connections of all its clients and servers."""
