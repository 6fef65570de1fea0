"""WebSockets over HTTP/1.1: uvicorn's protocol, with limits on what clients can make it do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason

from ..utils._failures import describe_error
from ..utils._logs import shared_log
from ..utils._text import printable
from ..utils._turns import Turns
from ._deflate import Deflate
from ._driver_options import DriverOptions

__all__ = ["Log", "WebSocketProtocol", "answer_unreadable"]

_STEP: Final = 8
"""Events that are handled between two looks at the clock."""
_IN_A_ROW: Final = 64
"""Messages that the application takes without waiting before other tasks get a turn."""

_logger = logging.getLogger("pywebtransport.asgi")


def answer_unreadable(
    options: DriverOptions | None,
    transport: asyncio.BaseTransport,
    status: HTTPStatus,
    headers: Iterable[tuple[bytes, bytes]],
) -> bytes:
    """The answer to a request that could not be read, which is counted and logged.

    Args:
        options: Has what counts and logs it; None: it is neither counted nor logged.
        transport: Of the connection.
        status: Of the answer.
        headers: That each answer has, such as ``date``.
    """
    lines = [*headers, (b"content-length", b"0"), (b"connection", b"close")]
    if options is not None:
        client, server = (transport.get_extra_info(name) for name in ("peername", "sockname"))
        lines.append(options.unreadable(client and client[:2], server[1], status))
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, status.phrase.encode(), head)


class Log:
    """What uvicorn's protocols take for their logger.

    The application's errors are logged before they get here, and requests by the access log. What
    clients do wrong is logged a limited number of times.
    """

    level = logging.INFO

    def warning(self, message: str, *args: object) -> None:
        shared_log(_logger).tell("tcp request", logging.INFO, f"TCP: {message}", *args)

    def error(self, message: str, *args: object, **_: object) -> None:
        _logger.debug(f"TCP: {message}".strip(), *args)

    def info(self, message: str, *args: object) -> None:
        pass

    exception = error


class _Connection(WSConnection):
    """Gives events as long as ``protocol`` takes them, and compresses with our extension."""

    def __init__(self, protocol: WebSocketProtocol) -> None:
        super().__init__(ConnectionType.SERVER)
        self._protocol = protocol
        self._left: Iterator[Event] | None = None
        self.offers: list[str] = []  # of extensions

    @property
    def has_more(self) -> bool:
        """Whether ``events`` was left before the end of what came."""
        return self._left is not None

    def events(self) -> Iterator[Event]:  # type: ignore[override]
        """What came, up to the end of a message or of the turn."""
        events = super().events() if self._left is None else self._left
        self._left = events
        for done, event in enumerate(events, 1):
            if isinstance(event, Request):
                self.offers = [str(offer) for offer in event.extensions]
            yield event
            if self._protocol.has_enough(done):
                return
        self._left = None

    def send(self, event: Event) -> bytes:
        """The bytes of an event."""
        if isinstance(event, AcceptConnection):
            limit = self._protocol.config.ws_max_size
            found = Deflate.negotiate([", ".join(self.offers).encode("latin-1")], limit)
            if found is not None:
                lines = [*event.extra_headers, (b"Sec-WebSocket-Extensions", found[1])]
                event = replace(event, extensions=[found[0]], extra_headers=lines)
        return super().send(event)


class WebSocketProtocol(WSProtocol):
    """A connection that has become a WebSocket.

    What came is handled up to the end of a message, and then only when the application has taken
    it; in slices, so that other connections get turns. What a client that vanishes had sent before
    is lost.
    """

    def __init__(self, driver_options: DriverOptions, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._driver_options = driver_options
        self.logger = Log()  # type: ignore[assignment]
        self.on_lost: Any = None
        self.conn = self._connection = _Connection(self)
        self._turns = Turns.of(self.loop).for_peer()
        self._is_asked = False  # the application, whether it accepts
        self._is_later = False  # the rest is handled in a later turn
        self._ping: Ping | None = None  # to be answered when there is room
        self._taken = 0  # messages in a row without waiting

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle what came."""
        if self.transport.is_closing():
            return
        if self._is_asked and not self.handshake_complete:
            # It would be kept without a limit, and then lost.
            self._fail("a frame came before the WebSocket was accepted")
            return
        try:
            super().data_received(data)
        except Exception as error:  # wsproto trusts the header of a request to be ASCII
            self._fail(describe_error(error))

    def _fail(self, why: str) -> None:
        """The client has broken a rule."""
        if self.transport.is_closing():
            return
        shared_log(_logger).tell(
            "tcp request", logging.INFO, "TCP: a WebSocket failed: %s", printable(why)
        )
        if not self.handshake_complete:
            status = HTTPStatus.BAD_REQUEST
            # The application has been called: what it was called for is logged, and counted.
            options = None if self._is_asked else self._driver_options
            self.transport.write(
                answer_unreadable(options, self.transport, status, self.default_headers)
            )
        self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """The request is complete: the application decides."""
        self._is_asked = True
        super().handle_connect(event)

    def has_enough(self, done: int) -> bool:
        """Whether to go on only later: when the application is ready, or in another turn."""
        if self.read_paused and not self.close_sent:
            return True  # a message waits for the application
        return done % _STEP == 0 and self._turns.is_over

    def handle_events(self) -> None:
        """Handle what came, as far as it goes now."""
        if self._is_later:
            return
        super().handle_events()
        if self._connection.has_more and not (self.read_paused and not self.close_sent):
            self._is_later = True
            self.transport.pause_reading()
            self._turns.later(self._go_on)

    def _go_on(self) -> None:
        self._is_later = False
        if self.disconnected or self.transport.is_closing():
            return
        self.handle_events()
        if not (self._is_later or self.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    async def receive(self) -> Any:
        """Return the next event."""
        self._taken = 0 if self.queue.empty() else self._taken + 1
        if self._taken >= _IN_A_ROW:  # an application that never waits
            self._taken = 0
            await self._turns.pause()
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            if not self._is_later:
                self._go_on()
        return message

    async def send(self, message: Any) -> None:
        """Take a message of the application."""
        await super().send(message)
        if self.close_sent and self._connection.has_more and not self._is_later:
            self._go_on()  # what is left may have the answer of the client

    def shutdown(self) -> None:
        """The server stops."""
        if not self.handshake_complete:
            return  # the application decides, and then it is closed
        if self.conn.state is ConnectionState.OPEN or self.close_sent:
            super().shutdown()
        else:  # the client has closed it
            self.stop_keepalive()
            self.transport.close()

    def handle_message(self, event: TextMessage | BytesMessage) -> None:
        """A message, or a piece of it."""
        super().handle_message(event)
        self.disconnected = self.disconnected or self.close_sent  # it was too large

    def keepalive_timeout(self) -> None:
        """The client has not answered a ping."""
        if self.read_paused or self._is_later:  # its answer may be there
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
            return
        code, reason = int(CloseReason.INTERNAL_ERROR), "keepalive ping timeout"
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        super().keepalive_timeout()
        self.disconnected = True  # to send is no mistake of the application

    def handle_ping(self, event: Ping) -> None:
        """Answer a ping: when there is room, only the last one."""
        if self.writable.is_set():
            super().handle_ping(event)
        else:
            self._ping = event

    def resume_writing(self) -> None:
        """There is room again."""
        super().resume_writing()
        ping, self._ping = self._ping, None
        if ping is not None and not (self.close_sent or self.transport.is_closing()):
            super().handle_ping(ping)

    def handle_close(self, event: CloseConnection) -> None:
        """The client has closed it, or sent what cannot be parsed."""
        if self.conn.state is ConnectionState.OPEN and not self.close_sent:
            self.transport.write(self.conn.send(CloseConnection(code=event.code)))
        super().handle_close(event)
