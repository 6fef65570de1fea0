"""Compatibility name: a bounded queue of datagrams with priorities and age limits."""

from __future__ import annotations

from collections import deque

from .._core.datagram_arguments import MAX_PRIORITY, check_age, check_limit, check_priority
from .._core.datagram_message import DatagramMessage
from ..exceptions import DatagramError, TimeoutError
from ..utils._closing import AsyncCloseable
from ..utils.checks import check_instance, check_timeout
from ..utils.gates import ONLY, Gates, TooLate
from ..utils.timing import get_timestamp

__all__ = ["DatagramQueue"]

DEFAULT_MAX_BYTES = 16 * 1024 * 1024

_PRIORITIES = MAX_PRIORITY + 1


class DatagramQueue(AsyncCloseable):
    """Datagrams between coroutines: higher priorities first, in order within one.

    Putting never waits. A queue that is full, by number or by bytes, drops the oldest
    datagram of the lowest priority, provided that it is not above the new one; otherwise it refuses
    the new one. What is older than its ``ttl`` or than ``max_age`` is dropped
    when it would be its turn. All drops are counted.

    Attributes:
        dropped: Datagrams given up for lack of room, those refused included.
        expired: Datagrams given up for their age.
    """

    def __init__(
        self,
        *,
        max_size: int = 1000,
        max_age: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        """Ready for use at once.

        Args:
            max_size: Most datagrams that wait.
            max_age: Seconds since a datagram's ``timestamp`` after which it is
                dropped; None: never.
            max_bytes: Most bytes that they have together; a datagram that is larger by
                itself is refused.

        Raises:
            ConfigurationError: A limit is not positive.
        """
        check_limit("max_size", max_size)
        check_age("max_age", max_age, optional=True)
        check_limit("max_bytes", max_bytes)
        self._max_size = max_size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._max_age = max_age
        self._queues: tuple[deque[DatagramMessage], ...] = tuple(
            deque() for _ in range(_PRIORITIES)
        )
        self._getters = Gates()
        self._closed = False
        self.dropped = 0
        self.expired = 0

    async def initialize(self) -> None:
        """Nothing to do: the queue is ready when it exists. Kept for the contract."""

    async def close(self) -> None:
        """Take no more datagrams and wake everybody who waits. What waits can still be taken."""
        self._closed = True
        self._getters.fail(self, _closed_error)

    async def put(self, datagram: DatagramMessage) -> bool:
        """Add a datagram. Never waits.

        Returns:
            False when it was refused, and counted: it has expired, or the
            queue is full of datagrams of higher priorities.

        Raises:
            DatagramError: The queue is closed, or the priority is not 0 to 2.
        """
        check_instance("datagram", datagram, DatagramMessage)
        if self._closed:
            raise DatagramError("the queue is closed: no datagram can be put")
        priority = datagram.priority
        check_priority(priority)
        if self._is_expired(datagram):
            self.expired += 1
            return False
        size = len(datagram.data)
        while self.qsize() >= self._max_size or self._bytes + size > self._max_bytes:
            self.dropped += 1
            lowest = next(filter(None, self._queues[: priority + 1]), None)
            if lowest is None or size > self._max_bytes:
                return False
            self._bytes -= len(lowest.popleft().data)
        self._queues[priority].append(datagram)
        self._bytes += size
        self._getters.open(ONLY)
        return True

    # Neither of them waits.
    put_nowait = put

    async def get(self, *, timeout: float | None = None) -> DatagramMessage:
        """Take the next datagram, waiting for one; callers that wait are served as they came.

        Args:
            timeout: Seconds to wait; None waits until the queue is closed.

        Raises:
            TimeoutError: Nothing came in time.
            DatagramError: The queue is closed and empty.

        Cancellation: safe, no datagram is lost.
        """
        timeout = check_timeout("timeout", timeout)
        datagram = None if self._getters else self._next()
        if datagram is not None:
            return datagram
        try:
            return await self._getters.wait(ONLY, self, self._next, timeout=timeout)
        except TooLate:
            raise TimeoutError(
                f"no datagram within timeout={timeout} s",
                timeout_duration=timeout,
                operation="get",
            ) from None

    async def get_nowait(self) -> DatagramMessage | None:
        """Take the next datagram, or None when there is none. Never waits.

        Those for which calls of ``get`` wait are theirs.
        """
        return self._take() if self.qsize() > self._getters.waiting(ONLY) else None

    async def clear(self) -> None:
        """Drop everything that waits (counted)."""
        self.dropped += self.qsize()
        for queue in self._queues:
            queue.clear()
        self._bytes = 0

    def empty(self) -> bool:
        """Nothing waits."""
        return not any(self._queues)

    def qsize(self) -> int:
        """How many datagrams wait; expired ones count until it is their turn."""
        return sum(map(len, self._queues))

    def get_stats(self) -> dict[str, int]:
        """How many datagrams wait, in all and of each priority, and how many may."""
        sizes = {f"priority_{number}": len(queue) for number, queue in enumerate(self._queues)}
        limits = {"max_size": self._max_size, "bytes": self._bytes, "max_bytes": self._max_bytes}
        return {"size": self.qsize(), **limits, **sizes}

    def _next(self) -> DatagramMessage | None:
        datagram = self._take()
        if datagram is None and self._closed:
            raise _closed_error()
        return datagram

    def _take(self) -> DatagramMessage | None:
        for queue in reversed(self._queues):
            while queue:
                datagram = queue.popleft()
                self._bytes -= len(datagram.data)
                if not self._is_expired(datagram):
                    return datagram
                self.expired += 1
        return None

    def _is_expired(self, datagram: DatagramMessage) -> bool:
        if datagram.is_expired:
            return True
        return self._max_age is not None and get_timestamp() - datagram.timestamp > self._max_age


def _closed_error() -> DatagramError:
    return DatagramError("the queue is closed and empty")
