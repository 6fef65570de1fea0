"""Compatibility name: a bounded queue of datagrams with priorities and age limits."""

from __future__ import annotations

from collections import deque

from .._core.datagram_arguments import MAX_PRIORITY, check_age, check_limit, check_priority
from .._core.datagram_message import DatagramMessage
from ..exceptions import DatagramError, TimeoutError
from ..utils._checks import check_instance, check_timeout
from ..utils._closing import AsyncCloseable
from ..utils._gates import ONLY, Gates, TooLate
from ..utils._timing import get_timestamp

__all__ = ["DatagramQueue"]

DEFAULT_MAX_BYTES = 16 * 1024 * 1024

_PRIORITIES = MAX_PRIORITY + 1


class DatagramQueue(AsyncCloseable):
    """A queue of datagrams: higher priorities first, in order within a priority.

    ``put`` never waits. A queue that is full, by number or by bytes, drops the oldest
    datagram of the lowest priority if that is not higher than the priority of the new
    datagram; otherwise it refuses the new one. A datagram older than its ``ttl`` or than
    ``max_age`` is dropped when it would be its turn. All drops are counted.

    Attributes:
        dropped: Datagrams dropped for lack of room, including refused ones.
        expired: Datagrams dropped because of their age.
    """

    def __init__(
        self,
        *,
        max_size: int = 1000,
        max_age: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        """Create an empty queue.

        Args:
            max_size: How many datagrams it may hold.
            max_age: Seconds since a datagram's ``timestamp`` after which it is
                dropped; None: never.
            max_bytes: How many bytes it may hold in total; a larger datagram is refused.

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
        """Do nothing; kept for compatibility. A new queue is ready to use."""

    async def close(self) -> None:
        """Accept no more datagrams and wake all callers. Queued ones can still be taken."""
        self._closed = True
        self._getters.fail(self, _closed_error)

    async def put(self, datagram: DatagramMessage) -> bool:
        """Add a datagram. Never waits.

        Returns:
            False if it was refused, and counted: it has expired, or the
            queue is full of datagrams with higher priorities.

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
        """Take the next datagram, waiting for one; waiting callers are served in order.

        Args:
            timeout: Seconds to wait; None waits until the queue is closed.

        Raises:
            TimeoutError: Nothing arrived in time.
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
        """Take the next datagram, or return None if there is none. Never waits.

        Callers that wait in ``get`` come first.
        """
        return self._take() if self.qsize() > self._getters.waiting(ONLY) else None

    async def clear(self) -> None:
        """Drop all queued datagrams and count them."""
        self.dropped += self.qsize()
        for queue in self._queues:
            queue.clear()
        self._bytes = 0

    def empty(self) -> bool:
        """Return whether the queue is empty."""
        return not any(self._queues)

    def qsize(self) -> int:
        """Return how many datagrams are queued; expired ones count until it is their turn."""
        return sum(map(len, self._queues))

    def get_stats(self) -> dict[str, int]:
        """Return how many datagrams are queued, in total and per priority, and the limit."""
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
