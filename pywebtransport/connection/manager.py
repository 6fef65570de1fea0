"""Compatibility name: the connections of an application, by ID."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from .._core.connection import WebTransportConnection
from .._states import ConnectionId, EventType
from ..constants import (
    DEFAULT_CONNECTION_CLEANUP_INTERVAL,
    DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
    DEFAULT_CONNECTION_IDLE_TIMEOUT,
    DEFAULT_SERVER_MAX_CONNECTIONS,
)
from ..exceptions import ConnectionError
from ..utils import _clock as clock
from ..utils._checks import check_count, check_instance, check_seconds, check_text
from ..utils._closing import AsyncContext, close_all
from ..utils._registry import Registry
from ..utils._turns import Turns, for_each

__all__ = ["ConnectionManager"]


class ConnectionManager(AsyncContext):
    """A bounded registry of connections; closed ones leave it at once.

    A connection without a session that was not used for ``connection_idle_timeout``
    seconds is closed (``connection.record_activity()`` counts as a use). Closing the
    manager closes its connections. Use as ``async with ConnectionManager() as manager:``.
    """

    def __init__(
        self,
        *,
        max_connections: int = DEFAULT_SERVER_MAX_CONNECTIONS,
        connection_cleanup_interval: float = DEFAULT_CONNECTION_CLEANUP_INTERVAL,
        connection_idle_check_interval: float = DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
        connection_idle_timeout: float = DEFAULT_CONNECTION_IDLE_TIMEOUT,
    ) -> None:
        """Create an empty registry.

        Args:
            max_connections: How many connections it may hold.
            connection_cleanup_interval: Ignored; kept for compatibility.
            connection_idle_check_interval: Ignored; kept for compatibility.
            connection_idle_timeout: Seconds that a connection may stay unused.

        Raises:
            ConfigurationError: A value is out of range.
        """
        check_count("max_connections", max_connections)
        connection_idle_timeout = check_seconds("connection_idle_timeout", connection_idle_timeout)
        self._max_connections = max_connections
        self._idle_timeout = connection_idle_timeout
        self._registry: Registry[WebTransportConnection] = Registry(
            EventType.CONNECTION_CLOSED, lambda connection: connection.connection_id
        )
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @classmethod
    def create(
        cls,
        *,
        max_connections: int = DEFAULT_SERVER_MAX_CONNECTIONS,
        connection_cleanup_interval: float = DEFAULT_CONNECTION_CLEANUP_INTERVAL,
        connection_idle_check_interval: float = DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
        connection_idle_timeout: float = DEFAULT_CONNECTION_IDLE_TIMEOUT,
    ) -> Self:
        """The same as calling the class."""
        return cls(
            max_connections=max_connections,
            connection_cleanup_interval=connection_cleanup_interval,
            connection_idle_check_interval=connection_idle_check_interval,
            connection_idle_timeout=connection_idle_timeout,
        )

    async def add_connection(self, connection: WebTransportConnection) -> ConnectionId:
        """Keep a connection until it closes. Adding it again changes nothing.

        Returns:
            Its ID.

        Raises:
            ConnectionError: It is closed, ``max_connections`` is reached, or the manager
                is shut down.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        check_instance("connection", connection, WebTransportConnection)
        items = self._registry.items
        if self._closed:
            raise ConnectionError("the connection manager is shut down; make a new one")
        if connection.is_closed:
            raise ConnectionError(f"connection {connection.connection_id} is closed")
        if connection.connection_id not in items and len(items) >= self._max_connections:
            raise ConnectionError(
                f"max_connections={self._max_connections} is reached; close or remove some, or "
                "raise the limit"
            )
        connection_id = self._registry.add(connection)
        if self._timer is None:
            self._arm(self._idle_timeout)
        return connection_id

    async def get_connection(self, connection_id: ConnectionId) -> WebTransportConnection | None:
        """The connection with an ID, or None."""
        check_text("connection_id", connection_id)
        return self._registry.items.get(connection_id)

    async def remove_connection(self, connection_id: ConnectionId) -> WebTransportConnection | None:
        """Forget a connection, which stays open, and return it; None if there is none."""
        check_text("connection_id", connection_id)
        return self._registry.remove(connection_id)

    async def get_all_connections(self) -> list[WebTransportConnection]:
        """All connections, in the order in which they were added."""
        return list(self._registry.items.values())

    def get_connection_count(self) -> int:
        """How many connections there are."""
        return len(self._registry.items)

    async def cleanup_closed_connections(self) -> int:
        """Forget closed connections and return how many there were.

        Always 0: closed connections are removed without this call.
        """
        return self._registry.remove_closed()

    async def get_stats(self) -> dict[str, Any]:
        """Return counts since the manager was created, and of the current connections by state."""
        return {
            **self._registry.stats,
            "active": len(self._registry.items),
            "states": await self._registry.states(),
            "max_connections": self._max_connections,
        }

    async def close_all_connections(self) -> None:
        """Close every connection and wait for it.

        Cancellation: they are closed anyway, without the wait.
        """
        await close_all(self._registry.items.values())

    async def shutdown(self) -> None:
        """Close every connection and accept no new ones. Idempotent.

        Cancellation: as ``close_all_connections``.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.close_all_connections()

    async def _end_block(self) -> None:
        await self.shutdown()

    # ------------------------------------------------------------------ internal

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._close_idle)

    def _close_idle(self) -> None:
        """Close idle connections, and set the timer for the next one."""
        self._timer = None
        now = clock.monotonic()
        earliest = self._idle_timeout
        idle = []
        for connection in list(self._registry.items.values()):
            left = self._time_left(connection, now)
            if left <= 0:
                idle.append(connection)
            else:
                earliest = min(earliest, left)
        for_each(Turns.of(), idle, self._close_if_idle)
        if self._registry.items:
            self._arm(earliest)

    def _time_left(self, connection: WebTransportConnection, now: float) -> float:
        """Seconds until it is idle; the whole timeout for one that is in use."""
        # One with a session is looked at again after a whole timeout: if the session ends before
        # that, this is soon enough.
        if connection.sessions or connection.has_pending_requests:
            return self._idle_timeout
        return min(self._idle_timeout, connection.active_at + self._idle_timeout - now)

    def _close_if_idle(self, connection: WebTransportConnection) -> None:
        # With many, this is in a later turn, and it may have been used since.
        if self._time_left(connection, clock.monotonic()) <= 0:
            connection.close_nowait(reason="idle")
