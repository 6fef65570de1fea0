"""HTTP/1.1 and WebSocket over TCP: uvicorn in our event loop."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import socket
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..server._accepting import Place
from ..server._front import FrontOptions, end_connections
from ..utils._stuck import end_tasks
from ..utils._tcp import abort
from ..utils._turns import Turns
from ._driver_options import DriverOptions
from ._targets import split_absolute, with_host
from ._types import AsgiApp
from ._uvicorn_websocket import Log, WebSocketProtocol, answer_unreadable

__all__ = ["UvicornFront"]

# Seconds between two updates of the ``date`` field.
_TICK = 1.0
# Seconds in which a client that connected just before the end may still send its request.
_ARRIVAL = 1.0
# Bytes that are parsed at a time where a head is expected, and where a body is.
_HEADS: Final = 2048
_BODIES: Final = 65536
# Requests that may wait behind the one that is being answered; the next ones are not parsed.
_PIPELINED: Final = 8

_logger = logging.getLogger("pywebtransport.asgi")


class UvicornFront:
    """A ``TcpFront`` of uvicorn.

    Args:
        app: The application.
        options: Limits.
        driver_options: Others.
    """

    def __init__(self, app: AsgiApp, options: FrontOptions, driver_options: DriverOptions) -> None:
        self._server = _Server(app, options, driver_options)
        self._task: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(
            self._server.live(), name="HTTP over TCP (uvicorn)"
        )

    def make_protocol(self, place: Place) -> asyncio.Protocol:
        """See ``TcpFront.make_protocol``."""
        return self._server.make_protocol(place)

    async def stop(self, timeout: float, are_coming: Callable[[], bool]) -> None:
        """See ``TcpFront.stop``."""
        task, self._task = self._task, None
        if task is None:
            return
        self._server.time_to_stop = timeout
        self._server.are_coming = are_coming
        self._server.stopping.set()
        await task


class _Server(uvicorn.Server):
    """A server that gets its connections from elsewhere, and ends when it is told.

    Args:
        app: The application.
        options: Limits.
        driver_options: Others.
    """

    def __init__(self, app: AsgiApp, options: FrontOptions, driver_options: DriverOptions) -> None:
        # It is only called, as the class would be.
        http: Any = partial(_HttpProtocol, self)
        config = uvicorn.Config(
            app,
            http=http,
            ws=cast(Any, partial(WebSocketProtocol, driver_options)),
            ws_max_size=driver_options.max_message,
            ws_ping_interval=driver_options.ping_interval,
            ws_ping_timeout=driver_options.ping_interval,
            ws_per_message_deflate=False,  # that of wsproto has no limit: it has our own
            interface="asgi3",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=True,  # False would take the handlers from the logger of other uvicorns
            proxy_headers=False,
            server_header=False,
        )
        config.load()
        super().__init__(config)
        self.lifespan = config.lifespan_class(config)
        self.options = options
        self.driver_options = driver_options
        self.stopping = asyncio.Event()
        self.time_to_stop = 0.0
        self.are_coming: Callable[[], bool] = bool
        # While it stops: clients that have just connected may still send their request.
        self.takes_newcomers = True

    def make_protocol(self, place: Place) -> _HttpProtocol:
        """The protocol of a connection."""
        protocol: Any = self.config.http_protocol_class(  # type: ignore[call-arg]
            place,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        return cast(_HttpProtocol, protocol)

    async def live(self) -> None:
        """Keep the ``date`` field up to date until ``stopping`` is set; then shut down.

        ``serve`` is not called: it would handle signals, which are the business of the program.
        """
        try:
            while not self.stopping.is_set():
                await self.on_tick(0)
                with contextlib.suppress(builtins.TimeoutError):
                    async with asyncio.timeout(_TICK):
                        await self.stopping.wait()
        except asyncio.CancelledError:
            self.time_to_stop = 0.0  # whoever waited for the end does not wait any longer
            raise
        finally:
            await self.shutdown()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as ``TcpFront.stop`` says."""
        self.stopping.set()
        state = self.server_state
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.time_to_stop
        timer = loop.call_later(min(_ARRIVAL, self.time_to_stop), self._take_no_newcomers)
        try:
            for connection in list(state.connections):
                if not (isinstance(connection, _HttpProtocol) and connection.is_new):
                    _shut_down(connection)
            await end_connections(
                lambda: [connection.transport for connection in state.connections],
                self.time_to_stop,
                self.are_coming,
            )
            # Those of the application get an ``http.disconnect`` first, if there is time.
            if state.tasks and (left := deadline - loop.time()) > 0:
                await asyncio.wait(state.tasks, timeout=left)
        finally:
            timer.cancel()
            self.takes_newcomers = False
            await end_tasks(state.tasks, timeout=0.0, logger=_logger, what="requests over TCP")

    def _take_no_newcomers(self) -> None:
        self.takes_newcomers = False
        for connection in list(self.server_state.connections):
            if isinstance(connection, _HttpProtocol) and connection.is_new:
                _shut_down(connection)


def _shut_down(connection: Any) -> None:
    """Let a connection end gracefully."""
    # To close a TLS transport of asyncio twice breaks it.
    if not connection.transport.is_closing():
        connection.shutdown()


class _Flow(FlowControl):
    """Does not read while something that came waits to be parsed."""

    has_rest = False
    _is_wanted = False  # that reading goes on

    def resume_reading(self) -> None:
        """Read, now or when everything is parsed."""
        self._is_wanted = self.has_rest
        if not self.has_rest:
            super().resume_reading()

    def pause_reading(self) -> None:
        """Do not read."""
        self._is_wanted = False
        super().pause_reading()

    def hold(self) -> None:
        """Something waits to be parsed."""
        if not self.has_rest:
            is_reading = not self.read_paused
            self.pause_reading()
            self.has_rest, self._is_wanted = True, is_reading

    def release(self) -> None:
        """Everything is parsed."""
        self.has_rest = False
        if self._is_wanted:
            self.resume_reading()


class _OldCycle(RequestResponseCycle):
    """A request of HTTP/1.0, which knows no chunks: a body without a length ends the connection."""

    _has_length = True

    async def send(self, message: Any) -> None:
        """Take a message of the application."""
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            if b"content-length" not in names:
                self._has_length = self.chunked_encoding = False
        elif not self._has_length:
            self.expected_content_length += len(message.get("body", b""))
        await super().send(message)


class _HttpProtocol(HttpToolsProtocol):
    """A connection with HTTP/1.1.

    What one read brings can be thousands of requests. They are parsed in slices, so that other
    connections get turns, and no more of them than a few wait for their answers.

    Args:
        server: Its server.
        place: Of the connection.
        **arguments: As for uvicorn's.
    """

    def __init__(self, server: _Server, place: Place, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._place = place
        self.logger = Log()  # type: ignore[assignment]
        self.access_log = False
        self._server = server
        self._options = server.options
        self._head: int | None = 0  # its bytes so far; None: a body is read
        self._head_timer: asyncio.TimerHandle | None = None
        self._turns = Turns.of(self.loop).for_peer()
        self._rest = memoryview(b"")  # is not parsed yet
        self._is_later = False  # it will be, in a later turn
        self._is_upgraded = False
        self._running: RequestResponseCycle | None = None  # the last request that was started
        self._beside = 0  # bytes since the last ones of the body: trailers, sizes of chunks

    @property
    def is_new(self) -> bool:
        """Whether it has had no request yet."""
        return self.cycle is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there, and its TLS handshake is complete."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.flow = self._flow = _Flow(self.transport)
        if self._server.takes_newcomers:
            self._await_head()
        else:
            abort(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._place.leave()
        self._stop_head_timer()
        self._rest = memoryview(b"")
        # Uvicorn tells only the last request that it has parsed.
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:  # uvicorn keeps it after an error
            self.timeout_keep_alive_task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what came, or as much of it as now is possible."""
        if self.transport.is_closing():
            return
        if self._rest or len(data) > _HEADS:
            self._rest = memoryview(bytes(self._rest) + data)
            self._go_on()
        else:
            self._parse(data)

    def _go_on(self) -> None:
        """Parse what has waited, until it is the turn of others."""
        self._is_later = False
        if self.transport.is_closing():
            return
        while self._rest and len(self.pipeline) < _PIPELINED:
            size = _BODIES if self._head is None else _HEADS
            piece, self._rest = self._rest[:size], self._rest[size:]
            self._parse(bytes(piece))
            if self.transport.is_closing() or self._is_upgraded:
                self._rest = memoryview(b"")
                return
            if self._rest and self._turns.is_over:
                self._is_later = True
                self._turns.later(self._go_on)
                break
        if self._rest:
            self._flow.hold()
        else:
            self._flow.release()

    def _parse(self, data: bytes) -> None:
        """Parse some bytes, unless the head of a request or what is beside a body is too large."""
        if self._head is not None:
            self._head += len(data)
        else:
            self._beside += len(data)
        super().data_received(data)
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and not (self._head_timer or self.timeout_keep_alive_task or self._is_upgraded):
            self._await_head()  # what came is no part of a request, or nobody wants it any more
        if max(self._head or 0, self._beside) > self._options.max_head:
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["http_version"] == "1.0":
            cycle.__class__ = _OldCycle
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """A response is complete: others that wait for their turn, and what is not parsed yet."""
        super().on_response_complete()
        if self._rest and not self._is_later:
            self._is_later = True
            self._turns.later(self._go_on)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head; trailers are dropped, as over HTTP/3."""
        if self._head is not None:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Bytes of the body."""
        self._beside = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        self._head, self._beside = None, 0
        self._stop_head_timer()
        if not self.url.startswith((b"/", b"*")):
            found = split_absolute(self.url)
            if found is None:
                raise ValueError("the request has no path")  # httptools passes it on: 400
            authority, self.url = found
            self.headers[:] = with_host(self.headers, authority, self.parser.get_http_version())
        super().on_headers_complete()
        if self._server.stopping.is_set() and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Its body is complete: the next head may follow."""
        self._head = self._beside = 0
        super().on_message_complete()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._options.handshake_timeout, self._late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        self._end(HTTPStatus.REQUEST_TIMEOUT if self._head else None)

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP/1.1."""
        self._end(HTTPStatus.BAD_REQUEST)

    def _end(self, status: HTTPStatus | None) -> None:
        """End the connection; with an answer, unless another one is under way."""
        if self.transport.is_closing():
            return
        if self._running is None or self._running.response_complete:
            if status is not None:
                headers = self.server_state.default_headers
                options = self._server.driver_options
                self.transport.write(answer_unreadable(options, self.transport, status, headers))
            self.transport.close()
        else:
            abort(self.transport)  # asyncio warns of each further write after ``close``

    def handle_websocket_upgrade(self) -> None:
        """The rest of the connection is a WebSocket, which is another protocol."""
        transport = self.transport
        self._is_upgraded = True
        # A proxy may send it on a connection that it has used before.
        lines = (b"%b: %b\r\n" % line for line in self.scope["headers"])
        method = self.scope["method"].encode()
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self.url, b"".join(lines))
        link = self._options.take_upgrade(self._place, head)
        if link is not None:
            self.connections.discard(self)
            transport.set_protocol(link)
            link.connection_made(transport)
            link.data_received(head)
            return
        super().handle_websocket_upgrade()
        protocol = transport.get_protocol()
        assert isinstance(protocol, WebSocketProtocol)
        protocol.on_lost = self._place.leave
