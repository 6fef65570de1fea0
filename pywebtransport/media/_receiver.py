"""Receives frames, the newest first or in their order."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Self

from ..exceptions import (
    ConfigurationError,
    StreamError,
    StreamResetError,
    TimeoutError,
    WebTransportError,
    invalid_config,
)
from ..session import WebTransportSession
from ..stream import WebTransportReceiveStream
from ..utils._checks import check_count, check_instance, check_number
from ..utils._closing import AsyncCloseable
from ..utils._text import printable
from ..utils._waiters import Waiters
from ._frames import DEFAULT_MAX_BYTES, HEADER, Frame, FrameOrder, MediaCode

__all__ = ["FrameReceiver", "FrameReceiverStats"]

# What a frame costs besides its data: a peer may send any number of empty ones.
_COST = 512
# Bytes per read.
_PIECE = 65_536
# Numbers of frames known to be cut that are remembered.
_MOST_CUT = 1024

_logger = logging.getLogger("pywebtransport.media")


@dataclass(slots=True)
class FrameReceiverStats:
    """Counters of a :class:`FrameReceiver`.

    Attributes:
        received: Frames that have arrived completely.
        bytes_received: Bytes of their data.
        returned: Frames that your loop got.
        overtaken: Frames that were dropped because a newer one was returned, or waited, or because
            there was no room.
        cut: Frames whose streams the sender has reset, or that stopped arriving for longer than
            ``read_timeout``.
        missing: Numbers that were skipped in ``FrameOrder.SEQUENCE``: those frames were dropped
            or cut, or had not arrived in time.
        too_large: Frames larger than ``max_frame_size``, or without room; their streams were
            stopped.
        malformed: Streams without a header.
        bytes_held: Bytes of frames that are here now, complete or not, with 512 for each frame.
    """

    received: int = 0
    bytes_received: int = 0
    returned: int = 0
    overtaken: int = 0
    cut: int = 0
    missing: int = 0
    too_large: int = 0
    malformed: int = 0
    bytes_held: int = 0


class FrameReceiver(AsyncCloseable, AsyncIterator[Frame]):
    """Returns the frames of a :class:`FrameSender` at the other end.

    ::

        async with FrameReceiver(session) as receiver:
            async for frame in receiver:
                show(frame.data)

    The loop ends with the session. The receiver accepts all incoming unidirectional streams of the
    session, so use a separate session for frames, or only datagrams and bidirectional streams
    beside them.

    It holds at most ``max_bytes`` of frames; when they are full, the oldest complete frame is
    dropped.
    """

    def __init__(
        self,
        session: WebTransportSession,
        *,
        order: FrameOrder = FrameOrder.NEWEST,
        patience: float = 0.1,
        max_frame_size: int = DEFAULT_MAX_BYTES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_in_flight: int = 32,
    ) -> None:
        """Create a receiver; ``async with`` starts it.

        Args:
            session: The session, at either end.
            order: ``NEWEST`` returns the newest frame and drops older ones. ``SEQUENCE`` returns
                frames in the order in which they were sent.
            patience: Seconds that a complete frame waits for missing ones before it, in
                ``SEQUENCE``. A frame that the sender has cut is not waited for.
            max_frame_size: Bytes of one frame.
            max_bytes: Bytes of all frames that are held.
            max_in_flight: Frames received at a time; further streams wait in the session.

        Raises:
            ConfigurationError: An argument is of another type, or out of range.
        """
        check_instance("session", session, WebTransportSession)
        if not isinstance(order, FrameOrder):
            raise invalid_config(
                key="order", value=order, reason="expected FrameOrder.NEWEST or FrameOrder.SEQUENCE"
            )
        check_number("patience", patience, 0, 3600)
        check_count("max_frame_size", max_frame_size)
        check_count("max_bytes", max_bytes)
        check_count("max_in_flight", max_in_flight)
        self._session = session
        self._order = order
        self._patience = float(patience)
        self._max_frame_size = max_frame_size
        self._max_bytes = max_bytes
        self._slots = asyncio.Semaphore(max_in_flight)
        # Number, time of arrival and place in the order of arrival; the lowest number comes first.
        self._ready: list[tuple[int, float, int, Frame]] = []
        self._next = 0  # the lowest number that may still be returned
        self._cut: set[int] = set()
        self._stats = FrameReceiverStats()
        self._changed = Waiters()
        self._acceptor: asyncio.Task[None] | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._closed = False

    # ---------------------------------------------------------------- properties

    @property
    def session(self) -> WebTransportSession:
        """The session below."""
        return self._session

    @property
    def stats(self) -> FrameReceiverStats:
        """A copy of the counters."""
        return replace(self._stats)

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._closed

    # ----------------------------------------------------------------- receiving

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        """Return the next frame, waiting for it.

        Raises:
            StopAsyncIteration: The session has ended, and all its frames were returned; or the
                receiver was closed.
            ConfigurationError: The receiver is not started.

        Cancellation: safe, no frame is lost.
        """
        if self._acceptor is None and not self._closed:
            raise ConfigurationError("the FrameReceiver is not started; use it in 'async with'")
        while True:
            frame, wait = self._take()
            if frame is not None:
                self._stats.returned += 1
                return frame
            if self._closed or self._has_ended():
                raise StopAsyncIteration
            await self._changed.wait(wait)

    # ---------------------------------------------------------------- life cycle

    async def close(self) -> None:
        """Stop receiving; the session stays open. Idempotent.

        Cancellation: everything is stopped anyway.
        """
        self._closed = True
        while self._ready:
            self._drop_oldest()
        tasks = [*self._readers]
        if self._acceptor is not None:
            tasks.append(self._acceptor)
        for task in tasks:
            task.cancel()
        self._changed.wake()
        if tasks:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        if self._closed:
            raise ConfigurationError("a FrameReceiver cannot be started again; create another one")
        if self._acceptor is None:
            loop = asyncio.get_running_loop()
            self._acceptor = loop.create_task(self._accept(), name="media receiver")
        return self

    # ------------------------------------------------------------------ internal

    def _has_ended(self) -> bool:
        """No further frame can arrive."""
        return self._acceptor is not None and self._acceptor.done() and not self._readers

    def _take(self) -> tuple[Frame | None, float | None]:
        """The frame to return now; otherwise None, and the longest time to wait."""
        ready = self._ready
        while ready and ready[0][0] < self._next:
            self._drop_oldest()
        if not ready:
            return None, None
        sequence, since, _, frame = ready[0]
        if self._order is FrameOrder.SEQUENCE:
            while self._next < sequence and self._next in self._cut:
                self._cut.discard(self._next)
                self._next += 1
                self._stats.missing += 1
            if self._next < sequence and not self._has_ended():
                left = since + self._patience - asyncio.get_running_loop().time()
                if left > 0:
                    return None, left
            self._stats.missing += sequence - self._next
        heapq.heappop(ready)
        self._give_back(len(frame.data))
        self._next = sequence + 1
        if self._cut:
            self._cut = {number for number in self._cut if number > sequence}
        return frame, None

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for stream in self._session.incoming_unidirectional_streams():
                await self._slots.acquire()
                task = loop.create_task(self._read(stream), name="media frame")
                self._readers.add(task)
                task.add_done_callback(self._was_read)
        finally:
            self._changed.wake()

    def _was_read(self, task: asyncio.Task[None]) -> None:
        self._readers.discard(task)
        self._slots.release()
        self._changed.wake()

    async def _read(self, stream: WebTransportReceiveStream) -> None:
        """Receive one frame."""
        stats = self._stats
        sequence: int | None = None
        try:
            sequence, microseconds = HEADER.unpack(await stream.readexactly(HEADER.size))
            data = await self._read_data(stream, sequence)
            if data is not None:
                self._complete(Frame(sequence, microseconds / 1e6, data))
        except StreamResetError:
            stats.cut += 1
            if sequence is not None:
                self._note_cut(sequence)
        except StreamError as error:
            stats.malformed += 1
            _logger.debug("stream %d has no frame: %s", stream.stream_id, printable(error))
        except TimeoutError:  # read_timeout of the streams
            stats.cut += 1
            stream.stop_sending(MediaCode.LATE)
            if sequence is not None:
                self._note_cut(sequence)
        except WebTransportError as error:
            _logger.debug("a frame was lost: %s", printable(error))
        except asyncio.CancelledError:
            stream.stop_sending(MediaCode.CLOSED)
            raise

    async def _read_data(self, stream: WebTransportReceiveStream, sequence: int) -> bytes | None:
        """The data of a frame, for which room is held; None if the stream was stopped."""
        if not self._hold(_COST):
            self._refuse(stream, sequence)
            return None
        data = bytearray()
        is_held = True
        try:
            while sequence >= self._next:
                piece = await stream.read(_PIECE)
                if not piece:
                    is_held = False
                    return bytes(data)
                if len(data) + len(piece) > self._max_frame_size or not self._hold(len(piece)):
                    self._refuse(stream, sequence)
                    return None
                data += piece
            self._stats.overtaken += 1
            stream.stop_sending(MediaCode.UNWANTED)
            return None
        finally:
            if is_held:
                self._give_back(len(data))

    def _refuse(self, stream: WebTransportReceiveStream, sequence: int) -> None:
        self._stats.too_large += 1
        stream.stop_sending(MediaCode.TOO_LARGE)
        self._note_cut(sequence)

    def _hold(self, size: int) -> bool:
        """Take room, if necessary from complete frames; False if there is none."""
        stats = self._stats
        while stats.bytes_held + size > self._max_bytes:
            if not self._ready:
                return False
            self._drop_oldest()
        stats.bytes_held += size
        return True

    def _give_back(self, size: int) -> None:
        """Give back the room of a frame with ``size`` bytes of data."""
        self._stats.bytes_held -= size + _COST

    def _drop_oldest(self) -> None:
        _, _, _, frame = heapq.heappop(self._ready)
        self._give_back(len(frame.data))
        self._stats.overtaken += 1
        if self._order is FrameOrder.SEQUENCE:
            self._note_cut(frame.sequence)

    def _complete(self, frame: Frame) -> None:
        stats = self._stats
        stats.received += 1
        stats.bytes_received += len(frame.data)
        if frame.sequence < self._next or self._closed:
            stats.overtaken += 1
            self._give_back(len(frame.data))
            return
        now = asyncio.get_running_loop().time()
        heapq.heappush(self._ready, (frame.sequence, now, stats.received, frame))
        if self._order is FrameOrder.NEWEST:
            while len(self._ready) > 1:
                self._drop_oldest()
            self._next = self._ready[0][0]
        self._changed.wake()

    def _note_cut(self, sequence: int) -> None:
        """A frame will not come: do not wait for it."""
        if self._order is FrameOrder.SEQUENCE and len(self._cut) < _MOST_CUT:
            self._cut.add(sequence)
            self._changed.wake()
