"""WebSocket connections that carry QMux records: one binary message is one record.

The library ``websockets`` knows the protocol, without sockets. The classes here join it with a
transport of asyncio and with a connection of the QMux layer. They are callbacks from end to end:
no connection has a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, cast

from .._quic import EagerTurn
from ..exceptions import (
    ConnectionError,
    IdleTimeoutError,
    ProtocolError,
    WebTransportError,
    invalid_config,
)
from ..utils._deadlines import Deadline, Deadlines
from ..utils._extras import require
from ..utils._system import explain_os_error
from ..utils._tcp import abort, release
from ..utils._text import printable
from ..utils._turns import Turns
from ..utils._waiters import running_loop, wrong_loop

if TYPE_CHECKING:
    from websockets.frames import Frame
    from websockets.http11 import Request, Response
    from websockets.protocol import Protocol as WebSocketProtocol

    from .._transport import SockAddr

__all__ = [
    "LinkOptions",
    "Records",
    "WebSocketLink",
    "fields_of",
    "is_own_field",
    "library",
    "quiet",
    "require_websockets",
    "write_head",
]

quiet = logging.Logger("websockets", logging.CRITICAL + 1)
"""For the library: what is worth a line in a log is known above."""

# One turn hands at most about this many bytes over; other tasks run before the next.
_BURST = 64 * 1024
# Bytes that the kernel accepts before the first of them is sent: what was given to it cannot be
# overtaken any more, and datagrams in it do not expire.
_UNSENT = 64 * 1024
# Frames that are of little use (pings, pongs, fragments that are smaller than this many bytes) that
# a peer may send between two of our looks at it.
_SMALL = 64
_IDLE_FRAMES = 5000
# Bytes of frames between two looks at the time.
_PIECE = 16 * 1024
_MAX_CLOSE_REASON = 123
_OWN_FIELDS = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade"})

_POLICY_VIOLATION = 1008
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
# Records after the one that told why the connection ends: there should be none.
_LAST_RECORDS = 8

# struct tcp_info of <linux/tcp.h>: sizes of segments, round-trip times, windows, counts.
_SIZE = struct.Struct("=I")
_PATH = struct.Struct("=4I")
_SEGMENTS = struct.Struct("=2I")
_TCP_INFO_SIZE = 152
_NO_THRESHOLD = 0x7FFFFFFF


class Records(Protocol):
    """The end of a QMux connection that faces its link; see ``_qmux``."""

    def receive(self, record: bytes) -> None:
        """The frames of one record; never raises."""

    def too_large(self) -> None:
        """The peer began a message that is larger than our ``max_record_size``."""

    def text_received(self) -> None:
        """The peer sent a text message."""

    def next_record(self) -> bytes | None:
        """The frames to send next; None: there is nothing to send."""

    def handed_over(self) -> None:
        """``link.unsent`` became smaller."""

    def link_closed(self, *, error: BaseException | None = None) -> None:
        """The peer closed, or the TCP connection ended; the last call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkOptions:
    """Limits of a link.

    Attributes:
        max_record_size: Bytes of a message from the peer.
        max_head: Bytes of the head of a request or of an answer.
        handshake_timeout: Seconds until the head of a request has to be there.
        ping_interval: Seconds between two looks at the peer; one that was silent gets a ping.
        silence: Seconds after which a peer that sends nothing, or takes nothing, is gone.
        close_timeout: Seconds that the peer has to answer a Close frame.
    """

    max_record_size: int = 65535
    max_head: int = 16384
    handshake_timeout: float = 10.0
    ping_interval: float = 5.0
    silence: float = 30.0
    close_timeout: float = 5.0


class _Library:
    """The parts of ``websockets`` that are used here."""

    def __init__(self) -> None:
        require("websockets", extra="fallback")
        from websockets import exceptions, frames, headers, http11, protocol
        from websockets.client import ClientProtocol
        from websockets.datastructures import Headers
        from websockets.server import ServerProtocol
        from websockets.uri import WebSocketURI

        self.Open: Final = protocol.Protocol
        self.SERVER: Final = protocol.Side.SERVER
        self.Client: Final = ClientProtocol
        self.Server: Final = ServerProtocol
        self.Headers: Final = Headers
        self.Response: Final = http11.Response
        self.Uri: Final = WebSocketURI
        self.Frame: Final = frames.Frame
        self.TooBig: Final = exceptions.PayloadTooBig
        self.BadHandshake: Final = exceptions.InvalidHandshake
        self.subprotocols: Final = headers.parse_subprotocol
        self.BINARY: Final = frames.Opcode.BINARY
        self.CLOSE: Final = frames.Opcode.CLOSE
        self.CONTINUATION: Final = frames.Opcode.CONT
        self.TEXT: Final = frames.Opcode.TEXT


@lru_cache(1)
def library() -> _Library:
    """The library.

    Raises:
        ConfigurationError: It is not installed.
    """
    return _Library()


def require_websockets() -> None:
    """Check that the library ``websockets`` is there.

    Raises:
        ConfigurationError: It is not; the message tells how to install it.
    """
    library()


class WebSocketLink(asyncio.Protocol):
    """Carries the records of one connection over one WebSocket; the base of both ends.

    Records are pulled: as long as the transport has bytes that the kernel has not taken, nothing
    more is asked for, so what is more urgent can still go first.

    Args:
        options: Limits.

    Attributes:
        is_client: Which end it is.
        local_address: Of the socket; None before there is one.
        remote_address: Of the peer.
        peer_certificate: In DER form; None if it sent none, or without TLS.
        server_name: The name that the client asked for; empty at a server.
        alpn: The protocol that was agreed on in the TLS handshake; empty if there was none.
        bytes_sent: All bytes of HTTP and WebSocket.
        bytes_received: The same.
        on_lost: Called when the TCP connection has ended, some time after the end of the session.
    """

    __slots__ = (
        "_backlog",
        "_can_send",
        "_closing",
        "_deadline",
        "_deadlines",
        "_eager",
        "_flush",
        "_fragments",
        "_heard",
        "_idle_frames",
        "_is_discarding",
        "_is_open",
        "_is_paused",
        "_is_reading",
        "_is_receiving",
        "_last_unsent",
        "_library",
        "_loop",
        "_must_flush",
        "_options",
        "_pong",
        "_records",
        "_silent",
        "_stalled",
        "_thread",
        "_ticker",
        "_transport",
        "_turns",
        "_ws",
        "alpn",
        "bytes_received",
        "bytes_sent",
        "local_address",
        "on_lost",
        "peer_certificate",
        "remote_address",
        "server_name",
    )

    is_client: bool

    def __init__(self, options: LinkOptions) -> None:
        self._library = library()
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._deadlines = Deadlines.of(self._loop)
        self._eager = EagerTurn.of(self._loop)
        self._transport: asyncio.Transport | None = None
        self._ws: WebSocketProtocol | None = None
        self._records: Records | None = None  # None: it has heard of the end
        self._is_open = False  # the upgrade is done
        self._can_send = False  # records
        self._is_discarding = False  # records that arrive do not matter any more
        self._is_reading = True
        self._is_receiving = False
        self._must_flush = False  # a flush, when everything was received
        self._is_paused = False  # the kernel has not taken everything
        self._closing: tuple[int, str] | None = None  # code and reason of the Close to send
        self._flush: asyncio.Handle | None = None
        self._deadline: Deadline | asyncio.Handle | None = None
        self._ticker: Deadline | asyncio.Handle | None = None
        self._fragments: bytearray | None = None
        self._backlog = b""  # bytes of frames for a later turn
        self._turns: Turns | None = None
        self._pong = b""
        self._heard = False
        self._idle_frames = 0
        self._silent = self._stalled = 0.0
        self._last_unsent = 0
        self.local_address: SockAddr | None = None
        self.remote_address: SockAddr | None = None
        self.peer_certificate: bytes | None = None
        self.server_name = ""
        self.alpn = ""
        self.bytes_sent = 0
        self.bytes_received = 0
        self.on_lost: Callable[[], object] | None = None

    # ------------------------------------------------- what the connection uses

    def attach(self, records: Records) -> None:
        """Say whose records it carries, before the upgrade is asked for or accepted."""
        self._records = records
        if self.is_lost:  # while nobody looked
            self._loop.call_soon(self._tell_closed, None)

    @property
    def is_lost(self) -> bool:
        """The TCP connection has ended, or there is none yet."""
        return self._transport is None

    @property
    def unsent(self) -> int:
        """Bytes that were handed over and that the kernel has not taken."""
        # Only a paused transport has any; and a closed one cannot be asked.
        if not self._is_paused or self._transport is None:
            return 0
        return self._transport.get_write_buffer_size()

    def wants_to_send(self) -> None:
        """Call ``next_record`` at the end of this turn, or when the transport has room."""
        try:
            if asyncio.get_running_loop() is not self._loop:
                self._check_thread()
        except RuntimeError:  # no loop is running
            self._check_thread()
        if self._is_receiving:
            self._must_flush = True
        elif self._flush is None and self._can_send and not self._is_paused:
            self._flush = self._loop.call_soon(self._on_flush)

    def _check_thread(self) -> None:
        """Refuse callers from another event loop or thread; what they queued is still sent."""
        running = running_loop()
        if running is None and threading.get_ident() == self._thread and not self._loop.is_closed():
            return  # between two runs of the loop
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.wants_to_send)
        raise wrong_loop(self._loop)

    def close(self, code: int, reason: str = "") -> None:
        """Send what ``next_record`` still has, then a Close frame; then wait for the peer's.

        Args:
            code: Of the Close frame.
            reason: Cut to the size that fits into it.
        """
        self._is_discarding = True
        if self._closing is not None or self._transport is None:
            return
        if not self._is_reading:
            self.resume_reading()  # for the peer's Close
        self._closing = code, _cut(reason)
        if self._can_send:
            self._within(self._options.close_timeout)
            self.wants_to_send()
        else:
            self.abort()

    def abort(self) -> None:
        """Drop the TCP connection. Idempotent."""
        self._is_discarding = True
        self._backlog = b""
        self._stop_sending()
        if self._transport is not None:
            abort(self._transport)

    def pause_reading(self) -> None:
        """Read nothing until ``resume_reading``. The end of the peer is not noticed meanwhile."""
        self._is_reading = False
        self._set_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._is_reading = True
        if self._backlog:
            self._later()
        else:
            self._set_reading()

    def release(self) -> None:
        """Close the socket after the event loop was closed: nothing can be called later."""
        transport, self._transport = self._transport, None
        if transport is not None:
            release(transport)

    def stats(self) -> dict[str, int | None]:
        """Counters of the TCP connection, with the names and units of QUIC connections."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        counters: dict[str, int | None] = {} if sock is None else _tcp_info(sock)
        return counters | {"bytes_sent": self.bytes_sent, "bytes_received": self.bytes_received}

    # --------------------------------------------------- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is there, with TLS if it has that."""
        transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self._transport = transport
        self.local_address = _address(transport, "sockname")
        self.remote_address = _address(transport, "peername")
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # another kind of socket, or closed already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.peer_certificate = tls.getpeercert(True)
            self.alpn = tls.selected_alpn_protocol() or ""
        # Any byte that the kernel does not take pauses us. A TLS transport takes the limit itself
        # for too much.
        transport.set_write_buffer_limits(high=0 if tls is None else 1)

    def pause_writing(self) -> None:
        """The kernel did not take everything."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self._is_paused = False
        if self._pong:
            pong, self._pong = self._pong, b""
            self._write([pong])
        if self._records is not None and self._can_send:
            self._records.handed_over()
            self.wants_to_send()

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._heard = True
        self.bytes_received += len(data)
        if not self._is_open:
            self._receive_head(data)
        elif self._backlog:
            self._backlog += data
        else:
            self._take_in(data)

    def eof_received(self) -> bool:
        """The peer sends nothing more; the transport closes itself."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection has ended."""
        self._transport = None
        self._stop_sending()
        if self._backlog:
            backlog, self._backlog = self._backlog, b""
            self._feed(backlog)
        self._stop_waiting()
        if exc is not None and not isinstance(exc, WebTransportError):
            cause, exc = (
                exc,
                ConnectionError(
                    f"the TCP connection was lost: {explain_os_error(exc)}",
                    remote_address=self.remote_address,
                    details={"errno": getattr(exc, "errno", None)},
                ),
            )
            exc.__cause__ = cause
        self._tell_closed(exc)
        if self.on_lost is not None:
            self.on_lost()

    # -------------------------------------------------------------------- begin

    def _receive_head(self, data: bytes) -> None:
        """Bytes have arrived before the WebSocket was open."""
        raise NotImplementedError

    def _opened(self) -> None:
        """The upgrade is done: records can be sent and received."""
        self._is_open = self._can_send = True
        self._stop_waiting()
        self._ticker = self._deadlines.call_later(self._options.ping_interval, self._on_tick)
        self.wants_to_send()

    # --------------------------------------------------------------------- send

    def _on_flush(self) -> None:
        """Send records until there are none, the transport has enough, or others must run."""
        self._flush = None
        records, ws = self._records, self._ws
        if records is None or ws is None or self._is_paused or not self._can_send:
            return
        frame, kind, is_masked = self._library.Frame, self._library.BINARY, self.is_client
        frames, size = [], 0
        while size < _BURST:
            record = records.next_record()
            if record is None:
                break
            data = frame(kind, record).serialize(mask=is_masked)
            frames.append(data)
            size += len(data)
        else:
            self._flush = self._loop.call_soon(self._on_flush)
        if frames:
            self._write(frames)
            if not self._is_paused:
                records.handed_over()
        if self._closing is not None and self._flush is None and not self._is_paused:
            self._can_send = False
            ws.send_close(*self._closing)
            self._write(ws.data_to_send())

    def _write(self, frames: list[bytes]) -> None:
        if self._transport is None:
            return
        # In one piece: TLS needs fewer records, and after writelines() some versions of asyncio do
        # not pause.
        data = b"".join(frames)
        self.bytes_sent += len(data)
        self._transport.write(data)

    # ------------------------------------------------------------------ receive

    def _take_in(self, data: bytes) -> None:
        """Bytes of frames have arrived, and it is their turn.

        Tasks that were waiting for them continue here, and what they write leaves at once: without
        two turns of the event loop in between.
        """
        self._is_receiving = True
        try:
            self._eager.run(self._feed if len(data) <= _PIECE else self._digest, data)
        finally:
            self._is_receiving = False
        if self._must_flush:
            self._must_flush = False
            if self._flush is None:
                self._on_flush()

    def _digest(self, data: bytes) -> None:
        """Many bytes have arrived: other work gets turns between two pieces of them."""
        if self._turns is None:
            self._turns = Turns.of(self._loop).for_peer()
        for start in range(0, len(data), _PIECE):
            if start and (not self._is_reading or self._turns.is_over):
                self._backlog = data[start:]
                self._set_reading()
                self._later()
                return
            self._feed(data[start : start + _PIECE])

    def _later(self) -> None:
        assert self._turns is not None
        self._turns.later(self._go_on)

    def _go_on(self) -> None:
        """It is the turn of the backlog."""
        if self._backlog and self._is_reading:
            backlog, self._backlog = self._backlog, b""
            self._take_in(backlog)
            self._set_reading()

    def _set_reading(self) -> None:
        """Read from the socket only when what was read is processed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._is_reading and not self._backlog:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _feed(self, data: bytes) -> None:
        """Bytes of frames have arrived."""
        ws = self._ws
        if ws is None:  # after the end
            return
        ws.receive_data(data)
        self._take(ws)

    def _take(self, ws: WebSocketProtocol) -> None:
        """Deliver what the library has found, and send what it answers."""
        binary = self._library.BINARY
        for frame in cast("list[Frame]", ws.events_received()):
            if frame.opcode is binary and frame.fin and not self._is_discarding:
                assert self._records is not None
                self._records.receive(bytes(frame.data))
            else:
                self._take_other(frame)
        answers = ws.data_to_send()
        if ws.parser_exc is not None:
            self._fail(ws.parser_exc, answers)
        elif answers and ws.close_expected():
            self._finish(answers)
        elif answers:
            # One pong answers all pings before it (RFC 6455 section 5.5.3).
            if self._is_paused:
                self._pong = answers[-1]
            else:
                self._write(answers[-1:])

    def _take_other(self, frame: Frame) -> None:
        """A frame that is not a whole message, or one that came after our end."""
        library = self._library
        kind = frame.opcode
        if kind is library.CLOSE:
            self._tell_closed(None)
        elif kind in (library.BINARY, library.TEXT, library.CONTINUATION):
            if len(frame.data) < (1 if frame.fin else _SMALL):
                self._count_idle_frame()
            if self._is_discarding:
                return
            if kind is library.TEXT:
                self._is_discarding = True
                assert self._records is not None
                self._records.text_received()
            elif not frame.fin:
                if self._fragments is None:
                    self._fragments = bytearray()
                self._fragments += frame.data
            else:
                assert self._fragments is not None
                assert self._records is not None
                whole = bytes(self._fragments + frame.data)
                self._fragments = None
                self._records.receive(whole)
        else:
            self._count_idle_frame()

    def _count_idle_frame(self) -> None:
        self._idle_frames += 1
        if self._idle_frames == _IDLE_FRAMES:
            assert self._ws is not None
            self._ws.fail(_POLICY_VIOLATION, "too many small frames")
            self._fail(ProtocolError("the peer sends too many pings, pongs or small fragments"), [])

    # ---------------------------------------------------------------------- end

    def _finish(self, answers: list[bytes]) -> None:
        """The peer's Close has come: answer it, and let the TCP connection end.

        The server ends it first (RFC 6455 section 7.1.1).
        """
        self._can_send = False
        self._within(self._options.close_timeout)
        self._write([answer for answer in answers if answer])
        if not self.is_client:
            self._end_tcp()

    def _fail(self, error: Exception, answers: list[bytes]) -> None:
        """The peer broke the rules of WebSocket: send Close, and read no more of it."""
        records, ws = self._records, self._ws
        if ws is None:
            return
        self._ws = None
        frames: list[bytes] = []
        if records is not None and self._can_send and isinstance(error, self._library.TooBig):
            records.too_large()  # it has a last record to send
            while (record := records.next_record()) is not None and len(frames) < _LAST_RECORDS:
                frame = self._library.Frame(self._library.BINARY, record)
                frames.append(frame.serialize(mask=self.is_client))
        self._can_send = False
        self._is_discarding = True
        self._write([*frames, *filter(None, [*answers, *ws.data_to_send()])])
        self._within(self._options.close_timeout)
        if self._transport is not None and self._transport.can_write_eof():
            self._end_tcp()  # TLS would not read what is still on its way
        if not isinstance(error, WebTransportError):
            text = f"the peer broke the WebSocket protocol: {printable(error)}"
            error, cause = ProtocolError(text), error
            error.__cause__ = cause
        self._tell_closed(error)

    def _end_tcp(self) -> None:
        """Send nothing more, and drop what arrives until the peer ends the connection, too.

        With bytes in the socket, closing it would destroy what the peer has not read yet. TLS has
        no half of a connection to close.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def _tell_closed(self, error: BaseException | None) -> None:
        """Tell the connection about the end, once."""
        self._is_discarding = True
        self._stop_ticking()
        records, self._records = self._records, None
        if records is not None:
            records.link_closed(error=error)

    def _stop_ticking(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def _stop_sending(self) -> None:
        self._can_send = False
        self._stop_ticking()
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    def _within(self, seconds: float) -> None:
        """Drop the TCP connection if it has not ended by then; the first call counts."""
        if self._deadline is None:
            self._deadline = self._deadlines.call_later(seconds, self._on_deadline)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self.abort()

    def _on_tick(self) -> None:
        """Look at the peer: a silent one gets a ping, and one that seems to be gone is left."""
        interval = self._options.ping_interval
        self._ticker = self._deadlines.call_later(interval, self._on_tick)
        self._idle_frames = 0
        unsent, before = self.unsent, self._last_unsent
        self._last_unsent = unsent
        self._stalled = self._stalled + interval if unsent and unsent == before else 0.0
        heard = self._heard or not self._is_reading
        self._silent = 0.0 if heard else self._silent + interval
        self._heard = False
        if max(self._silent, self._stalled) >= self._options.silence:
            what = "sent" if self._silent >= self._stalled else "took"
            self._tell_closed(
                IdleTimeoutError(
                    f"the peer {what} nothing for {self._options.silence:g} seconds",
                    remote_address=self.remote_address,
                )
            )
            self.abort()
        elif self._silent and not self._is_paused and self._can_send:
            assert self._ws is not None
            self._ws.send_ping(b"")
            self._write(self._ws.data_to_send())


def write_head(first_line: str, lines: Sequence[tuple[str, str]]) -> bytes:
    """The head of a request or response.

    Raises:
        ConfigurationError: A name or value cannot be sent.
    """
    for name, value in lines:
        if not _TOKEN.fullmatch(name) or _NOT_IN_VALUE.search(value):
            raise invalid_config(
                key="headers",
                value={name: value},
                reason="a name is a token, and a value has neither control characters nor others "
                "beyond Latin-1",
            )
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{first_line}\r\n{text}\r\n".encode("latin-1")


def is_own_field(name: str) -> bool:
    """Whether a header field belongs to the connection or to WebSocket, not to the application."""
    return name in _OWN_FIELDS or name.startswith("sec-websocket-")


def fields_of(message: Request | Response) -> list[tuple[str, str]]:
    """The header fields of a request or response: names in lower case, values in Latin-1."""
    return [
        # Before version 17, the library has surrogates for what is not ASCII.
        (name.lower(), value.encode("latin-1", "surrogateescape").decode("latin-1"))
        for name, value in message.headers.raw_items()
    ]


def _cut(reason: str) -> str:
    """The beginning of a text that fits into a Close frame."""
    return reason.encode()[:_MAX_CLOSE_REASON].decode(errors="ignore")


def _address(transport: asyncio.BaseTransport, kind: str) -> SockAddr | None:
    found = transport.get_extra_info(kind)
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None


def _tcp_info(sock: socket.socket) -> dict[str, int | None]:
    """What the kernel knows about a TCP connection, as far as QUIC has a name for it."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except OSError:
        return {}
    if len(info) < _TCP_INFO_SIZE:  # an old kernel
        return {}
    (size,) = _SIZE.unpack_from(info, 16)
    (in_flight,) = _SIZE.unpack_from(info, 24)
    rtt, deviation, threshold, window = _PATH.unpack_from(info, 68)
    (lost,) = _SIZE.unpack_from(info, 100)
    sent, received = _SEGMENTS.unpack_from(info, 136)
    (least,) = _SIZE.unpack_from(info, 148)
    return {
        "smoothed_rtt": rtt * 1000,
        "rttvar": deviation * 1000,
        "min_rtt": least * 1000,
        "cwnd": window * size,
        "ssthresh": None if threshold >= _NO_THRESHOLD else threshold * size,
        "bytes_in_flight": in_flight * size,
        "packets_sent": sent,
        "packets_received": received,
        "packets_lost": lost,
    }
