"""Connections that are used again instead of being made anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._core.connection import WebTransportConnection
from .._states import ConnectionState, EventType
from ..config import ClientConfig
from ..exceptions import ClientError, ConfigurationError, TimeoutError, WebTransportError
from ..utils.checks import check_count, check_instance, check_seconds, check_text, validate_port
from ..utils.home import HomeLoop
from ..utils.hosts import ascii_host, host_and_port
from ..utils.logs import shared_log
from ..utils.slots import Slots

if TYPE_CHECKING:
    from ..events import Event

__all__ = ["ConnectionPool"]

_logger = logging.getLogger("pywebtransport.connection")

# Host, port and every field of the configuration.
_Key = tuple[str, int, Hashable]


class _Shelf:
    """The connections of one key."""

    __slots__ = ("idle", "key", "slots")

    def __init__(self, key: _Key, max_size: int) -> None:
        self.key = key
        self.idle: list[WebTransportConnection] = []  # the one used last comes last
        self.slots = Slots(max_size)  # taken: one per connection in use or being made


class ConnectionPool:
    """Keeps client connections open between uses.

    A connection belongs to one user at a time: ``get_connection`` takes it,
    ``return_connection`` gives it back. It is used again only for the same host and
    port and an equal configuration, because credentials, certificates and limits are
    part of it. A connection that closes leaves the pool at once, in use or not; one that
    is not wanted for ``max_idle_time`` is closed.

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
        """An empty pool.

        Args:
            max_size: Connections per host, port and configuration, idle or in use.
            max_idle_time: Seconds after which an idle connection is closed.
            cleanup_interval: Ignored; kept for compatibility.

        Raises:
            ConfigurationError: A value is out of range.
        """
        check_count("max_size", max_size)
        max_idle_time = check_seconds("max_idle_time", max_idle_time)
        self._max_size = max_size
        self._max_idle_time = max_idle_time
        self._shelves: dict[_Key, _Shelf] = {}
        self._active: dict[WebTransportConnection, _Shelf] = {}
        self._opening: set[WebTransportConnection] = set()
        self._returning: set[WebTransportConnection] = set()
        # Until when each idle connection stays. All stay equally long, so the first to be
        # closed is the first that was added.
        self._idle: dict[WebTransportConnection, tuple[float, _Shelf]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._home = HomeLoop()
        self._closed = False

    async def get_connection(
        self, *, config: ClientConfig, host: str, port: int, path: str = "/"
    ) -> WebTransportConnection:
        """Take a connection, and request a session on ``path`` over it.

        It is one that was returned, if there is one and it is still connected, and
        otherwise a new one. While ``max_size`` are in use, callers wait in the order in
        which they came, each at most ``config.connect_timeout`` seconds.

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

        Cancellation: safe; nothing stays open and no place in the pool is lost.
        """
        check_instance("config", config, ClientConfig)
        host = ascii_host(host)
        validate_port(port)
        check_text("path", path)
        self._home.enter()
        self._require_open()
        key = (host, port, _frozen(config.to_dict()))
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = _Shelf(key, self._max_size)
        try:
            if not await shelf.slots.acquire(config.connect_timeout):
                raise TimeoutError(
                    f"all {self._max_size} connections to {host_and_port(host, port)} stayed in "
                    f"use for connect_timeout={config.connect_timeout} s; return them, or raise "
                    "max_size",
                    timeout_duration=config.connect_timeout,
                    operation="wait for a pooled connection",
                )
            try:
                connection = self._reuse(shelf, path)
                if connection is None:
                    connection = await self._open(config, host, port, path)
            except BaseException:
                shelf.slots.release()
                raise
        except BaseException:
            self._tidy(shelf)
            raise
        self._active[connection] = shelf
        return connection

    async def return_connection(self, connection: WebTransportConnection) -> None:
        """Give a connection back that ``get_connection`` gave.

        Sessions that are still open on it are closed with code 0, as
        ``session.close()`` does. A connection that is closed or that the server wants to
        end is not kept. One that does not come from this pool is closed, since nobody
        else is going to; one that was returned already is left alone.

        Cancellation: safe; the connection is then closed instead of kept.
        """
        check_instance("connection", connection, WebTransportConnection)
        self._home.enter()
        if connection in self._idle or connection in self._returning:
            return
        shelf = self._active.get(connection)
        if shelf is None:
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
        if self._active.get(connection) is not shelf:
            return  # it closed meanwhile
        if connection.state is not ConnectionState.CONNECTED:
            connection.close_nowait()
            return
        del self._active[connection]
        self._keep(connection, shelf)
        shelf.slots.release()

    async def close_all(self) -> None:
        """Close every connection, in use or not, and the pool with them. Idempotent.

        Whoever waits for a connection gets ``ClientError``.

        Cancellation: everything is closed all the same, without the wait.
        """
        if self._home.is_gone:
            self._closed = True
            for connection in (*self._idle, *self._active, *self._opening):
                connection.abandon()
            return
        self._home.enter()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for shelf in self._shelves.values():
            shelf.slots.fail(_closed_error)
        connections = [*self._idle, *self._active]
        try:
            await asyncio.gather(
                *(connection.close() for connection in connections), return_exceptions=True
            )
        finally:
            for connection in (*connections, *self._opening):
                connection.close_nowait()

    def get_stats(self) -> dict[str, Any]:
        """Counts: idle and active connections, keys in use, and the limit per key."""
        return {
            "total_pooled_connections": len(self._idle),
            "total_active_connections": len(self._active),
            "active_pools": len(self._shelves),
            "max_size_per_pool": self._max_size,
        }

    async def __aenter__(self) -> Self:
        self._require_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close_all()

    # ------------------------------------------------------------------ internal

    def _require_open(self) -> None:
        if self._closed:
            raise _closed_error()

    def _reuse(self, shelf: _Shelf, path: str) -> WebTransportConnection | None:
        """An idle connection with a session requested on it, or None."""
        while shelf.idle:
            connection = shelf.idle[-1]
            if connection.state is ConnectionState.CONNECTED:
                try:
                    connection.request_session(path)
                except ConfigurationError:
                    raise  # the fault of the caller: the connection stays
                except WebTransportError as error:
                    _logger.debug("cannot use %r again: %s", connection, error)
                else:
                    self._unshelve(connection)
                    return connection
            self._unshelve(connection)
            connection.close_nowait()
        return None

    async def _open(
        self, config: ClientConfig, host: str, port: int, path: str
    ) -> WebTransportConnection:
        # A copy: whoever changes the original later must not change what is shared.
        connection = WebTransportConnection(config=config.copy())
        connection.keep_open = True
        connection.add_watcher(EventType.CONNECTION_CLOSED, self._connection_closed)
        self._opening.add(connection)
        try:
            await connection.connect(host=host, port=port, path=path)
            self._require_open()
        except BaseException as error:
            connection.close_nowait()
            if self._closed and isinstance(error, WebTransportError):
                raise _closed_error() from error
            raise
        finally:
            self._opening.discard(connection)
        return connection

    def _keep(self, connection: WebTransportConnection, shelf: _Shelf) -> None:
        until = asyncio.get_running_loop().time() + self._max_idle_time
        self._idle[connection] = (until, shelf)
        shelf.idle.append(connection)
        self._arm()

    def _unshelve(self, connection: WebTransportConnection) -> None:
        _, shelf = self._idle.pop(connection)
        shelf.idle.remove(connection)
        if self._timer is not None and not self._idle:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """Have one timer, for the connection that is idle longest."""
        if self._timer is None and self._idle:
            until, _ = next(iter(self._idle.values()))
            self._timer = asyncio.get_running_loop().call_at(until, self._evict)

    def _evict(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection, (until, shelf) = next(iter(self._idle.items()))
            if until > now:
                break
            self._unshelve(connection)
            connection.close_nowait(reason="idle")
            self._tidy(shelf)
        self._arm()

    def _connection_closed(self, event: Event) -> None:
        connection: WebTransportConnection = event.source  # type: ignore[assignment]
        if connection in self._idle:
            _, shelf = self._idle[connection]
            self._unshelve(connection)
        elif connection in self._active:
            shelf = self._active.pop(connection)
            shelf.slots.release()
        else:
            return
        if connection.state is ConnectionState.FAILED:
            where = host_and_port(shelf.key[0], shelf.key[1])
            shared_log(_logger).tell(
                "lost",
                logging.WARNING,
                "the connection to %s was lost: %s",
                where,
                connection.error,
            )
        self._tidy(shelf)

    def _tidy(self, shelf: _Shelf) -> None:
        """Forget a key that has nothing left."""
        if not shelf.idle and shelf.slots.unused and self._shelves.get(shelf.key) is shelf:
            del self._shelves[shelf.key]


def _frozen(value: Any) -> Hashable:
    """A configuration's value as something that can be looked up."""
    if isinstance(value, dict):
        return tuple(sorted((name, _frozen(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return value  # type: ignore[no-any-return]


def _closed_error() -> ClientError:
    return ClientError("the connection pool is closed; make a new one")
