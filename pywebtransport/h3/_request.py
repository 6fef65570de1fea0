"""Request streams: one HTTP exchange each; for a session, its CONNECT stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto

from .._transport import Stream, TimerHandle
from ..exceptions import ConfigurationError, WebTransportError
from ._constants import FrameType, H3Error, Setting
from ._control import refuse_frame
from ._critical import read_piece
from ._errors import H3ConnectionError, H3StreamError, MessageError
from ._fields import check_section_size, encode_fields, parse_request, parse_response
from ._frames import SKIP, SKIPPED, STREAM, Frame, FrameParser, encode_frame
from ._nothing import NO_FRAMES
from ._parts import Carried, Connection, ExchangePart
from ._qpack import Fields, FieldSectionTooLarge

__all__ = ["Phase", "RequestStream"]

_CHUNK = 65536
_SEND_FIRST = 2**63 - 1

_WRONG_STREAM = frozenset(
    {
        FrameType.CANCEL_PUSH,
        FrameType.SETTINGS,
        FrameType.GOAWAY,
        FrameType.MAX_PUSH_ID,
        FrameType.PRIORITY_UPDATE_REQUEST,
        FrameType.PRIORITY_UPDATE_PUSH,
    }
)


class Phase(Enum):
    """What a request stream waits for."""

    HEADERS = auto()
    """The header of the message."""
    BLOCKED = auto()
    """QPACK instructions that the header depends on."""
    WAITING = auto()
    """Server: SETTINGS, or the application's answer. Nothing is read meanwhile."""
    BODY = auto()
    """Server: the rest of the request's body, which the application pulls."""
    TUNNEL = auto()
    """Server: bytes of a WebSocket, which the application pulls."""
    TRAILED = auto()
    """Server: the end of the request; its trailers have arrived."""
    OPEN = auto()
    """Capsules of the session."""
    LINGER = auto()
    """The session has ended; waiting for the peer to end its side of the stream."""
    DONE = auto()
    """Nothing: the stream is done."""


# A request that is reset before its answer counts as much as this many empty frames.
_TAKEN_BACK = 10
# So does a request with a header that is too large: it is scanned, and nothing comes of it.
_TOO_LARGE = 40
# Bytes in which the header of a request is looked for first.
_FIRST = 4096
_WITHOUT_DATA = frozenset({Phase.HEADERS, Phase.TRAILED})
_WITH_HEADERS = frozenset({Phase.HEADERS, Phase.BODY})
_HALFWAY = frozenset({Phase.HEADERS, Phase.BLOCKED})
# There may be a field section that was not decoded.
_UNDECODED = frozenset({Phase.HEADERS, Phase.BLOCKED, Phase.BODY})
_READING = frozenset({Phase.HEADERS, Phase.OPEN, Phase.LINGER})


class RequestStream:
    """Frames in, frames out.

    Args:
        connection: The connection that it belongs to.
        stream: A bidirectional stream opened by the client.
        session: Client: the requested session or tunnel.
    """

    __slots__ = (
        "_ahead",
        "_closed_by_peer",
        "_judged",
        "_parser",
        "_timer",
        "_waits",
        "connection",
        "exchange",
        "phase",
        "session",
        "stream",
        "stream_id",
    )

    def __init__(
        self,
        connection: Connection,
        stream: Stream,
        session: Carried | None = None,
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.session: Carried | None = session
        self.exchange: ExchangePart | None = None
        self.stream_id = stream.stream_id
        self.phase = Phase.HEADERS
        self._parser: FrameParser = NO_FRAMES  # until one is needed
        self._ahead: FrameParser | None = None  # while the request waits, see judge_ahead
        self._judged = 0
        self._waits = False  # for a later turn
        self._closed_by_peer = False
        self._timer: TimerHandle | None = None
        stream.sink = self.sink

    @property
    def is_done(self) -> bool:
        """The stream is done."""
        return self.phase is Phase.DONE

    @property
    def is_quiet(self) -> bool:
        """Nothing from the peer waits to be read or handled."""
        stream = self.stream
        return (
            not self._parser.pending
            and not stream.buffered
            and not (stream.fin_received or stream.is_reset or stream.is_stopped)
        )

    # Receiving.

    def begin(self) -> None:
        """Server: the first bytes are there. Nearly always they have the whole header."""
        stream = self.stream
        section = self._whole_section()
        if section is None:
            self.ready(stream)
        else:
            self._headers(section)
            if stream.is_stopped and self.exchange is None and not self.is_done:
                self._stopped_by_peer(stream.stop_code)
        if self.phase in _HALFWAY:
            self._start_timer(self._header_late, self.connection.options.header_timeout)

    def _whole_section(self) -> bytes | None:
        """Take the field section of a HEADERS frame that begins the stream, if it is all there."""
        head = self.stream.peek(_FIRST)
        if len(head) < 3 or head[0] != FrameType.HEADERS or head[1] >= 0x80:
            return None
        size, start = head[1], 2
        if size >= 0x40:
            size, start = (size & 0x3F) << 8 | head[2], 3
        end = start + size
        if end > len(head) or size > self.connection.options.max_field_section_size:
            return None
        self.stream.skip(end)
        return head[start:end]

    def _header_late(self) -> None:
        raise H3StreamError(
            self, H3Error.REQUEST_INCOMPLETE, "the header of a request did not arrive in time"
        )

    def sink(self, stream: Stream) -> None:
        """The stream has news; errors are handled by the guard."""
        self.connection.guard(self.ready, stream)

    def ready(self, stream: Stream) -> None:
        """The stream has news."""
        if self.is_done or self._waits:
            return
        if self.phase is Phase.WAITING and not stream.is_reset:
            self.judge_ahead()
        if self.phase is Phase.WAITING and stream.at_eof and self._parser.at_boundary:
            self._fin()
        elif not stream.is_reset or self.phase is Phase.OPEN:
            self.advance()  # a WT_CLOSE_SESSION may have arrived just before a reset
        if self.is_done or self._waits:
            return
        if stream.is_reset:
            self._reset_by_peer(stream.reset_code)
        elif stream.is_stopped:
            self._stopped_by_peer(stream.stop_code)

    def advance(self) -> None:
        """Read and handle as much as the phase and the turn allow."""
        while not self._waits:
            self._handle_frames()
            if self._waits or self.phase not in _READING:
                return
            parser = self._frames()
            size = _CHUNK
            if self.phase is Phase.HEADERS and not self.connection.is_client:
                # What follows the header stays in the stream: its reader returns the credit.
                size = min(size, parser.wanted)
            data = read_piece(self.stream, size)
            if data is None:
                return
            if not data:
                self._fin()
                return
            parser.feed(data)

    def _frames(self) -> FrameParser:
        if self._parser is NO_FRAMES:
            self._parser = FrameParser(self.policy)
        return self._parser

    def _handle_frames(self) -> None:
        done = 0
        while self.phase in _READING and (frame := self._parser.next()) is not None:
            self._handle(frame)
            done += 1
            if self._waits:
                return
            if self.connection.load.is_over(done):
                self._put_off()
                return

    def _put_off(self) -> None:
        """Continue in a later turn; data that arrives meanwhile stays in the stream."""
        if not self._waits:
            self._waits = True
            self.connection.later(self.go_on)

    def go_on(self) -> None:
        """Handle the postponed data, and then what arrived meanwhile."""
        if not self._waits:
            return
        self._waits = False
        if self.phase is Phase.OPEN:
            self._capsules(b"")
        if not self._waits:
            self.ready(self.stream)

    def _capsules(self, data: bytes) -> None:
        if self.session is not None and not self.session.receive_capsules(data):
            self._put_off()

    def policy(self, frame_type: int) -> int:
        """Decide what becomes of a frame, as for ``FrameParser``.

        Raises:
            H3ConnectionError: it is not allowed in this phase.
        """
        refuse_frame(frame_type, "request")
        if frame_type == FrameType.DATA:
            if self.phase not in _WITHOUT_DATA:
                return STREAM
        elif frame_type == FrameType.HEADERS:
            if self.phase in _WITH_HEADERS:
                return self.connection.options.max_field_section_size
        elif frame_type == FrameType.PUSH_PROMISE:
            if self.connection.is_client:
                raise H3ConnectionError(
                    H3Error.ID_ERROR, "PUSH_PROMISE without MAX_PUSH_ID", frame_type
                )
        elif frame_type not in _WRONG_STREAM:
            return SKIP
        raise H3ConnectionError(
            H3Error.FRAME_UNEXPECTED,
            f"unexpected frame 0x{frame_type:x} on request stream {self.stream_id}",
            frame_type,
        )

    def _handle(self, frame: Frame) -> None:
        load = self.connection.load
        if frame is SKIPPED:
            load.idle("frames of unknown types")
        elif frame.type == FrameType.HEADERS:
            self._headers(frame.payload)
        else:
            payload = frame.payload or b""
            load.data_frame(self._parser.begins)
            if self.phase is not Phase.LINGER:
                self._capsules(payload)
            elif payload and self._closed_by_peer:
                self.fail(H3Error.MESSAGE_ERROR)

    def judge_ahead(self) -> None:
        """Server: check the frames behind a request that waits for its answer.

        They stay in the stream, to be read after the answer or never. But a frame that is not
        allowed there ends the connection now, whenever and however the request is answered.

        Raises:
            H3ConnectionError: a frame breaks a rule, or the last one is truncated.
        """
        stream, ahead = self.stream, self._ahead
        if ahead is None:
            rest = self._parser.rest()
            if not rest and not stream.buffered:
                return
            ahead = self._ahead = FrameParser(self.policy)
            self._judged = 0
            ahead.feed(rest)
        if not self._judge(ahead):
            return
        data = stream.peek(_CHUNK)[self._judged :]
        self._judged += len(data)
        ahead.feed(data)
        if not self._judge(ahead):
            return
        if stream.fin_received and stream.buffered == self._judged and not ahead.at_boundary:
            raise self.cut_short()

    def _judge(self, ahead: FrameParser) -> bool:
        """Return False if the rest was postponed."""
        done = 0
        while ahead.next() is not None:
            done += 1
            if self.connection.load.is_over(done):
                self._put_off()
                return False
        return True

    def cut_short(self) -> H3ConnectionError:
        """Return the error for a stream that ended inside a frame."""
        return H3ConnectionError(
            H3Error.FRAME_ERROR, f"request stream {self.stream_id} ended inside a frame"
        )

    def _headers(self, section: bytes | None) -> None:
        if section is None:
            self.connection.qpack.cancel(self.stream_id)
            self._too_large()
            return
        try:
            fields = self.connection.qpack.decode(self.stream_id, section)
        except FieldSectionTooLarge:
            self._too_large()
            return
        if fields is None:
            self.phase = Phase.BLOCKED
        else:
            self._message(fields)

    def unblocked(self) -> None:
        """The encoder stream delivered the instructions that the header was waiting for."""
        if self.exchange is not None:
            self.exchange.unblocked()
            return
        try:
            fields = self.connection.qpack.resume(self.stream_id)
        except FieldSectionTooLarge:
            self.phase = Phase.HEADERS
            self._too_large()
            return
        if fields is not None:
            self.phase = Phase.HEADERS
            self._message(fields)
            self.advance()

    def _too_large(self) -> None:
        if self.connection.is_client:
            raise H3StreamError(self, H3Error.EXCESSIVE_LOAD, "the response header is too large")
        self.connection.load.idle("requests whose header is too large", _TOO_LARGE)
        self.respond(431)

    def _message(self, fields: Fields) -> None:
        try:
            if not self.connection.is_client:
                request = parse_request(fields)
                self.phase = Phase.WAITING
                self._cancel_timer()
                self.connection.admission.received(self, request)
                return
            response = parse_response(fields)
        except MessageError as error:
            raise H3StreamError(self, H3Error.MESSAGE_ERROR, str(error)) from None
        if response.status < 200:
            self.connection.load.idle("interim responses")
        elif self.session is not None:
            self.session.response_received(response)

    def _fin(self) -> None:
        if not self._parser.at_boundary:
            raise self.cut_short()
        if self.phase is Phase.HEADERS:
            raise H3StreamError(
                self, H3Error.REQUEST_INCOMPLETE, "the stream ended before a complete header"
            )
        if self.phase is Phase.LINGER:
            self.finish()
        elif self.session is None:  # a request held for SETTINGS
            self.fail(H3Error.REQUEST_CANCELLED)
        else:
            self.session.connect_finished()

    def _reset_by_peer(self, code: int | None) -> None:
        session = self.session
        lingering = self.phase is Phase.LINGER
        answered = lingering or self.phase is Phase.OPEN
        self.fail(H3Error.REQUEST_CANCELLED)
        if not answered and not self.connection.is_client:
            self.connection.load.idle("requests that were taken back", _TAKEN_BACK)
        if session is not None and not lingering:
            session.connect_lost(code, "reset")

    def _stopped_by_peer(self, code: int | None) -> None:
        """STOP_SENDING: the engine has already reset our side."""
        if self.phase is Phase.LINGER:
            return
        if self.connection.is_client and self.phase is not Phase.OPEN:
            return  # a server may stop the request and still answer it
        if code == H3Error.WT_SESSION_GONE and self.phase is Phase.OPEN:
            if self._timer is None:  # its WT_CLOSE_SESSION may still arrive
                self._start_timer(self._stop_expired)
            return
        session = self.session
        self.fail(H3Error.REQUEST_CANCELLED)
        if session is not None:
            session.connect_lost(code, "stopped")

    # Sending.

    def send_first(self) -> None:
        """Send this stream before all data, because it carries a session."""
        self.stream.set_send_order(_SEND_FIRST)

    def send_headers(
        self, pseudo: Mapping[str, str], headers: Mapping[str, str], *, fin: bool = False
    ) -> bool:
        """Send a HEADERS frame; return False if the peer wants no more.

        Raises:
            ConfigurationError: the peer does not accept a header of that size; nothing was sent.
        """
        fields = encode_fields(pseudo, headers)
        check_section_size(
            fields, self.connection.peer_settings.get(Setting.MAX_FIELD_SECTION_SIZE)
        )
        section = self.connection.qpack.encode(self.stream_id, fields)
        return self._write(encode_frame(FrameType.HEADERS, section), fin=fin)

    def send_capsules(self, capsules: bytes) -> None:
        """Send capsules in a DATA frame.

        Raises:
            H3StreamError: too many are waiting, because the peer does not read them.
        """
        try:
            queued = self.stream.write(encode_frame(FrameType.DATA, capsules), False)
        except WebTransportError:
            return  # stopped or closed: the sink reports it
        if queued > self.connection.options.max_capsule_backlog:
            raise H3StreamError(self, H3Error.EXCESSIVE_LOAD, "the peer does not read its capsules")

    def respond(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Server: answer with an empty body and finish the stream.

        Raises:
            ConfigurationError: the client does not accept a header of that size; nothing was
                sent.
        """
        try:
            self.send_headers({":status": str(status)}, headers or {}, fin=True)
        except ConfigurationError:
            if headers:
                raise
            self.fail(H3Error.REQUEST_REJECTED)  # not even the status can be sent
            return
        if not self.stream.fin_received:
            self.stream.stop_sending(H3Error.NO_ERROR)
        self.finish()

    def open(self) -> None:
        """The session is established: read its capsules, the waiting ones first."""
        if self.phase is not Phase.DONE:
            self.phase = Phase.OPEN
            self._ahead = None
            self.advance()

    def give_up(self, code: int = H3Error.REQUEST_CANCELLED) -> None:
        """Finish our side and read nothing more, for instance after a status other than 2xx."""
        self._write(b"", fin=True)
        self.stream.stop_sending(code)
        self.finish()

    def end(self, *, by_peer: bool) -> None:
        """The session ended normally: finish our side, and wait a while for the peer's.

        Args:
            by_peer: The peer ended it; more data from it would be an error.
        """
        self._write(b"", fin=True)
        self._closed_by_peer = by_peer
        self.phase = Phase.LINGER
        self._start_timer(self._linger_expired)
        if not by_peer:  # its end may already be here, unread
            self.connection.guard(self.ready, self.stream)

    def fail(self, code: int) -> None:
        """Reset, stop and release the stream."""
        if self.phase is Phase.DONE:
            return
        if self.phase in _UNDECODED:
            self.connection.qpack.cancel(self.stream_id)
        self.stream.reset(code)
        self.stream.stop_sending(code)
        self.finish()

    def finish(self) -> None:
        """Release the stream."""
        self.abandon()
        self.connection.request_done(self)
        self.session = self.exchange = None

    def abandon(self) -> None:
        """The connection is gone."""
        self.phase = Phase.DONE
        self._waits = False
        self._cancel_timer()
        # The parser refers back to this object: no cycle is left for the garbage collector.
        self._parser = NO_FRAMES
        self._ahead = None
        self.stream.sink = None
        self.stream.release()

    def _write(self, data: bytes, *, fin: bool = False) -> bool:
        try:
            self.stream.write(data, fin)
        except WebTransportError:
            return False  # stopped or closed: the sink reports it
        return True

    def _start_timer(self, callback: Callable[[], object], delay: float | None = None) -> None:
        self._cancel_timer()
        connection = self.connection
        if delay is None:
            delay = connection.options.close_timeout
        self._timer = connection.call_later(delay, connection.guard, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _linger_expired(self) -> None:
        self.stream.stop_sending(H3Error.WT_SESSION_GONE)
        self.finish()

    def _stop_expired(self) -> None:
        session = self.session
        self.fail(H3Error.REQUEST_CANCELLED)
        if session is not None:
            session.connect_lost(H3Error.WT_SESSION_GONE, "stopped")
