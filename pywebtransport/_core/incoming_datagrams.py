"""Datagrams that wait for the application: bounded in number and in bytes."""

from __future__ import annotations

from collections import deque
from typing import Final

from ..utils import clock
from ..utils.budget import ByteBudget

__all__ = ["IncomingDatagrams"]

# Of the budget of a session: messages have to find room beside its datagrams.
_SHARE: Final = 4
# Bytes that stay reserved while datagrams come and go: no walk through all budgets for each.
_KEPT: Final = 16 * 1024


class IncomingDatagrams:
    """The queue of one session. The oldest datagram is worth least: a full queue drops it.

    Args:
        limit: Datagrams.
        memory: The session's budget; a quarter of it is for datagrams.

    Attributes:
        limit: Datagrams that may wait.
    """

    __slots__ = (
        "_arrivals",
        "_came",
        "_high",
        "_memory",
        "_reserved",
        "held",
        "limit",
        "low",
        "waiting",
    )

    def __init__(self, limit: int, memory: ByteBudget) -> None:
        self.limit = limit
        self.held = 0
        """Bytes that wait."""
        self._memory: ByteBudget | None = memory
        self._high: Final = memory.limit // _SHARE
        self.low = -1
        """Below so many bytes, more is reserved than need be: call :meth:`release`."""
        self._reserved = 0
        self.waiting: deque[bytes] = deque()
        """Whoever takes from it keeps ``held`` true, and looks at ``low``."""
        self._came = 0
        # When those that wait came: (number of the last one of a batch, seconds).
        self._arrivals: deque[tuple[int, float]] = deque()

    def add(self, datagrams: list[bytes], total: int) -> int:
        """Add datagrams of ``total`` bytes; returns how many were dropped for them."""
        dropped = 0
        waiting = self.waiting
        self._came += len(datagrams)
        waiting.extend(datagrams)
        self.held += total
        while len(waiting) > self.limit or (self.held > self._high and waiting):
            self.held -= len(waiting.popleft())
            dropped += 1
        if self.held > self._reserved:
            dropped += self._reserve()
        # Forget when those came that are gone.
        arrivals, gone = self._arrivals, self._came - len(waiting)
        while arrivals and arrivals[0][0] <= gone:
            arrivals.popleft()
        arrivals.append((self._came, clock.monotonic()))
        return dropped

    def pop(self) -> bytes:
        """Remove and return the oldest; there must be one."""
        data = self.waiting.popleft()
        self.held -= len(data)
        if self.held < self.low:
            self.release()
        return data

    def pop_many(self, count: int) -> list[bytes]:
        """Remove and return up to ``count`` of the oldest."""
        waiting = self.waiting
        if len(waiting) <= count:
            datagrams = list(waiting)
            waiting.clear()
            self.held = 0
        else:
            pop = waiting.popleft
            datagrams = [pop() for _ in range(count)]
            self.held -= sum(map(len, datagrams))
        if self.held < self.low:
            self.release()
        return datagrams

    def set_limit(self, limit: int) -> int:
        """Allow another number of datagrams; returns how many were dropped for it."""
        self.limit = limit
        return len(self.pop_many(max(0, len(self.waiting) - limit)))

    def expire(self, age: float) -> int:
        """Drop those that came more than ``age`` seconds ago; returns how many."""
        oldest, dropped = clock.monotonic() - age, 0
        while self.waiting and self.oldest_arrival() < oldest:
            self.pop()
            dropped += 1
        return dropped

    def oldest_arrival(self) -> float:
        """When the oldest that waits came, on the monotonic clock."""
        arrivals = self._arrivals
        if not arrivals:
            return clock.monotonic()
        gone = self._came - len(self.waiting)
        while len(arrivals) > 1 and arrivals[0][0] <= gone:
            arrivals.popleft()
        return arrivals[0][1]

    def close(self) -> None:
        """The session is over: what waits is the application's, and in no budget any more."""
        memory, self._memory = self._memory, None
        if memory is not None and self._reserved:
            memory.give_back(self._reserved)
        self.low = -1

    def _reserve(self) -> int:
        """More waits than before: take it from the budgets, or drop what is too much."""
        memory, dropped = self._memory, 0
        if memory is None:
            return 0
        while self.held > self._reserved and not memory.take(self.held - self._reserved):
            # Others have the rest of the session's, the connection's or the process's.
            self.held -= len(self.waiting.popleft())
            dropped += 1
        self._reserved = max(self.held, self._reserved)
        self.low = self._reserved // 2 if self._reserved > _KEPT else -1
        return dropped

    def release(self) -> None:
        """Give back what is reserved for much more than waits now."""
        if self._memory is None:
            return
        kept = max(self.held, _KEPT)
        if kept < self._reserved:
            self._memory.give_back(self._reserved - kept)
            self._reserved = kept
        self.low = self._reserved // 2 if self._reserved > _KEPT else -1
