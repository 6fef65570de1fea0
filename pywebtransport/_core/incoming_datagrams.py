"""Datagrams that wait for the application: bounded in number and in bytes."""

from __future__ import annotations

from collections import deque
from typing import Final

from ..utils import _clock as clock
from ..utils._budget import ByteBudget

__all__ = ["IncomingDatagrams"]

# Datagrams get this share of a session's budget; the rest is left for messages.
_SHARE: Final = 4
# This many bytes stay reserved, so that not every datagram has to go through all budgets.
_KEPT: Final = 16 * 1024


class IncomingDatagrams:
    """The queue of one session. A full queue drops the oldest datagram, the least valuable one.

    Args:
        limit: How many datagrams it may hold.
        memory: The session's budget; datagrams may use a quarter of it.

    Attributes:
        limit: How many datagrams it may hold.
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
        """Bytes in the queue."""
        self._memory: ByteBudget | None = memory
        self._high: Final = memory.limit // _SHARE
        self.low = -1
        """Below this many bytes, more is reserved than needed: call :meth:`release`."""
        self._reserved = 0
        self.waiting: deque[bytes] = deque()
        """Code that takes from it must update ``held`` and compare it with ``low``."""
        self._came = 0
        # Arrival times: (number of the last datagram of a batch, seconds).
        self._arrivals: deque[tuple[int, float]] = deque()

    def add(self, datagrams: list[bytes], total: int) -> int:
        """Add datagrams of ``total`` bytes; return how many were dropped to make room."""
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
        # Forget the arrival times of datagrams that are gone.
        arrivals, gone = self._arrivals, self._came - len(waiting)
        while arrivals and arrivals[0][0] <= gone:
            arrivals.popleft()
        arrivals.append((self._came, clock.monotonic()))
        return dropped

    def pop(self) -> bytes:
        """Remove and return the oldest datagram; the queue must not be empty."""
        data = self.waiting.popleft()
        self.held -= len(data)
        if self.held < self.low:
            self.release()
        return data

    def pop_many(self, count: int) -> list[bytes]:
        """Remove and return up to ``count`` of the oldest datagrams."""
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
        """Change the limit; return how many datagrams were dropped for it."""
        self.limit = limit
        return len(self.pop_many(max(0, len(self.waiting) - limit)))

    def expire(self, age: float) -> int:
        """Drop datagrams that arrived more than ``age`` seconds ago; return how many."""
        oldest, dropped = clock.monotonic() - age, 0
        while self.waiting and self.oldest_arrival() < oldest:
            self.pop()
            dropped += 1
        return dropped

    def oldest_arrival(self) -> float:
        """Return when the oldest datagram arrived, on the monotonic clock."""
        arrivals = self._arrivals
        if not arrivals:
            return clock.monotonic()
        gone = self._came - len(self.waiting)
        while len(arrivals) > 1 and arrivals[0][0] <= gone:
            arrivals.popleft()
        return arrivals[0][1]

    def close(self) -> None:
        """The session has ended: the rest belongs to the application and leaves the budgets."""
        memory, self._memory = self._memory, None
        if memory is not None and self._reserved:
            memory.give_back(self._reserved)
        self.low = -1

    def _reserve(self) -> int:
        """Reserve room for what was added, or drop what does not fit into the budgets."""
        memory, dropped = self._memory, 0
        if memory is None:
            return 0
        while self.held > self._reserved and not memory.take(self.held - self._reserved):
            # The rest of the session's, connection's or process's budget is in use.
            self.held -= len(self.waiting.popleft())
            dropped += 1
        self._reserved = max(self.held, self._reserved)
        self.low = self._reserved // 2 if self._reserved > _KEPT else -1
        return dropped

    def release(self) -> None:
        """Give back a reservation that is much larger than the queue."""
        if self._memory is None:
            return
        kept = max(self.held, _KEPT)
        if kept < self._reserved:
            self._memory.give_back(self._reserved - kept)
            self._reserved = kept
        self.low = self._reserved // 2 if self._reserved > _KEPT else -1
