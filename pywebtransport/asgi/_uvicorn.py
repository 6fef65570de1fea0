"""HTTP/1.1 and WebSocket over TCP: uvicorn in our event loop."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import socket
import ssl
from functools import partial
from typing import Any, Final, cast
from weakref import WeakSet

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from ..utils._logs import shared_log
from ..utils._stuck import end_tasks
from ._front import BACKLOG, FrontOptions, Listening, end_connections, remote_host
from ._types import AsgiApp

__all__ = ["UvicornFront"]

# Seconds between two updates of the ``date`` field.
_TICK = 1.0
# Seconds in which a client that connected just before the end may still send its request.
_ARRIVAL = 1.0
# Seconds for the answer of a client to the end of a TLS connection.
_TLS_END = 5.0
_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
_HEAD_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)

_logger = logging.getLogger("pywebtransport.asgi")


class UvicornFront:
    """A ``TcpFront`` of uvicorn.

    Args:
        options: Limits.
    """

    def __init__(self, options: FrontOptions) -> None:
        self._options = options
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(
        self, app: AsgiApp, sockets: list[socket.socket], ssl_context: ssl.SSLContext
    ) -> None:
        """See ``TcpFront.start``."""
        server = _Server(app, sockets, ssl_context, self._options)
        await server.listening.start()
        self._server = server
        self._task = asyncio.get_running_loop().create_task(
            server.live(), name="HTTP over TCP (uvicorn)"
        )

    def reload(self) -> None:
        """See ``TcpFront.reload``: nothing to do, new connections ask ``ssl_context``."""

    async def stop(self, timeout: float) -> None:
        """See ``TcpFront.stop``."""
        task, self._task = self._task, None
        if task is None or self._server is None:
            return
        self._server.time_to_stop = timeout
        self._server.stopping.set()
        try:
            await task
        finally:
            self._server = None


class _Server(uvicorn.Server):
    """A server that listens on our sockets, and ends when it is told.

    Args:
        app: The application.
        sockets: Bound sockets.
        tls: For all connections.
        options: Limits.
    """

    def __init__(
        self,
        app: AsgiApp,
        sockets: list[socket.socket],
        tls: ssl.SSLContext,
        options: FrontOptions,
    ) -> None:
        # It is only called, as the class would be.
        http: Any = partial(_HttpProtocol, self)
        config = uvicorn.Config(
            app,
            http=http,
            ws=_WebSocketProtocol,
            interface="asgi3",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=True,  # False would take the handlers from the logger of other uvicorns
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
        )
        config.load()
        super().__init__(config)
        self.lifespan = config.lifespan_class(config)
        self.options = options
        self.listening = Listening(sockets, options, self._listen, self._accept)
        self.stopping = asyncio.Event()
        self.time_to_stop = 0.0
        # While it stops: clients that have just connected may still send their request.
        self.takes_newcomers = True
        self._tls: dict[str, Any] = {
            "ssl": tls,
            "ssl_handshake_timeout": options.handshake_timeout,
            "ssl_shutdown_timeout": _TLS_END,
        }
        self._accepting: set[asyncio.Task[Any]] = set()
        # Protocols whose TLS handshake is not complete.
        self.arriving: WeakSet[_HttpProtocol] = WeakSet()

    async def _listen(self, sock: socket.socket) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            self._make_protocol, sock=sock, backlog=BACKLOG, **self._tls
        )

    def _accept(self, sock: socket.socket) -> None:
        """Take a connection that waited when the server stopped to listen."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        task = loop.create_task(self._take(sock))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _take(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # its handshake failed, as it may
            await loop.connect_accepted_socket(self._make_protocol, sock=sock, **self._tls)

    def _make_protocol(self) -> _HttpProtocol:
        protocol: Any = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        self.arriving.add(protocol)
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
        finally:
            await self.shutdown()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as ``TcpFront.stop`` says."""
        self.stopping.set()
        self.listening.stop()
        state = self.server_state
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.time_to_stop
        timer = loop.call_later(min(_ARRIVAL, self.time_to_stop), self._take_no_newcomers)
        try:
            for connection in list(state.connections):
                if not (isinstance(connection, _HttpProtocol) and connection.is_new):
                    connection.shutdown()
            await end_connections(
                lambda: [connection.transport for connection in state.connections],
                self.time_to_stop,
                lambda: self.takes_newcomers and bool(self.arriving),
            )
            # Those of the application get an ``http.disconnect`` first, if there is time.
            if state.tasks and (left := deadline - loop.time()) > 0:
                await asyncio.wait(state.tasks, timeout=left)
        finally:
            timer.cancel()
            self.takes_newcomers = False
            tasks = [*state.tasks, *self._accepting]
            await end_tasks(tasks, timeout=0.0, logger=_logger, what="requests over TCP")

    def _take_no_newcomers(self) -> None:
        self.takes_newcomers = False
        for connection in list(self.server_state.connections):
            if isinstance(connection, _HttpProtocol) and connection.is_new:
                connection.shutdown()


class _Log:
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


class _HttpProtocol(HttpToolsProtocol):
    """A connection with HTTP/1.1.

    Args:
        server: Its server.
        **arguments: As for uvicorn's.
    """

    def __init__(self, server: _Server, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.logger = _Log()  # type: ignore[assignment]
        self.access_log = False
        self._server = server
        self._options = server.options
        self._head: int | None = 0  # its bytes so far; None: a body is read
        self._head_timer: asyncio.TimerHandle | None = None

    @property
    def is_new(self) -> bool:
        """Whether it has had no request yet."""
        return self.cycle is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there, and its TLS handshake is complete."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._server.arriving.discard(self)
        if self._server.takes_newcomers and self._options.admission.enter(
            transport, remote_host(transport)
        ):
            self._await_head()
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._options.admission.leave(self.transport)
        self._stop_head_timer()
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:  # uvicorn keeps it after an error
            self.timeout_keep_alive_task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the head of a request becomes too large."""
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and self._head > self._options.max_head:
            self._end(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        self._head = None
        self._stop_head_timer()
        super().on_headers_complete()
        if self._server.stopping.is_set() and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Its body is complete: the next head may follow."""
        self._head = 0
        super().on_message_complete()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._options.handshake_timeout, self._late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        self._end(_HEAD_TOO_SLOW if self._head else b"")

    def _end(self, answer: bytes) -> None:
        """End the connection; with an answer, unless another one is under way."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(answer)
        self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        """The rest of the connection is a WebSocket, which is another protocol."""
        transport = self.transport
        super().handle_websocket_upgrade()
        protocol = transport.get_protocol()
        assert isinstance(protocol, _WebSocketProtocol)
        protocol.on_lost = lambda: self._options.admission.leave(transport)


class _WebSocketProtocol(WSProtocol):
    """A connection that has become a WebSocket."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.logger = _Log()  # type: ignore[assignment]
        self.on_lost: Any = None

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)
