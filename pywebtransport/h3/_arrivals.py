"""What the peer opens and sends: classified once, then routed to its session."""

from __future__ import annotations

from typing import Any

from .._transport import Stream
from ..utils._turns import for_each
from ._constants import MAX_QUARTER_STREAM_ID, FrameType, H3Error, StreamType
from ._control import ControlReader
from ._critical import PeerCritical
from ._early import EarlyArrivals, EarlyStream
from ._errors import H3ConnectionError
from ._ids import SettledIds
from ._nothing import NO_CONNECTION
from ._parts import Connection, SessionPart
from ._request import Phase
from ._varint import decode_varint, encode_varint

__all__ = ["Arrivals", "abort_stream", "refuse_stream"]

_HEADER_MAX = 16  # two varints
_QPACK_CHUNK = 4096
_QPACK_ITEM = 512  # bytes of instructions that count as one item
_BIDI = encode_varint(FrameType.WEBTRANSPORT_STREAM)
_UNI = encode_varint(StreamType.WEBTRANSPORT)
_CRITICAL: dict[int, str] = {
    StreamType.CONTROL: "control",
    StreamType.QPACK_ENCODER: "qpack encoder",
    StreamType.QPACK_DECODER: "qpack decoder",
}


def abort_stream(stream: Stream, code: int, after: Stream | None = None) -> None:
    """Reset and stop the open directions of a stream; completely received data stays readable.

    Args:
        stream: Any stream of a session.
        code: The code of RESET_STREAM and STOP_SENDING.
        after: The CONNECT stream of an ended session, whose end must reach the peer first.
            Otherwise both frames would overtake it, as control frames do.
    """
    if after is not None:
        stream.hold_for(after)
    if stream.is_local or not stream.is_unidirectional:
        stream.reset(code)
    if stream.is_reset:
        stream.skip(stream.buffered)  # no reader is left
    elif not (stream.fin_received or (stream.is_local and stream.is_unidirectional)):
        stream.stop_sending(code)


def refuse_stream(stream: Stream, code: int, after: Stream | None = None) -> None:
    """Abort a stream that the application never sees, as ``abort_stream``, and release it."""
    abort_stream(stream, code, after)
    stream.sink = None
    stream.release()


class Arrivals:
    """Streams and datagrams of the peer on one connection.

    Args:
        connection: The connection that they belong to.

    Attributes:
        ids: Server: what is known of the bidirectional streams of the client.
    """

    __slots__ = ("_connection", "_critical", "_early", "_is_client", "_options", "ids")

    def __init__(self, connection: Connection) -> None:
        self._connection: Any = connection
        self._is_client = connection.is_client
        self._options = connection.options
        self._critical: tuple[int, ...] = ()
        self.ids = SettledIds()
        self._early: EarlyArrivals | None = None  # created when something arrives early

    @property
    def next_request_id(self) -> int:
        """Server: the lowest request stream ID that has not been seen yet."""
        return self.ids.next_id

    # Streams.

    def classify(self, stream: Stream) -> None:
        """Find out what a new stream is; its first bytes may arrive in any number of pieces."""
        head = stream.peek(_HEADER_MAX)
        bidi = not stream.is_unidirectional
        if len(head) > 3 and head[:2] == (_BIDI if bidi else _UNI):
            # The usual forms, a session ID of one byte or two: they have to be fast.
            number, size = head[2], 3
            if 0x40 <= number < 0x80:
                number, size = (number & 0x3F) << 8 | head[3], 4
            session = self._connection.sessions.get(number) if head[2] < 0x80 else None
            if session is not None and session.takes_arrivals:
                if bidi and not self._is_client:
                    self.ids.settle(stream.stream_id)
                session.stream_arrived(stream, size)
                return
        if bidi and not self._is_client:
            self.ids.see(stream.stream_id)
        kind = decode_varint(head)
        if kind is None:
            self._incomplete(stream)
        elif kind[0] == (FrameType.WEBTRANSPORT_STREAM if bidi else StreamType.WEBTRANSPORT):
            session_id = decode_varint(head, kind[1])
            if not self._may_be_webtransport(stream):
                return
            if session_id is None:
                self._incomplete(stream)
            else:
                self._webtransport(stream, *session_id)
        elif not bidi:
            self._unidirectional(stream, *kind)
        elif self._is_client:
            raise H3ConnectionError(
                H3Error.STREAM_CREATION_ERROR, "the server opened a bidirectional stream"
            )
        elif stream.is_reset:
            self._incomplete(stream)
            if kind[0] == FrameType.HEADERS:
                self._connection.admission.taken_back()
        else:
            self._connection.new_request(stream)

    def _incomplete(self, stream: Stream) -> None:
        """Wait for more bytes; if none can come, free the stream without reporting it."""
        if not (stream.is_reset or stream.fin_received):
            return
        if not stream.is_unidirectional:
            stream.reset(H3Error.REQUEST_INCOMPLETE)
            self.settle(stream.stream_id)
        stream.sink = None
        stream.release()
        self._connection.load.idle("streams that carry nothing")

    def _may_be_webtransport(self, stream: Stream) -> bool:
        """Tell whether 0x41 and 0x54 mean WebTransport on this connection."""
        if not self._connection.lacks_webtransport:
            return True
        self._refuse_foreign(stream)
        return False

    def _refuse_foreign(self, stream: Stream) -> None:
        """Refuse a WebTransport stream on a connection without WebTransport."""
        if not stream.is_unidirectional:
            if self._is_client:
                raise H3ConnectionError(
                    H3Error.STREAM_CREATION_ERROR,
                    "the server opened a bidirectional stream without WebTransport",
                )
            self.settle(stream.stream_id)
        refuse_stream(stream, H3Error.STREAM_CREATION_ERROR)

    def _webtransport(self, stream: Stream, session_id: int, header_size: int) -> None:
        if session_id % 4:
            raise H3ConnectionError(
                H3Error.ID_ERROR, f"session ID {session_id} is no client bidirectional stream"
            )
        if not stream.is_unidirectional:
            self.settle(stream.stream_id)
        session = self._connection.sessions.get(session_id)
        if session is not None and session.takes_arrivals:
            session.stream_arrived(stream, header_size)
        elif session is None and self._is_over(session_id):
            request = self._connection.requests.get(session_id)
            refuse_stream(
                stream, H3Error.WT_SESSION_GONE, None if request is None else request.stream
            )
            self._connection.load.idle("streams of sessions that are over")
        elif session is not None and session.is_live:
            stream.sink = self._early_sink
            self._waiting_room().line_up(session_id, stream, header_size)
        elif self._waiting_room().hold_stream(
            session_id, stream, header_size, known=session is not None
        ):
            stream.sink = self._early_sink
        else:
            self._drop(stream)

    def _is_over(self, session_id: int) -> bool:
        """Return whether an unknown session has ended; False: it may still be requested.

        Raises:
            H3ConnectionError: there cannot be such a session (H3_ID_ERROR).
        """
        if self._is_client:
            limit: int | None = self._connection.newest_stream[False] + 4
            over = True
        else:
            allowed = self._options.peer_bidi_streams
            limit = None if allowed is None else self.ids.next_id + 4 * allowed
            over = self.ids.is_settled(session_id)
        if limit is not None and session_id >= limit:
            raise H3ConnectionError(
                H3Error.ID_ERROR, f"session ID {session_id} is beyond the stream limit"
            )
        return over

    def _unidirectional(self, stream: Stream, kind: int, header_size: int) -> None:
        if kind == StreamType.PUSH:
            code = H3Error.ID_ERROR if self._is_client else H3Error.STREAM_CREATION_ERROR
            raise H3ConnectionError(code, "push was not allowed")
        name = _CRITICAL.get(kind)
        if name is None:
            refuse_stream(stream, H3Error.STREAM_CREATION_ERROR)
            self._connection.load.idle("streams of unknown types")
            return
        if kind in self._critical:
            raise H3ConnectionError(H3Error.STREAM_CREATION_ERROR, f"a second {name} stream")
        self._critical += (kind,)
        stream.skip(header_size)
        if kind == StreamType.CONTROL:
            reader = ControlReader(
                self._connection,
                self._connection.load,
                is_client=self._is_client,
                max_frame_size=self._options.max_control_frame_size,
            )
            critical = PeerCritical(self._connection, name, reader.take)
        else:
            take = self._take_encoder if kind == StreamType.QPACK_ENCODER else self._take_decoder
            critical = PeerCritical(self._connection, name, take, _QPACK_CHUNK)
        stream.sink = critical.ready
        critical.read(stream)

    def _take_encoder(self, data: bytes) -> bool:
        if not data:
            return True
        self._count_qpack(data)
        turns = self._connection.load.turns
        for_each(turns, self._connection.qpack.feed_encoder(data), self._unblock)
        return self._connection.is_closed or not turns.is_over

    def _unblock(self, stream_id: int) -> None:
        """The QPACK instructions that the header of a request was waiting for have arrived."""
        request = self._connection.requests.get(stream_id)
        if request is not None and request.phase is Phase.BLOCKED:
            self._connection.guard(request.unblocked)

    def _take_decoder(self, data: bytes) -> bool:
        if not data:
            return True
        self._count_qpack(data)
        self._connection.qpack.feed_decoder(data)
        return not self._connection.load.turns.is_over

    def _count_qpack(self, data: bytes) -> None:
        """Count instructions: more than requests need are allowed, up to a rate."""
        self._connection.load.idle("QPACK instructions", 1 + len(data) // _QPACK_ITEM)

    # Datagrams.

    def datagram(self, datagram: bytes) -> None:
        """A datagram for a session that the fast path does not know."""
        quarter = decode_varint(datagram)
        if quarter is None:
            raise H3ConnectionError(H3Error.DATAGRAM_ERROR, "a datagram without quarter stream ID")
        if quarter[0] > MAX_QUARTER_STREAM_ID:
            raise H3ConnectionError(
                H3Error.DATAGRAM_ERROR, f"quarter stream ID {quarter[0]} is too large"
            )
        session_id, data = quarter[0] * 4, datagram[quarter[1] :]
        tunnel = self._connection.tunnels.get(session_id)
        if tunnel is not None:
            tunnel.datagrams_received([data])
            return
        session = self._connection.sessions.get(session_id)
        if session is not None and session.is_live:
            earlier = [] if self._early is None else self._early.take_datagrams(session_id)
            session.datagrams_arrived([*earlier, data])
            return
        over = session is None and self._is_over(session_id)
        if over or self._connection.lacks_webtransport:
            return
        if not self._waiting_room().hold_datagram(session_id, data, known=session is not None):
            self._connection.events.early_dropped("datagram")

    # Early streams and datagrams.

    def _waiting_room(self) -> EarlyArrivals:
        if self._early is None:
            self._early = EarlyArrivals(
                self._options, self._connection.call_later, self._expired, self._lost
            )
        return self._early

    @property
    def early_dropped(self) -> int:
        """How many streams and datagrams were dropped: early, and no room for them."""
        return 0 if self._early is None else self._early.dropped

    def holds(self, session_id: int) -> bool:
        """Tell whether streams or datagrams wait for a session."""
        return self._early is not None and self._early.holds(session_id)

    def deliver(self, session: SessionPart) -> bool:
        """Deliver the data that waited for a session that is now established.

        Returns:
            False if there is more for a later turn; data that arrives meanwhile waits behind it.
        """
        if self._early is None:
            return True
        session_id, done = session.session_id, 0
        while session.is_live and (early := self._early.next_stream(session_id)) is not None:
            session.stream_arrived(*early)
            done += 1
            if self._connection.load.is_over(done) and self._early.holds(session_id):
                return False
        streams, datagrams = self._early.take(session_id)
        if datagrams:
            session.datagrams_arrived(datagrams)
        for stream, _ in streams:
            refuse_stream(stream, H3Error.WT_SESSION_GONE, session.stream)
        return True

    def established(self, session_id: int) -> None:
        """A session was answered: what waits for it is not early any more."""
        if self._early is not None:
            self._early.established(session_id)

    def pin(self, session_id: int) -> None:
        """A session was requested: data that waits for it now waits for the answer."""
        if self._early is not None:
            self._early.pin(session_id)

    def discard(self, session: SessionPart) -> None:
        """A session has ended or was refused: refuse the data that waited for it."""
        self.settle(session.session_id)
        if self._early is not None:
            for stream, _ in self._early.take(session.session_id)[0]:
                refuse_stream(stream, H3Error.WT_SESSION_GONE, session.stream)

    def discard_all(self) -> None:
        """Refuse everything: there is no WebTransport on this connection."""
        if self._early is not None:
            for stream, _ in self._early.clear():
                self._refuse_foreign(stream)

    def settle(self, stream_id: int) -> None:
        """There is no session on this stream any more, and there will not be one."""
        if not self._is_client:
            self.ids.settle(stream_id)

    def shut(self) -> None:
        """The connection is gone."""
        early, self._early = self._early, None
        if early is not None:
            for stream, _ in early.clear():
                stream.sink = None
                stream.release()
        self._connection = NO_CONNECTION

    def _early_sink(self, stream: Stream) -> None:
        """The engine has news about a waiting stream."""
        self._connection.guard(self._early_ready, stream)

    def _early_ready(self, stream: Stream) -> None:
        if self._early is not None and self._early.drop_if_oversized(stream):
            self._drop(stream)

    def _expired(self, streams: list[EarlyStream]) -> None:
        for stream, _ in streams:
            self._drop(stream)

    def _lost(self, datagrams: int) -> None:
        for _ in range(datagrams):
            self._connection.events.early_dropped("datagram")

    def _drop(self, stream: Stream) -> None:
        """An early stream cannot be kept."""
        refuse_stream(stream, H3Error.WT_BUFFERED_STREAM_REJECTED)
        self._connection.events.early_dropped("stream")
