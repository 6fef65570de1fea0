"""Compatibility name: connections that are used more than once."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any, Self

from .._core.connection import WebTransportConnection
from .._states import ConnectionState, EventType
from ..config import ClientConfig
from ..exceptions import ClientError, ConfigurationError, WebTransportError
from ..utils._checks import check_count, check_instance, check_seconds, check_text, validate_port
from ..utils._closing import AsyncContext, close_all
from ..utils._home import HomeLoop
from ..utils._hosts import ascii_host, host_and_port
from ..utils._logs import shared_log
from ..utils._pooling import Leaving, Lender

__all__ = ["ConnectionPool"]

_logger = logging.getLogger("pywebtransport.connection")

# Host, port and every field of the configuration.
_Key = tuple[str, int, Hashable]


class ConnectionPool(AsyncContext):
    """Keeps client connections open between uses.

    A connection has one user at a time: ``get_connection`` takes it, ``return_connection`` returns
    it. It is used again only for the same host and port and an equal configuration, because
    credentials, certificates and limits are part of it. A connection that closes leaves the pool at
    once, in use or not; one that is not wanted for ``max_idle_time`` is closed.

    The pool owns its connections: closing it closes those in use as well. Use as
    ``async with ConnectionPool() as pool:``.
    """

    def __init__(
        self,
        *,
        max_size: int = 10,
        max_idle_time: float = 300.0,
        cleanup_interval: float = 60.0,
    ) -> None:
        """Create an empty pool.

        Args:
            max_size: Connections per host, port and configuration, idle or in use.
            max_idle_time: Seconds after which an idle connection is closed.
            cleanup_interval: Ignored; kept for compatibility.

        Raises:
            ConfigurationError: A value is out of range.
        """
        check_count("max_size", max_size)
        max_idle_time = check_seconds("max_idle_time", max_idle_time)
        self._lender: Lender[_Key, WebTransportConnection] = Lender(
            max_size,
            noun="connection",
            size_name="max_size",
            ending=EventType.CONNECTION_CLOSED,
            left=_left,
            closed_error=_closed_error,
            max_idle_time=max_idle_time,
        )
        self._opening: set[WebTransportConnection] = set()
        self._returning: set[WebTransportConnection] = set()
        self._home = HomeLoop()

    @property
    def waiting_callers(self) -> int:
        """How many callers wait for a connection, because all are in use."""
        return self._lender.waiting

    async def get_connection(
        self, *, config: ClientConfig, host: str, port: int, path: str = "/"
    ) -> WebTransportConnection:
        """Take a connection, and request a session on ``path`` over it.

        You get a returned connection, if there is one that is still connected, and otherwise a new
        one. While ``max_size`` connections are in use, callers wait in order, each at most
        ``config.connect_timeout`` seconds.

        As with ``WebTransportConnection.create_client``, the session has no object yet::

            session_id = await connection.wait_for_ready_session()
            session = WebTransportSession(connection, session_id=session_id)

        Closing that session leaves the connection open.

        Args:
            config: TLS, limits and timeouts.
            host: Host name or address; an IPv6 address without brackets.
            port: UDP port.
            path: Path and query of the session.

        Raises:
            ClientError: The pool is closed.
            ConfigurationError: The pool belongs to another event loop.
            ConfigurationError: An argument cannot be used; ``path`` or a header of
                ``config`` cannot be sent.
            TimeoutError: None became free, or the server did not answer in time.
            UnreachableError, CertificateError, HandshakeError: As when connecting.

        Cancellation: safe; nothing stays open and no slot in the pool is lost.
        """
        check_instance("config", config, ClientConfig)
        host = ascii_host(host)
        validate_port(port)
        check_text("path", path)
        self._home.enter()
        return await self._lender.lend(
            (host, port, _frozen(config.to_dict())),
            config.connect_timeout,
            where=f"to {host_and_port(host, port)}",
            limit=f"connect_timeout={config.connect_timeout}",
            reuse=lambda connection: _can_carry(connection, path),
            create=lambda: self._open(config, host, port, path),
        )

    async def return_connection(self, connection: WebTransportConnection) -> None:
        """Return a connection from ``get_connection``.

        Sessions that are still open on it are closed with code 0, as ``session.close()`` does. A
        connection that is closed or that the server wants to end is not kept. A connection that
        does not come from this pool is closed, because nothing else would close it. Returning a
        connection twice has no effect.

        Cancellation: safe; the connection is then closed instead of kept.
        """
        check_instance("connection", connection, WebTransportConnection)
        self._home.enter()
        if connection in self._lender.idle or connection in self._returning:
            return
        if connection not in self._lender.lent:
            await connection.close()
            return
        self._returning.add(connection)
        try:
            await connection.end_sessions()
        except BaseException:
            connection.close_nowait()
            raise
        finally:
            self._returning.discard(connection)
        if connection in self._lender.lent:  # it may have closed meanwhile
            fit = connection.state is ConnectionState.CONNECTED
            self._lender.give_back(connection, fit=fit)

    async def close_all(self) -> None:
        """Close every connection, in use or not, and the pool with them. Idempotent.

        Callers that wait for a connection get ``ClientError``.

        Cancellation: everything is closed anyway, without the wait.
        """
        if self._home.is_gone:
            self._lender.closed = True
            for connection in (*self._lender.items, *self._opening):
                connection.abandon()
            return
        self._home.enter()
        self._lender.close()
        try:
            await close_all(self._lender.items)
        finally:
            for connection in tuple(self._opening):
                connection.close_nowait()

    def get_stats(self) -> dict[str, Any]:
        """Counts: idle and active connections, keys in use, and the limit per key."""
        return {
            "total_pooled_connections": len(self._lender.idle),
            "total_active_connections": len(self._lender.lent),
            "active_pools": self._lender.keys,
            "max_size_per_pool": self._lender.size,
        }

    async def __aenter__(self) -> Self:
        self._lender.require_open()
        return self

    async def _end_block(self) -> None:
        await self.close_all()

    # ------------------------------------------------------------------ internal

    async def _open(
        self, config: ClientConfig, host: str, port: int, path: str
    ) -> WebTransportConnection:
        # A copy, so that later changes of the original do not affect shared connections.
        connection = WebTransportConnection(config=config.copy())
        connection.keep_open = True
        self._opening.add(connection)
        try:
            await connection.connect(host=host, port=port, path=path)
        except BaseException as error:
            connection.close_nowait()
            if self._lender.closed and isinstance(error, WebTransportError):
                raise _closed_error() from error
            raise
        finally:
            self._opening.discard(connection)
        return connection


def _can_carry(connection: WebTransportConnection, path: str) -> bool:
    """Whether a session could be requested on an idle connection."""
    if connection.state is not ConnectionState.CONNECTED:
        return False
    try:
        connection.request_session(path)
    except ConfigurationError:
        raise  # the fault of the caller: the connection stays
    except WebTransportError as error:
        _logger.debug("cannot use %r again: %s", connection, error)
        return False
    return True


def _left(connection: WebTransportConnection, key: _Key, why: Leaving) -> None:
    """A connection left the pool."""
    if why is Leaving.EXPIRED:
        connection.close_nowait(reason="idle")
    elif why is Leaving.UNFIT:
        connection.close_nowait()
    elif connection.state is ConnectionState.FAILED:
        shared_log(_logger).tell(
            "lost",
            logging.WARNING,
            "the connection to %s was lost: %s",
            host_and_port(key[0], key[1]),
            connection.error,
        )


def _frozen(value: Any) -> Hashable:
    """A configuration's value as something that can be looked up."""
    if isinstance(value, dict):
        return tuple(sorted((name, _frozen(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return value  # type: ignore[no-any-return]


def _closed_error() -> ClientError:
    return ClientError("the connection pool is closed; make a new one")
