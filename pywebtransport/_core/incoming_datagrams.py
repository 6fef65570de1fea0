"""Datagrams that wait for the application: bounded in number and in bytes."""

from __future__ import annotations

from collections import deque
from typing import Final

from .._quic import DatagramQueuePort
from ..utils import _clock as clock
from ..utils._budget import ByteBudget

__all__ = ["IncomingDatagrams"]

# Datagrams get this share of a session's budget; the rest is left for messages.
_SHARE: Final = 4
# This many bytes stay reserved, so that not every datagram has to go through all budgets.
_KEPT: Final = 16 * 1024


class IncomingDatagrams(DatagramQueuePort):
    """The queue of one session. A full queue drops the oldest datagram, the least valuable one.

    ``add`` and ``pop`` are in the compiled base.

    Args:
        limit: How many datagrams it may hold.
        memory: The session's budget; datagrams may use a quarter of it.

    Attributes:
        limit: How many datagrams it may hold.
        held: Bytes in the queue.
        low: Below this many bytes, more is reserved than needed: ``release`` is called.
        waiting: The datagrams.
    """

    __slots__ = ()

    _memory: ByteBudget | None

    def __init__(self, limit: int, memory: ByteBudget) -> None:
        self.limit = limit
        self._memory = memory
        self._high = memory.limit // _SHARE
        self.low = -1
        self.waiting = deque()
        self._arrivals = deque()

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
        gone = self._came - len(self.waiting)
        if gone == self._came:
            return clock.monotonic()
        arrivals = self._arrivals
        while arrivals and arrivals[0][0] <= gone:
            arrivals.popleft()
        return arrivals[0][1] if arrivals else self._last_arrival

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
