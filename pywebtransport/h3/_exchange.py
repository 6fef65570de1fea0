"""One HTTP exchange: a request of a client, and the response to it (RFC 9114 section 4).

Bodies are streams: the body of the request is pulled with :meth:`H3Exchange.read`, which is
also what returns credit to the client; the response is written in as many pieces as you like.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from ..exceptions import (
    ClientError,
    StreamArgumentError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)
from ..utils._text import printable
from ._constants import FrameType, H3Error, Setting
from ._errors import H3ConnectionError, H3StreamError, MessageError
from ._fields import Request, check_trailers
from ._frames import SKIP, encode_frame
from ._nothing import NO_CONNECTION
from ._parts import Connection
from ._qpack import Fields, FieldSectionTooLarge
from ._request import Phase, RequestStream
from ._responses import Lines, ResponseHead, response_head
from ._varint import decode_varint, encode_varint

__all__ = ["NO_EXCHANGE_EVENTS", "ExchangeEvents", "H3Exchange"]

_READ: Final = 65536
_FRAME_HEADER: Final = 16  # two varints
# A body of up to this many bytes is copied behind its frame header, into one write.
_COPIED: Final = 16384
# Responses without a body (RFC 9110 section 6.4.1), beside those to HEAD.
_NO_BODY: Final = frozenset({204, 205, 304})
_NO_LENGTH: Final = frozenset({204, 205})
_BUFFERS: Final = (bytes, bytearray, memoryview)


class ExchangeEvents(Protocol):
    """Events of one exchange. All calls are synchronous, most of them in the deliver phase."""

    def readable(self) -> None:
        """``read`` returned None before; try again now."""

    def writable(self) -> None:
        """``is_full`` was True after a write; there is room again."""

    def exchange_over(self, error: Exception | None) -> None:
        """Last call. None: both sides completed normally. Can be called from within a method
        of the exchange."""


class NoExchangeEvents:
    """Used before the application registers its callbacks, and after the last call."""

    __slots__ = ()

    def readable(self) -> None: ...
    def writable(self) -> None: ...
    def exchange_over(self, error: Exception | None) -> None: ...


NO_EXCHANGE_EVENTS: Final = NoExchangeEvents()


class H3Exchange:
    """A request at a server, and its response.

    Attributes:
        request: The header of the request.
        stream_id: ID of the request stream.
        events: Receives the events; set it when you get the exchange.
        is_over: The exchange has ended; ``exchange_over`` was called.
        has_responded: ``respond`` was called.
        is_complete: The body of the request was read to its end, and its length is as announced.
        is_full: More is queued than the high-water mark allows: wait for ``writable``.
    """

    __slots__ = (
        "_announced",
        "_awaits_room",
        "_connection",
        "_has_begun",
        "_has_body",
        "_left",
        "_promised",
        "_request",
        "_section",
        "_skip",
        "_stream",
        "_wants",
        "events",
        "has_responded",
        "is_complete",
        "is_full",
        "is_over",
        "request",
        "stream_id",
    )

    def __init__(self, connection: Connection, stream: RequestStream, request: Request) -> None:
        self._connection: Any = connection  # Connection
        self._request: RequestStream | None = stream
        self._stream: Any | None = stream.stream
        self.request = request
        self.stream_id = stream.stream_id
        self.events: ExchangeEvents = NO_EXCHANGE_EVENTS
        self.is_over = self.has_responded = self.is_full = False
        self.is_complete: bool = stream.stream.at_eof
        # Receiving.
        self._has_begun = False  # the first frame after the header has arrived
        self._left = 0  # bytes of the current DATA frame
        self._skip = 0  # bytes of the current frame of an unknown type
        self._section: _Section | None = None  # trailers, while they arrive
        self._wants = False  # ``read`` returned None
        length = request.content_length
        self._announced = -1 if length is None else length  # bytes to come; -1: any number
        # Sending.
        self._has_body = request.method != "HEAD"
        self._promised = -1  # bytes that the content-length still promises; -1: any number
        self._awaits_room = False
        stream.phase = Phase.TUNNEL if request.method == "CONNECT" else Phase.BODY
        stream.exchange = self
        stream.stream.sink = self.sink

    # News.

    def sink(self, stream: Any) -> None:
        """The stream has news; errors are handled by the guard."""
        self._connection.guard(self._news, stream)

    def _news(self, stream: Any) -> None:
        if stream.is_reset:
            self._lost(StreamResetError, "reset", stream.reset_code)
        elif stream.is_stopped:
            self._lost(StreamStoppedError, "stopped", stream.stop_code)
        elif self._wants:
            self._wants = False
            self.events.readable()

    def _lost(self, kind: type[StreamError], how: str, code: int | None) -> None:
        """The client takes its request back.

        Raises:
            H3ConnectionError: It does this too often before the request is answered.
        """
        request, connection = self._request, self._connection
        if request is None:
            return
        request.fail(H3Error.REQUEST_CANCELLED)
        # The code is one of HTTP/3; it belongs to no application.
        reason = f"the client {how} request {self.stream_id}"
        self._over(kind(reason, stream_id=self.stream_id, details={"code": code}))
        if not self.has_responded:
            connection.admission.taken_back()

    # The body of the request.

    @property
    def awaits_body(self) -> bool:
        """Neither bytes of the body nor its end have arrived, as with ``Expect: 100-continue``."""
        stream = self._stream
        if stream is None or self.is_complete or self._has_begun:
            return False
        return not (stream.buffered or stream.fin_received)

    def read(self, size: int = _READ) -> bytes | None:
        """Read a piece of the request's body; this returns credit to the client.

        Args:
            size: Bytes at most; 1 or more.

        Returns:
            At least one byte; ``b""`` at the end; None if nothing is there now (``readable``
            follows), or if the exchange is over. Trailers are checked and dropped.
        """
        if self.is_complete:
            return b""
        stream = self._stream
        if stream is None or stream.is_reset:  # the news of a reset follows
            return None
        try:
            return self._pull(stream, size)
        except (H3ConnectionError, H3StreamError) as error:
            self._connection.end_of(error)
        except StreamError:  # the connection ended: news of it follows
            pass
        return None

    def _pull(self, stream: Any, size: int) -> bytes | None:
        pieces: list[bytes] = []
        got = done = 0
        load = self._connection.load
        while got < size:
            if self._left:
                data: bytes | None = stream.read(min(self._left, size - got))
                if data is None:
                    break
                if not data:
                    raise self._cut_short()
                pieces.append(data)
                got += len(data)
                self._left -= len(data)
            elif not self._next_frame(stream):
                break
            done += 1
            if load.is_over(done):
                if not got:
                    load.later(self._go_on)
                    return None
                break
        if got:
            if not self._left and stream.at_eof:
                self._next_frame(stream)  # checks the length
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.is_complete:
            return b""
        self._wants = True
        return None

    def _go_on(self) -> None:
        """The turn was over before :meth:`read` found anything."""
        self.events.readable()

    def _next_frame(self, stream: Any) -> bool:
        """Begin the next frame, or continue with one that has no part of the body.

        Returns:
            False: nothing can be done now.
        """
        if self._section is not None:
            return self._collect(stream, self._section)
        if self._skip:
            return self._skip_more(stream)
        head: bytes = stream.peek(_FRAME_HEADER)
        if not head:
            if stream.fin_received:
                self._end()
            return False
        request = self._request
        assert request is not None
        self._has_begun = True
        if len(head) > 1 and head[0] == FrameType.DATA and head[1] < 0x40:
            kind, length, used = 0, head[1], 2
        else:
            decoded = decode_varint(head)
            if decoded is None:
                return self._incomplete(stream)
            kind, used = decoded
            decoded = decode_varint(head, used)
            if decoded is None:
                request.policy(kind)  # a wrong type is an error before its length is known
                return self._incomplete(stream)
            length, used = decoded
        if kind or request.phase is not Phase.BODY:
            limit = request.policy(kind)
        stream.skip(used)
        if kind == FrameType.DATA:
            if not length:
                self._connection.load.idle("frames that carry nothing")
            elif self._announced >= 0:
                if length > self._announced:
                    raise self._wrong("more bytes than its content-length")
                self._announced -= length
            self._left = length
        elif kind == FrameType.HEADERS:
            if length > limit:
                raise self._trailers_too_large()
            self._section = _Section(length)
        else:
            assert limit == SKIP
            self._skip = length
            if not length:
                self._connection.load.idle("frames of unknown types")
        return True

    def _skip_more(self, stream: Any) -> bool:
        count = min(self._skip, stream.buffered)
        if not count:
            return self._incomplete(stream)
        stream.skip(count)
        self._skip -= count
        if not self._skip:
            self._connection.load.idle("frames of unknown types")
        return True

    def _incomplete(self, stream: Any) -> bool:
        """More bytes of a frame are needed."""
        if stream.fin_received:
            raise self._cut_short()
        return False

    def _end(self) -> None:
        if self._announced > 0:
            raise self._wrong("fewer bytes than its content-length")
        self.is_complete = True

    # Trailers.

    def _collect(self, stream: Any, section: _Section) -> bool:
        request = self._request
        assert request is not None
        if request.phase is Phase.BLOCKED:
            return False
        if section.left:
            data = stream.read(section.left)
            if data is None:
                return False
            if not data:
                raise self._cut_short()
            section.data += data
            section.left -= len(data)
            if section.left:
                return True
        try:
            fields = self._connection.qpack.decode(self.stream_id, bytes(section.data))
        except FieldSectionTooLarge:
            raise self._trailers_too_large() from None
        if fields is None:
            request.phase = Phase.BLOCKED
            return False
        self._trailers(fields)
        return True

    def unblocked(self) -> None:
        """The encoder stream delivered the instructions that the trailers were waiting for."""
        request = self._request
        assert request is not None
        try:
            fields = self._connection.qpack.resume(self.stream_id)
        except FieldSectionTooLarge:
            request.phase = Phase.BODY
            raise self._trailers_too_large() from None
        if fields is not None:
            self._trailers(fields)
            if self._wants:
                self._wants = False
                self.events.readable()

    def _trailers(self, fields: Fields) -> None:
        assert self._request is not None
        self._section = None
        self._request.phase = Phase.TRAILED
        try:
            check_trailers(fields)
        except MessageError as error:
            raise H3StreamError(self._request, H3Error.MESSAGE_ERROR, str(error)) from None

    # Errors of the peer.

    def _cut_short(self) -> H3ConnectionError:
        assert self._request is not None
        return self._request.cut_short()

    def _wrong(self, what: str) -> H3StreamError:
        assert self._request is not None
        reason = f"the body of request {self.stream_id} has {what}"
        return H3StreamError(self._request, H3Error.MESSAGE_ERROR, reason)

    def _trailers_too_large(self) -> H3StreamError:
        assert self._request is not None
        return H3StreamError(
            self._request, H3Error.EXCESSIVE_LOAD, "the trailers of a request are too large"
        )

    # The response.

    def inform(self, status: int, lines: Lines = ()) -> None:
        """Send an interim response.

        Args:
            status: 100 to 199, but not 101.
            lines: Names and values.

        Raises:
            ConfigurationError: The status or a line cannot be sent.
            StreamError: The response was sent already, or the exchange is over.
        """
        stream = self._open_stream()
        if self.has_responded:
            raise StreamError("the response was sent already", stream_id=self.stream_id)
        if not 100 <= _integer("status", status) <= 199 or status == 101:
            raise _bad("status", status, "must be 100 to 199, and not 101")
        stream.write(self._encoded(response_head(status, lines, has_length=False)))

    def respond(self, status: int, lines: Lines, data: bytes = b"", fin: bool = False) -> int:
        """Send the header of the response, and the first piece of its body, in one write.

        Names are sent in lower case. Fields that HTTP/3 forbids are left out. Where a response
        has no body (HEAD, 204, 205, 304), the bytes are dropped.

        Args:
            status: 200 to 599.
            lines: Names and values; order and duplicates are kept.
            data: First bytes of the body.
            fin: The response ends here.

        Returns:
            Bytes queued on the stream; see also ``is_full``.

        Raises:
            ConfigurationError: The status or a line cannot be sent, or the body is not as long as
                its content-length; nothing was sent. In the second case the stream is reset.
            StreamError: The response was sent already, or the exchange is over.
        """
        stream = self._open_stream()
        if self.has_responded:
            raise StreamError("the response was sent already", stream_id=self.stream_id)
        if not 200 <= _integer("status", status) <= 599:
            raise _bad("status", status, "must be 200 to 599")
        if type(data) is not bytes:
            data = _as_bytes(data)
        tunnel = self.request.method == "CONNECT" and status < 300
        head = response_head(status, lines, has_length=not (status in _NO_LENGTH or tunnel))
        frame = self._encoded(head)
        self.has_responded = True
        self._connection.admission.answered()
        if status in _NO_BODY:
            self._has_body = False
        if self._has_body:
            self._promised = head.content_length
            self._count(len(data), fin)
        else:
            data = b""
        return self._write(stream, frame, data, fin)

    def send(self, data: bytes, fin: bool = False) -> int:
        """Send a piece of the body.

        Args:
            data: Bytes.
            fin: The response ends here.

        Returns:
            Bytes queued on the stream; see also ``is_full``.

        Raises:
            ConfigurationError: The body is not as long as its content-length; the stream is reset.
            StreamError: ``respond`` was not called, or the exchange is over.
        """
        stream = self._answered_stream()
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._has_body:
            self._count(len(data), fin)
        else:
            data = b""
        if not data and not fin:
            queued: int = stream.queued
            return queued
        return self._write(stream, b"", data, fin)

    def send_trailers(self, lines: Lines) -> None:
        """Send trailers, which end the response.

        Args:
            lines: Names and values.

        Raises:
            ConfigurationError: A line cannot be sent, and nothing was; or the body is not as long
                as its content-length, and the stream is reset.
            StreamError: As for ``send``.
        """
        stream = self._answered_stream()
        frame = self._encoded(response_head(0, lines, has_length=False))
        if self._has_body:
            self._count(0, True)
        self._write(stream, frame if self._has_body else b"", b"", True)

    def cancel(self, code: int = H3Error.INTERNAL_ERROR) -> None:
        """Reset the stream and stop the request; does nothing if the exchange is over."""
        request = self._request
        if request is None:
            return
        request.fail(code)
        self._over(
            StreamError(
                "this end cancelled the exchange",
                stream_id=self.stream_id,
                error_code=int(code),
                remote=False,
            )
        )

    def set_send_order(self, order: int) -> None:
        """Set the order of this response among all that is sent; larger values go first."""
        if self._stream is not None:
            self._stream.set_send_order(order)

    def _open_stream(self) -> Any:
        if self._stream is None:
            raise StreamError("the exchange is over", stream_id=self.stream_id)
        return self._stream

    def _answered_stream(self) -> Any:
        stream = self._open_stream()
        if not self.has_responded:
            raise StreamError("the response was not begun", stream_id=self.stream_id)
        return stream

    def _encoded(self, head: ResponseHead) -> bytes:
        """Return the HEADERS frame of a header, if the client accepts one of its size."""
        connection = self._connection
        limit = connection.peer_settings.get(Setting.MAX_FIELD_SECTION_SIZE)
        if limit is not None and head.size > limit:
            raise _bad("lines", head.size, f"the client accepts a header of 0 to {limit} bytes")
        if connection.qpack.is_static:
            return head.frame
        section = connection.qpack.encode(self.stream_id, head.fields)
        return encode_frame(FrameType.HEADERS, section)

    def _count(self, size: int, fin: bool) -> None:
        """Count bytes of the body against what its content-length promises."""
        left = self._promised
        if left < 0:
            return
        self._promised = left = left - size
        if left < 0 or (fin and left):
            self.cancel(H3Error.INTERNAL_ERROR)
            raise StreamArgumentError(
                f"the response has {abs(left)} bytes {'more' if left < 0 else 'fewer'} than its "
                "content-length",
                stream_id=self.stream_id,
                config_key="content-length",
            )

    def _write(self, stream: Any, frame: bytes, data: bytes, fin: bool) -> int:
        size = len(data)
        queued: int
        if not size:
            queued = stream.write(frame, fin)
        elif size <= _COPIED:
            queued = stream.write(b"%b\0%b%b" % (frame, encode_varint(size), data), fin)
        else:
            stream.write(b"%b\0%b" % (frame, encode_varint(size)))
            queued = stream.write(data, fin)
        if fin:
            self._finish(stream)
        elif queued > self._connection.options.write_high_water or stream.is_crowded:
            # The transport may find at once that there is room.
            self._awaits_room = True
            stream.set_write_waiter(self)
            self.is_full = self._awaits_room
        return queued

    def done(self) -> bool:
        """Like a future: nothing waits for room."""
        return not self._awaits_room

    def set_result(self, result: None, /) -> None:
        """Like a future: the stream has room again, or none any more: then the end follows."""
        self._awaits_room = False
        if self.is_full and self._stream is not None and self._stream.can_write:
            self.is_full = False
            self.events.writable()

    # The end.

    def _finish(self, stream: Any) -> None:
        """The response is complete: the rest of the request is not needed."""
        request = self._request
        if request is None:
            return
        if not stream.fin_received:
            stream.stop_sending(H3Error.NO_ERROR)
        if not self.is_complete:
            self._connection.qpack.cancel(self.stream_id)
        request.finish()
        self._connection.admission.sent(stream)
        self._over(None)

    def aborted(self, error: Exception) -> None:
        """The stream was reset because of a mistake of the client."""
        self._over(error)

    def detach(self) -> None:
        """The QUIC connection is gone; :meth:`connection_lost` follows, perhaps in a later turn."""
        self._request = self._stream = None

    def connection_lost(self, error: Exception | None) -> None:
        """The QUIC connection is gone."""
        self._over(error if error is not None else ClientError("the connection was closed"))

    def _over(self, error: Exception | None) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._awaits_room = self.is_full = self._wants = False
        self._request = self._stream = self._section = None
        events, self.events = self.events, NO_EXCHANGE_EVENTS
        connection, self._connection = self._connection, NO_CONNECTION
        connection.exchange_over(self.stream_id)
        events.exchange_over(error)


class _Section:
    """A field section that arrives."""

    __slots__ = ("data", "left")

    def __init__(self, size: int) -> None:
        self.data = bytearray()
        self.left = size


def _integer(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _bad(name, value, "must be an integer")
    return value


def _as_bytes(data: object) -> bytes:
    if not isinstance(data, _BUFFERS):
        raise _bad("data", data, f"must be bytes, got {type(data).__name__}")
    return bytes(data)


def _bad(name: str, value: object, rule: str) -> StreamArgumentError:
    return StreamArgumentError(
        f"{name} = {printable(value)}: {rule}", config_key=name, config_value=value
    )
