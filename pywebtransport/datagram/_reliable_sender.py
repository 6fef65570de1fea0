"""The sending half of reliable datagrams: window, retransmission, round-trip time. No I/O.

Time is an argument everywhere: seconds on any clock that never goes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

from ._reliable_frames import INITIAL_LIMIT, PROBE, Ack, FrameError, encode_data

__all__ = ["ReliableSender"]

_REORDERING: Final = 3
"""A datagram is overtaken if one sent this many later has arrived (RFC 9002 section 6.1.1)."""
_RTT_FACTOR: Final = 1.25
"""It is lost if this many round-trip times have passed, too: before, it may only be late."""
_GRANULARITY: Final = 0.01
"""Minimum variation in seconds: the peer answers when its event loop gets to it."""
_HINT_FACTOR: Final = 4
_MIN_FIRST: Final = 0.1
"""Minimum timeout in seconds while only QUIC's round-trip time is known."""
_PROBES: Final = 2
"""How many frames are sent after a timeout."""
_MAX_BACKOFF: Final = 16


class _Sent:
    """A datagram that is not acknowledged yet."""

    __slots__ = ("acknowledged", "attempts", "frame", "number", "order", "sent_at")

    def __init__(self, number: int, frame: bytes) -> None:
        self.number = number
        self.frame = frame
        self.acknowledged = False
        self.attempts = 0
        self.order = 0
        self.sent_at = 0.0


class ReliableSender:
    """Datagrams that were submitted, until the peer acknowledges them.

    Args:
        window: How many datagrams may be unacknowledged.
        ack_timeout: Seconds until the first retransmission, before a round-trip
            time is known.
        max_retries: The peer may be silent for ``ack_timeout * (max_retries + 1)``
            seconds.

    Attributes:
        wanted: A caller waits for ``has_room``: ask for a new limit with probes.
        rtt: Smoothed round-trip time in seconds; None before the first sample.
        submitted, acknowledged: Datagrams.
        retransmitted: How many times datagrams were sent again.
        timeouts: How often the timer caused retransmissions.
        silence: Seconds of silence after which the sender gives up.
    """

    def __init__(self, *, window: int, ack_timeout: float, max_retries: int) -> None:
        self._window = window
        self._limit = INITIAL_LIMIT
        self._ack_timeout = self._first_rto = ack_timeout
        self.silence = ack_timeout * (max_retries + 1)
        self._next = 0
        self._oldest = 0
        # Bit i: oldest + i is not acknowledged; bit 0 is set unless there is none.
        self._missing = 0
        self._records: dict[int, _Sent] = {}
        self._fresh: deque[_Sent] = deque()
        self._lost: deque[_Sent] = deque()
        self._flight: dict[int, _Sent] = {}  # in the order of sending
        self._order = 0
        self._newest_order = 0  # of all that were acknowledged
        self._newest_sent_at = 0.0
        self._variation = 0.0
        self._backoff = 0
        self._progress_at = 0.0
        # Since when an answer has been due; None: nothing to answer.
        self._asked_at: float | None = None
        self._probes_due = 0
        self._probing = False
        self.wanted = False
        self.rtt: float | None = None
        self.submitted = 0
        self.acknowledged = 0
        self.retransmitted = 0
        self.timeouts = 0

    @property
    def has_room(self) -> bool:
        """One more datagram may be submitted."""
        return self._next - self._oldest < self._window and self._next < self._limit

    @property
    def unacknowledged(self) -> int:
        """Datagrams submitted and not acknowledged."""
        return len(self._records)

    def expect(self, rtt: float) -> None:
        """Set a round-trip time in seconds to use until one of datagrams is measured."""
        self._first_rto = min(self._ack_timeout, max(_MIN_FIRST, _HINT_FACTOR * rtt))

    def submit(self, payload: bytes) -> None:
        """Number a datagram and queue it; check ``has_room`` first."""
        record = _Sent(self._next, encode_data(self._next, payload))
        self._missing |= 1 << (self._next - self._oldest)
        self._records[self._next] = record
        self._next += 1
        self._fresh.append(record)
        self.submitted += 1

    def transmit(self, now: float, send: Callable[[bytes], bool]) -> bool:
        """Send frames that are due, lost ones first.

        Args:
            now: The time.
            send: Sends a frame; returns False if it has no room.

        Returns:
            False if ``send`` refused a frame: call again when it has room.
        """
        for queue in (self._lost, self._fresh):
            while queue:
                record = queue[0]
                if not record.acknowledged:
                    if not send(record.frame):
                        return self._refused()
                    self._transmitted(record, now)
                queue.popleft()
        while self._probes_due and (self._flight or self._probing):
            if not send(PROBE):
                return self._refused()
            self._probes_due -= 1
            self._ask(now)
        self._probes_due = 0
        return True

    def acknowledge(self, ack: Ack, now: float) -> None:
        """An ACK frame arrived.

        Raises:
            FrameError: It acknowledges a datagram that was never submitted.
        """
        if ack.expected + ack.beyond.bit_length() > self._next - bool(ack.beyond):
            raise FrameError(f"ACK beyond sequence number {self._next - 1}")
        self._limit = max(self._limit, ack.limit)
        offset = ack.expected - self._oldest
        if offset >= 0:
            arrived = (1 << offset) - 1 | ack.beyond << (offset + 1)
        else:
            arrived = ack.beyond >> (-offset - 1)
        new = arrived & self._missing
        if new:
            self._forget(new, now)
        if self._probing and self._next < self._limit:
            self._probing, self._probes_due = False, 0
            self._backoff = 0
        # The peer answers: its time limit starts again.
        self._asked_at = now if self._flight or self._probing else None

    def deadline(self, now: float) -> float | None:
        """Return when to call ``timeout``; None: not until something else happens.

        Starts to probe if there is no other way to learn of a new limit.
        """
        if not self._flight and not self._probing:
            if not self.wanted or self._records or self._next < self._limit:
                return None
            # The last limit from the peer is reached; the next one may have been lost.
            self._probing = True
            self._backoff = 0
            self._progress_at = self._asked_at = now
        asked = now if self._asked_at is None else self._asked_at
        due = min(self._retransmit_at(), asked + self.silence)
        if self._flight:
            lost_at = self._lost_at(next(iter(self._flight.values())))
            if lost_at is not None:
                due = min(due, lost_at)
        return due

    def timeout(self, now: float) -> bool:
        """Handle the deadline, if it has passed.

        Returns:
            False if the peer has been silent for too long: give up.
        """
        if self._asked_at is not None and now >= self._asked_at + self.silence:
            return False
        self._find_lost(now)
        if not (self._flight or self._probing) or now < self._retransmit_at():
            return True
        self.timeouts += 1
        self._backoff = min(self._backoff + 1, _MAX_BACKOFF)
        self._progress_at = now
        if self._probing and not self._flight:
            self._probing = self.wanted
            self._probes_due = _PROBES
            if not self.wanted:
                self._asked_at = None
            return True
        # A single frame is easily lost; the answer to either one has the complete state.
        self._probes_due = max(0, _PROBES - len(self._flight))
        for number in tuple(islice(self._flight, _PROBES)):
            self._lost.append(self._flight.pop(number))
        return True

    def _transmitted(self, record: _Sent, now: float) -> None:
        if record.attempts:
            self.retransmitted += 1
        if not self._flight:
            self._progress_at = now
        record.attempts += 1
        self._order += 1
        record.order = self._order
        record.sent_at = now
        self._flight[record.number] = record
        self._ask(now)

    def _ask(self, now: float) -> None:
        if self._asked_at is None:
            self._asked_at = now

    def _refused(self) -> bool:
        if not self._flight:
            # Nothing was sent to the peer: its silence means nothing.
            self._asked_at = None
        return False

    def _forget(self, new: int, now: float) -> None:
        """Forget datagrams that have arrived (bits as in ``_missing``)."""
        self._missing &= ~new
        newest: _Sent | None = None
        while new:
            lowest = new & -new
            new ^= lowest
            record = self._records.pop(self._oldest + lowest.bit_length() - 1)
            record.acknowledged = True
            self._flight.pop(record.number, None)
            self.acknowledged += 1
            if newest is None or record.order > newest.order:
                newest = record
        if self._missing:
            gone = (self._missing & -self._missing).bit_length() - 1
            self._missing >>= gone
            self._oldest += gone
        else:
            self._oldest = self._next
        self._backoff = 0
        self._progress_at = now
        if newest is not None and newest.order > self._newest_order:
            self._newest_order, self._newest_sent_at = newest.order, newest.sent_at
            if newest.attempts == 1:  # otherwise, it is unknown which attempt was acknowledged
                self._measure(now - newest.sent_at)
        self._find_lost(now)

    def _lost_at(self, record: _Sent) -> float | None:
        """Return when a datagram in flight counts as lost; None if it was not overtaken."""
        wait = _RTT_FACTOR * (self._first_rto if self.rtt is None else self.rtt) + _GRANULARITY
        if (
            record.order + _REORDERING > self._newest_order
            and record.sent_at + wait > self._newest_sent_at
        ):
            return None
        return record.sent_at + wait

    def _find_lost(self, now: float) -> None:
        """Mark datagrams as lost that were overtaken long enough ago."""
        while self._flight:
            record = next(iter(self._flight.values()))
            lost_at = self._lost_at(record)
            if lost_at is None or lost_at > now:
                return
            del self._flight[record.number]
            self._lost.append(record)

    def _measure(self, sample: float) -> None:
        """Add a round-trip time to the smoothed one (RFC 6298 section 2)."""
        if self.rtt is None:
            self.rtt, self._variation = sample, sample / 2
            return
        self._variation += (abs(self.rtt - sample) - self._variation) / 4
        self.rtt += (sample - self.rtt) / 8

    def _patience(self) -> float:
        if self.rtt is None:
            return self._first_rto
        return self.rtt + max(4 * self._variation, _GRANULARITY)

    def _retransmit_at(self) -> float:
        patience = self._patience()
        most = max(2 * patience, self._ack_timeout / 2)
        since = self._progress_at
        if self._flight:
            since = max(since, next(iter(self._flight.values())).sent_at)
        return since + min(patience * 2.0**self._backoff, most)
