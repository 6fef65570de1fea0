"""Sends frames, each before its deadline or not at all."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import partial

from .._states import Data
from ..exceptions import ConfigurationError, WebTransportError, invalid_config
from ..session import WebTransportSession
from ..stream import WebTransportSendStream
from ..utils._checks import check_count, check_data, check_instance, check_number, check_seconds
from ..utils._closing import AsyncCloseable
from ..utils._text import printable
from ..utils._timing import get_timestamp
from ..utils._waiters import Waiters
from ._frames import DEFAULT_MAX_BYTES, HEADER, MediaCode

__all__ = ["FrameSender", "FrameSenderStats"]

# Seconds of a wait without limit: event loops do not accept infinity.
_FOREVER = 1e9
# From this size on, the data is not copied to its header.
_LARGE = 16384
# In microseconds, it fits into the header.
_MAX_TIMESTAMP = 1e13

_logger = logging.getLogger("pywebtransport.media")


@dataclass(slots=True)
class FrameSenderStats:
    """Counters of a :class:`FrameSender`. Times are in seconds.

    Attributes:
        sent: Frames that the peer's QUIC stack has acknowledged completely.
        bytes_sent: Bytes of their data.
        dropped: Frames of which nothing was sent.
        superseded: Those among them that a newer frame replaced; the deadline of the others passed.
        cut: Frames whose deadline passed while they were being sent; their streams were reset.
        refused: Frames whose streams the receiver stopped.
        lost: Frames under way when the session ended, or the sender was closed.
        in_flight: Frames being sent now.
        bytes_in_flight: Bytes of their data.
        delay_last: From ``send`` to the acknowledgement, of the last frame that was sent.
        delay_max: The longest such time.
        lateness_max: The longest time from a deadline until its frame was dropped or cut. It is
            large only if the event loop was blocked.
    """

    sent: int = 0
    bytes_sent: int = 0
    dropped: int = 0
    superseded: int = 0
    cut: int = 0
    refused: int = 0
    lost: int = 0
    in_flight: int = 0
    bytes_in_flight: int = 0
    delay_last: float = 0.0
    delay_max: float = 0.0
    lateness_max: float = 0.0


class _Outgoing:
    """A frame on its way."""

    __slots__ = ("data", "deadline", "given", "sequence", "stream", "timer", "timestamp")

    def __init__(
        self, sequence: int, data: bytes | memoryview, timestamp: float, given: float, left: float
    ) -> None:
        self.sequence = sequence
        self.data = data
        self.timestamp = timestamp
        self.given = given
        self.deadline = given + left
        self.stream: WebTransportSendStream | None = None
        self.timer: asyncio.TimerHandle | None = None


class FrameSender(AsyncCloseable):
    """Sends each frame on a unidirectional stream of its own, before its deadline or not at all.

    ::

        async with FrameSender(session, deadline=0.2) as sender:
            async for picture in camera:
                sender.send(picture)

    :meth:`send` does not wait. While there is no room or no stream, the newest frame waits, and
    replaces the one that waited before. Of frames that are being sent, newer ones go first. When a
    deadline passes, its frame is dropped, or its stream is reset with ``MediaCode.LATE``, so that
    nothing of it is sent again.

    It uses at most ``max_bytes`` of memory, and one waiting frame.
    """

    def __init__(
        self,
        session: WebTransportSession,
        *,
        deadline: float = 0.25,
        max_in_flight: int = 16,
        max_bytes: int = DEFAULT_MAX_BYTES,
        send_order: int = 0,
    ) -> None:
        """Create a sender; the first frame starts it.

        Args:
            session: The session, at either end.
            deadline: Seconds for frames without a deadline of their own: from ``send`` until the
                peer has acknowledged all of the frame.
            max_in_flight: Frames sent at a time.
            max_bytes: Bytes of frames sent at a time; no frame may be larger.
            send_order: Of the first frame's stream; each frame has one more than the one before.

        Raises:
            ConfigurationError: An argument is of another type, or out of range.
        """
        check_instance("session", session, WebTransportSession)
        check_count("max_in_flight", max_in_flight)
        check_count("max_bytes", max_bytes)
        check_number("send_order", send_order, -(2**61), 2**61)
        self._session = session
        self._default = check_seconds("deadline", deadline)
        self._max_in_flight = max_in_flight
        self._max_bytes = max_bytes
        self._order = int(send_order)
        self._sequence = 0
        self._waiting: _Outgoing | None = None
        self._in_flight: set[_Outgoing] = set()
        self._stats = FrameSenderStats()
        self._changed = Waiters()
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    # ---------------------------------------------------------------- properties

    @property
    def session(self) -> WebTransportSession:
        """The session below."""
        return self._session

    @property
    def stats(self) -> FrameSenderStats:
        """A copy of the counters."""
        return replace(self._stats)

    @property
    def is_closed(self) -> bool:
        """``close`` or ``abort`` was called."""
        return self._closed

    @property
    def is_idle(self) -> bool:
        """No frame waits or is being sent."""
        return self._waiting is None and not self._in_flight

    # ------------------------------------------------------------------- sending

    def send(
        self, data: Data, *, deadline: float | None = None, timestamp: float | None = None
    ) -> int:
        """Send a frame, unless its deadline passes first. Does not wait.

        Args:
            data: Its bytes, as for ``stream.write``; may be empty. A buffer that can change is
                copied.
            deadline: Seconds from now; None: that of the sender.
            timestamp: Seconds, for the receiver; None: the time since the epoch.

        Returns:
            The number of the frame, from 0.

        Raises:
            ConfigurationError: An argument is of another type or out of range, or the frame is
                larger than ``max_bytes``; or the sender is closed.
            SessionClosedError: The session has ended.
        """
        payload = check_data("data", data)
        left = self._default if deadline is None else check_seconds("deadline", deadline)
        if timestamp is None:
            timestamp = get_timestamp()
        else:
            check_number("timestamp", timestamp, 0, _MAX_TIMESTAMP)
        if len(payload) > self._max_bytes:
            raise invalid_config(
                key="data",
                value=f"{len(payload)} bytes",
                reason=f"expected at most max_bytes={self._max_bytes}",
            )
        if self._closed:
            raise ConfigurationError("the FrameSender is closed; create another one")
        if self._session.is_closed:
            raise self._session.closed_error("no frame can be sent")
        if not isinstance(payload, bytes) and type(payload.obj) is not bytes:
            payload = bytes(payload)  # it may change while it waits
        loop = asyncio.get_running_loop()
        frame = _Outgoing(self._sequence, payload, timestamp, loop.time(), left)
        self._sequence += 1
        if self._waiting is not None:
            self._stats.superseded += 1
            self._drop(self._waiting)
        self._waiting = frame
        frame.timer = loop.call_at(frame.deadline, self._expired, frame)
        if self._pump is None or self._pump.done():
            self._pump = loop.create_task(self._run(), name="media sender")
        self._changed.wake()
        return frame.sequence

    async def flush(self) -> None:
        """Wait until no frame waits or is being sent: each was sent, or its deadline has passed.

        Cancellation: safe.
        """
        while not self.is_idle:
            await self._changed.wait()

    # ------------------------------------------------------------------- closing

    async def close(self) -> None:
        """Accept no more frames, and wait as ``flush``. Idempotent.

        Cancellation: frames under way are abandoned.
        """
        self._closed = True
        try:
            await self.flush()
        finally:
            self.abort()
            if self._pump is not None:
                await asyncio.wait([self._pump])

    def abort(self) -> None:
        """Abandon all frames under way. Idempotent."""
        self._closed = True
        if self._waiting is not None:
            self._drop(self._waiting)
        for frame in list(self._in_flight):
            self._abandon(frame, MediaCode.CLOSED)
            self._stats.lost += 1
        if self._pump is not None:
            self._pump.cancel()

    # ------------------------------------------------------------------ internal

    async def _run(self) -> None:
        """Open streams, and send the frame that is the newest by then."""
        stream: WebTransportSendStream | None = None
        try:
            while True:
                while not self._has_room():
                    await self._changed.wait()
                if stream is None:
                    # The deadline of the frame ends the wait.
                    stream = await self._session.create_unidirectional_stream(timeout=_FOREVER)
                if self._has_room():
                    opened, stream = stream, None
                    self._start(opened)
        except WebTransportError as error:
            _logger.debug("no more frames are sent: %s", printable(error))
            if self._waiting is not None:
                self._drop(self._waiting)
        finally:
            if stream is not None:
                stream.reset(MediaCode.CLOSED)

    def _has_room(self) -> bool:
        """A frame waits, and can be sent now."""
        frame = self._waiting
        return (
            frame is not None
            and len(self._in_flight) < self._max_in_flight
            and self._stats.bytes_in_flight + len(frame.data) <= self._max_bytes
        )

    def _start(self, stream: WebTransportSendStream) -> None:
        frame, self._waiting = self._waiting, None
        assert frame is not None  # there was room for it
        frame.stream = stream
        self._in_flight.add(frame)
        stats = self._stats
        stats.in_flight += 1
        stats.bytes_in_flight += len(frame.data)
        stream.send_order = self._order + frame.sequence
        try:
            header = HEADER.pack(frame.sequence, round(frame.timestamp * 1e6))
            # A new stream has room for one write of any size.
            if len(frame.data) < _LARGE or self._session.write_low_water < len(header):
                stream.try_write(header + frame.data)
            else:
                stream.try_write(header)
                stream.try_write(frame.data)
            stream.finish()
        except WebTransportError as error:  # it has ended already, and is counted below
            _logger.debug("frame %d was not sent: %s", frame.sequence, printable(error))
        stream.add_stop_callback(partial(self._ended, frame))

    def _ended(self, frame: _Outgoing) -> None:
        """Everything was acknowledged, or the stream has ended in another way."""
        stream = frame.stream
        if stream is None or frame not in self._in_flight:
            return
        self._forget(frame)
        stats = self._stats
        if stream.is_stopped:
            stats.refused += 1
        elif stream.bytes_acknowledged != stream.bytes_sent:
            stats.lost += 1
        else:
            stats.sent += 1
            stats.bytes_sent += len(frame.data)
            stats.delay_last = asyncio.get_running_loop().time() - frame.given
            stats.delay_max = max(stats.delay_max, stats.delay_last)

    def _expired(self, frame: _Outgoing) -> None:
        stats = self._stats
        late = asyncio.get_running_loop().time() - frame.deadline
        stats.lateness_max = max(stats.lateness_max, late)
        if frame is self._waiting:
            self._drop(frame)
        elif frame in self._in_flight:
            self._abandon(frame, MediaCode.LATE)
            stats.cut += 1

    def _drop(self, frame: _Outgoing) -> None:
        self._waiting = None
        self._stats.dropped += 1
        self._cancel_timer(frame)
        self._changed.wake()

    def _abandon(self, frame: _Outgoing, code: MediaCode) -> None:
        self._forget(frame)
        if frame.stream is not None:
            frame.stream.reset(code)

    def _forget(self, frame: _Outgoing) -> None:
        self._in_flight.discard(frame)
        self._stats.in_flight -= 1
        self._stats.bytes_in_flight -= len(frame.data)
        self._cancel_timer(frame)
        self._changed.wake()

    def _cancel_timer(self, frame: _Outgoing) -> None:
        if frame.timer is not None:
            frame.timer.cancel()
            frame.timer = None
