"""Compatibility name: a client that keeps sessions and lends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

from .._states import URL, EventType, SessionState, URLParts
from ..exceptions import ClientError, SessionError
from ..session import WebTransportSession
from ..utils._checks import check_callable, check_count, check_instance, check_seconds
from ..utils._closing import AsyncCloseable
from ..utils._pooling import Leaving, Lender
from ..utils._text import printable, printable_path
from ..utils._urls import parse_webtransport_url
from ._opening import Connect, open_session
from .client import WebTransportClient

if TYPE_CHECKING:
    from ..config import ClientConfig

__all__ = ["PooledClient"]


class PooledClient(AsyncCloseable):
    """Lends sessions, and keeps returned ones for the next caller.

    ::

        async with PooledClient.create(config=config, pool_size=4) as pool:
            async with pool.session("https://example.org/feed") as session:
                ...

    Sessions are pooled by host, port, path and query. Each session is lent to one borrower at a
    time. The next borrower gets it as it is, with the streams and datagrams that were left in it:
    if you do not want that, close the session before you return it.
    """

    def __init__(
        self,
        config: ClientConfig | None = None,
        *,
        pool_size: int = 10,
        cleanup_interval: float = 60.0,
        max_idle_time: float = 300.0,
        connect: Connect | None = None,
    ) -> None:
        """Create a pool without sessions.

        Args:
            config: Configuration of the client below; default ``ClientConfig()``.
            pool_size: Sessions per endpoint, including lent ones; at least 1.
            cleanup_interval: Ignored; kept for compatibility.
            max_idle_time: Seconds after which an idle session is closed.
            connect: ``async def connect(client, url)`` opens a session in place of
                ``client.connect(url)``, such as ``Tracing.connect``.

        Raises:
            ConfigurationError: A value is out of range, or ``connect`` cannot be called.
        """
        check_count("pool_size", pool_size)
        check_seconds("cleanup_interval", cleanup_interval)
        check_seconds("max_idle_time", max_idle_time)
        if connect is not None:
            check_callable("connect", connect)
        self._connect = connect
        self._client = WebTransportClient(config=config)
        self._lender: Lender[URLParts, WebTransportSession] = Lender(
            pool_size,
            noun="session",
            size_name="pool_size",
            ending=EventType.SESSION_CLOSED,
            left=self._left,
            closed_error=_closed_error,
            max_idle_time=max_idle_time,
        )
        # They ended while they were lent; their borrowers may still return them.
        self._ended: WeakSet[WebTransportSession] = WeakSet()
        self._closing: set[asyncio.Task[None]] = set()
        self._opened = self._reused = self._expired = self._discarded = 0

    @classmethod
    def create(
        cls,
        config: ClientConfig | None = None,
        *,
        pool_size: int = 10,
        cleanup_interval: float = 60.0,
        max_idle_time: float = 300.0,
        connect: Connect | None = None,
    ) -> Self:
        """Same as the constructor."""
        return cls(
            config=config,
            pool_size=pool_size,
            cleanup_interval=cleanup_interval,
            max_idle_time=max_idle_time,
            connect=connect,
        )

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._lender.closed

    @property
    def config(self) -> ClientConfig:
        """The configuration of the client below."""
        return self._client.config

    @property
    def waiting_callers(self) -> int:
        """How many callers wait for a session, because all of their endpoint are lent."""
        return self._lender.waiting

    # ------------------------------------------------------------------- lending

    @asynccontextmanager
    async def session(self, url: URL) -> AsyncIterator[WebTransportSession]:
        """Borrow a session for the duration of an ``async with`` block.

        If the block ends with an exception, the state of the session is unknown. Then it is closed,
        not kept.

        Args and errors: as ``get_session``.
        """
        session = await self.get_session(url)
        try:
            yield session
        except BaseException:
            self._give_back(session, usable=False)
            raise
        self._give_back(session, usable=True)

    async def get_session(self, url: URL) -> WebTransportSession:
        """Borrow a session: an idle one, or a new one.

        When all ``pool_size`` sessions of the endpoint are in use, callers wait, each at most
        ``config.connect_timeout`` seconds; the first one gets the next session. A session is never
        lent when it, or its connection, is closed or draining.

        Args:
            url: ``https://host[:port]/path?query``.

        Returns:
            A session that is ready; pass it to ``return_session`` afterwards.

        Raises:
            TimeoutError: No session was returned in time, or opening one took too long.
            ClientError: The pool is closed, or the server ended the new session immediately.
            ConfigurationError: The pool belongs to another event loop.
            WebTransportError: As ``WebTransportClient.connect`` for a new session.

        Cancellation: safe; nothing stays open and no slot in the pool is lost.
        """
        parts = parse_webtransport_url(url)
        self._client.home_loop.enter()
        seconds = self._client.config.connect_timeout
        return await self._lender.lend(
            parts,
            seconds,
            where=f"to {printable_path(url)}",
            limit=f"connect_timeout={seconds}",
            reuse=self._reuse,
            create=lambda: self._open(url, parts),
        )

    async def return_session(self, session: WebTransportSession) -> None:
        """Return a borrowed session; the next waiting caller gets it, or it is kept.

        A session that is closed or draining is not kept, but you may return it.

        Args:
            session: From ``get_session``.

        Raises:
            SessionError: It was returned already, or is not from this pool.
            ConfigurationError: The argument is not a session, or the pool belongs to another event
                loop.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        check_instance("session", session, WebTransportSession)
        self._client.home_loop.enter()
        self._give_back(session, usable=True)

    # -------------------------------------------------------------- observability

    def get_stats(self) -> dict[str, int]:
        """Return counters: current sessions, and totals since the start.

        Returns:
            ``endpoints``, ``idle_sessions``, ``active_sessions`` (lent),
            ``pool_size``, ``opened``, ``reused``, ``expired`` (closed because they
            were idle for too long), ``discarded`` (lost for another reason).
        """
        return {
            "endpoints": self._lender.keys,
            "idle_sessions": len(self._lender.idle),
            "active_sessions": len(self._lender.lent),
            "pool_size": self._lender.size,
            "opened": self._opened,
            "reused": self._reused,
            "expired": self._expired,
            "discarded": self._discarded,
        }

    # ------------------------------------------------------------------- closing

    async def close(self) -> None:
        """Close every session, even lent ones; waiting callers get ``ClientError``. Idempotent.

        Cancellation: everything is released anyway.
        """
        if self._client.home_loop.is_gone:
            self._lender.closed = True
            await self._client.close()
            return
        self._client.home_loop.enter()
        self._lender.close()
        try:
            await self._client.close()
        finally:
            if self._closing:
                await asyncio.wait(self._closing)

    async def __aenter__(self) -> Self:
        self._client.home_loop.enter()
        self._lender.require_open()
        return self

    # ------------------------------------------------------------------ internal

    def _reuse(self, session: WebTransportSession) -> bool:
        usable = _is_usable(session)
        self._reused += usable
        return usable

    async def _open(self, url: URL, parts: URLParts) -> WebTransportSession:
        await self._make_room(parts)
        session = await open_session(self._connect, self._client, url)
        self._opened += 1
        if not _is_usable(session):
            info = session.close_info
            self._left(session, parts, Leaving.UNFIT)
            raise ClientError(
                f"{printable_path(url)} ended or drained the session as soon as it was open"
                + (f": {printable(info.reason)}" if info is not None and info.reason else ""),
                target_url=url,
            )
        return session

    async def _make_room(self, parts: URLParts) -> None:
        """Connections with only idle sessions must not use up ``max_connections``."""
        host, port, _ = parts
        while self._client.lacks_room(host, port):
            idle = self._lender.idle
            for session in idle:
                connection = session.connection
                if connection is not None and all(other in idle for other in connection.sessions):
                    break
            else:
                return
            for session in [other for other in idle if other.connection is connection]:
                self._lender.remove(session, Leaving.ENDED)  # with the connection
            await connection.close()

    def _give_back(self, session: WebTransportSession, *, usable: bool) -> None:
        if session in self._ended:
            self._ended.discard(session)
            return
        if session not in self._lender.lent:
            why = (
                "was returned already"
                if session in self._lender.idle
                else "is not lent by this pool: it was returned already, or is from another pool"
            )
            raise SessionError(f"session {session.session_id} {why}", session_id=session.session_id)
        self._lender.give_back(session, fit=usable and _is_usable(session))

    def _left(self, session: WebTransportSession, parts: URLParts, why: Leaving) -> None:
        """A session left the pool, or is not fit to come into it."""
        if why is Leaving.EXPIRED:
            self._expired += 1
        else:
            self._discarded += 1
        if why is Leaving.LOST:
            self._ended.add(session)
        elif why is not Leaving.ENDED:
            self._close_later(session)

    def _close_later(self, session: WebTransportSession) -> None:
        if not (session.is_closed or self._lender.closed):
            task = asyncio.get_running_loop().create_task(session.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _is_usable(session: WebTransportSession) -> bool:
    """Neither closed nor draining; a connection that drains (GOAWAY) drains its sessions."""
    return session.state is SessionState.CONNECTED


def _closed_error() -> ClientError:
    return ClientError("the pool is closed; make a new one")
