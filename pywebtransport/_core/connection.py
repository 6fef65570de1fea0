"""One connection that carries WebTransport sessions."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from .._loop import Endpoint, Failures, RemoteAddress, UdpSocket
from .._quic import ConnectionPort, QuicTls
from .._states import Address, ConnectionState, EventType, HeadersToSend, SessionId
from .._transport import CloseInfo, LayerSession, SessionLayer, Transport
from ..config import ClientConfig, ServerConfig
from ..constants import MAX_APPLICATION_CODE, MAX_STREAM_COUNT
from ..events import EventEmitter
from ..exceptions import (
    ConnectionError,
    TimeoutError,
    WebTransportError,
)
from ..h3._connection import H3Connection
from ..h3._fields import check_fields
from ..utils import _clock as clock
from ..utils._budget import PROCESS, ByteBudget
from ..utils._checks import (
    check_instance,
    check_integer,
    check_number,
    check_seconds,
    check_text,
    check_texts,
    check_timeout,
    validate_port,
)
from ..utils._gates import Gates
from ..utils._hosts import ascii_host, authority_of, host_and_port
from ..utils._timing import get_timestamp
from ..utils._turns import Turns
from ..utils._waiters import Waiters, require_loop
from . import connection_diagnostics as diagnostics
from . import story
from .closing import Closing, end_sessions
from .driver import Driver
from .endpoint import client_endpoint
from .exchanges import serve_exchanges
from .info import RELIABILITY, ConnectionInfo, snapshot
from .memory import takes_request
from .migration import migrate
from .pending import PendingSession, accepted_session_id, claim, ready_session_id, request, withdraw
from .racing import race
from .settings import client_tls, h3_options, request_fields, write_low_water

if TYPE_CHECKING:
    from ..h3._exchange import H3Exchange
    from ..h3._options import H3Options
    from .session import WebTransportSession

__all__ = ["WebTransportConnection"]

_logger = logging.getLogger("pywebtransport.connection")


class WebTransportConnection(ConnectionPort, EventEmitter):
    """A connection. Most programs use it only as ``session.connection``.

    A client opens one with ``create_client`` (or lets ``WebTransportClient`` do it); a server
    gets them from its clients. Several sessions can share a QUIC connection; one over WebSocket
    carries a single session.

    Attributes:
        last_activity_time: When the connection was last used, Unix time in seconds.
        active_at: The same, as a value of ``time.monotonic()``.
        keep_open: Client: stay open when the last session ends. Settable.
        session_ticket: Client: the newest TLS session ticket, for a later connection.
        address_token: Client: the newest address validation token (RFC 9000 section 8.1.3).
        session_count: How many sessions were opened so far.
        request_count: Server: how many HTTP requests an application was given.
        error_count: Protocol errors of the peer, and the loss of the path.
        memory_budget: Memory that data from the peer takes here (``max_connection_memory``).
        turns: Advanced: shares the turns of the event loop fairly among connections.
        on_closed: Advanced: called once when the connection ends, before its listeners.
        on_credentials: Advanced, client: called with each new (ticket, None) and (None, token).
        on_request: Advanced, server: called with each session request, to answer it.
        on_exchange: Advanced, server: called with each HTTP request; set it before ``adopt``.
        on_early_drop: Advanced, server: called when early data of a session was dropped.
    """

    # Slots take a third of the memory of a dictionary; applications can still add attributes. What
    # sessions need of their connection is in the compiled base, ``ConnectionPort``.
    __slots__ = ("__dict__", "_authority", "_candidates", "_closed_at", "_closed_waiters",
                 "_closing", "_config", "_driver", "_endpoint", "_error", "_established_at", "_id",
                 "_migration", "_network", "_own_socket", "_owns_endpoint", "_pending", "_ready",
                 "_ready_waiters", "_receive_drops", "_sessions", "_state", "active_at",
                 "address_token", "error_count", "keep_open", "last_activity_time", "memory_budget",
                 "on_closed", "on_credentials", "on_early_drop", "on_exchange", "on_request",
                 "request_count", "session_count", "session_ticket", "turns",
                 "write_low_water")  # fmt: skip

    # Callers that wait for a stream, or to send a datagram; created on first use.
    _stream_gates: Gates | None
    _datagram_gates: Gates | None

    # The layer above puts its class here; imports go down only.
    _session_type: type[WebTransportSession]

    def __init__(self, config: ClientConfig | ServerConfig) -> None:
        """Create a connection that is not connected yet.

        Args:
            config: Limits, timeouts and TLS of this end.
        """
        super().__init__()
        check_instance("config", config, ClientConfig, ServerConfig)
        self._config = config
        self._id = secrets.token_hex(8)
        self._state = ConnectionState.IDLE
        self._driver: Driver | None = None
        self._candidates: list[Driver] | None = None  # while connecting: one per address tried
        self._endpoint: Endpoint | None = None
        self._owns_endpoint = False
        self.memory_budget = ByteBudget(
            "max_connection_memory", config.max_connection_memory, PROCESS
        )
        self.write_low_water = write_low_water(config)
        self._sessions: dict[SessionId, WebTransportSession] = {}
        self.session_count = self.request_count = 0
        self._pending: dict[SessionId, PendingSession] | None = None
        self._ready = False
        self._ready_waiters = Waiters()
        self._closed_waiters = Waiters()
        self._migration: asyncio.Future[bool] | None = None
        self._network = ""
        self._closing: Closing | None = None
        self._own_socket: UdpSocket | None = None  # of the last migration
        self._error: WebTransportError | None = None
        self.on_request: Callable[[WebTransportConnection, LayerSession], None] | None = None
        self.on_exchange: Callable[[WebTransportConnection, H3Exchange], object] | None = None
        self.on_closed: Callable[[WebTransportConnection], None] | None = None
        self.on_credentials: Callable[[bytes | None, bytes | None], None] | None = None
        self.on_early_drop: Callable[[WebTransportConnection, str], None] | None = None
        self.session_ticket: bytes | None = None
        self.address_token: bytes | None = None
        self.keep_open = False
        # A client has this limit in each session instead.
        self._max_local_streams = (
            config.max_streams_per_connection
            if isinstance(config, ServerConfig)
            else MAX_STREAM_COUNT
        )
        self._authority = ""
        self._established_at: float | None = None
        self._closed_at: float | None = None
        self.error_count = 0
        self._receive_drops = 0  # datagrams that ended sessions did not read in time
        self.record_activity()

    @classmethod
    async def create_client(
        cls, *, config: ClientConfig, host: str, port: int, path: str = "/"
    ) -> Self:
        """Connect to a server and request a session on ``path``.

        Raises and cancellation: as ``connect``.
        """
        check_instance("config", config, ClientConfig)
        self = cls(config=config)
        await self.connect(host=host, port=port, path=path)
        return self

    # -------------------------------------------------------------- properties

    @property
    def config(self) -> ClientConfig | ServerConfig:
        """The configuration in force."""
        return self._config

    @property
    def connection_id(self) -> str:
        """Identifier of this object in logs and session IDs (not the QUIC connection ID)."""
        return self._id

    @property
    def state(self) -> ConnectionState:
        """IDLE, CONNECTING, CONNECTED, DRAINING, CLOSING, CLOSED or FAILED."""
        return self._state

    @property
    def is_connected(self) -> bool:
        """The handshake is done and the connection is not closing."""
        return self._state in (ConnectionState.CONNECTED, ConnectionState.DRAINING)

    @property
    def is_closing(self) -> bool:
        """``close`` was called and is not finished."""
        return self._state is ConnectionState.CLOSING

    @property
    def is_closed(self) -> bool:
        """The connection is over."""
        return self._state in (ConnectionState.CLOSED, ConnectionState.FAILED)

    @property
    def idle_timeout(self) -> float | None:
        """Seconds without a packet until this end gives up: ``config.connection_idle_timeout``."""
        return self._config.connection_idle_timeout

    @property
    def local_address(self) -> Address | None:
        """This end's address on the current path."""
        return None if self._quic is None else self._quic.local_address

    @property
    def remote_address(self) -> Address | None:
        """The peer's address on the current path."""
        return None if self._quic is None else self._quic.remote_address

    @property
    def client_network(self) -> str:
        """Server: the network that this connection counts for in limits per client address.

        The address used in the handshake; for IPv6, its /64. It does not change when the client
        moves, because an address can be forged until its path is validated. Empty at a client.
        """
        return self._network

    @property
    def info(self) -> ConnectionInfo:
        """A snapshot of the connection's properties and statistics."""
        return snapshot(self)

    @property
    def rtt(self) -> float | None:
        """Smoothed round-trip time in seconds; None before the first sample."""
        return snapshot(self).rtt

    @property
    def sessions(self) -> tuple[WebTransportSession, ...]:
        """The open sessions of this connection."""
        return tuple(self._sessions.values())

    @property
    def dialect(self) -> int | None:
        """Draft generation in use (2, 7, 14 or 16); None before SETTINGS, and over WebSocket."""
        dialect = self._driver.layer.dialect if self._driver is not None else None
        return None if dialect is None else dialect.draft

    @property
    def transport(self) -> str | None:
        """What carries the connection: ``"quic"`` or ``"websocket"``; None before it is known."""
        return None if self._driver is None else self._driver.layer.transport

    @property
    def reliability(self) -> str:
        """``"supports-unreliable"`` over QUIC, ``"reliable-only"`` over WebSocket.

        Where it is ``"reliable-only"``, datagrams arrive in order and late rather than not at
        all. As in browsers, it is ``"pending"`` before the handshake.
        """
        return RELIABILITY[self.transport]

    @property
    def is_resumed(self) -> bool:
        """The handshake used a ticket of an earlier connection, and no certificates."""
        return self._quic is not None and self._quic.resumed

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER); None if it has none, or the connection is closed."""
        quic = self._quic
        return None if quic is None or quic.is_closed else quic.peer_certificate

    @property
    def error(self) -> WebTransportError | None:
        """Why the connection ended; None while it is open."""
        if self._error is None and self.is_closed:
            self._error = self._get_loss()
        return self._error

    @property
    def h3(self) -> H3Connection | None:
        """Advanced: the HTTP/3 layer (``pywebtransport.h3``); None before the handshake.

        It offers what this class has no method for: GOAWAY, UDP tunnels, SETTINGS. Over
        WebSocket there is no HTTP/3, and it is None.
        """
        layer = self.layer
        return layer if isinstance(layer, H3Connection) else None

    @property
    def layer(self) -> SessionLayer | None:
        """Advanced: what carries the sessions, on any transport; None before the handshake."""
        return None if self._driver is None else self._driver.layer

    @property
    def authority(self) -> str:
        """Client: host and port as requests name them in ``:authority``; empty at a server."""
        return self._authority

    @property
    def has_pending_requests(self) -> bool:
        """A session that ``request_session`` requested has no object yet."""
        return bool(self._pending)

    # --------------------------------------------------------------- connecting

    async def connect(self, *, host: str, port: int, path: str = "/") -> None:
        """Client: connect, and request a session on ``path``.

        ``wait_for_ready_session`` then returns the ID that you create the session with. The
        request carries the headers and application protocols of the configuration.

        Raises:
            ConfigurationError: ``path`` cannot be sent.
            UnreachableError: The name does not resolve or the port is closed.
            CertificateError, HandshakeError: TLS or QUIC failed.
            TimeoutError: No answer within ``connect_timeout``.

        Cancellation: safe, nothing stays open.
        """
        check_text("host", host)
        validate_port(port)
        check_text("path", path)
        await self.establish(host, port)
        try:
            self.request_session(path)
        except BaseException:
            self._shut()
            raise

    async def create_session(
        self,
        path: str = "/",
        *,
        headers: HeadersToSend | None = None,
        application_protocols: Sequence[str] | None = None,
        require_application_protocol: bool | None = None,
    ) -> WebTransportSession:
        """Client: request another session on this connection.

        Returns at once. ``session.ready()`` waits for the answer; you may send on streams and
        in datagrams before.

        Args:
            path: Path and query.
            headers: Extra request fields.
            application_protocols: Protocols to offer, in order of preference; default from the
                configuration.
            require_application_protocol: Close the session if the server selects none.

        Raises:
            ConfigurationError: An argument cannot be sent.
            SessionError: The server sent GOAWAY, or allows no more sessions.
            WebTransportNotSupportedError: The server does not speak WebTransport.
            ConnectionError: The connection is closed.
        """
        config = self._config
        check_text("path", path)
        fields = check_fields({} if headers is None else headers)
        offered: Sequence[str] | None = None
        if application_protocols is not None:
            offered = check_texts("application_protocols", application_protocols)
        required = require_application_protocol
        if isinstance(config, ClientConfig):
            offered = config.application_protocols if offered is None else offered
            required = config.require_application_protocol if required is None else required
        pending = PendingSession()
        h3 = self._request_session(
            path=path,
            headers=fields,
            events=pending,
            application_protocols=offered or (),
            require=bool(required),
        )
        session = self._session_type.attach(self, h3)
        pending.replay(session)
        return session

    async def wait_ready(self, *, timeout: float = 30.0) -> None:
        """Wait until the peer's SETTINGS are known.

        Args:
            timeout: Seconds.

        Raises:
            ConnectionError: The connection ended first (or its precise subclass).
            TimeoutError: They did not arrive in time.

        Cancellation: safe.
        """
        check_timeout("timeout", timeout)
        if not self._ready and not self.is_closed and not await self._ready_waiters.wait(timeout):
            raise TimeoutError(
                f"the peer sent no SETTINGS within {timeout} s",
                timeout_duration=timeout,
                operation="settings",
            )
        if not self._ready:
            raise self.error or ConnectionError("the connection closed before it was ready")

    def get_ready_session_id(self) -> SessionId | None:
        """Return the ID of an accepted session that has no object yet, or None."""
        return accepted_session_id(self._pending)

    async def wait_for_ready_session(self, *, timeout: float = 30.0) -> SessionId:
        """Wait until the session that ``connect`` requested is accepted.

        Args:
            timeout: Seconds.

        Returns:
            Its ID, for ``WebTransportSession(connection, session_id=...)``.

        Raises:
            SessionRejectedError: The server refused it.
            SessionError: No session was requested.
            ConnectionError: The connection ended first (or its precise subclass).
            TimeoutError: No answer in time.

        Cancellation: safe.
        """
        return await ready_session_id(self._pending, timeout)

    # ------------------------------------------------------------------- closing

    async def close(self, *, code: int = 0, reason: str = "") -> None:
        """Close every session with ``code`` and ``reason``, then the connection.

        Waits until the peer's QUIC stack has received all finished streams and the closing
        capsules, at most ``close_timeout`` seconds in total. Idempotent.

        Args:
            code: Application code, 0 to 2**32 - 1.
            reason: A string, cut to 1024 bytes of UTF-8.

        Raises:
            ConfigurationError: An argument is out of range, or the connection belongs to another
                event loop; the connection stays open then.

        Cancellation: the connection is closed all the same, without the wait.
        """
        check_integer("code", code, 0, MAX_APPLICATION_CODE)
        check_text("reason", reason)
        loop = asyncio.get_running_loop()
        if not (self.is_closed or self._state is ConnectionState.IDLE):
            require_loop(self._closed_waiters.loop, loop)
        await self.close_until(loop.time() + self._config.close_timeout, code, reason)

    async def close_until(self, deadline: float, code: int = 0, reason: str = "") -> None:
        """Advanced: as ``close``, but with a deadline that the caller sets.

        Args:
            deadline: A time on the clock of the running event loop.
            code: As for ``close``.
            reason: As for ``close``.

        Cancellation: as of ``close``.
        """
        if self.is_closed or self._state is ConnectionState.IDLE:
            self._become_closed(ConnectionState.CLOSED)
            return
        lost = self._driver is not None and self._driver.layer.loss is not None
        if lost or self._state is ConnectionState.CLOSING:
            await self.wait_closed()
            return
        self._state = ConnectionState.CLOSING
        try:
            if self._driver is not None:
                await end_sessions(self, self._driver.layer, deadline, code, reason)
                # Of many connections that close at the same time, some end in each turn.
                await Turns.of(asyncio.get_running_loop()).pause()
        finally:
            self.close_nowait(code, reason)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended. Cancellation: safe."""
        while not self.is_closed:
            await self._closed_waiters.wait()

    # ----------------------------------------------------------------- migration

    async def migrate(self, *, local_host: str | None = None, local_port: int = 0) -> None:
        """Client: move the connection to another local address (RFC 9000 section 9).

        Opens a new socket, validates the path, and continues there. Sessions and streams are
        not affected. When the call returns, the move is complete; you need not wait for a
        ``path_changed`` event.

        Args:
            local_host: A local IP address of the same family; None: any.
            local_port: A local port; 0: any.

        Raises:
            ConnectionError: The peer forbids migration, the address is not
                available, or the new path could not be validated (the old one stays in use). The
                transport is WebSocket.

        Cancellation: the move may still complete.
        """
        await migrate(self, local_host, local_port)

    def initiate_key_update(self) -> None:
        """Switch to new packet protection keys (RFC 9001 section 6).

        Raises:
            ConnectionError: The connection is not established, an update is in progress, or the
                transport is WebSocket.
        """
        quic = self._quic
        if quic is None or not self.is_connected:
            raise ConnectionError(f"cannot update keys: the connection is {self._state}")
        if self.transport == "websocket":
            raise ConnectionError("keys can be updated only over QUIC, not over WebSocket")
        quic.initiate_key_update(clock.monotonic_ns())

    # ------------------------------------------------------------- observability

    def record_activity(self) -> None:
        """Mark the connection as used now (``last_activity_time``)."""
        self.last_activity_time = get_timestamp()
        self.active_at = clock.monotonic()

    def get_stats(self) -> dict[str, int | None]:
        """Return the engine's statistics: times in nanoseconds, sizes in bytes, counts."""
        quic = self._quic
        return {} if quic is None else quic.stats()

    def get_summary(self) -> dict[str, Any]:
        """Return key statistics."""
        return diagnostics.summary(self)

    async def diagnose_issues(self) -> dict[str, Any]:
        """Look for problems that the statistics show.

        Returns:
            ``{"connection_id", "state", "issues": [...], "info": {...}}``.
        """
        return await diagnostics.issues(self)

    async def monitor_health(
        self, *, check_interval: float = 30.0, rtt_timeout: float = 5.0
    ) -> None:
        """Log a warning for each problem that a check finds, until the connection ends.

        Args:
            check_interval: Seconds between checks.
            rtt_timeout: Seconds; a longer round-trip time is reported.

        Cancellation: safe; cancel it to stop early.
        """
        interval = check_seconds("check_interval", check_interval)
        check_number("rtt_timeout", rtt_timeout)
        await diagnostics.monitor_health(self, interval, rtt_timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id} state={self._state}>"

    # ------------------------------------------------------------------ internal

    @property
    def _quic(self) -> Transport | None:
        return self._driver.quic if self._driver is not None else None

    async def establish(
        self,
        host: str,
        port: int,
        *,
        endpoint: Endpoint | None = None,
        owns_endpoint: bool = False,
        tls: QuicTls | None = None,
        options: H3Options | None = None,
        ticket: bytes | None = None,
        token: bytes | None = None,
        addresses: Sequence[RemoteAddress] | None = None,
        failures: Failures | None = None,
    ) -> None:
        """Advanced: as ``connect``, without a session.

        Resolves the name, tries the addresses (RFC 8305) and completes the handshake.

        Args:
            host: Host name or IP address.
            port: UDP port.
            endpoint: The endpoint to use; None creates one.
            owns_endpoint: ``endpoint`` belongs to this connection and is closed with it.
            tls: The TLS settings of a shared endpoint.
            options: HTTP/3 limits; default from the configuration.
            ticket: ``session_ticket`` of an earlier connection.
            token: ``address_token`` of an earlier connection; the first address gets it.
            addresses: Addresses to try; skips name resolution.
            failures: Receives the addresses that failed, even if another one worked.

        Raises and cancellation: as ``connect``.
        """
        config = self._config
        if not isinstance(config, ClientConfig):
            raise ConnectionError("only clients can connect()")
        if self._state is not ConnectionState.IDLE:
            raise ConnectionError(f"cannot connect: the connection is {self._state}")
        host = ascii_host(host)
        validate_port(port)
        self._state = ConnectionState.CONNECTING
        where = host_and_port(host, port)
        self._authority = authority_of(host, port)
        if options is None:
            options = h3_options(config)
        self._candidates = []
        tokens = [] if token is None else [token]
        try:
            if endpoint is None:
                endpoint = client_endpoint(config, client_tls(config))
                owns_endpoint = True
            self._endpoint = endpoint
            self._owns_endpoint = owns_endpoint
            if addresses is None:
                addresses = await endpoint.resolve(host, port, family=config.address_family)
            driver = await race(
                self,
                self._candidates,
                addresses,
                lambda attempt, address: attempt.connect(
                    endpoint,
                    address,
                    options,
                    server_name=host,
                    tls=tls,
                    ticket=ticket,
                    token=tokens.pop() if tokens else None,
                ),
                where=where,
                delay=config.happy_eyeballs_delay,
                failures=[] if failures is None else failures,
            )
        except BaseException as error:
            self._error = error if isinstance(error, WebTransportError) else None
            self._become_closed(ConnectionState.FAILED)
            self._emit_nowait(EventType.CONNECTION_FAILED, {"connection_id": self._id})
            raise
        finally:
            self._candidates = None
        self._take(driver)

    def adopt(self, driver: Driver, endpoint: Endpoint | None, network: str) -> None:
        """Advanced: use a connection whose handshake is complete.

        Args:
            driver: Connects the transport with the layer of its sessions.
            endpoint: The endpoint that accepted the connection; the caller closes it. None: the
                transport has none.
            network: The value of ``client_network``.
        """
        self._endpoint = endpoint
        self._network = network
        self._take(driver)

    def _take(self, driver: Driver) -> None:
        """``driver`` carries this connection from now on."""
        self._driver = driver
        self.turns = driver.turns
        driver.active = True
        serve_exchanges(self)
        # The server may have sent GOAWAY before the end of the handshake was reported.
        self._state = (
            ConnectionState.DRAINING if driver.layer.goaway_received else ConnectionState.CONNECTED
        )
        self._established_at = get_timestamp()
        story.established(self)
        if driver.quic.is_closed and driver.quic.close_info is not None:
            driver.owner = self  # it was told of the end while it was not active, and forgot it
            driver.connection_closed(driver.quic.close_info)
            return
        if self._has_listeners(EventType.CONNECTION_ESTABLISHED):
            self._emit_nowait(
                EventType.CONNECTION_ESTABLISHED,
                {"connection_id": self._id, "remote_address": self.remote_address},
            )
        if driver.layer.settings_known:
            self._settings_received(driver.layer.peer_settings)

    def request_session(self, path: str) -> None:
        """Client: request a session and create its object later (``wait_for_ready_session``).

        Args:
            path: Path and query.

        Raises: as ``create_session``.
        """
        check_text("path", path)
        config = self._config
        assert isinstance(config, ClientConfig)
        pending = PendingSession(asyncio.get_running_loop().create_future())
        pending.h3 = self._request_session(
            path=path,
            headers=check_fields(request_fields(config)),
            events=pending,
            application_protocols=config.application_protocols,
            require=config.require_application_protocol,
        )
        self._pending = {**(self._pending or {}), self._next_session_id(): pending}

    async def end_sessions(self) -> None:
        """Withdraw pending requests and close the sessions, as ``session.close()`` does.

        The connection stays open.

        Cancellation: sessions that were not closed yet are closed without the wait.
        """
        pending, self._pending = self._pending, None
        withdraw(pending)
        closing = [session.close(close_connection=False) for session in self.sessions]
        await asyncio.gather(*closing)

    def _next_session_id(self) -> SessionId:
        self.session_count += 1
        return f"{self._id}-{self.session_count}"

    _claim = claim
    _request_session = request

    def _add_session(self, session: WebTransportSession) -> None:
        self._sessions[session.session_id] = session
        self.record_activity()

    def _remove_session(self, session: WebTransportSession) -> None:
        self._sessions.pop(session.session_id, None)
        if session._datagrams is not None:
            self._receive_drops += session._datagrams._receive_drops
        self.record_activity()

    @property
    def _is_unused(self) -> bool:
        """A client's connection without sessions that is not kept open for new ones."""
        return self.is_connected and not (
            isinstance(self._config, ServerConfig)
            or self._sessions
            or self._pending
            or self.keep_open
        )

    async def _session_gone(self, deadline: float) -> None:
        """The application closed a session; a client's connection goes with its last one."""
        if self._is_unused:
            await self.close_until(deadline)

    def _close_later(self) -> None:
        """As ``_session_gone``, for a caller that is being cancelled."""
        if self._is_unused and self._driver is not None:
            if self._closing is not None:
                self._closing.cancel()
            self._closing = Closing(
                self._driver.layer, timeout=self._config.close_timeout, shut=self._shut_if_unused
            )

    def _shut_if_unused(self) -> None:
        """As ``_session_gone``, at once: the peer already knows that no session is left."""
        if self._is_unused and self._quic is not None and not self._quic.is_closed:
            self._shut()

    def close_nowait(self, code: int = 0, reason: str = "") -> None:
        """Advanced: as ``close``, but do not wait; the data written last may be lost."""
        try:
            for driver in self._candidates or ():
                driver.quic.close(0)
            for session in tuple(self._sessions.values()):
                session.close_nowait(code, reason)
            self.flush_nowait()
        finally:
            self._shut(reason)

    def _shut(self, reason: str = "") -> None:
        """Send CONNECTION_CLOSE; ``_quic_closed`` follows from the QUIC connection."""
        driver = self._driver
        if driver is None:
            self._become_closed(ConnectionState.CLOSED)
        elif not self.is_closed and driver.layer.loss is None:
            self._state = ConnectionState.CLOSING
            try:
                driver.layer.close(reason=reason)
                self.flush_nowait()
            except BaseException:  # whatever it is, no caller may wait for an end that cannot come
                self._become_closed(ConnectionState.FAILED)
                raise

    def abandon(self) -> None:
        """Advanced: release the socket after the event loop was closed. The peer is not told."""
        endpoint, self._endpoint = self._endpoint, None  # no call into the loop any more
        if self._owns_endpoint and endpoint is not None:
            endpoint.close()
        if self._driver is not None:
            self._driver.layer.release()

    def _is_lost(self) -> bool:
        """Whether nothing can be sent any more; the sessions may not have been told yet."""
        driver = self._driver
        return driver is not None and driver.quic.close_info is not None

    def _get_loss(self) -> WebTransportError | None:
        """Return why the connection ended, before its sessions were told; None: it has not."""
        driver = self._driver
        if driver is None or driver.quic.close_info is None:
            return None
        return driver.error(self, driver.quic.close_info)

    def flush_nowait(self) -> None:
        """Send what is queued now instead of at the end of the turn (see ``Endpoint.flush``)."""
        if self._endpoint is not None:
            self._endpoint.flush()

    def _settings_received(self, settings: Mapping[int, int]) -> None:
        self._ready = True
        self._ready_waiters.wake()
        story.settings_received(self)
        if self._has_listeners(EventType.SETTINGS_RECEIVED):
            self._emit_nowait(EventType.SETTINGS_RECEIVED, {"settings": dict(settings)})

    def _session_requested(self, h3: LayerSession) -> None:
        if self.on_request is not None and takes_request(self, h3):
            self.on_request(self, h3)

    def _goaway_received(self) -> None:
        if self._state is ConnectionState.CONNECTED:
            self._state = ConnectionState.DRAINING
            story.goaway_received(self)

    def _protocol_failed(self, error: Exception) -> None:
        self.error_count += 1
        if isinstance(error, WebTransportError):
            self._error = error
        self._emit_nowait(
            EventType.PROTOCOL_ERROR, {"connection_id": self._id, "error": str(error)}
        )

    def _path_changed(self, validated: bool) -> None:
        if self._migration is not None and not self._migration.done():
            self._migration.set_result(validated)

    def path_lost(self, error: WebTransportError) -> None:
        """Advanced: the transport below is gone. Ends a connection that owns its endpoint.

        Args:
            error: The reason; it becomes ``self.error``.
        """
        if not self.is_closed and self._endpoint is not None:
            self._error = error
            self.error_count += 1
            self._endpoint.close()

    def _credentials_arrived(self, ticket: bytes | None, token: bytes | None) -> None:
        if self.on_credentials is not None:
            self.on_credentials(ticket, token)

    def _quic_closed(self, info: CloseInfo, error: WebTransportError | None) -> None:
        if self.is_closed:
            return
        self._error = self._error or error  # None: the property creates it when it is needed
        clean = self._driver is not None and self._driver.layer.is_expected(info)
        expected = (clean or self._state is ConnectionState.CLOSING) and not self.error_count
        self._become_closed(ConnectionState.CLOSED if expected else ConnectionState.FAILED)
        if not expected:
            self._emit_nowait(
                EventType.CONNECTION_LOST, {"connection_id": self._id, "error": str(self.error)}
            )

    def _become_closed(self, state: ConnectionState) -> None:
        """The one place where a connection becomes CLOSED or FAILED."""
        if self.is_closed:
            return
        self._state = state
        if self._closing is not None:
            self._closing.cancel()
        self._closed_at = get_timestamp()
        story.connection_over(self)
        self.memory_budget.close()
        self._ready_waiters.wake()
        self._closed_waiters.wake()
        if self._migration is not None and not self._migration.done():
            self._migration.set_result(False)
        if self._owns_endpoint and self._endpoint is not None:
            self._endpoint.flush()
            self._endpoint.loop.call_soon(self._endpoint.close)
        elif self._own_socket is not None and self._endpoint is not None:
            self._endpoint.flush()
            self._endpoint.loop.call_soon(self._endpoint.close_socket, self._own_socket)
        if self.on_closed is not None:
            self.on_closed(self)
        self._emit_nowait(EventType.CONNECTION_CLOSED, {"connection_id": self._id, "state": state})
