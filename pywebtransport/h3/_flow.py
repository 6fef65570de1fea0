"""Session flow control: counts of streams (draft-16 section 5.6).

The QUIC engine counts the bytes of a session; see ``Group``. Limits are
cumulative: closed streams count, too.
"""

from __future__ import annotations

from ._constants import MAX_SESSION_STREAMS
from ._errors import LimitError

__all__ = ["LocalStreams", "PeerStreams", "check_limit"]


def check_limit(current: int, new: int, *, equal_is_error: bool) -> bool:
    """Check the value of a received WT_MAX_* capsule.

    Args:
        current: The last value, or the initial one from SETTINGS.
        new: The value received.
        equal_is_error: Draft-15 and later refuse an unchanged value.

    Returns:
        Whether the limit grew.

    Raises:
        LimitError: it shrank, or did not grow although it must.
    """
    if new < current or (new == current and equal_is_error):
        raise LimitError(f"a limit of {new} was announced after {current}")
    return new > current


class LocalStreams:
    """Streams of one kind that this end opens in a session.

    Args:
        limit: What the peer allows; None: no limit.
    """

    __slots__ = ("_reported", "limit", "opened")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.opened = 0
        self._reported = -1

    @property
    def can_open(self) -> bool:
        return self.limit is None or self.opened < self.limit

    def blocked(self) -> int | None:
        """The limit to report in WT_STREAMS_BLOCKED; None: already reported."""
        if self.limit is None or self._reported == self.limit:
            return None
        self._reported = self.limit
        return self.limit

    def raise_limit(self, new: int, *, equal_is_error: bool) -> bool:
        """Apply WT_MAX_STREAMS; return whether the limit grew.

        Raises:
            LimitError: the value is over 2**60 or did not grow.
        """
        if new > MAX_SESSION_STREAMS:
            raise LimitError(f"a limit of {new} streams was announced: more than 2**60")
        if self.limit is None or not check_limit(self.limit, new, equal_is_error=equal_is_error):
            return False
        self.limit = new
        return True


class PeerStreams:
    """Streams of one kind that the peer opens in a session.

    Args:
        window: How many it may have open; None: no limit.
        increment: By how many the limit grows at a time while there is credit left.
    """

    __slots__ = ("finished", "increment", "limit", "received", "window")

    def __init__(self, window: int | None, increment: int = MAX_SESSION_STREAMS) -> None:
        self.window = window
        self.increment = increment
        self.limit = window
        self.received = 0
        self.finished = 0

    def arrived(self) -> int | None:
        """Count a new stream; return the new limit if it is time to announce one.

        Raises:
            LimitError: it exceeds the limit.
        """
        self.received += 1
        if self.limit is None:
            return None
        if self.received > self.limit:
            raise LimitError(f"the peer opened stream {self.received} of {self.limit}")
        return self._grant_batch(self.limit)

    def done(self) -> int | None:
        """Count an ended stream; return the new limit if it is time to announce one.

        Announcements are batched while the peer has plenty of credit. If it has none,
        each ended stream is announced, so that it never waits for a batch.
        """
        self.finished += 1
        return None if self.limit is None else self._grant_batch(self.limit)

    def wanted(self) -> int | None:
        """The peer is blocked: return the new limit if there is any credit to give."""
        return None if self.limit is None else self._grant(self.limit)

    def _grant_batch(self, limit: int) -> int | None:
        gain = self.finished + (self.window or 0) - limit
        if gain < 1 or (gain < self.increment and gain < (limit - self.received) // 2):
            return None
        return self._grant(limit)

    def _grant(self, limit: int) -> int | None:
        new = min(self.finished + (self.window or 0), MAX_SESSION_STREAMS)
        if new <= limit:
            return None
        self.limit = new
        return new
