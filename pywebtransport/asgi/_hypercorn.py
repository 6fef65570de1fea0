"""HTTP/2, HTTP/1.1 and WebSocket over TCP: hypercorn in our event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, cast

from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Data, EndBody, EndData, Response, StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import ConnectionState
from wsproto.connection import Connection, ConnectionType
from wsproto.connection import ConnectionState as WebSocketState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.events import Event as WebSocketEvent
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from ..server._accepting import Place
from ..server._front import FrontOptions, end_connections
from ..utils._failures import describe_error
from ..utils._logs import shared_log
from ..utils._stuck import end_tasks
from ..utils._tcp import abort
from ..utils._turns import Turns
from ._deflate import Deflate
from ._driver_options import DriverOptions
from ._types import AsgiApp

__all__ = ["HypercornFront"]

_READ: Final = 16384

_logger = logging.getLogger("pywebtransport.asgi")


class HypercornFront:
    """A ``TcpFront`` of hypercorn.

    Args:
        app: The application.
        options: Limits.
        driver_options: Others.
    """

    def __init__(self, app: AsgiApp, options: FrontOptions, driver_options: DriverOptions) -> None:
        self._driver_options = driver_options
        self._loop = asyncio.get_running_loop()
        self._config = Config()
        self._config.logger_class = _Log  # type: ignore[assignment]
        self._config.include_server_header = False
        self._config.h11_max_incomplete_size = options.max_head
        self._config.h2_max_header_list_size = options.max_head
        self._config.websocket_max_message_size = driver_options.max_message
        # At the limit, hypercorn closes an HTTP/2 connection with its requests in flight.
        self._config.keep_alive_max_requests = sys.maxsize
        self._context = WorkerContext(None)
        self._is_stopping = False
        self._connections: dict[asyncio.Task[Any], _Connection] = {}

        async def call(scope: Any, receive: Any, send: Any) -> None:
            stream = getattr(send, "__self__", None)
            if isinstance(stream, WSStream):
                with _WebSocket(stream, driver_options.ping_interval).pings():
                    await app(scope, receive, send)
                return
            await app(scope, receive, send)
            await _reset_unfinished(send)

        self._app: Any = ASGIWrapper(call)

    def make_protocol(self, place: Place) -> asyncio.Protocol:
        """See ``TcpFront.make_protocol``."""
        return _Reading(self._loop, self._serve, place)

    async def stop(self, timeout: float, are_coming: Callable[[], bool]) -> None:
        """See ``TcpFront.stop``: connections that come are refused."""
        self._is_stopping = True
        deadline = self._loop.time() + timeout
        await self._context.terminated.set()
        try:
            await end_connections(
                lambda: [each.writer.transport for each in self._connections.values()],
                timeout,
                are_coming,
            )
            if self._connections and (left := deadline - self._loop.time()) > 0:
                await asyncio.wait(self._connections, timeout=left)
        finally:
            for connection in self._connections.values():
                connection.is_cut = True
            await end_tasks(
                self._connections, timeout=0.0, logger=_logger, what="connections over TCP"
            )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, whose TLS handshake is complete."""
        task = asyncio.current_task()
        assert task is not None
        if self._is_stopping:  # hypercorn would refuse it with an error of its own
            abort(writer.transport)
            return
        connection = self._connections[task] = _Connection(
            self._driver_options,
            self._app,
            self._loop,
            self._config,
            self._context,
            ConnectionState({}),  # the application that wraps the mounted one sets it
            reader,
            writer,
        )
        try:
            await connection
        except asyncio.CancelledError:
            # Of ``stop``. The stream protocol of asyncio cannot cope with a cancelled task.
            abort(writer.transport)
        except Exception as error:
            # The client broke a rule, or went away at an inconvenient moment.
            abort(writer.transport)
            shared_log(_logger).tell(
                "tcp request", logging.INFO, "TCP: a connection failed: %s", describe_error(error)
            )
        finally:
            del self._connections[task]


class _Reading(asyncio.StreamReaderProtocol):
    """Gives a connection to a function, as two streams.

    Args:
        loop: The event loop.
        serve: The function.
        place: Of the connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        place: Place,
    ) -> None:
        super().__init__(asyncio.StreamReader(loop=loop), serve, loop=loop)
        self._place = place

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._place.leave()
        super().connection_lost(exc)


class _Connection(TCPServer):
    """A connection that can be cut."""

    is_cut = False

    def __init__(self, driver_options: DriverOptions, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._driver_options = driver_options

    async def _read_data(self) -> None:
        """Handle what comes, a little at a time: small frames take long."""
        turns = Turns.of(self.loop).for_peer()
        with contextlib.suppress(OSError):
            while not self.reader.at_eof():
                inner = self.protocol.protocol
                if isinstance(inner, H2Protocol) and not isinstance(inner.streams, _Streams):
                    inner.streams = _Streams(inner.streams)
                elif isinstance(inner, H11Protocol):
                    cast(Any, inner)._send_error_response = self._answer_unreadable
                await self.protocol.handle(RawData(await self.reader.read(_READ)))
                await turns.pause()
        await self.protocol.handle(Closed())

    async def _answer_unreadable(self, status: int) -> None:
        """Answer a request that is not HTTP/1.1, or whose head is too large."""
        inner = self.protocol.protocol
        assert isinstance(inner, H11Protocol)
        client, server = map(self.writer.get_extra_info, ("peername", "sockname"))
        line = self._driver_options.unreadable(client and client[:2], server[1], status)
        lines = [(b"content-length", b"0"), (b"connection", b"close"), line]
        await inner.stream_send(Response(stream_id=1, headers=lines, status_code=status))
        await inner.stream_send(EndBody(stream_id=1))

    async def protocol_send(self, event: Event) -> None:
        """Take something from the protocol."""
        # A group of tasks that is cancelled takes no task for the idle time.
        if not (self.is_cut and isinstance(event, Updated)):
            await super().protocol_send(event)


class _Streams(dict[int, Any]):
    """The streams of an HTTP/2 connection, with one that stands for all that are answered.

    The rest of a request can follow its answer. Hypercorn does not expect it, and would end the
    connection with all other requests.
    """

    def __missing__(self, stream_id: int) -> Any:
        return _ANSWERED


class _Answered:
    """A stream whose answer was sent before its request was complete."""

    async def handle(self, event: object) -> None:
        """Drop the rest of the request; hypercorn returns its credit."""


_ANSWERED: Final = _Answered()


class _MessageBuffer(WebsocketBuffer):
    """The message that arrives. Hypercorn's keeps also what is beyond the limit."""

    def extend(self, event: Any) -> None:
        """Add a piece.

        Raises:
            FrameTooLargeError: The message is too large.
        """
        size = len(event.data.encode() if isinstance(event.data, str) else event.data)
        if self.length + size > self.max_length:
            self.value = None
            self.length = self.max_length + 1  # until the end of the stream
            raise FrameTooLargeError
        super().extend(event)


class _WebSocket:
    """Takes over what a WebSocket of hypercorn receives, until the application ends.

    Limits what a message can be, and what it can expand to; sends pings; and ends the WebSocket as
    RFC 6455 says: hypercorn sends no Close frame when a client breaks a rule, and loses the code of
    the client's.

    Args:
        stream: A WebSocket that is not accepted yet.
        interval: Seconds between two pings, and for the answer to one; None: no pings.
    """

    def __init__(self, stream: WSStream, interval: float | None) -> None:
        self._stream = stream
        self._interval = interval
        self._limit = stream.config.websocket_max_message_size
        self._heard = False  # something, since the last ping
        self._waits = False  # for the application: nothing more is read
        stream.buffer = _MessageBuffer(self._limit)
        taken, handshake = cast(Any, stream), cast(Any, stream.handshake)
        self._accept = handshake.accept
        handshake.accept, taken._handle_events = self.accept, self.handle_events

    @contextlib.contextmanager
    def pings(self) -> Iterator[None]:
        """While it is entered, pings are sent."""
        task = asyncio.get_running_loop().create_task(self._send_pings())
        try:
            yield
        finally:
            task.cancel()

    def accept(self, subprotocol: Any, lines: Any) -> Any:
        """Answer the handshake, with compression of our own."""
        handshake = self._stream.handshake
        offers, handshake.extensions = handshake.extensions or (), None
        status, answer, connection = self._accept(subprotocol, lines)
        found = Deflate.negotiate([", ".join(offers).encode("latin-1")], self._limit)
        if found is not None:
            answer.append((b"sec-websocket-extensions", found[1]))
            connection = Connection(ConnectionType.SERVER, [found[0]])
        return status, answer, connection

    async def handle_events(self) -> None:
        """Handle what came."""
        stream, self._heard = self._stream, True
        for event in stream.connection.events():
            if isinstance(event, Message):
                try:
                    stream.buffer.extend(event)
                except FrameTooLargeError:
                    await self._fail(CloseReason.MESSAGE_TOO_BIG, "message too big")
                    return
                if event.message_finished:
                    await self._tell(stream.buffer.to_message())
                    stream.buffer.clear()
            elif isinstance(event, Ping):
                await self._send_frame(event.response())
            elif isinstance(event, CloseConnection):
                state = stream.connection.state
                if state is WebSocketState.OPEN:  # what came cannot be parsed
                    await self._fail(event.code, event.reason or "")
                    return
                is_answer = state is not WebSocketState.REMOTE_CLOSING
                answer = None if is_answer else event.response()
                await self._end(event.code, event.reason or "", answer)
                return

    async def _tell(self, message: Any) -> None:
        self._waits = True
        try:
            await cast(Any, self._stream).app_put(message)
        finally:
            self._waits = False

    async def _send_frame(self, frame: WebSocketEvent) -> None:
        stream = self._stream
        with contextlib.suppress(LocalProtocolError):  # it is closed already
            data = stream.connection.send(frame)
            await stream.send(Data(stream_id=stream.stream_id, data=data))

    async def _fail(self, code: int, reason: str) -> None:
        await self._end(code, reason, CloseConnection(code, reason))

    async def _end(self, code: int, reason: str, answer: CloseConnection | None) -> None:
        self._stream.closed = True
        # Not in the task that reads: to send may mean to wait for what the client says.
        self._stream.task_group.spawn(self._send_last, answer)
        await self._tell({"type": "websocket.disconnect", "code": int(code), "reason": reason})

    async def _send_last(self, answer: CloseConnection | None) -> None:
        stream = self._stream
        if answer is not None:
            await self._send_frame(answer)
        await stream.send(EndData(stream_id=stream.stream_id))
        await stream.send(StreamClosed(stream_id=stream.stream_id))

    async def _send_pings(self) -> None:
        is_pinged = False
        while self._interval is not None and not self._stream.closed:
            await asyncio.sleep(self._interval)
            if self._stream.closed or not self._stream.handshake.accepted:
                continue
            if is_pinged and not (self._heard or self._waits):
                await self._fail(CloseReason.INTERNAL_ERROR, "keepalive ping timeout")
                return
            self._heard, is_pinged = False, True
            await self._send_frame(Ping())


async def _reset_unfinished(send: Any) -> None:
    """Reset an HTTP/2 stream whose response the application has left incomplete.

    Hypercorn leaves it open, and its client would wait.

    Args:
        send: What hypercorn gave to the application: a method of the request's stream.
    """
    stream = getattr(send, "__self__", None)
    if not isinstance(stream, HTTPStream) or stream.closed:
        return
    protocol = getattr(stream.send, "__self__", None)
    begun = stream.state in (ASGIHTTPState.RESPONSE, ASGIHTTPState.TRAILERS)
    if begun and isinstance(protocol, H2Protocol):
        with contextlib.suppress(H2Error):  # the client was faster
            protocol.connection.reset_stream(stream.stream_id, ErrorCodes.INTERNAL_ERROR)
        await protocol.send(RawData(protocol.connection.data_to_send()))


class _Log:
    """What hypercorn takes for its logger.

    The application's errors are logged before they get here, and requests by the access log.
    """

    def __init__(self, config: Config) -> None:
        pass

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        pass

    async def exception(self, message: str, *args: object, **_: object) -> None:
        _logger.debug(f"TCP: {message}", *args)

    debug = info = warning = error = critical = exception
