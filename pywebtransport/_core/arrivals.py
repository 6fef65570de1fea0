"""What the peer sends in a session, for one consumer that pulls it piece by piece."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from .._quic import STREAMS_AT_ONCE
from .._states import SessionState
from ..exceptions import StreamResetError
from ..utils._waiters import Line, Turn, require_loop
from .incoming_streams import Acceptors
from .receive_stream import WebTransportReceiveStream
from .send_stream import WebTransportSendStream
from .stream import WebTransportStream

if TYPE_CHECKING:
    from .._transport import Stream
    from .session import WebTransportSession

__all__ = ["Arrival", "ArrivalKind", "Arrivals", "OpenStream"]

_AnyStream: TypeAlias = WebTransportStream | WebTransportReceiveStream | WebTransportSendStream

_PIECE: Final = 65536
"""Bytes of a stream that are taken at once, so that the others get their turn."""
_IN_A_ROW: Final = 64
"""Arrivals that are taken without waiting before other tasks get a turn."""


class ArrivalKind(Enum):
    """What came."""

    DATA = "data"
    RESET = "reset"
    STOPPED = "stopped"
    DATAGRAM = "datagram"
    DRAIN = "drain"
    END = "end"


_DATA = ArrivalKind.DATA
_DATAGRAM = ArrivalKind.DATAGRAM


class Arrival(NamedTuple):
    """One thing that came.

    Attributes:
        kind: What it is.
        stream: The stream that it concerns, if any.
        data: The bytes of a piece or of a datagram.
        is_end: DATA: the peer has finished the stream.
        code: RESET and STOPPED: the application's code; None if the peer's code stands for none.
    """

    kind: ArrivalKind
    stream: OpenStream | None = None
    data: bytes = b""
    is_end: bool = False
    code: int | None = None


class OpenStream:
    """A stream whose consumer may still get something from it, or send on it.

    Attributes:
        stream: The stream itself.
        stream_id: Its ID.
        receives: Data, an end or a reset of the peer may still come.
        sends: More may be sent.
        is_cut: The peer or this end has abandoned the sending half.
        is_paused: Its data stays where it is, and the peer gets no credit for it.
        is_queued: It is in the line of those with data.
    """

    __slots__ = ("is_cut", "is_paused", "is_queued", "receives", "sends", "stream", "stream_id")

    def __init__(self, stream: _AnyStream) -> None:
        self.stream = stream
        self.stream_id = stream.stream_id
        self.receives = isinstance(stream, WebTransportReceiveStream)
        self.sends = isinstance(stream, WebTransportSendStream)
        self.is_cut = self.is_paused = self.is_queued = False

    @property
    def is_bidirectional(self) -> bool:
        """Both ends send on it."""
        return isinstance(self.stream, WebTransportStream)


class Arrivals:
    """Everything that a session receives, in turns that are fair to its streams and datagrams.

    Nothing runs in the background: data stays in its stream, without credit for the peer, until
    it is taken. The news of a stream (data, a reset, a stop) puts it into a line, once; no
    task and no queue belongs to a stream. While this object is in use, nobody else may take
    streams or datagrams of the session, or read its streams.

    Args:
        session: The session, which was accepted.

    Attributes:
        streams: The streams in use, by their ID.
    """

    __slots__ = ("_datagram_next", "_drained", "_facts", "_ready", "_session", "_taken", "_turn",
                 "streams")  # fmt: skip

    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self.streams: dict[int, OpenStream] = {}
        # Resets, stops and the request to finish, which are told first. They are few, and an empty
        # list takes a tenth of the memory of an empty deque.
        self._facts: list[Arrival] = []
        # Streams with data, each of them once; created with the first one.
        self._ready: deque[OpenStream] | None = None
        self._datagram_next = False
        self._drained = False
        self._turn: Turn | None = None
        self._taken = 0
        session.on_drain = self._drain
        if session.state is SessionState.DRAINING:
            self._drain()

    # ------------------------------------------------------------------ taking

    def is_long(self) -> bool:
        """Count an arrival that is about to be taken; True: ``give_turn`` before.

        A consumer that never waits lets other tasks run sometimes.
        """
        self._taken += 1
        return self._taken >= _IN_A_ROW

    async def give_turn(self) -> None:
        """Let other tasks run, if it is time. Cancellation: safe."""
        self._taken = 0
        await self._session.turns.pause()

    def take(self) -> Arrival | None:
        """Return what comes next; None if there is nothing yet: ``wait``, and call it again.

        First come resets, stops and the request to finish, then data and datagrams in turn, and
        last, again and again, the end of the session.
        """
        session = self._session
        while True:
            may_have_more = self._accept()
            if self._facts:
                return self._told(self._facts.pop(0))
            if self._datagram_next or not self._ready:
                datagram = self._take_datagram()
                if datagram is not None:
                    self._datagram_next = False
                    return Arrival(_DATAGRAM, data=datagram)
            self._datagram_next = True
            while self._ready:
                entry = self._ready.popleft()
                entry.is_queued = False
                if entry.receives and not entry.is_paused:
                    return self._read(entry)
            if not may_have_more:
                return Arrival(ArrivalKind.END) if session._is_over else None

    async def wait(self) -> None:
        """Wait for news of a stream, a datagram, the end of the session, or ``wake``.

        Cancellation: safe.
        """
        session = self._session
        self._taken = 0
        loop = asyncio.get_running_loop()
        require_loop(session._loop, loop)
        acceptors = session._acceptors
        if acceptors is None:
            acceptors = session._acceptors = Acceptors()
        datagrams = session.datagrams
        if datagrams._receivers is None:
            datagrams._receivers = Line()
        lines = (acceptors.bidirectional, acceptors.unidirectional, datagrams._receivers)
        turn: Turn = session._eager.create_future(loop)
        for line in lines:
            line.join(turn)
        self._turn = turn
        try:
            await turn
        finally:
            self._turn = None
            for line in lines:
                line.leave(turn)

    def wake(self) -> None:
        """End ``wait``: the consumer has news of its own."""
        turn = self._turn
        if turn is not None and not turn.done():
            turn.set_result(None)

    # ----------------------------------------------------------------- streams

    def add(self, stream: _AnyStream) -> OpenStream:
        """Receive from a stream, such as one that this end opened."""
        entry = self.streams[stream.stream_id] = OpenStream(stream)
        stream._quic.sink = self._news
        self._news(stream._quic)
        return entry

    def pause(self, entry: OpenStream) -> None:
        """Leave the data of a stream where it is; its window then fills up."""
        entry.is_paused = True

    def resume(self, entry: OpenStream) -> None:
        """Take the data of a stream again."""
        if entry.is_paused:
            entry.is_paused = False
            self._news(entry.stream._quic)

    def settle(self, entry: OpenStream) -> bool:
        """Let go of a stream if neither half is in use any more; return whether it was."""
        if entry.receives or entry.sends or self.streams.pop(entry.stream_id, None) is None:
            return False
        entry.stream._quic.sink = None
        return True

    def close(self) -> None:
        """Watch the streams no longer; they are kept, for the session may not have ended yet."""
        self._session.on_drain = None
        for entry in self.streams.values():
            entry.stream._quic.sink = None

    # ---------------------------------------------------------------- internal

    def _accept(self) -> bool:
        """Take streams that the peer has opened; return whether there may be more.

        Not all at a time, because they may be many.
        """
        session = self._session
        for _ in range(STREAMS_AT_ONCE):
            stream = session._take_stream(True, True)
            if stream is None:
                return False
            self.add(stream)
        return True

    def _read(self, entry: OpenStream) -> Arrival:
        stream, quic = entry.stream, entry.stream._quic
        data = quic.read(_PIECE)
        assert data is not None  # bytes or the end are there
        stream._reads += 1
        stream.bytes_read += len(data)
        is_end = quic.at_eof
        if is_end:
            entry.receives = False
            stream._finish_receive()
        elif quic.buffered:
            self._line_up(entry)  # behind the others
        return Arrival(_DATA, entry, data, is_end)

    def _line_up(self, entry: OpenStream) -> None:
        """The stream has data, or its end has come."""
        entry.is_queued = True
        if self._ready is None:
            self._ready = deque()
        self._ready.append(entry)

    def _told(self, fact: Arrival) -> Arrival:
        """The consumer learns of a reset or a stop now."""
        entry = fact.stream
        if fact.kind is ArrivalKind.RESET:
            assert entry is not None
            # The peer gets the stream back only now: its resets are limited by the consumer, too.
            try:
                entry.stream._quic.read(1)
            except StreamResetError:
                entry.stream._finish_receive()
        return fact

    def _take_datagram(self) -> bytes | None:
        datagrams = self._session._datagrams
        if datagrams is None:
            return None
        datagrams._expire()
        queue = datagrams._queue
        if queue is None or not queue.waiting:
            return None
        datagrams._receive_sequence += 1
        data: bytes = queue.pop()
        return data

    def _news(self, quic: Stream) -> None:
        """Something happened on a stream (deliver phase)."""
        entry = self.streams.get(quic.stream_id)
        if entry is None:
            return
        code_of = self._session._code_from_wire
        if quic.is_stopped and entry.sends:
            entry.sends, entry.is_cut = False, True
            self._facts.append(Arrival(ArrivalKind.STOPPED, entry, code=code_of(quic.stop_code)))
        if entry.receives:
            if quic.is_reset:
                entry.receives = False
                self._facts.append(Arrival(ArrivalKind.RESET, entry, code=code_of(quic.reset_code)))
            elif (
                not (entry.is_queued or entry.is_paused)
                and (quic.buffered or quic.fin_received)
            ):  # fmt: skip
                self._line_up(entry)
        if self._turn is not None:
            self.wake()

    def _drain(self) -> None:
        """One of the ends asks for the end of the session."""
        if not self._drained:
            self._drained = True
            self._facts.append(Arrival(ArrivalKind.DRAIN))
            self.wake()
