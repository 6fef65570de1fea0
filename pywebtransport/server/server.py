"""The server: listens, accepts connections, hands session requests on."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from .._core.driver import Driver
from .._core.endpoint import server_endpoint
from .._core.settings import h3_options, server_tls
from .._core.totals import ConnectionTotals
from .._loop import Endpoint, WorkerSockets
from .._states import URL, Address, EventType, SessionState
from ..config import ServerConfig
from ..connection import WebTransportConnection
from ..events import Event, EventEmitter
from ..exceptions import (
    ConfigurationError,
    ServerError,
    SessionRejectedError,
)
from ..h3._settings import greeting
from ..session import SessionManager, WebTransportSession
from ..utils._certificates import certificate_hash
from ..utils._checks import check_instance
from ..utils._home import HomeLoop
from ..utils._logs import apply_log_level
from ..utils._networks import AddressCounts, client_network
from ..utils._rounds import Round
from ..utils._stuck import end_tasks
from ..utils._tasks import start_task
from ..utils._timing import get_timestamp
from ..utils._turns import Turns
from ..utils._urls import build_webtransport_url
from ._answering import Answering
from ._binding import listen_on
from ._certificates import CertificateWatch, with_certificates
from ._collector import CollectorSeat
from ._draining import Draining, check_drain, close_all
from ._losses import Losses
from ._origins import is_allowed
from ._passed import check_where
from ._requests import RequestHandler, Requests
from ._sessions import ServerSessions
from ._shared_secret import SharedSecret, current_secret
from ._stats import ServerStats
from ._tcp import TcpPort
from ._websocket import Links
from ._worker import current_worker, no_seat

if TYPE_CHECKING:
    from .._quic import QuicConnection, QuicTls
    from .._transport import LayerSession
    from ..h3._exchange import H3Exchange

__all__ = ["ServerStats", "WebTransportServer", "check_server_config"]

# Hosts that stand for every address.
_ALL = ("", "0.0.0.0", "::")
_TOO_MANY_REQUESTS = 429
# Seconds until a refused client may try again: a place may be free by then.
_RETRY_LATER = {"retry-after": "10"}
_FORBIDDEN = 403
_NOT_FOUND = 404
_METHOD_NOT_ALLOWED = 405
_SERVICE_UNAVAILABLE = 503
# The generation from which on a path without WebTransport answers 405 (draft-16).
_DRAFT_405 = 16


class WebTransportServer(EventEmitter):
    """Accepts WebTransport sessions on any number of addresses.

    Most programs use ``ServerApp``, which adds routes and middleware. Alone,
    the server emits ``SESSION_REQUEST`` with ``{"session": session}`` for each
    request; a listener answers with ``session.accept()`` or ``reject()``. When one
    raises, the answer is 500, or the session closes with code 1.
    """

    def __init__(self, config: ServerConfig | None = None) -> None:
        """Create a server that does not listen yet.

        Args:
            config: Certificates, limits, timeouts; default ``ServerConfig()``.

        Raises:
            ConfigurationError: ``config`` is not a ``ServerConfig``, or a field is out of range.
        """
        check_server_config(config)
        super().__init__()
        # A copy: later changes to the original would only take effect in places.
        self._config = ServerConfig() if config is None else config.copy()
        self._config.validate()
        apply_log_level(self._config.log_level)
        self._logger = logging.getLogger("pywebtransport.server")
        self._endpoint: Endpoint | None = None
        self.home_loop = HomeLoop()
        self._host = ""  # as passed, for ``url``
        self._seat: WorkerSockets | None = None
        self._secret: SharedSecret | None = None
        self._options = h3_options(self._config)
        self._connections: set[WebTransportConnection] = set()
        self._sessions_of = AddressCounts(self._config.address_sessions)
        self._sessions: set[WebTransportSession] = set()
        # Of the connections and sessions, those over WebSocket.
        self._websocket_connections = self._websocket_sessions = 0
        self._session_manager: SessionManager | None = None
        self._handler: Callable[[WebTransportSession], Awaitable[None]] | None = None
        self._origins: Callable[[str], tuple[str, ...] | None] = self.default_origins
        self._tasks: set[asyncio.Task[None]] = set()
        self._stats = ServerStats()
        self._losses = Losses(self._logger, self._stats)
        self._answering = Answering(self._logger, self._stats)
        self.http_requests = Requests(self._config, self._logger, self._stats)
        self.http_requests.on_end = self._request_ended
        self._links = Links(self._current_config, self._take_over_websocket)
        self.tcp = TcpPort(self._current_config, self._stats, self._links.make)
        self._certificates: CertificateWatch | None = None
        self.owns_process = False  # set by ``ServerApp.run``
        self._collector: CollectorSeat | None = None
        self.sessions_over = 0  # ended sessions that were accepted
        self._figures = ConnectionTotals()
        self._started_at: float | None = None
        self._stopped: asyncio.Event | None = None
        # One address after the other: the first makes the endpoint of all.
        self._listening = asyncio.Lock()
        self._closing = False
        self._closed = False
        self._draining: Draining | None = None

    # -------------------------------------------------------------- properties

    @property
    def is_serving(self) -> bool:
        """The server listens and accepts sessions."""
        return self._endpoint is not None and not self._closing

    @property
    def is_draining(self) -> bool:
        """``close`` was called, and sessions may still end by themselves."""
        return self._closing and not self._closed

    @property
    def config(self) -> ServerConfig:
        """The configuration in force."""
        return self._config

    def _current_config(self) -> ServerConfig:
        return self._config

    @property
    def local_address(self) -> Address | None:
        """The first address listened on; None when not listening."""
        addresses = self.local_addresses
        return addresses[0] if addresses else None

    @property
    def local_addresses(self) -> list[Address]:
        """Every address listened on."""
        return [] if self._endpoint is None else list(self._endpoint.local_addresses)

    @property
    def port(self) -> int:
        """The UDP port of the first address listened on.

        Raises:
            ServerError: The server does not listen.
        """
        return self._first_address()[1]

    @property
    def url(self) -> URL:
        """``https://host:port/``, for clients on this machine: the host is the one given.

        A server that listens on every address has ``localhost`` there.

        Raises:
            ServerError: The server does not listen.
        """
        address, port = self._first_address()
        host = self._host or address
        return build_webtransport_url(host="localhost" if host in _ALL else host, port=port)

    @property
    def certificate_hash(self) -> bytes:
        """SHA-256 hash of the certificate in ``certfile``, for ``server_certificate_hashes``.

        While the server listens, it is the one that the server has loaded: it follows
        ``reload_certificates``, not the file.

        Raises:
            ServerError: The configuration names no certificate.
            CertificateError: The file cannot be read.
        """
        if not self._config.certfile:
            raise ServerError("the server has no certificate: certfile is not set")
        loaded = None if self._certificates is None else self._certificates.hash
        return certificate_hash(self._config.certfile) if loaded is None else loaded

    @property
    def connections(self) -> tuple[WebTransportConnection, ...]:
        """The open connections."""
        return tuple(self._connections)

    @property
    def sessions(self) -> tuple[WebTransportSession, ...]:
        """The sessions that are requested or open."""
        return tuple(self._sessions)

    @property
    def open_session_count(self) -> int:
        """How many sessions are requested or open."""
        return len(self._sessions)

    def has_session(self, session: WebTransportSession) -> bool:
        """Whether a session is requested or open on this server."""
        return session in self._sessions

    @property
    def session_manager(self) -> SessionManager:
        """The sessions by ID; created on first use."""
        if self._session_manager is None:
            self._session_manager = ServerSessions(self)
        return self._session_manager

    # ---------------------------------------------------------------- life cycle

    async def listen(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        sockets: Sequence[socket.socket] | None = None,
    ) -> None:
        """Start listening; call it again for further addresses.

        Args:
            host: IP literal, name, ``localhost`` (both loopback addresses) or
                ``::`` (every address of both families). Default ``config.bind_host``.
            port: UDP and TCP port; 0 chooses a free one, see ``local_address``.
                Default ``config.bind_port``.
            sockets: Bound sockets to serve instead, see ``inherited_sockets``: UDP sockets, and
                TCP sockets of the same ports if something is served over TCP. Once this has
                returned they belong to the server, which closes them; if it raises, they are as
                before.

        Raises:
            ServerError: The address cannot be bound, or the server is closed.
            ConfigurationError: ``host`` or ``port`` is malformed, ``sockets`` are not such
                sockets or come with a host or port, no certificate is given, or ``workers`` is
                above 1 in a process that is not a worker, see ``run_workers``.
            CertificateError: A certificate or key cannot be used.

        Cancellation: safe.
        """
        check_where(host, port, sockets)
        if self._endpoint is not None:
            self.home_loop.enter()
        async with self._listening:
            await self._listen(host, port, sockets)

    async def _listen(
        self, host: str | None, port: int | None, sockets: Sequence[socket.socket] | None
    ) -> None:
        self._check_not_closed()
        if self._endpoint is None:
            self.configure(self._config)  # whose fields may have been set since it was made
        config = self._config
        if not config.certfile or not config.keyfile:
            raise ConfigurationError(
                "a server needs certfile and keyfile; for development "
                "pywebtransport.utils.generate_self_signed_cert() makes both",
                config_key="certfile" if not config.certfile else "keyfile",
                config_value=config.certfile or config.keyfile,
            )
        host = config.bind_host if host is None else host
        port = config.bind_port if port is None else port
        worker = current_worker()
        seat = None if worker is None or sockets else worker.seat_for((host, port))
        if config.workers > 1 and seat is None:
            raise no_seat(config.workers, worker)
        if worker is not None and seat is not None and self._seat is None:
            config = self._config = with_certificates(config, *worker.certificates)
        endpoint = self._endpoint
        if endpoint is None:
            self._seat = seat
            self._secret = current_secret(config, self._seat, self._secret)
            endpoint = server_endpoint(
                config,
                self._tls(config, self._secret),
                self._accept,
                seat,
                self._losses.handshake_failed,
            )
            endpoint.quic.set_greeting(greeting(self._options))

        def on_bound(addresses: list[Address]) -> None:
            if self._endpoint is None and self._secret is not None:
                endpoint.quic.set_secrets(self._secret.engine_secrets(addresses[0]))

        own_seat = seat if seat is self._seat else None
        try:
            bound = await listen_on(
                sockets or (host, port),
                endpoint,
                own_seat,
                config,
                self.tcp,
                on_bound,
                self._check_not_closed,
            )
        except BaseException:
            if self._endpoint is None:
                endpoint.close()
            raise
        for sock in sockets or ():
            sock.close()
        self.home_loop.enter()
        self._endpoint = endpoint
        if self._started_at is None:
            self._host = "" if sockets else host
            self._started_at = get_timestamp()
            self._watch_certificates()
            if self._wants_collector():
                self._collector = CollectorSeat(self)
        if worker is not None and seat is not None:
            # The supervisor says where, once for all workers.
            worker.listening(self, bound)
            return
        for address in bound:
            self._logger.info("listening on %s port %d", *address)

    def _first_address(self) -> Address:
        address = self.local_address
        if address is None:
            raise self._does_not_listen()
        return address

    def _wants_collector(self) -> bool:
        policy = self._config.gc_policy
        own = self.owns_process or current_worker() is not None
        return policy == "server" or (policy == "auto" and own)

    def _does_not_listen(self) -> ServerError:
        closed = self._closing or self._closed
        return ServerError(
            "the server does not listen"
            + (": it is closed; make a new one" if closed else "; call listen() first")
        )

    def _check_not_closed(self) -> None:
        if self._closing or self._closed:
            raise ServerError("the server is closed; make a new one")

    async def serve_forever(self) -> None:
        """Serve until ``close`` is called or the task is cancelled.

        Raises:
            ServerError: The server does not listen, or it is closed.

        Cancellation: safe; the server still listens until ``close``.
        """
        if self._endpoint is None:
            raise self._does_not_listen()
        self.home_loop.enter()
        if self._stopped is None:
            self._stopped = asyncio.Event()
        await self._stopped.wait()

    async def close(
        self, *, drain_timeout: float | None = None, spread: float | None = None
    ) -> None:
        """Stop: refuse new work, let sessions finish, then close what is left. Idempotent.

        Clients are told (GOAWAY, and a DRAIN capsule for each session) and have ``drain_timeout``
        seconds to end their sessions. Remaining sessions are then closed with code 0. The rest
        takes at most ``close_timeout`` seconds: the server waits until finished streams are
        acknowledged, and cancels handlers that still run. It does not wait for clients that do not
        answer anymore. A handler that ignores its cancellation is named in the log, with its
        session and position, and no longer waited for.

        Args:
            drain_timeout: Seconds; default ``config.drain_timeout``; 0 does not wait.
            spread: Seconds over which the clients are told, in batches, so that they do not all
                reconnect elsewhere at the same time; default ``config.drain_spread``. The
                ``drain_timeout`` of each client begins then.

        Raises:
            ConfigurationError: ``drain_timeout`` or ``spread`` is not a number of seconds, or the
                server belongs to another event loop; nothing was closed.

        Cancellation: everything is released anyway, without the wait.
        """
        check_drain(drain_timeout, spread)
        if self._closed:
            return
        if self.home_loop.is_gone:
            self._release()
            return
        loop = self.home_loop.enter()
        if self._closing:
            await self.wait_closed()
            return
        self._closing = True
        timeout = self._config.drain_timeout if drain_timeout is None else drain_timeout
        spread = self._config.drain_spread if spread is None else spread
        close_timeout = self._config.close_timeout
        deadline = loop.time() + close_timeout
        worker = current_worker()
        ending = self.tcp.begin_stop(timeout + spread)
        waits = False  # for clients that answer the end: not if this is cancelled before
        try:
            if worker is not None:
                worker.closing(self)
            if self._collector is not None:
                self._collector.rest()
            if self._endpoint is None:
                await asyncio.gather(*ending)
            else:
                quic = self._endpoint.quic
                quic.stop_accepting()
                if timeout > 0 or spread > 0:
                    self._draining = Draining(
                        lambda: self._connections,
                        lambda: quic.stats()["half_open"] + self.tcp.arriving,
                        self._logger,
                        "server shutdown",
                    )
                    ended = loop.time() + timeout
                    await self._draining.run(timeout, spread)
                    await self.http_requests.finish(ended - loop.time())
                await asyncio.gather(*ending)
                deadline = loop.time() + close_timeout
                self.http_requests.cancel()
                for session in list(self._sessions):
                    if session.state == "connecting":
                        self._answering.reject(
                            session, _SERVICE_UNAVAILABLE, "the server is closing"
                        )
                        await Turns.of(loop).pause()
                # Handlers have the rest of the time, and what it is for.
                await close_all(
                    list(self._connections), "server shutdown", deadline - close_timeout / 5
                )
                waits = True
        finally:
            if self._draining is not None:
                self._draining.stop()
                self._draining = None
            for connection in list(self._connections):
                connection.close_nowait(reason="server shutdown")
            if self._certificates is not None:
                self._certificates.close()
            if self._collector is not None:
                self._collector.close()
            self._losses.close()
            self.http_requests.close()
            endpoint, self._endpoint = self._endpoint, None
            try:
                await end_tasks(
                    [*self._tasks, *self.http_requests.tasks.values(), *ending],
                    timeout=deadline - loop.time(),
                    logger=self._logger,
                    what="handlers" if self.http_requests.tasks else "session handlers",
                )
                await self.tcp.stop(0.0)  # its task may have been cancelled before it began
                await self._links.end(deadline - loop.time() if waits else 0.0)
                if endpoint is not None:
                    await endpoint.aclose(timeout=deadline - loop.time())
            finally:
                if endpoint is not None:
                    endpoint.close()
                if worker is not None:
                    worker.closed(self)
                self._closed = True
                if self._stopped is None:
                    self._stopped = asyncio.Event()
                self._stopped.set()
                await self._emitter_close(deadline - loop.time())

    def _release(self) -> None:
        """What ``close`` can still do without a loop: release descriptors and memory."""
        self._closing = self._closed = True
        for connection in self._connections:
            connection.abandon()
        self._connections.clear()
        if self._collector is not None:
            self._collector.close()
        self.tcp.abandon()
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.close()

    async def wait_closed(self) -> None:
        """Wait until ``close`` has finished. Cancellation: safe."""
        if self._stopped is None:
            self._stopped = asyncio.Event()
        await self._stopped.wait()

    def __repr__(self) -> str:
        if self._closing or self._closed:
            return "<WebTransportServer: closed>"
        return f"<WebTransportServer: {self.url if self.is_serving else 'does not listen'}>"

    async def _end_failed_block(self) -> None:
        await self.close(drain_timeout=0.0)

    def reload_certificates(
        self, *, certfile: str | None = None, keyfile: str | None = None
    ) -> None:
        """Read the certificate files and those of ``shared_secret`` again.

        New connections use them, old ones continue. If a file cannot be used, nothing changes.
        In a worker process, the other workers do the same; see ``run_workers``.

        Args:
            certfile: A new path; None: the same as before.
            keyfile: The same for the key.

        Raises:
            CertificateError: The files cannot be used; the old certificate stays.
            ConfigurationError: A file of ``shared_secret`` cannot be used; nothing changes.
            ServerError: The server does not listen.
        """
        if self._endpoint is None:
            raise ServerError("the server does not listen; there is nothing to reload")
        self.load_certificates(certfile, keyfile)
        worker = current_worker()
        if worker is not None and worker.serves(self):
            worker.reloaded(certfile, keyfile)

    # ------------------------------------------------------------- observability

    async def get_server_stats(self) -> dict[str, Any]:
        """Return the statistics of the server, of its engine, and of all its connections together.

        Returns:
            The fields of ``ServerStats``, ``active_connections`` (QUIC) and
            ``active_websocket_connections``, ``active_sessions`` and of these
            ``active_websocket_sessions``, ``traffic`` (streams and datagrams of all
            connections since the start, and what is queued now), and, while
            the server listens, ``engine`` (packets, handshakes).
        """
        await self.begin_round().wait()
        return self.last_measured()

    async def debug_state(self) -> dict[str, Any]:
        """Return a snapshot for logs: state, statistics, connections, sessions."""
        turns = Turns.of()
        stats = await self.get_server_stats()
        connections = []
        for connection in tuple(self._connections):
            connections.append(connection.get_summary())
            await turns.pause()
        sessions = []
        for session in tuple(self._sessions):
            sessions.append(await session.get_summary())
            await turns.pause()
        return {
            "server_info": {"serving": self.is_serving, "local_address": self.local_address},
            "aggregated_stats": stats,
            "connections": connections,
            "sessions": sessions,
        }

    async def diagnose_issues(self) -> list[str]:
        """List what looks wrong, based on measurements; empty if all is well."""
        stats = self.refresh_stats()
        issues = []
        if not self.is_serving:
            issues.append("the server does not accept sessions")
        for limit, used, what in (
            ("max_connections", self._quic_connection_count, " connections"),
            ("max_sessions", len(self._sessions), ""),
        ):
            most = getattr(self._config, limit)
            if used > 0.9 * most:
                issues.append(f"{used} of {limit}={most}{what} in use")
        issues += stats.findings()
        engine = {} if self._endpoint is None else self._endpoint.quic.stats()
        issues += self._losses.findings(engine)
        if self._certificates is not None:
            issues += self._certificates.findings()
        return issues

    # ------------------------------------------------------------------ internal

    def configure(self, config: ServerConfig) -> None:
        """Replace the configuration, before ``listen``.

        Args:
            config: The new one.

        Raises:
            ServerError: The server listens already.
            ConfigurationError: A field is out of range; the old one stays.
        """
        if self._endpoint is not None:
            raise ServerError("the server listens already; configure it before")
        check_instance("config", config, ServerConfig)
        config.validate()
        apply_log_level(config.log_level)
        self._config = config
        self._sessions_of = AddressCounts(config.address_sessions)
        self.http_requests.configure(config)
        self._options = h3_options(config)

    def serve_with(
        self,
        handler: Callable[[WebTransportSession], Awaitable[None]],
        origins: Callable[[str], tuple[str, ...] | None] | None = None,
    ) -> None:
        """Advanced: give every requested session to one function, as ``ServerApp`` does.

        Args:
            handler: Answers the request and serves the session; runs in its own task. On Python
                3.12 and later, its first step is taken when the request arrives, without a turn
                of the event loop, unless you set a task factory.
            origins: Gives the origins that a path allows, None: all; default
                ``default_origins``.
        """
        self._handler = handler
        self._origins = self.default_origins if origins is None else origins

    def serve_requests_with(
        self, handler: RequestHandler, *, accepts_websockets: bool = False
    ) -> None:
        """Advanced: give HTTP requests to a function, as ``ServerApp.mount`` does.

        Args:
            handler: Called with the connection and the exchange of each request that is within
                the limits; it must not block. It concerns connections that are accepted later.
            accepts_websockets: It also takes requests for WebSockets (RFC 9220).
        """
        self.http_requests.handler = handler
        self.http_requests.accepts_websockets = accepts_websockets

    def load_certificates(self, certfile: str | None, keyfile: str | None) -> None:
        """Advanced: as ``reload_certificates``, in this process alone.

        Does nothing when the server does not listen.
        """
        if self._endpoint is None or self._closing:
            return
        config = with_certificates(self._config, certfile, keyfile)
        secret = current_secret(config, self._seat, self._secret)
        tls = self._tls(config, secret)
        self.tcp.reload(config)
        self._endpoint.quic.set_secrets(secret.engine_secrets(self._endpoint.local_addresses[0]))
        self._endpoint.quic.set_tls(tls)
        self._config, self._secret = config, secret
        self._logger.info("certificates reloaded")
        self._watch_certificates()

    def _watch_certificates(self) -> None:
        """Start to warn about certificates that are not valid, or expire soon."""
        if self._certificates is not None:
            self._certificates.close()
        self._certificates = CertificateWatch(self._config, self._logger)

    def _tls(self, config: ServerConfig, secret: SharedSecret) -> QuicTls:
        return server_tls(config, ticket_key=secret.ticket_key(config))

    def _accept(self, quic: QuicConnection) -> Driver:
        """A client completed the handshake (deliver phase)."""
        connection = WebTransportConnection(config=self._config)
        driver = Driver(connection)
        h3 = driver.attach(quic, self._options, is_client=False)
        if self.http_requests.handler is not None:
            connection.on_exchange = self._exchange_requested
            h3.accepts_websockets = self.http_requests.accepts_websockets
        address = quic.remote_address
        network = "" if address is None else client_network(address[0])
        self._take_over(connection)
        connection.adopt(driver, self._endpoint, network)
        self._stats.connections_accepted += 1
        return driver

    def _take_over_websocket(self, connection: WebTransportConnection) -> None:
        self._websocket_connections += 1
        self._take_over(connection)

    def _take_over(self, connection: WebTransportConnection) -> None:
        """Serve the sessions of a connection, which is about to be adopted."""
        connection.on_request = self._session_requested
        connection.on_closed = self._connection_closed
        connection.on_early_drop = self._early_dropped
        self._connections.add(connection)
        if self._draining is not None:
            self._draining.connection_accepted(connection)

    @property
    def _quic_connection_count(self) -> int:
        return len(self._connections) - self._websocket_connections

    def _connection_closed(self, connection: WebTransportConnection) -> None:
        self._connections.discard(connection)
        self._websocket_connections -= connection.transport == "websocket"
        self._figures.connection_over(connection)
        self._stats.protocol_errors += connection.error_count
        if connection.state == "failed":
            self._losses.connection_failed(connection)
        elif not (connection.session_count or connection.request_count or self._closing):
            self._losses.connection_unused(connection)

    def _early_dropped(self, connection: WebTransportConnection, what: str) -> None:
        self._losses.early_dropped(what, connection.remote_address)

    def _session_requested(self, connection: WebTransportConnection, h3: LayerSession) -> None:
        """A client asks for a session (deliver phase)."""
        try:
            refusal = self._refusal(connection, h3)
        except Exception as error:
            self._answering.request_failed(h3, connection, error)
            return
        if refusal is not None:
            status, kind, reason = refusal
            self._losses.rejected(
                status,
                reason,
                path=h3.path,
                origin=h3.origin,
                peer=connection.remote_address,
                kind=kind,
            )
            h3.reject(status, _RETRY_LATER if status == _TOO_MANY_REQUESTS else {})
            return
        session = WebTransportSession.attach(connection, h3)
        self._sessions.add(session)
        self._sessions_of.add(connection.client_network)
        session.on_end = self._session_ended
        session.on_ready = self._session_accepted
        if session.transport == "websocket":
            self._websocket_sessions += 1
            session.on_ready = self._websocket_session_accepted
        task = start_task(asyncio.get_running_loop(), self._serve(session))
        if task.done():
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if session.state is SessionState.CONNECTING and self._endpoint is not None:
            self._endpoint.quic.woke()  # the answer follows, and shares the packets of this turn

    def _refusal(
        self, connection: WebTransportConnection, h3: LayerSession
    ) -> tuple[int, str, str] | None:
        """Why a request is refused before the application sees it: status, kind, reason."""
        if h3.origin is not None and not self._may_come_from(h3.origin, h3.path):
            return _FORBIDDEN, "origin", "its origin is not among allowed_origins"
        if self._closing and not (self._draining and self._draining.admits(connection)):
            return _SERVICE_UNAVAILABLE, "closing", "the server is closing"
        limit = self._config.max_sessions
        if len(self._sessions) >= limit:
            return _TOO_MANY_REQUESTS, "limit", f"max_sessions={limit} is reached"
        if self._sessions_of.is_full(connection.client_network):
            reason = f"max_sessions_per_address={self._config.address_sessions} is reached"
            return _TOO_MANY_REQUESTS, "address limit", reason
        return None

    def _may_come_from(self, origin: str, path: str) -> bool:
        origins = self._origins(path)
        return origins is None or is_allowed(origin, origins)

    def _exchange_requested(self, connection: WebTransportConnection, exchange: H3Exchange) -> None:
        """A client sent an HTTP request (deliver phase)."""
        # While a drain goes on, a client may send requests until it has heard of it.
        closing = self._closing and self._draining is None
        self.http_requests.requested(connection, exchange, closing=closing)
        if not exchange.has_responded and self._endpoint is not None:
            self._endpoint.quic.woke()  # as for a session

    def _request_ended(self) -> None:
        if self._draining is not None:
            self._draining.session_ended()

    def certificate_text(self, connection: WebTransportConnection) -> str | None:
        """Advanced: the certificate in PEM form that a client got; None if it is not known."""
        layer = connection.layer
        if self._certificates is None or layer is None:
            return None
        return self._certificates.text_for(layer.quic.server_name)

    def _session_accepted(self) -> None:
        self._stats.sessions_accepted += 1

    def _websocket_session_accepted(self) -> None:
        self._stats.sessions_accepted += 1
        self._stats.websocket_sessions_accepted += 1

    def _session_ended(self, session: WebTransportSession) -> None:
        self._sessions.discard(session)
        self._sessions_of.remove(session.client_network)
        self._websocket_sessions -= session.transport == "websocket"
        if session.ready_at is not None:
            self.sessions_over += 1
        elif isinstance(session.error, SessionRejectedError):
            self._losses.rejected(
                session.error.status_code,
                session.rejection_reason,
                path=session.path,
                origin=session.origin,
                peer=session.remote_address,
            )
        if self._draining is not None:
            self._draining.session_ended()

    async def _serve(self, session: WebTransportSession) -> None:
        """The life of one session on this side; raises only what ends the program."""
        try:
            if self._handler is not None:
                await self._handler(session)
            elif self.listener_count(event_type=EventType.SESSION_REQUEST):
                await self._offer(session)
            else:
                status_code, headers = self.not_found(session)
                session.rejection_reason = "nothing here accepts sessions"
                session.reject(status_code=status_code, headers=headers)
        except BaseException as error:
            await self._answering.failed(session, error, closing=self._closing)

    async def _offer(self, session: WebTransportSession) -> None:
        """Let the listeners answer. One that raises has been logged, and ends the session."""
        if not await self._emit(
            Event(type=EventType.SESSION_REQUEST, data={"session": session}, source=self)
        ):
            return
        if session.is_closed:
            return
        self._stats.handler_errors += 1
        await self._answering.end(session)

    def not_found(self, session: WebTransportSession) -> tuple[int, dict[str, str]]:
        """Status and fields for a path without WebTransport: 405 from draft-16 on, else 404."""
        draft = session.dialect or 0
        return (_METHOD_NOT_ALLOWED if draft >= _DRAFT_405 else _NOT_FOUND), {}

    def default_origins(self, path: str) -> tuple[str, ...] | None:
        """The origins that ``config.allowed_origins`` allows; None: all of them.

        Args:
            path: Of the request; the same holds for all.
        """
        allowed = self._config.allowed_origins
        return None if allowed is None else tuple(allowed)

    def begin_round(self) -> Round:
        """Advanced: measure all connections; with many this takes several turns of the loop."""
        return self._figures.refresh(self._connections)

    def measure(self) -> dict[str, Any]:
        """As ``get_server_stats``, at once."""
        self._figures.collect(self._connections)
        return self.last_measured()

    def round_trip_times(self) -> list[float]:
        """Smoothed round-trip times of the connections, seconds, as they were measured last."""
        return self._figures.round_trip_times()

    def last_measured(self) -> dict[str, Any]:
        """As ``measure``, with the connections as they were measured last."""
        stats = self.refresh_stats().to_dict()
        stats["active_connections"] = self._quic_connection_count
        stats["active_websocket_connections"] = self._websocket_connections
        stats["active_sessions"] = len(self._sessions)
        stats["active_websocket_sessions"] = self._websocket_sessions
        stats["active_requests"] = self.http_requests.open_count
        stats["active_tcp_connections"] = self.tcp.open_count
        stats["traffic"] = self._figures.sums()
        if self._endpoint is not None:
            stats["engine"] = self._endpoint.quic.stats()
        return stats

    def refresh_stats(self) -> ServerStats:
        """The statistics, up to now."""
        self.http_requests.refresh(self._stats)
        self.tcp.count(self._stats)
        if self._started_at is not None:
            self._stats.uptime = get_timestamp() - self._started_at
        if self._endpoint is not None:
            engine = self._endpoint.quic.stats()
            self._stats.connections_rejected = engine["refused"]
            self._stats.connections_limited = engine["refused_for_address"]
        worker = current_worker()
        if worker is not None and worker.serves(self):
            self._stats.workers_died = worker.deaths
        return self._stats


def check_server_config(config: Any) -> None:
    """Check what a server is made with; None stands for ``ServerConfig()``.

    Raises:
        ConfigurationError: It is something else.
    """
    if config is not None:
        check_instance("config", config, ServerConfig)
