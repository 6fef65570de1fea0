"""Streams and datagrams that arrived before their session: kept, within limits.

Packets are reordered, and a server may send before its response is read, so
this is normal. There are limits for one session and for all sessions together: on
streams, on the bytes of each, on the bytes of a session's datagrams, and on the time
until an unknown session is requested. The bytes of a stream stay in the stream: the
peer gets no credit back for them, so it has to wait.

What arrives once the session is established is not early. While earlier streams are still
being delivered it stands behind them, in order, and none of these limits applies: those of
the established session do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .._transport import CallLater, Stream, TimerHandle
from ._options import H3Options

__all__ = ["EarlyArrivals", "EarlyStream"]


# The datagrams of all sessions together may take this many times the bytes of one session.
_SESSIONS = 4


class EarlyStream(NamedTuple):
    """A waiting stream, and the length of its header."""

    stream: Stream
    header_size: int


class _Bucket:
    """The streams and datagrams that wait for one session.

    Attributes:
        counted: They count against the limits; False once the session is established.
    """

    __slots__ = ("counted", "datagram_bytes", "datagrams", "streams", "timer")

    def __init__(self) -> None:
        self.counted = True
        self.streams: deque[EarlyStream] = deque()
        self.datagrams: list[bytes] = []
        self.datagram_bytes = 0
        self.timer: TimerHandle | None = None

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class EarlyArrivals:
    """Early streams and datagrams of one connection, by session ID.

    Args:
        options: The limits.
        call_later: For the time limit of unknown sessions.
        expired: Called with the streams of a session that was not requested in time.
        lost: Called with the number of its datagrams, if there are any.
    """

    __slots__ = (
        "_buckets",
        "_call_later",
        "_datagram_bytes",
        "_datagrams",
        "_expired",
        "_lost",
        "_options",
        "_streams",
        "dropped",
    )

    def __init__(
        self,
        options: H3Options,
        call_later: CallLater,
        expired: Callable[[list[EarlyStream]], object],
        lost: Callable[[int], object] | None = None,
    ) -> None:
        self._options = options
        self._call_later = call_later
        self._expired = expired
        self._lost = lost
        self._buckets: dict[int, _Bucket] = {}
        self._streams = 0
        self._datagrams = 0
        self._datagram_bytes = 0
        self.dropped = 0
        """Streams and datagrams for which there was no room."""

    @property
    def streams(self) -> int:
        """How many streams wait."""
        return self._streams

    @property
    def datagrams(self) -> int:
        """How many datagrams wait."""
        return self._datagrams

    def hold_stream(
        self, session_id: int, stream: Stream, header_size: int, *, known: bool
    ) -> bool:
        """Keep a stream; return False if there is no room.

        Args:
            session_id: The session that it belongs to.
            stream: The stream; its header is not consumed.
            header_size: Bytes of that header.
            known: The session was requested and only waits for its answer: no time limit.
        """
        waiting = self._buckets.get(session_id)
        if (
            self._streams >= self._options.max_early_streams
            or self.is_oversized(stream)
            or not self._has_room(0 if waiting is None else len(waiting.streams))
        ):
            self.dropped += 1
            return False
        self._bucket(session_id, known).streams.append(EarlyStream(stream, header_size))
        self._streams += 1
        return True

    def hold_datagram(self, session_id: int, data: bytes, *, known: bool) -> bool:
        """Keep a datagram; return False if there is no room."""
        waiting = self._buckets.get(session_id)
        count, size = 0, len(data)
        if waiting is not None:
            count, size = len(waiting.datagrams), size + waiting.datagram_bytes
        limit = self._options.max_early_bytes
        if (
            size > limit
            or self._datagram_bytes + len(data) > _SESSIONS * limit
            or not self._has_room(count)
        ):
            self.dropped += 1
            return False
        bucket = self._bucket(session_id, known)
        bucket.datagrams.append(data)
        bucket.datagram_bytes = size
        self._datagram_bytes += len(data)
        self._datagrams += 1
        return True

    def is_oversized(self, stream: Stream) -> bool:
        """Tell whether a waiting stream holds more than is allowed."""
        return stream.buffered > self._options.max_early_bytes

    def holds(self, session_id: int) -> bool:
        """Tell whether anything waits for a session."""
        return session_id in self._buckets

    def pin(self, session_id: int) -> None:
        """The session was requested: its data can wait without a time limit now."""
        bucket = self._buckets.get(session_id)
        if bucket is not None:
            bucket.cancel_timer()

    def take(self, session_id: int) -> tuple[list[EarlyStream], list[bytes]]:
        """Remove and return everything that waits for a session, in the order of arrival."""
        bucket = self._buckets.pop(session_id, None)
        if bucket is None:
            return [], []
        bucket.cancel_timer()
        if bucket.counted:
            self._uncount(bucket)
        return list(bucket.streams), bucket.datagrams

    def established(self, session_id: int) -> None:
        """A session was answered: what waits for it counts against no limit from now on."""
        bucket = self._buckets.get(session_id)
        if bucket is None or not bucket.counted:
            return
        bucket.cancel_timer()
        self._uncount(bucket)
        bucket.counted = False

    def line_up(self, session_id: int, stream: Stream, header_size: int) -> None:
        """Put a stream of an established session behind those that still wait for it."""
        self.established(session_id)
        bucket = self._buckets.get(session_id)
        if bucket is None:
            bucket = self._buckets[session_id] = _Bucket()
            bucket.counted = False
        bucket.streams.append(EarlyStream(stream, header_size))

    def take_datagrams(self, session_id: int) -> list[bytes]:
        """Remove and return the datagrams that wait for an established session."""
        bucket = self._buckets.get(session_id)
        if bucket is None or not bucket.datagrams:
            return []
        self.established(session_id)
        datagrams, bucket.datagrams = bucket.datagrams, []
        if not bucket.streams:
            self.take(session_id)
        return datagrams

    def next_stream(self, session_id: int) -> EarlyStream | None:
        """Remove and return the stream of a session that arrived first."""
        bucket = self._buckets.get(session_id)
        if bucket is None or not bucket.streams:
            return None
        early = bucket.streams.popleft()
        self._streams -= bucket.counted
        if not bucket.streams and not bucket.datagrams:
            self.take(session_id)
        return early

    def drop_if_oversized(self, stream: Stream) -> bool:
        """Forget a waiting stream if it counts and holds more than is allowed."""
        if not self.is_oversized(stream):
            return False
        for session_id, bucket in self._buckets.items():
            for entry in bucket.streams if bucket.counted else ():
                if entry.stream is stream:
                    bucket.streams.remove(entry)
                    self._streams -= 1
                    if not bucket.streams and not bucket.datagrams:
                        self.take(session_id)
                    return True
        return False

    def clear(self) -> list[EarlyStream]:
        """Forget everything; returns the streams."""
        return [entry for key in list(self._buckets) for entry in self.take(key)[0]]

    def _uncount(self, bucket: _Bucket) -> None:
        self._streams -= len(bucket.streams)
        self._datagrams -= len(bucket.datagrams)
        self._datagram_bytes -= bucket.datagram_bytes

    def _has_room(self, waiting: int) -> bool:
        """Return whether another one may wait if ``waiting`` already wait for its session."""
        return (
            waiting < self._options.max_early_per_session
            and self._streams + self._datagrams < self._options.max_early_total
        )

    def _bucket(self, session_id: int, known: bool) -> _Bucket:
        bucket = self._buckets.get(session_id)
        if bucket is None:
            bucket = self._buckets[session_id] = _Bucket()
            if not known:
                bucket.timer = self._call_later(
                    self._options.early_timeout, self._expire, session_id
                )
        return bucket

    def _expire(self, session_id: int) -> None:
        streams, datagrams = self.take(session_id)
        self._expired(streams)
        if datagrams and self._lost is not None:
            self._lost(len(datagrams))
