"""The application framework: routes, middleware, start-up and shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack

from ..config import ServerConfig, ServerFields
from ..exceptions import ServerError, SessionRejectedError, WebTransportError, invalid_config
from ..utils._checks import check_callable
from ..utils._closing import AsyncContext
from ..utils._failures import log_application_error, name_of
from ..utils._tasks import is_being_cancelled
from ..utils._timing import get_timestamp
from ._access import access_logger, log_access
from ._answering import rejection_in
from ._callables import check_handler, check_hook, result_of
from ._draining import check_drain
from ._exiting import ExitGuard, run_to_end
from ._loops import LoopFactory, choose_loop
from ._passed import check_where, inherited_sockets
from ._protocols import AsgiApp, MiddlewareProtocol, MountedApp, SessionServer
from ._requests import CLIENT_CLOSED_REQUEST
from ._worker import current_worker
from .middleware import MiddlewareManager
from .router import RequestRouter, Route, SessionHandler, check_path
from .server import WebTransportServer

if TYPE_CHECKING:
    from ..session import WebTransportSession
    from ._supervisor import OnListening

__all__ = ["ServerApp"]

_Hook = TypeVar("_Hook", bound=Callable[[], Any])
_FORBIDDEN = 403
_SERVICE_UNAVAILABLE = 503
_INTERNAL_SERVER_ERROR = 500

_logger = logging.getLogger("pywebtransport.server")


class ServerApp(AsyncContext):
    """Routes sessions to handlers.

    ::

        app = ServerApp(config=ServerConfig.create(certfile="a.crt", keyfile="a.key"))

        async def answer(stream):
            await stream.write_all(await stream.read_all(max_size=65536))

        @app.route("/echo")
        async def echo(session):
            await session.serve_streams(answer)

        app.run(host="localhost", port=4433)
    """

    def __init__(self, config: ServerConfig | None = None) -> None:
        """Create an application without routes.

        Args:
            config: Configuration of the server; ``config.middleware`` runs first.

        Raises:
            ConfigurationError: A field of ``config`` is out of range.
        """
        self._server = WebTransportServer(config=config)
        self._mounted: MountedApp | None = None
        self.attach(self._server)
        self._router = RequestRouter()
        self._middleware = MiddlewareManager()
        for middleware in self._server.config.middleware:
            self._middleware.add_middleware(middleware)
        self._startup: list[Callable[[], Any]] = []
        self._shutdown: list[Callable[[], Any]] = []
        self._started = False

    # ---------------------------------------------------------------- properties

    @property
    def server(self) -> WebTransportServer:
        """The server below."""
        return self._server

    @property
    def router(self) -> RequestRouter:
        """The routes."""
        return self._router

    # -------------------------------------------------------------- registration

    def route(
        self,
        path: str,
        *,
        application_protocols: Sequence[str] | None = None,
        allowed_origins: Sequence[str] | None = None,
    ) -> Callable[[SessionHandler], SessionHandler]:
        """Decorator: serve ``path``, which may have placeholders: ``/room/{name}``.

        A session is accepted before its handler runs. A handler with a coroutine method
        ``answer_request(session)``, such as a ``WebTransportForwarder``, accepts it there
        itself, or raises ``SessionRejectedError``, and returns the handler that continues.

        Args:
            path: Starts with ``/``; the query does not count. The values of placeholders are in
                ``session.path_params``; see ``RequestRouter.add_route``.
            application_protocols: Protocols to choose from; default from the configuration.
            allowed_origins: Origins allowed on this path; default from the configuration.

        Raises:
            ConfigurationError: The path is malformed or taken, or the handler cannot be
                called as ``await handler(session)``.
        """

        check_path(path, "path", "@app.route('/path')")

        def register(handler: SessionHandler) -> SessionHandler:
            self._router.add_route(
                path,
                handler,
                application_protocols=application_protocols,
                allowed_origins=allowed_origins,
            )
            return handler

        return register

    def pattern_route(
        self,
        pattern: str,
        *,
        application_protocols: Sequence[str] | None = None,
        allowed_origins: Sequence[str] | None = None,
    ) -> Callable[[SessionHandler], SessionHandler]:
        """Decorator: serve every path that ``pattern`` matches, see ``RequestRouter``.

        Raises:
            ConfigurationError: The pattern is malformed, or the handler as in ``route``.
        """

        check_path(pattern, "pattern", "@app.pattern_route('/path/{name}')")

        def register(handler: SessionHandler) -> SessionHandler:
            self._router.add_pattern_route(
                pattern,
                handler,
                application_protocols=application_protocols,
                allowed_origins=allowed_origins,
            )
            return handler

        return register

    def mount(
        self,
        app: AsgiApp,
        *,
        root_path: str = "",
        lifespan: Literal["auto", "on", "off"] = "auto",
        startup_timeout: float = 60.0,
        shutdown_timeout: float = 30.0,
        tcp: bool | None = None,
        http2: bool = False,
    ) -> None:
        """Serve an ASGI application on the same port, beside the routes.

        It gets every HTTP request, and the WebTransport sessions whose path no route has. Its
        ``lifespan`` starts after the start-up handlers and before the server listens, and ends
        before the shutdown handlers, once in each worker process.

        It also gets the requests and WebSockets that come over TCP: the server listens on the TCP
        port of the same number, with the same certificates, and answers there with an ``alt-svc``
        header that sends browsers to HTTP/3.

        Args:
            app: An ASGI 3 application, such as a ``FastAPI`` or ``Starlette`` object.
            root_path: Where a proxy in front has the application, such as ``/shop``; the paths
                that the application sees begin with it.
            lifespan: ``auto``: go on without if the application does not know it; ``on``: do not
                start then; ``off``: do not use it.
            startup_timeout: Seconds that its start may take.
            shutdown_timeout: Seconds that its shutdown may take.
            tcp: False: HTTP/3 only. True: the server does not start without TCP. None: TCP if the
                extra ``asgi`` is installed; the log says so if it is not.
            http2: Speak HTTP/2 over TCP, too, by hypercorn of the extra ``http2``. Otherwise it is
                HTTP/1.1 by uvicorn.

        Raises:
            ConfigurationError: An argument has a wrong value, or an application is mounted
                already.
            ServerError: The server has been started.
        """
        from ..asgi._mounted import Mounted

        if self._mounted is not None:
            raise invalid_config(key="app", value=app, reason="an application is mounted already")
        if self._started or self._server.is_serving:
            raise ServerError("mount the application before the server is started")
        self._mounted = Mounted(
            app,
            root_path=root_path,
            lifespan=lifespan,
            startup_timeout=startup_timeout,
            shutdown_timeout=shutdown_timeout,
            tcp=tcp,
            http2=http2,
        )
        self.attach(self._server)

    def add_middleware(self, middleware: MiddlewareProtocol) -> None:
        """Append ``async def middleware(session) -> bool`` to the chain.

        It runs before the session is accepted, in the order of addition. A
        false result answers 403; raising ``SessionRejectedError`` answers with
        its status and headers.

        Raises:
            ConfigurationError: It cannot be called as ``await middleware(session=session)``.
        """
        self._middleware.add_middleware(middleware)

    def middleware(self, middleware_func: MiddlewareProtocol) -> MiddlewareProtocol:
        """Decorator form of ``add_middleware``."""
        self.add_middleware(middleware_func)
        return middleware_func

    def on_startup(self, handler: _Hook) -> _Hook:
        """Decorator: run ``handler()`` (plain or async) before serving, in order.

        Raises:
            ConfigurationError: It cannot be called without arguments.
        """
        check_hook(handler)
        self._startup.append(handler)
        return handler

    def on_shutdown(self, handler: _Hook) -> _Hook:
        """Decorator: run ``handler()`` (plain or async) after serving, in reverse order.

        Raises:
            ConfigurationError: It cannot be called without arguments.
        """
        check_hook(handler)
        self._shutdown.append(handler)
        return handler

    # ---------------------------------------------------------------- life cycle

    async def startup(self) -> None:
        """Run the start-up handlers once; the first that raises stops the start.

        A mounted ASGI application starts after them.

        Raises:
            ServerError: Something that a handler waited for was cancelled, and not the start.
            LifespanError: The ASGI application failed to start.
            Exception: Whatever else a handler raised.
        """
        if self._started:
            return
        self._started = True
        for handler in self._startup:
            try:
                await _call(handler)
            except asyncio.CancelledError as error:
                if is_being_cancelled():
                    raise
                raise ServerError(
                    f"start-up handler {name_of(handler)}: something that it waited for was "
                    "cancelled"
                ) from error
        if self._mounted is not None:
            await self._mounted.startup()

    async def shutdown(
        self, *, drain_timeout: float | None = None, spread: float | None = None
    ) -> None:
        """Close the server gracefully, then run the shutdown handlers. Idempotent.

        A mounted ASGI application shuts down before them. A shutdown handler that raises is
        logged; the others still run.

        Args:
            drain_timeout: Seconds, see ``WebTransportServer.close``.
            spread: Seconds, see ``WebTransportServer.close``.

        Raises:
            ConfigurationError: An argument is out of range, or the server belongs to another
                event loop; nothing was closed.
        """
        check_drain(drain_timeout, spread)
        if not self._server.home_loop.is_gone:
            self._server.home_loop.enter()
        try:
            await self._server.close(drain_timeout=drain_timeout, spread=spread)
        finally:
            if self._started:
                self._started = False
                try:
                    if self._mounted is not None:
                        await self._mounted.shutdown()
                finally:
                    await self._run_shutdown_handlers()

    async def _run_shutdown_handlers(self) -> None:
        for handler in reversed(self._shutdown):
            try:
                await _call(handler)
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                    raise
                log_application_error(_logger, f"shutdown handler {name_of(handler)}", error)

    async def __aenter__(self) -> Self:
        try:
            await self.startup()
        except BaseException:
            await self.shutdown()
            raise
        return self

    async def _end_block(self) -> None:
        await self.shutdown()

    async def serve(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        sockets: Sequence[socket.socket] | None = None,
        **kwargs: Unpack[ServerFields],
    ) -> None:
        """Listen and serve until cancelled or until the server is closed.

        Args:
            host: Default ``config.bind_host``.
            port: Default ``config.bind_port``.
            sockets: Bound sockets to serve instead, see ``WebTransportServer.listen``.
            **kwargs: Further fields of the configuration to set first.

        Raises:
            ServerError: The address cannot be bound.
            CertificateError: A certificate or key cannot be used.
            ConfigurationError: A bad host or port, bad sockets, or an unknown or bad field in
                ``kwargs``.

        Cancellation: ends serving; ``shutdown`` (or leaving ``async with``) releases.
        """
        await self.listen(host=host, port=port, sockets=sockets, **kwargs)
        await self._server.serve_forever()

    async def listen(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        sockets: Sequence[socket.socket] | None = None,
        **kwargs: Unpack[ServerFields],
    ) -> None:
        """Run the start-up handlers and begin to listen, without blocking.

        Args and errors: as ``serve``. ``server.local_address`` then tells the port.
        """
        check_where(host, port, sockets)
        if kwargs:
            self._server.configure(self._server.config.update(**kwargs))
        await self.startup()
        await self._server.listen(host=host, port=port, sockets=sockets)

    def run(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        sockets: Sequence[socket.socket] | None = None,
        loop_factory: LoopFactory | None = None,
        on_listening: OnListening | None = None,
        **kwargs: Unpack[ServerFields],
    ) -> None:
        """Serve until SIGINT or SIGTERM, then shut down gracefully. Blocks.

        During the start such a signal cancels the start-up handler that runs;
        then the shutdown handlers run. A second one ends the process at once.
        SIGHUP reloads the certificates and the files of ``shared_secret``.

        The event loop is uvloop's if uvloop is installed, in each worker process as well; a line
        in the log says which one it is. For asyncio's, set ``loop_factory=asyncio.new_event_loop``.

        The process ends even if code of the application does not end. When ``drain_spread``,
        ``drain_timeout``, ``close_timeout`` and ``shutdown_timeout`` have passed, the log names
        what still runs (function, session, file and line), and the process ends with status 70,
        without running ``finally`` blocks. A handler that has suppressed its cancellation twice, by
        the server and by the event loop, is not waited for. SIGALRM is used for that, from the
        signal to the end.

        With ``workers`` above 1, this number of processes serves the port, see ``run_workers``.
        Each is a copy of this one and runs the start-up and shutdown handlers itself. Each worker
        has its own limits, statistics and memory of handlers.

        A program that systemd started for a socket (``inherited_sockets``) serves this socket, and
        ignores host and port.

        Args:
            host: Default ``config.bind_host``.
            port: Default ``config.bind_port``.
            sockets: Bound sockets to serve instead, see ``WebTransportServer.listen``.
            loop_factory: Creates the event loop. By default, your event loop policy does, if you
                set one; otherwise it is uvloop's if uvloop is installed, and asyncio's if not.
            on_listening: Called once with the addresses when the server listens, with workers in
                the main process when all of them listen. An exception that it raises ends the
                server.
            **kwargs: Fields of the configuration to set first, such as ``workers=4``.

        Raises: as ``serve``; with workers, what stopped the first that could not start.
            ConfigurationError also if an event loop runs in this thread, or outside of the main
            thread, which receives the signals; use ``serve`` then.
        """
        from ._supervisor import check_caller, run_workers

        check_caller("run")
        check_where(host, port, sockets)
        if loop_factory is not None and not callable(loop_factory):
            raise invalid_config(
                key="loop_factory",
                value=loop_factory,
                reason="expected a function that makes event loops, such as asyncio.new_event_loop",
            )
        if on_listening is not None:
            check_callable("on_listening", on_listening)
        if kwargs:
            self._server.configure(self._server.config.update(**kwargs))
        self._server.owns_process = True
        config = self._server.config
        if config.workers > 1:
            run_workers(
                lambda: self._run(host, port),
                config=config,
                host=host,
                port=port,
                sockets=sockets,
                loop_factory=loop_factory,
                on_listening=on_listening,
                tcp=self._server.tcp.is_wanted(config),
            )
            return
        loop_factory = choose_loop(loop_factory, _logger)
        guard = ExitGuard(lambda: self._server.config, _logger)
        passed = inherited_sockets() if sockets is None else []
        if passed:
            host, port, sockets = None, None, passed
        try:
            run_to_end(
                lambda: self._run(host, port, sockets, guard.arm, on_listening),
                guard=guard,
                loop_factory=loop_factory,
            )
        finally:
            for sock in passed:
                sock.close()

    # ------------------------------------------------------------------ internal

    async def _run(
        self,
        host: str | None,
        port: int | None,
        sockets: Sequence[socket.socket] | None = None,
        ending: Callable[[], object] = bool,
        on_listening: OnListening | None = None,
    ) -> None:
        """Serve until told to stop: by a signal, or as a worker.

        Args:
            host: As for ``run``.
            port: As for ``run``.
            sockets: As for ``run``.
            ending: Called when the process is to end; a worker knows by itself.
            on_listening: As for ``run``, in a process without workers.
        """
        main = asyncio.current_task()
        assert main is not None
        stop = asyncio.Event()
        starting = True

        def on_stop() -> None:
            stop.set()
            if starting:
                main.cancel()

        worker = current_worker()
        if worker is not None:
            worker.on_stop = on_stop
            ending = worker.ending
        signals = _signals(ending, on_stop, self._reload)
        with contextlib.nullcontext() if worker is not None else signals:
            try:
                try:
                    await self.listen(host=host, port=port, sockets=sockets)
                    starting = False
                    if on_listening is not None:
                        on_listening(self._server.local_addresses)
                    await self._serve_until(stop)
                finally:
                    ending()
                    await self.shutdown()
            except asyncio.CancelledError:
                # Shut down what was started. It may have been cancelled by others, too.
                if not (starting and stop.is_set()) or main.uncancel():
                    raise

    async def _serve_until(self, stop: asyncio.Event) -> None:
        tasks = [
            asyncio.ensure_future(self._server.serve_forever()),
            asyncio.ensure_future(stop.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _reload(self) -> None:
        if not self._server.is_serving:
            return  # before the start, the files will be read anyway; afterwards nothing needs them
        try:
            self._server.reload_certificates()
        except WebTransportError as error:
            _logger.error("the certificates were not reloaded: %s", error)

    def attach(self, server: WebTransportServer) -> None:
        """Serve the sessions of a server with the routes and middleware of this application.

        Args:
            server: One that has no other handler; it may listen already.
        """
        handle = partial(self._handle, server)
        if self._mounted is not None:
            handle = partial(self._handle_mounted, server, self._mounted.serve(server))
        server.serve_with(handle, partial(self._origins_of, server))

    def _origins_of(self, server: WebTransportServer, path: str) -> tuple[str, ...] | None:
        found = self._router.match(path)
        if found is not None and found[0].allowed_origins is not None:
            return found[0].allowed_origins
        return server.default_origins(path)

    async def _handle_mounted(
        self, server: WebTransportServer, asgi: SessionServer, session: WebTransportSession
    ) -> None:
        """As ``_handle``; sessions that no route has go to the ASGI application."""
        if self._router.match(session.path) is not None:
            await self._handle(server, session)
            return
        started, accepted = get_timestamp(), session.on_ready
        status = _INTERNAL_SERVER_ERROR

        def ready() -> None:
            if accepted is not None:
                accepted()
            self._log_access(server, session, 200, started)

        session.on_ready = ready
        try:
            if not await self._middleware.process_request(session):
                raise SessionRejectedError(status_code=_FORBIDDEN)
            if not session.is_closed:
                await asgi.serve_session(session)
            status = CLIENT_CLOSED_REQUEST
        except BaseException as error:
            status = _status_of(error)
            raise
        finally:
            if session.ready_at is None:
                self._log_access(server, session, _answered(session, status), started)

    async def _handle(self, server: WebTransportServer, session: WebTransportSession) -> None:
        """Route, check, accept, run the handler."""
        started = get_timestamp()
        status = 200
        try:
            found = self._router.match(session.path)
            if found is None:
                status, headers = server.not_found(session)
                session.rejection_reason = "no route has this path"
                raise SessionRejectedError(status_code=status, headers=headers)
            route, params = found
            session.path_params = params
            if not await self._middleware.process_request(session):
                raise SessionRejectedError(status_code=_FORBIDDEN)
            handler = route.handler
            answer = getattr(handler, "answer_request", None)
            # It accepts the session itself, like a forwarder.
            if answer is not None and session.state == "connecting":
                handler = await result_of("answer_request", answer, answer(session))
                check_handler(handler)
            if session.is_closed:
                status = CLIENT_CLOSED_REQUEST
            elif session.state == "connecting":
                session.accept(application_protocol=self._choose_protocol(server, session, route))
        except BaseException as error:
            status = _status_of(error)
            raise
        finally:
            self._log_access(server, session, _answered(session, status), started)
        if session.is_ready:
            await result_of("handler", handler, handler(session))
            if _logger.isEnabledFor(logging.DEBUG):
                _logger.debug(
                    "session %s: its handler %s returned",
                    session.session_id,
                    name_of(handler),
                    extra={"session_id": session.session_id},
                )

    def _choose_protocol(
        self, server: WebTransportServer, session: WebTransportSession, route: Route
    ) -> str | None:
        """The client's first choice among what this path supports."""
        supported = route.application_protocols
        if supported is None:
            supported = tuple(server.config.application_protocols)
        return next((name for name in session.offered_protocols if name in supported), None)

    def _log_access(
        self, server: WebTransportServer, session: WebTransportSession, status: int, started: float
    ) -> None:
        if server.config.access_log and access_logger.isEnabledFor(logging.INFO):
            log_access(
                session.remote_address,
                "CONNECT",
                session.path,
                status,
                started,
                origin=session.origin,
                version="WebSocket" if session.transport == "websocket" else None,
                transport=session.transport,
                session_id=session.session_id,
            )


@contextlib.contextmanager
def _signals(
    ending: Callable[[], object], on_stop: Callable[[], None], on_reload: Callable[[], None]
) -> Iterator[None]:
    """Let the running loop act on signals; ``ending`` is called even while it is blocked.

    Not by ``add_signal_handler``: a handler that blocks the loop would keep the
    second signal from ending the process.
    """
    loop = asyncio.get_running_loop()

    told = False

    def stopping(number: int, frame: object) -> None:
        nonlocal told
        if told:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
            signal.raise_signal(number)
        else:
            told = True
            ending()
            loop.call_soon_threadsafe(on_stop)

    def reloading(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(on_reload)

    wanted = {signal.SIGINT: stopping, signal.SIGTERM: stopping, signal.SIGHUP: reloading}
    previous = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _answered(session: WebTransportSession, status: int) -> int:
    """The status that the client got: that of a middleware, or else ``status``."""
    if session.ready_at is not None:
        return 200
    rejected = session.error
    return rejected.status_code if isinstance(rejected, SessionRejectedError) else status


def _status_of(error: BaseException) -> int:
    """The status that the client gets for an exception."""
    rejection = rejection_in(error)
    if rejection is not None:
        return rejection.status_code
    if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
        return _SERVICE_UNAVAILABLE
    return _INTERNAL_SERVER_ERROR


async def _call(handler: Callable[[], Any | Awaitable[Any]]) -> None:
    result = handler()
    if inspect.isawaitable(result):
        await result
