"""The client: opens sessions by URL."""

from __future__ import annotations

import asyncio
import builtins
import itertools
import logging
import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

from .._core.endpoint import client_endpoint
from .._core.fallback import establish_over
from .._core.opening import request_delay
from .._core.settings import client_tls, h3_options, request_fields
from .._core.totals import ConnectionTotals
from .._header_map import HeaderMap
from .._loop import Endpoint
from .._plain import shorten
from .._states import URL, ConnectionState, HeadersToSend
from ..config import ClientConfig
from ..connection import WebTransportConnection
from ..events import EventEmitter
from ..exceptions import (
    CertificateError,
    ClientArgumentError,
    ClientError,
    HandshakeError,
    WebTransportError,
    WebTransportNotSupportedError,
    is_request_rejected,
)
from ..h3._fields import check_fields
from ..session import WebTransportSession
from ..utils._checks import check_instance, check_timeout
from ..utils._home import HomeLoop
from ..utils._hosts import host_and_port
from ..utils._logs import apply_log_level, shared_log
from ..utils._rounds import Round
from ..utils._tasks import named
from ..utils._text import printable_path
from ..utils._urls import parse_webtransport_url, without_password
from ._connecting import DIRECT, Connecting, ConnectOverrides, Progress
from ._credentials import Credentials
from ._fallback import QUIC_HINT, Fallback
from ._stats import ClientStats
from .reconnecting import ReconnectingClient

if TYPE_CHECKING:
    from .._loop import RemoteAddress
    from .._quic import QuicTls
    from ..h3._options import H3Options

__all__ = ["ClientStats", "WebTransportClient"]

_Origin = tuple[str, int]


class WebTransportClient(EventEmitter):
    """Opens WebTransport sessions.

    Sessions of one client share its UDP sockets, and, with
    ``config.allow_pooling``, connections to the same authority. Use as
    ``async with WebTransportClient(config=...) as client:``; leaving the block
    closes every session.

    **Networks without UDP.** With ``config.fallback="websocket"``, the client also connects by TCP
    when QUIC has not succeeded after ``config.fallback_delay`` seconds, or has failed because of
    the network. The first transport that completes its handshake is used, and the other one is
    closed. Only then is the session requested, so the server sees one request. There is no fallback
    after an answer of the server, such as a status of 403, or a certificate that is not accepted. A
    client remembers for ten minutes which servers it reached by TCP, and connects to them by both
    at the same time. ``session.transport`` is ``quic`` or ``websocket``. A connection over a
    WebSocket carries one session, with or without ``allow_pooling``.
    """

    def __init__(self, config: ClientConfig | None = None) -> None:
        """Create a client without connections.

        Args:
            config: Timeouts, TLS, limits; default ``ClientConfig()``.

        Raises:
            ConfigurationError: A field of ``config`` is out of range.
        """
        if config is not None:
            check_instance("config", config, ClientConfig)
        super().__init__()
        # A copy: later changes to the original would only take effect in places.
        self._config = ClientConfig() if config is None else config.copy()
        self._config.validate()
        apply_log_level(self._config.log_level)
        #: The event loop that the client belongs to, from its first use on.
        self.home_loop = HomeLoop()
        self._last_loss = ""
        self._logger = logging.getLogger("pywebtransport.client")
        self._default_headers = HeaderMap()
        self._stats = ClientStats()
        self._figures = ConnectionTotals()
        self._endpoint: Endpoint | None = None
        self._tls: QuicTls | None = None
        self._options: H3Options | None = None
        self._connections: dict[WebTransportConnection, _Origin] = {}
        # A lock lives as long as somebody holds it or waits for it.
        self._connecting: WeakValueDictionary[_Origin, asyncio.Lock] = WeakValueDictionary()
        self._opening: set[WebTransportConnection] = set()
        self._fallback = None
        if self._config.fallback is not None:
            self._fallback = Fallback(self._config, self._stats)
        self._credentials = Credentials()
        self._closed = False

    @classmethod
    def create(cls, url: URL, *, config: ClientConfig | None = None) -> Self | ReconnectingClient:
        """Create the kind of client that ``config`` asks for.

        Args:
            url: URL of a reconnecting client; a plain one gets its URLs from ``connect``.
            config: Default ``ClientConfig()``.

        Returns:
            A ``ReconnectingClient`` for ``url`` if ``config.auto_reconnect`` is set, otherwise a
            client of this class. Neither is connected yet.

        Raises:
            ConfigurationError: The URL is malformed, or a field is out of range.
        """
        parse_webtransport_url(url=url)
        if config is not None:
            check_instance("config", config, ClientConfig)
        if config is not None and config.auto_reconnect:
            return ReconnectingClient(url, config=config)
        return cls(config=config)

    # -------------------------------------------------------------- properties

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._closed

    @property
    def config(self) -> ClientConfig:
        """The configuration in force."""
        return self._config

    @property
    def connections(self) -> tuple[WebTransportConnection, ...]:
        """The connections that are alive."""
        return tuple(self._connections)

    @property
    def stats(self) -> dict[str, Any]:
        """Live statistics, see ``ClientStats.to_dict``."""
        return self._stats.to_dict()

    # -------------------------------------------------------------- connecting

    def connect(
        self, url: URL, *, timeout: float | None = None, headers: HeadersToSend | None = None
    ) -> Connecting:
        """Open a session: ``await`` it, or use it in ``async with``.

        Args:
            url: ``https://host[:port]/path?query``.
            timeout: Seconds for everything from name resolution to the
                server's answer; default ``config.connect_timeout``.
            headers: Extra request fields, over the default ones.

        Returns:
            The ready session. Leaving ``async with`` closes it.

        Raises:
            ConfigurationError: The URL is malformed, or a header cannot be sent.
            UnreachableError: The name does not resolve, or the port is closed. With ``fallback``,
                the message has the errors of both transports, and so has
                ``details["transports"]``. It is fatal (``is_fatal_error``) only if both are.
            ProxyError: ``fallback_proxy`` opened no tunnel, and QUIC failed.
            CertificateError, HandshakeError: The TLS or QUIC handshake failed. With several
                addresses, you get the error of the attempt that got furthest;
                ``details["attempts"]`` has all of them.
            WebTransportNotSupportedError: The server speaks HTTP/3 without WebTransport.
            SessionRejectedError: The server refused, with ``status_code`` and ``headers``.
            TimeoutError: There was no answer in time.
            ClientError: The client is closed, or has ``max_connections`` open.
            ConfigurationError: The client belongs to another event loop.

        A request that the server did not process (H3_REQUEST_REJECTED) is sent again on a new
        connection, at most ``config.max_retries`` times and within the timeout.

        Cancellation: safe, nothing stays open.
        """
        opening = self.open_session(url, timeout, headers)
        return Connecting(named("WebTransportClient.connect", opening))

    def set_default_headers(self, headers: HeadersToSend) -> None:
        """Set request fields for every later ``connect``; its own ``headers`` override them.

        Raises:
            ConfigurationError: A field cannot be sent.
        """
        self._default_headers = check_fields(headers)

    # ------------------------------------------------------------------- closing

    async def close(self) -> None:
        """Close every session and connection and release the sockets. Idempotent.

        Takes at most about ``close_timeout`` seconds. If the event loop of the client has ended, it
        only releases the UDP sockets. A TCP connection can only be closed by its own event loop, so
        close a client with sessions over a WebSocket before that ends.

        Raises:
            ConfigurationError: The client belongs to another event loop.

        Cancellation: everything is released anyway.
        """
        if self._closed:
            return
        if self.home_loop.is_gone:
            self._release()
            return
        loop = self.home_loop.enter()
        await self.close_until(loop.time() + self._config.close_timeout)

    async def close_until(self, deadline: float) -> None:
        """Advanced: as ``close``, with a deadline that the caller also uses for other work.

        Args:
            deadline: By the clock of the running event loop.

        Cancellation: as for ``close``.
        """
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        self._closed = True
        if self._fallback is not None:
            self._fallback.close()
        try:
            await asyncio.gather(
                *(connection.close_until(deadline) for connection in list(self._connections)),
                return_exceptions=True,
            )
        finally:
            for connection in (*self._connections, *self._opening):
                connection.close_nowait()
            self._connections.clear()
            endpoint, self._endpoint = self._endpoint, None
            try:
                if self._fallback is not None:
                    await self._fallback.finish(deadline)
            finally:
                if endpoint is not None:
                    await endpoint.aclose(timeout=deadline - loop.time())
            await self._emitter_close(deadline - loop.time())

    async def __aenter__(self) -> Self:
        self.home_loop.enter()
        if self._closed:
            raise ClientError("the client is closed; make a new one")
        return self

    # ------------------------------------------------------------- observability

    def debug_state(self) -> dict[str, Any]:
        """Return a snapshot for logs: state, configuration, statistics."""
        return {
            "client": {"closed": self._closed, "default_headers": dict(self._default_headers)},
            "config": {
                **self._config.to_dict(),
                "fallback_proxy": without_password(self._config.fallback_proxy),
            },
            "statistics": self.stats,
            "connections": [connection.get_summary() for connection in self._connections],
        }

    def diagnose_issues(self) -> list[str]:
        """List what looks wrong, based on measurements; empty if all is well."""
        stats = self._stats
        issues = []
        if self._closed:
            issues.append("the client is closed")
        if stats.connections_attempted >= 5 and stats.success_rate < 0.9:
            issues.append(
                f"{stats.connections_failed} of {stats.connections_attempted} connections failed"
            )
        if stats.avg_connect_time > 5.0:
            issues.append(f"connecting takes {stats.avg_connect_time:.1f} s on average")
        if stats.connections_lost:
            issues.append(f"{stats.connections_lost} connections were lost; {self._last_loss}")
        if stats.addresses_failed:
            issues.append(
                f"{stats.addresses_failed} addresses failed where another one of the same host "
                "worked, which costs time: correct its DNS records, or what listens there"
            )
        return issues

    # ------------------------------------------------- for monitors and frameworks

    def begin_round(self) -> Round:
        """Advanced: measure all connections; with many this takes several turns of the loop."""
        return self._figures.refresh(self._connections)

    def measure(self) -> dict[str, Any]:
        """As ``WebTransportServer.get_server_stats``, of a client. Measures at once."""
        self._figures.collect(self._connections)
        return self.last_measured()

    def last_measured(self) -> dict[str, Any]:
        """As ``measure``, with the connections as they were measured last."""
        stats = self._stats.to_dict()
        stats["active_connections"] = len(self._connections)
        stats["active_sessions"] = sum(len(item.sessions) for item in self._connections)
        stats["traffic"] = self._figures.sums()
        if self._endpoint is not None:
            stats["engine"] = self._endpoint.quic.stats()
        return stats

    def round_trip_times(self) -> list[float]:
        """Smoothed round-trip times of the connections, seconds, as they were measured last."""
        return self._figures.round_trip_times()

    async def open_session(
        self,
        url: URL,
        timeout: float | None,
        headers: HeadersToSend | None,
        overrides: ConnectOverrides = DIRECT,
    ) -> WebTransportSession:
        """Advanced: as ``connect``, with another way to connect.

        Args:
            url: As for ``connect``.
            timeout: As for ``connect``.
            headers: As for ``connect``.
            overrides: Settings that differ from the configuration.

        Raises and cancellation: as ``connect``.
        """
        host, port, path = parse_webtransport_url(url=url)
        loop = self.home_loop.enter()
        if self._closed:
            raise ClientError("the client is closed; make a new one", target_url=url)
        checked = check_fields({} if headers is None else headers)
        if self._endpoint is None:
            self._config.validate()  # its fields may have been set since it was made
        if timeout is None:
            timeout = self._config.connect_timeout
        elif isinstance(timeout, bool) or not (isinstance(timeout, int | float) and timeout > 0):
            wrong = ClientArgumentError(
                "timeout must be more than 0 seconds, or None for connect_timeout, "
                f"got {shorten(timeout)}",
                config_key="timeout",
                config_value=timeout,
            )
            wrong.target_url = url
            raise wrong
        limit = check_timeout("timeout", timeout)
        stats = self._stats
        stats.connections_attempted += 1
        started = loop.time()
        progress = Progress()
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                session = await self._open_session(host, port, path, checked, progress, overrides)
        except BaseException as error:
            stats.connections_failed += 1
            if progress.aside and isinstance(error, WebTransportError):
                error.add_note(progress.aside)
            if scope.expired() and isinstance(error, builtins.TimeoutError):
                raise progress.timed_out(url, timeout) from None
            if self._closed and isinstance(error, WebTransportError):
                raise ClientError(
                    f"the client was closed while it connected to {printable_path(url)}",
                    target_url=url,
                ) from error
            if isinstance(error, ClientError) and error.target_url is None:
                error.target_url = url
            raise
        stats.record(loop.time() - started, session.transport)
        return session

    async def _open_session(
        self,
        host: str,
        port: int,
        path: str,
        headers: HeaderMap,
        progress: Progress,
        overrides: ConnectOverrides,
    ) -> WebTransportSession:
        fields = check_fields(request_fields(self._config))
        for extra in (self._default_headers, headers):
            for name in extra:
                fields.set_all(name, extra.get_all(name))
        config = self._config
        pause = config.retry_delay
        for retry in itertools.count():
            try:
                return await self._open_once(
                    host, port, path, fields, progress, overrides, retry > 0
                )
            except WebTransportError as error:
                if self._closed or retry >= config.max_retries or not is_request_rejected(error):
                    raise
                self._stats.requests_retried += 1
                self._logger.info(
                    "%s did not process the request; sending it again (retry %d of %d): %s",
                    host_and_port(host, port),
                    retry + 1,
                    config.max_retries,
                    error,
                )
            if retry:  # the first goes to another connection at once
                progress.advance("retry", "the server did not process the request in any attempt")
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * config.retry_backoff, config.max_retry_delay)
        raise AssertionError  # the loop has no end

    async def _open_once(
        self,
        host: str,
        port: int,
        path: str,
        fields: HeaderMap,
        progress: Progress,
        overrides: ConnectOverrides,
        fresh: bool,
    ) -> WebTransportSession:
        """One request; ``fresh``: on a new connection, even where they may be shared."""
        found: tuple[WebTransportSession, WebTransportConnection] | None = None
        if self._config.allow_pooling:
            # One at a time per authority: the second finds the connection of the first.
            lock = self._connecting.setdefault((host, port), asyncio.Lock())
            async with lock:
                if not fresh:
                    found = await self._open_pooled(host, port, path, fields, overrides)
                if found is None:
                    connection = await self._open_connection(host, port, progress, overrides)
                    connection.keep_open = _can_share(connection)
                    found = await self._request(connection, path, fields, overrides), connection
        else:
            connection = await self._open_connection(host, port, progress, overrides)
            found = await self._request(connection, path, fields, overrides), connection
        session, connection = found
        progress.advance("session", "the connection works, but the server did not accept or refuse")
        try:
            await session.ready(timeout=None)  # the caller's timeout covers this, too
        except BaseException as error:
            progress.explain(request_delay(session))
            if isinstance(error, WebTransportNotSupportedError):
                connection.keep_open = False
            await session.close()
            if not (connection.keep_open or connection.is_closed or connection.sessions):
                connection.close_nowait()
            raise
        return session

    async def _open_pooled(
        self, host: str, port: int, path: str, fields: HeaderMap, overrides: ConnectOverrides
    ) -> tuple[WebTransportSession, WebTransportConnection] | None:
        """A session on an existing connection, and that connection; or None."""
        for connection, origin in list(self._connections.items()):
            if origin != (host, port) or not (connection.is_connected and _can_share(connection)):
                continue
            try:
                session = await connection.create_session(
                    path, headers=fields, application_protocols=overrides.application_protocols
                )
                return session, connection
            except WebTransportError as error:
                self._logger.debug("cannot share %r: %s", connection, error)
        return None

    async def _request(
        self,
        connection: WebTransportConnection,
        path: str,
        fields: HeaderMap,
        overrides: ConnectOverrides,
    ) -> WebTransportSession:
        try:
            return await connection.create_session(
                path, headers=fields, application_protocols=overrides.application_protocols
            )
        except BaseException:
            connection.close_nowait()
            raise

    @property
    def _is_full(self) -> bool:
        return len(self._connections) + len(self._opening) >= self._config.max_connections

    def _is_unused(self, connection: WebTransportConnection) -> bool:
        """Whether it is kept for further sessions and has none."""
        return connection.is_connected and not connection.sessions

    def lacks_room(self, host: str, port: int) -> bool:
        """Whether ``max_connections`` blocks sessions of an origin until another one ends."""
        return self._is_full and not any(
            self._is_unused(connection)
            or (
                self._config.allow_pooling
                and origin == (host, port)
                and connection.is_connected
                and _can_share(connection)
            )
            for connection, origin in self._connections.items()
        )

    async def _open_connection(
        self, host: str, port: int, progress: Progress, overrides: ConnectOverrides
    ) -> WebTransportConnection:
        config = self._config
        while self._is_full:
            # An idle connection that is kept for one origin must not block others forever.
            unused = min(
                filter(self._is_unused, self._connections),
                key=lambda connection: connection.active_at,
                default=None,
            )
            if unused is not None:
                await unused.close()
                continue
            raise ClientError(
                f"max_connections={config.max_connections} connections are open; close some, "
                "or raise the limit"
            )
        progress.advance("handshake", QUIC_HINT)
        origin = (host, port)
        connection = self._new_connection(origin)
        try:
            if overrides.dial is not None:
                await overrides.dial(connection, host, port, progress)
            elif self._fallback is None:
                await self._establish(connection, origin, progress, overrides, None)
            else:
                connection = await self._race(
                    self._fallback, connection, origin, progress, overrides
                )
        finally:
            self._opening.discard(connection)
        self._stats.addresses_failed += len(progress.failures)
        if not connection.is_closed:
            self._connections[connection] = origin
        return connection

    def _new_connection(self, origin: _Origin) -> WebTransportConnection:
        connection = WebTransportConnection(config=self._config)
        connection.on_closed = self._forget
        connection.on_credentials = partial(self._credentials.add, origin)
        self._opening.add(connection)
        return connection

    async def _race(
        self,
        fallback: Fallback,
        connection: WebTransportConnection,
        origin: _Origin,
        progress: Progress,
        overrides: ConnectOverrides,
    ) -> WebTransportConnection:
        """Connect by QUIC or TCP; returns ``connection``, or another one if TCP won."""
        try:
            link = await fallback.race(
                origin,
                progress,
                lambda lane, addresses: self._establish(
                    connection, origin, lane, overrides, addresses
                ),
            )
        except BaseException:
            connection.close_nowait()
            raise
        if link is None:
            return connection
        connection.close_nowait()
        self._opening.discard(connection)
        replacement = self._new_connection(origin)
        try:
            await establish_over(replacement, link, *origin)
        except BaseException:
            link.abort()
            replacement.close_nowait()
            self._opening.discard(replacement)
            raise
        return replacement

    async def _establish(
        self,
        connection: WebTransportConnection,
        origin: _Origin,
        progress: Progress,
        overrides: ConnectOverrides,
        addresses: Sequence[RemoteAddress] | None,
    ) -> None:
        """Connect, with what earlier connections have brought."""
        offer = self._credentials.take(origin)
        resumed = True
        try:
            await connection.establish(
                *origin,
                endpoint=None if overrides.own_endpoint else self._get_endpoint(),
                tls=self._tls,
                options=self._options,
                ticket=offer.ticket,
                token=offer.token,
                addresses=addresses,
                failures=progress.failures,
            )
            resumed = connection.is_resumed
        except (CertificateError, HandshakeError):
            resumed = False
            raise
        finally:
            if not resumed:
                self._credentials.refused(origin, offer)

    def _get_endpoint(self) -> Endpoint:
        if self._endpoint is None:
            self._tls = client_tls(self._config)
            self._options = h3_options(self._config)
            self._endpoint = client_endpoint(self._config, self._tls)
        return self._endpoint

    def _forget(self, connection: WebTransportConnection) -> None:
        origin = self._connections.pop(connection, None)
        if origin is None:
            return
        self._figures.connection_over(connection)
        if connection.state is ConnectionState.FAILED:
            self._stats.connections_lost += 1
            self._last_loss = f"the last one to {host_and_port(*origin)}: {connection.error}"
            shared_log(self._logger).tell(
                "lost",
                logging.WARNING,
                "the connection to %s was lost: %s",
                host_and_port(*origin),
                connection.error,
            )

    def _release(self) -> None:
        """What ``close`` can still do without a loop: release descriptors and memory."""
        self._closed = True
        for connection in (*self._connections, *self._opening):
            connection.abandon()
        self._connections.clear()
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.close()


def _can_share(connection: WebTransportConnection) -> bool:
    """Whether a connection can carry several sessions; a WebSocket is one session."""
    return connection.transport == "quic"


ReconnectingClient.client_type = WebTransportClient
