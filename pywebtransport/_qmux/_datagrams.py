"""Datagrams that wait to be sent."""

from __future__ import annotations

from collections import deque
from typing import Final

from ..utils import _clock as clock
from ._frames import encode_varint

__all__ = ["DatagramQueue", "largest_datagram"]

_PRIORITIES: Final = 3
_HEAD: Final = b"\x31"
_LENGTHS: Final = ((1, 0x3F), (2, 0x3FFF), (4, 0x3FFF_FFFF))
"""Bytes of an integer, and the largest one that they hold."""


def largest_datagram(frame_size: int) -> int:
    """Return how many bytes fit into a DATAGRAM frame with a length, of at most this size."""
    room = frame_size - 1
    return max(0, room - 8, *(min(room - size, most) for size, most in _LENGTHS))


class DatagramQueue:
    """Frames by priority, each with the time after which it is dropped.

    A datagram can be dropped here only: what is in a record arrives.

    Args:
        limit: How many may wait.

    Attributes:
        limit: As above; the session may lower it.
        held_up: Somebody was refused and waits until the queue has fallen to half.
    """

    __slots__ = (
        "_lines",
        "bytes_queued",
        "count",
        "dropped",
        "expired",
        "held_up",
        "limit",
        "sent",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lines: list[deque[tuple[int | None, int, bytes]]] | None = None
        self.count = 0
        self.bytes_queued = 0
        self.sent = 0
        self.expired = 0
        self.dropped = 0
        self.held_up = False

    def put(self, prefix: bytes, data: bytes, priority: int, deadline: int | None) -> bool:
        """Queue one; return False if there is no room.

        Args:
            prefix: First bytes of the payload.
            data: The others.
            priority: 0 to 2; higher ones are sent first.
            deadline: Nanoseconds of the monotonic clock; None: no limit.
        """
        if self.count >= self.limit:
            self._sweep()
            if self.count >= self.limit:
                self.held_up = True
                return False
        if self._lines is None:
            self._lines = [deque() for _ in range(_PRIORITIES)]
        size = len(prefix) + len(data)
        self._lines[priority].append((deadline, size, _HEAD + encode_varint(size) + prefix + data))
        self.count += 1
        self.bytes_queued += size
        return True

    def take(self, room: int, parts: list[bytes]) -> int:
        """Move frames to a record.

        Args:
            room: Bytes that the record has left.
            parts: The frames are added to it.

        Returns:
            The bytes that are still left.
        """
        now = 0
        assert self._lines is not None
        for line in reversed(self._lines):
            while line:
                deadline, size, frame = line[0]
                if deadline is not None:
                    now = now or clock.monotonic_ns()
                    if now >= deadline:
                        self._remove(line, size)
                        self.expired += 1
                        continue
                if len(frame) > room:
                    return room
                self._remove(line, size)
                self.sent += 1
                parts.append(frame)
                room -= len(frame)
        return room

    def keep(self, most: int) -> None:
        """Drop those that are larger; -1: all."""
        if self._lines is None:
            return
        for line in self._lines:
            for _ in range(len(line)):
                entry = line.popleft()
                if entry[1] <= most:
                    line.append(entry)
                    continue
                self.count -= 1
                self.bytes_queued -= entry[1]
                self.dropped += 1

    def clear(self) -> int:
        """Drop all; return how many there were."""
        count, self.count, self.bytes_queued = self.count, 0, 0
        self._lines = None
        self.dropped += count
        return count

    def has_room_again(self) -> bool:
        """Return once whether the queue has fallen to half after somebody was refused."""
        if self.held_up and self.count * 2 <= self.limit:
            self.held_up = False
            return True
        return False

    def _remove(self, line: deque[tuple[int | None, int, bytes]], size: int) -> None:
        line.popleft()
        self.count -= 1
        self.bytes_queued -= size

    def _sweep(self) -> None:
        """Drop those that are too old."""
        if self._lines is None:
            return
        now = clock.monotonic_ns()
        for line in self._lines:
            for _ in range(len(line)):
                entry = line.popleft()
                if entry[0] is not None and now >= entry[0]:
                    self.count -= 1
                    self.bytes_queued -= entry[1]
                    self.expired += 1
                else:
                    line.append(entry)
