"""Receive credit: what the peer may send, and when to tell it of more."""

from __future__ import annotations

from typing import Final

from ._frames import MAX_STREAM_COUNT, MAX_VARINT

__all__ = ["NEVER", "DataCredit", "StreamCredit"]

NEVER: Final = 1 << 63
"""A threshold that is never reached."""

_MOST_STREAMS: Final = 1 << 16
"""Streams of one kind that the peer may have open, whatever the configuration says: their IDs may
be skipped, and each skipped one is remembered."""


class DataCredit:
    """Credit for the bytes of the whole connection.

    The peer is told of more when half of the window is used, and the window doubles each time up
    to its maximum.

    Attributes:
        received: Bytes that have arrived, or were lost by a reset.
        limit: What was announced.
        consumed: Bytes that need no room any more.
        due_at: A new limit is due when ``consumed`` reaches this.
        is_due: A new limit waits to be sent.
    """

    __slots__ = ("_most", "_window", "consumed", "due_at", "is_due", "limit", "received")

    def __init__(self, window: int, most: int) -> None:
        self._window = window
        self._most = max(window, most)
        self.received = 0
        self.limit = window
        self.consumed = 0
        self.due_at = (window + 1) // 2
        self.is_due = False

    def announce(self) -> int:
        """Return the new limit, which is sent now."""
        self.is_due = False
        self.limit, self._window, self.due_at = grown(self.consumed, self._window, self._most)
        return self.limit


class StreamCredit:
    """The streams of one kind that the peer may open.

    Attributes:
        limit: How many in total, as announced.
        opened: How many it has opened; those with a lower ID count as opened.
        is_due: A new limit waits to be sent.
    """

    __slots__ = ("_skipped", "_window", "freed", "is_due", "limit", "opened")

    def __init__(self, window: int) -> None:
        self._window = self.limit = min(window, _MOST_STREAMS)
        self._skipped: set[int] | None = None
        self.opened = 0
        self.freed = 0
        self.is_due = False

    def open(self, number: int) -> bool:
        """Open a stream within the limit; return False if it was opened before."""
        opened = self.opened
        if number == opened:
            self.opened = number + 1
            return True
        if number > opened:
            if self._skipped is None:
                self._skipped = set()
            self._skipped.update(range(opened, number))
            self.opened = number + 1
            return True
        if self._skipped is not None and number in self._skipped:
            self._skipped.remove(number)
            return True
        return False

    def free(self) -> bool:
        """A stream is completely done; return whether a new limit became due."""
        self.freed += 1
        if self.is_due:
            return False
        # At once if the peer could soon be held up; otherwise when it is worth a frame.
        if self.freed * 2 >= self._window or (self.limit - self.opened) * 4 <= self._window:
            self.is_due = self.limit < MAX_STREAM_COUNT
        return self.is_due

    def announce(self) -> int:
        """Return the new limit, which is sent now."""
        self.is_due = False
        self.limit = min(self.limit + self.freed, MAX_STREAM_COUNT)
        self.freed = 0
        return self.limit


def grown(consumed: int, window: int, most: int) -> tuple[int, int, int]:
    """Return the next limit, window and threshold of a credit for bytes."""
    window = min(2 * window, most)
    limit = min(consumed + window, MAX_VARINT)
    # Never: no more can be announced.
    due_at = limit - window // 2 if limit < MAX_VARINT else NEVER
    return limit, window, due_at
