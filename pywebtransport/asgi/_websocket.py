"""The ``websocket`` scope: WebSockets over HTTP/3 (RFC 9220), with the framing of wsproto."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.events import Message as DataMessage
from wsproto.extensions import Extension

from .._core.waiting import EagerWaiters
from ..exceptions import ConfigurationError, StreamError, invalid_config
from ..h3._constants import H3Error
from ..h3._exchange import NO_EXCHANGE_EVENTS
from ..server._requests import CLIENT_CLOSED_REQUEST
from ..utils._checks import check_text
from ..utils._text import printable
from ..utils._timing import get_timestamp
from ._deflate import Deflate
from ._errors import AsgiMessageError, ClientDisconnectedError
from ._http import response_lines
from ._messages import SERVICE_RESTART
from ._scope import websocket_scope
from ._types import Message

if TYPE_CHECKING:
    from ..connection import WebTransportConnection
    from ..h3._exchange import H3Exchange
    from ._application import AsgiServer

__all__ = ["run_websocket"]

_VERSION: Final = b"13"
_CHUNK: Final = 65536
_STEP: Final = 8
"""Frames that are handled between two looks at the clock."""
_IN_A_ROW: Final = 64
"""Messages that are taken without waiting before other tasks get a turn."""
_PIECES: Final = 1024
"""Pieces of a message that are put together into one."""

_OK: Final = 200
_BAD_REQUEST: Final = 400
_FORBIDDEN: Final = 403
_INTERNAL_SERVER_ERROR: Final = 500
_SERVICE_UNAVAILABLE: Final = 503

_NORMAL: Final = 1000
_NO_STATUS: Final = 1005
_ABNORMAL: Final = 1006
_TOO_BIG: Final = 1009
_INTERNAL_ERROR: Final = 1011
# Codes that an endpoint may send (RFC 6455 section 7.4, and the registry of IANA).
_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
_MAX_REASON: Final = 123
"""Bytes of UTF-8 that fit into a Close frame beside the code."""

# How far it is.
_CONNECTING: Final = 0
_REFUSING: Final = 1  # websocket.http.response.start was sent
_OPEN: Final = 2
_CLOSING: Final = 3  # our Close frame was sent
_OVER: Final = 4


async def run_websocket(
    server: AsgiServer, connection: WebTransportConnection, exchange: H3Exchange
) -> None:
    """Run the application for a WebSocket.

    Args:
        server: The application on its server.
        connection: The connection.
        exchange: The extended CONNECT request.

    Cancellation: closes the WebSocket with code 1012.
    """
    await _WebSocket(server, connection, exchange).run()


class _WebSocket:
    """One WebSocket, as events and messages of ASGI.

    Bytes are read until a complete message waits for the application, and then no more: the
    client gets credit only when the application receives.
    """

    def __init__(
        self, server: AsgiServer, connection: WebTransportConnection, exchange: H3Exchange
    ) -> None:
        self._server = server
        config = server.server.config
        self._max_message = config.max_websocket_message
        self._ping_interval = config.websocket_ping_interval
        self._connection = connection
        self._exchange = exchange
        self._scope = websocket_scope(server, connection, exchange)
        self._loop = asyncio.get_running_loop()
        self._started_at = get_timestamp()
        self._state = _CONNECTING
        self._is_connect_told = self._is_logged = self._sent_away = False
        self._ws: Connection | None = None
        self._parsed: Generator[Event, None, None] | None = None
        # The message that arrives, and the one that waits for the application. A message may come
        # in millions of pieces: many small ones become a larger one.
        self._pieces: list[Any] = []
        self._blocks: list[Any] = []
        self._size = 0
        self._waiting: Message | None = None
        self._taken = 0  # messages in a row without waiting
        self._disconnect: Message | None = None
        self._is_reading = False  # or will go on to read in a later turn
        self._pong: bytes | None = None  # to be sent when there is room
        self._timer: asyncio.TimerHandle | None = None
        self._is_alive = True  # something came since the last ping
        self._refusal: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._readers = EagerWaiters(self._loop)
        self._writers = EagerWaiters(self._loop)
        self._ends = EagerWaiters(self._loop)
        exchange.events = self

    async def run(self) -> None:
        """Run the application, and end what it leaves open."""
        try:
            versions = self._lines_of(b"sec-websocket-version")
            if versions != [_VERSION]:
                self._answer(_BAD_REQUEST, [(b"sec-websocket-version", _VERSION)])
                return
            succeeded = await self._server.call(
                self._scope, self.receive, self.send, knows_scope=lambda: self._is_connect_told
            )
            self._end(succeeded)
            if self._state == _CLOSING:
                await self._ends.wait(self._server.server.config.close_timeout)
                self._finish()
        except BaseException:
            if self._state == _CONNECTING:
                self._answer(_SERVICE_UNAVAILABLE)
            elif self._state == _OPEN:
                self._fail(SERVICE_RESTART, "")
            else:
                self._finish()
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            exchange, exchange.events = self._exchange, NO_EXCHANGE_EVENTS
            exchange.cancel(H3Error.INTERNAL_ERROR)
            self._over(_ABNORMAL, "")

    def go_away(self) -> None:
        """See ``OpenWebSocket.go_away``."""
        if self._state == _OPEN:
            self._sent_away = True
            self._begin_close(SERVICE_RESTART, "")

    # ------------------------------------------------------- events of the exchange

    def readable(self) -> None:
        """Bytes came (deliver phase)."""
        self._read()

    def writable(self) -> None:
        """There is room again (deliver phase)."""
        pong, self._pong = self._pong, None
        if pong is not None and self._state == _OPEN:
            self._write(Pong(pong))
        self._writers.wake()

    def exchange_over(self, error: Exception | None) -> None:
        """The client has reset or stopped the stream, or the exchange is complete."""
        if self._state == _CONNECTING:
            self._log(CLIENT_CLOSED_REQUEST)
        self._over(_ABNORMAL, "")

    # ---------------------------------------------------------- for the application

    async def receive(self) -> Message:
        """Return the next event. Cancellation: safe."""
        if not self._is_connect_told:
            self._is_connect_told = True
            return {"type": "websocket.connect"}
        self._taken += 1
        if self._taken >= _IN_A_ROW:  # an application that never waits
            self._taken = 0
            await self._connection.turns.pause()
        while True:
            message = self._waiting
            if message is not None:
                self._waiting = None
                self._read()
                return message
            if self._disconnect is not None:
                return dict(self._disconnect)
            self._taken = 0
            await self._readers.wait()

    async def send(self, message: Message) -> None:
        """Take a message of the application.

        Raises:
            ClientDisconnectedError: The client is gone, or has closed the WebSocket.
            AsgiMessageError: The message is not allowed, or not now.
            ConfigurationError: A field of the message is wrong.
        """
        kind = message["type"]
        state = self._state
        if state == _OVER or self._sent_away:
            raise self._disconnected()
        try:
            if kind == "websocket.send" and state == _OPEN:
                await self._send_data(message)
            elif kind == "websocket.accept" and state == _CONNECTING:
                self._accept(message)
                if self._server.is_stopping:
                    self.go_away()
            elif kind == "websocket.close" and state in (_CONNECTING, _OPEN):
                self._close(message)
            elif kind == "websocket.http.response.start" and state == _CONNECTING:
                self._start_refusal(message)
            elif kind == "websocket.http.response.body" and state == _REFUSING:
                await self._send_refusal(message)
            else:
                now = ("the answer", "the rest of the answer", "open", "closed by this end")[state]
                raise AsgiMessageError(
                    f"{printable(kind)} is not allowed now: the WebSocket "
                    f"{'waits for ' if state in (_CONNECTING, _REFUSING) else 'is '}{now}"
                )
        except StreamError as error:
            if isinstance(error, ConfigurationError):
                raise
            self._over(_ABNORMAL, "")
            raise self._disconnected() from error

    def _accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol")
        lines = response_lines(message.get("headers") or ())
        for name, _ in lines:
            if name.lower().startswith(b"sec-websocket-"):
                raise AsgiMessageError(f"the header {printable(name)} is set by the server")
        if subprotocol is not None:
            if subprotocol not in self._scope["subprotocols"]:
                raise invalid_config(
                    key="subprotocol", value=subprotocol, reason="the client did not offer it"
                )
            lines.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        deflate = Deflate.negotiate(self._lines_of(b"sec-websocket-extensions"), self._max_message)
        extensions: list[Extension] = []
        if deflate is not None:
            extensions.append(deflate[0])
            lines.append((b"sec-websocket-extensions", deflate[1]))
        self._exchange.respond(_OK, lines)
        self._log(_OK)
        self._ws = Connection(ConnectionType.SERVER, extensions)
        self._state = _OPEN
        self._server.websockets.add(self)
        self._ping_later()
        self._read()

    async def _send_data(self, message: Message) -> None:
        data, text = message.get("bytes"), message.get("text")
        if (data is None) is (text is None):
            raise AsgiMessageError("websocket.send: expected one of 'bytes' and 'text'")
        if text is not None:
            check_text("text", text)
            if not _is_unicode(text):
                raise invalid_config(key="text", value=text, reason="UTF-8 cannot encode it")
            self._write(TextMessage(data=text))
        elif isinstance(data, bytes | bytearray | memoryview):
            self._write(BytesMessage(data=bytes(data)))
        else:
            raise invalid_config(key="bytes", value=data, reason="expected bytes")
        while self._exchange.is_full:
            await self._writers.wait()
        if self._exchange.is_over and self._state != _CLOSING:
            raise self._disconnected()

    def _close(self, message: Message) -> None:
        code, reason = message.get("code"), message.get("reason")
        code = _NORMAL if code is None else code
        reason = "" if reason is None else reason
        check_text("reason", reason)
        if code.__class__ is not int or code not in _CODES:
            raise invalid_config(
                key="code", value=code, reason="expected 1000 to 1003, 1007 to 1014, 3000 to 4999"
            )
        if len(reason.encode("utf-8", "replace")) > _MAX_REASON or not _is_unicode(reason):
            raise invalid_config(
                key="reason", value=reason, reason=f"expected at most {_MAX_REASON} bytes of UTF-8"
            )
        if self._state == _CONNECTING:
            self._answer(_FORBIDDEN)
        else:
            self._begin_close(code, reason)

    def _start_refusal(self, message: Message) -> None:
        status = message.get("status")
        if status.__class__ is not int or not 300 <= status <= 599:
            raise invalid_config(key="status", value=status, reason="expected 300 to 599")
        self._refusal = (status, response_lines(message.get("headers") or ()))
        self._state = _REFUSING

    async def _send_refusal(self, message: Message) -> None:
        body = message.get("body", b"")
        if not isinstance(body, bytes):
            raise invalid_config(key="body", value=body, reason="expected bytes")
        exchange, refusal = self._exchange, self._refusal
        is_last = not message.get("more_body", False)
        try:
            if refusal is None:
                exchange.send(body, is_last)
            else:
                self._refusal = None
                exchange.respond(refusal[0], refusal[1], body, is_last)
                self._log(refusal[0])
        except ConfigurationError:
            if not exchange.is_over:
                self._refusal = refusal
            raise
        while exchange.is_full:
            await self._writers.wait()

    # ------------------------------------------------------------------- receiving

    def _read(self) -> None:
        """Parse what came, up to the end of a message; some of it in each turn of the loop."""
        if self._ws is None or self._is_reading:
            return
        self._is_reading = True
        done = 0
        turns = self._connection.turns
        while self._waiting is None and self._state in (_OPEN, _CLOSING):
            event = None if self._parsed is None else next(self._parsed, None)
            if event is not None:
                self._handle(event)
                done += 1
                if done % _STEP == 0 and turns.is_over:
                    turns.later(self._go_on)  # small frames take long
                    return
                continue
            data = self._exchange.read(_CHUNK)
            if data is None:
                break
            if not data:  # the client has closed its half without a Close frame
                self._finish(_ABNORMAL)
                break
            self._is_alive = True
            self._ws.receive_data(data)
            self._parsed = self._ws.events()
        self._is_reading = False

    def _go_on(self) -> None:
        """The next turn of the event loop."""
        self._is_reading = False
        self._read()

    def _handle(self, event: Event) -> None:
        if isinstance(event, DataMessage):
            if self._state == _OPEN:  # otherwise nobody wants it any more
                self._collect(event)
        elif isinstance(event, Ping):
            if self._exchange.is_full:
                self._pong = event.payload  # only the last one needs an answer
            elif self._state == _OPEN:
                self._write(Pong(event.payload))
        elif isinstance(event, CloseConnection):
            self._told_to_close(event)

    def _collect(self, event: DataMessage[Any]) -> None:
        data = event.data
        size = len(data)
        if isinstance(data, str) and not data.isascii():
            size = len(data.encode())
        self._size += size
        if self._size > self._max_message:
            self._fail(_TOO_BIG, f"messages have at most {self._max_message} bytes")
            return
        pieces, blocks = self._pieces, self._blocks
        nothing = data[:0]
        if size:
            pieces.append(data)
        if event.message_finished:
            self._waiting = {
                "type": "websocket.receive",
                "text" if isinstance(event, TextMessage) else "bytes": nothing.join(
                    [*blocks, *pieces]
                ),
            }
            self._readers.wake()
            self._size = 0
            blocks.clear()
            pieces.clear()
        elif len(pieces) >= _PIECES:
            blocks.append(nothing.join(pieces))
            pieces.clear()

    def _told_to_close(self, event: CloseConnection) -> None:
        assert self._ws is not None
        code, reason = int(event.code), event.reason or ""
        state = self._ws.state
        if state is ConnectionState.OPEN:
            # What the client sent cannot be parsed.
            self._fail(code, "message too big" if code == _TOO_BIG else reason)
        elif state is ConnectionState.REMOTE_CLOSING:
            self._write(event.response())
            self._finish(code, reason)
        else:
            self._finish()

    # --------------------------------------------------------------------- sending

    def _write(self, event: Event) -> None:
        assert self._ws is not None
        try:
            self._exchange.send(bytes(self._ws.send(event)))
        except StreamError:
            self._over(_ABNORMAL, "")

    def _keep_alive(self) -> None:
        """Send a ping, if the client has answered the last one."""
        self._timer = None
        if self._state != _OPEN:
            return
        if not self._is_alive and self._waiting is None:
            self._fail(_INTERNAL_ERROR, "keepalive ping timeout")
            return
        # While a message waits nothing is read, not even the answer to a ping.
        self._is_alive = self._waiting is not None
        if not self._exchange.is_full:
            self._write(Ping())
        self._ping_later()

    def _ping_later(self) -> None:
        if self._ping_interval is not None and self._state == _OPEN:
            self._timer = self._loop.call_later(self._ping_interval, self._keep_alive)

    # --------------------------------------------------------------------- the end

    def _end(self, succeeded: bool) -> None:
        """The application has ended."""
        if self._state in (_CONNECTING, _REFUSING):
            if succeeded:
                self._server.unfinished(self._scope)
            if self._state == _CONNECTING or self._refusal is not None:
                self._answer(_INTERNAL_SERVER_ERROR)
        elif self._state == _OPEN:
            if succeeded:
                self._begin_close(_NORMAL, "")
            else:
                self._begin_close(_INTERNAL_ERROR, "internal error")

    def _begin_close(self, code: int, reason: str) -> None:
        """Send a Close frame; that of the client follows."""
        self._disconnect = _disconnect_event(code, reason)
        self._state = _CLOSING
        self._waiting = None
        self._write(CloseConnection(code=code, reason=reason))
        self._readers.wake()
        self._read()

    def _fail(self, code: int, reason: str) -> None:
        """End the WebSocket at once, with a Close frame."""
        self._write(CloseConnection(code=code, reason=reason))
        self._finish(code, reason)

    def _finish(self, code: int = _NORMAL, reason: str = "") -> None:
        """Close the stream; after our own Close frame, its code counts."""
        exchange = self._exchange
        if not exchange.is_over and self._state in (_OPEN, _CLOSING):
            self._disconnect = self._disconnect or _disconnect_event(code, reason)
            with suppress(StreamError):
                exchange.send(b"", True)
        self._over(code, reason)

    def _answer(self, status: int, lines: list[tuple[bytes, bytes]] | None = None) -> None:
        """Answer with a status and no body."""
        self._log(status)
        try:
            self._exchange.respond(
                status, response_lines([(b"content-length", b"0"), *(lines or ())]), b"", True
            )
        except StreamError:
            self._exchange.cancel(H3Error.REQUEST_CANCELLED)
        self._over(_ABNORMAL, "")

    def _over(self, code: int, reason: str) -> None:
        if self._disconnect is None:
            self._disconnect = _disconnect_event(code, reason)
        self._state = _OVER
        self._server.websockets.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiters in (self._readers, self._writers, self._ends):
            waiters.wake()

    def _disconnected(self) -> ClientDisconnectedError:
        code = (self._disconnect or {}).get("code")
        return ClientDisconnectedError(
            f"the WebSocket was closed with code {code}: nothing more can be sent", error_code=code
        )

    def _log(self, status: int) -> None:
        """Count and log the answer, once."""
        if not self._is_logged:
            self._is_logged = True
            self._server.server.http_requests.answered(
                self._connection, self._exchange, status, self._started_at
            )

    def _lines_of(self, wanted: bytes) -> list[bytes]:
        return [value for name, value in self._scope["headers"] if name == wanted]


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can encode a string: it has no surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _disconnect_event(code: int, reason: str) -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
