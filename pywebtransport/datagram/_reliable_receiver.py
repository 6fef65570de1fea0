"""The receiving half of reliable datagrams: order, duplicates, acknowledgements. No I/O."""

from __future__ import annotations

from collections import deque

from ._reliable_frames import encode_ack

__all__ = ["ReliableReceiver"]


class ReliableReceiver:
    """Datagrams that arrived, until the application takes them.

    The peer may send at most ``window`` datagrams beyond the first missing one and beyond
    the number taken; this limits the memory that it can use.

    Args:
        window: How many datagrams.
        ordered: Deliver them in the order in which they were sent; otherwise as they
            arrive.

    Attributes:
        expected: The first sequence number that is missing.
        received: Datagrams that arrived, each counted once.
        duplicates: Datagrams that arrived again.
        beyond_window: Datagrams dropped because they were not allowed yet.
    """

    __slots__ = (
        "_announced",
        "_arrived",
        "_held",
        "_ordered",
        "_ready",
        "_taken",
        "_window",
        "beyond_window",
        "duplicates",
        "expected",
        "received",
    )

    def __init__(self, *, window: int, ordered: bool) -> None:
        self._window = window
        self._ordered = ordered
        self.expected = 0
        # Bit i: expected + i has arrived; so bit 0 is never set between calls.
        self._arrived = 0
        self._held: dict[int, bytes] = {}
        self._ready: deque[bytes] = deque()
        self._taken = 0
        self._announced = window
        self.received = 0
        self.duplicates = 0
        self.beyond_window = 0

    @property
    def limit(self) -> int:
        """The first sequence number that the peer may not send yet."""
        return min(self._taken, self.expected) + self._window

    @property
    def waiting(self) -> int:
        """Datagrams that can be taken now."""
        return len(self._ready)

    @property
    def should_announce(self) -> bool:
        """The application took so many datagrams that the peer should get the new limit."""
        return self.limit - self._announced >= self._window // 2

    def accept(self, sequence: int, payload: bytes) -> None:
        """A datagram arrived; acknowledge it, whatever happens to it."""
        if sequence >= self.limit:
            self.beyond_window += 1
            return
        offset = sequence - self.expected
        if offset < 0 or self._arrived >> offset & 1:
            self.duplicates += 1
            return
        self._arrived |= 1 << offset
        self.received += 1
        if self._ordered and offset:
            self._held[sequence] = payload
        else:
            self._ready.append(payload)
        if offset:
            return
        # The number of consecutive ones from the lowest bit on.
        run = (~self._arrived & self._arrived + 1).bit_length() - 1
        if self._ordered:
            for number in range(self.expected + 1, self.expected + run):
                self._ready.append(self._held.pop(number))
        self._arrived >>= run
        self.expected += run

    def take(self) -> bytes | None:
        """Return the next datagram for the application, or None."""
        if not self._ready:
            return None
        self._taken += 1
        return self._ready.popleft()

    def acknowledgement(self) -> bytes:
        """Return an ACK frame for everything that has arrived."""
        self._announced = self.limit
        return encode_ack(self.expected, self._announced, self._arrived >> 1)
