"""Compatibility name: a client that keeps sessions and lends them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast
from weakref import WeakSet

from .._states import URL, EventType, SessionState, URLParts
from ..exceptions import ClientError, SessionError, TimeoutError
from ..session import WebTransportSession
from ..utils.checks import check_count, check_instance, check_seconds
from ..utils.slots import Slots
from ..utils.text import printable
from ..utils.urls import parse_webtransport_url
from .client import WebTransportClient

if TYPE_CHECKING:
    from ..config import ClientConfig
    from ..events import Event

__all__ = ["PooledClient"]


class PooledClient:
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
    ) -> None:
        """Create a pool without sessions.

        Args:
            config: Configuration of the client below; default ``ClientConfig()``.
            pool_size: Sessions per endpoint, including lent ones; at least 1.
            cleanup_interval: Ignored; kept for compatibility.
            max_idle_time: Seconds after which an idle session is closed.

        Raises:
            ConfigurationError: A value is out of range.
        """
        check_count("pool_size", pool_size)
        check_seconds("cleanup_interval", cleanup_interval)
        check_seconds("max_idle_time", max_idle_time)
        self._client = WebTransportClient(config=config)
        self._pool_size = pool_size
        self._max_idle_time = max_idle_time
        self._endpoints: dict[URLParts, _Endpoint] = {}
        # With its endpoint and the time when it expires; the first one expires first.
        self._idle: OrderedDict[WebTransportSession, tuple[_Endpoint, float]] = OrderedDict()
        self._lent: dict[WebTransportSession, _Endpoint] = {}
        # They ended while they were lent; their borrowers may still return them.
        self._ended: WeakSet[WebTransportSession] = WeakSet()
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._opened = self._reused = self._expired = self._discarded = 0
        self._closed = False

    @classmethod
    def create(
        cls,
        config: ClientConfig | None = None,
        *,
        pool_size: int = 10,
        cleanup_interval: float = 60.0,
        max_idle_time: float = 300.0,
    ) -> Self:
        """Same as the constructor."""
        return cls(
            config=config,
            pool_size=pool_size,
            cleanup_interval=cleanup_interval,
            max_idle_time=max_idle_time,
        )

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._closed

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

        Cancellation: safe; nothing stays open and no place in the pool is lost.
        """
        parts = parse_webtransport_url(url)
        self._client.home_loop.enter()
        self._check_open()
        endpoint = self._endpoints.get(parts)
        if endpoint is None:
            endpoint = self._endpoints[parts] = _Endpoint(parts, self._pool_size)
        try:
            await self._wait_turn(endpoint, url)
            try:
                session = self._take_idle(endpoint) or await self._open(url, parts)
            except BaseException:
                endpoint.slots.release()
                raise
        except BaseException:
            self._tidy(endpoint)
            raise
        self._lent[session] = endpoint
        return session

    async def return_session(self, session: WebTransportSession) -> None:
        """Return a borrowed session; the next waiting caller gets it, or it is kept.

        A session that is closed or draining is not kept, but you may return it.

        Args:
            session: From ``get_session``.

        Raises:
            SessionError: It was returned already, or is not from this pool.
            ConfigurationError: The pool belongs to another event loop.
            ConfigurationError: The argument is not a session.

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
            "endpoints": len(self._endpoints),
            "idle_sessions": len(self._idle),
            "active_sessions": len(self._lent),
            "pool_size": self._pool_size,
            "opened": self._opened,
            "reused": self._reused,
            "expired": self._expired,
            "discarded": self._discarded,
        }

    # ------------------------------------------------------------------- closing

    async def close(self) -> None:
        """Close every session, even lent ones; waiting callers get ``ClientError``. Idempotent.

        Cancellation: everything is released all the same.
        """
        if self._client.home_loop.is_gone:
            self._closed = True
            await self._client.close()
            return
        self._client.home_loop.enter()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for endpoint in self._endpoints.values():
            endpoint.slots.fail(_closed_error)
        try:
            await self._client.close()
        finally:
            if self._closing:
                await asyncio.wait(self._closing)

    async def __aenter__(self) -> Self:
        self._client.home_loop.enter()
        self._check_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    # ------------------------------------------------------------------ internal

    def _check_open(self) -> None:
        if self._closed:
            raise _closed_error()

    async def _wait_turn(self, endpoint: _Endpoint, url: URL) -> None:
        """Take a slot, which allows one session to be lent."""
        seconds = self._client.config.connect_timeout
        if not await endpoint.slots.acquire(seconds):
            raise TimeoutError(
                f"all {self._pool_size} sessions to {printable(url)} stayed in use for "
                f"connect_timeout={seconds} s; return them, or raise pool_size",
                timeout_duration=seconds,
                operation="wait for a pooled session",
            )

    def _take_idle(self, endpoint: _Endpoint) -> WebTransportSession | None:
        """The session that was returned last, so that surplus ones stay idle and expire."""
        while endpoint.idle:
            session = endpoint.idle[-1]
            self._unshelve(session)
            if _is_usable(session):
                self._reused += 1
                return session
            self._discard(session)
        return None

    async def _open(self, url: URL, parts: URLParts) -> WebTransportSession:
        await self._make_room(parts)
        session = await self._client.connect(url)
        self._opened += 1
        session.add_watcher(EventType.SESSION_CLOSED, self._session_ended)
        if not _is_usable(session):
            info = session.close_info
            self._discard(session)
            raise ClientError(
                f"{printable(url)} ended or drained the session as soon as it was open"
                + (f": {printable(info.reason)}" if info is not None and info.reason else ""),
                target_url=url,
            )
        return session

    async def _make_room(self, parts: URLParts) -> None:
        """Connections with only idle sessions must not use up ``max_connections``."""
        host, port, _ = parts
        while self._client.lacks_room(host, port):
            for session in self._idle:
                connection = session.connection
                if connection is not None and all(
                    other in self._idle for other in connection.sessions
                ):
                    break
            else:
                return
            for session in [idle for idle in self._idle if idle.connection is connection]:
                self._tidy(self._unshelve(session))
                self._discarded += 1
            await connection.close()

    def _give_back(self, session: WebTransportSession, *, usable: bool) -> None:
        if session in self._ended:
            self._ended.discard(session)
            return
        endpoint = self._lent.pop(session, None)
        if endpoint is None:
            why = (
                "was returned already"
                if session in self._idle
                else "is not lent by this pool: it was returned already, or is from another pool"
            )
            raise SessionError(f"session {session.session_id} {why}", session_id=session.session_id)
        if usable and _is_usable(session):
            deadline = asyncio.get_running_loop().time() + self._max_idle_time
            self._idle[session] = (endpoint, deadline)
            endpoint.idle.append(session)
            self._arm()
        else:
            self._discard(session)
        endpoint.slots.release()
        self._tidy(endpoint)

    def _discard(self, session: WebTransportSession) -> None:
        """Close a session that cannot be lent and that nobody uses."""
        self._discarded += 1
        self._close_later(session)

    def _close_later(self, session: WebTransportSession) -> None:
        if not (session.is_closed or self._closed):
            task = asyncio.get_running_loop().create_task(session.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _session_ended(self, event: Event) -> None:
        """A session has ended, lent or not."""
        session = cast("WebTransportSession", event.source)
        if session in self._idle:
            endpoint = self._unshelve(session)
        elif session in self._lent:
            endpoint = self._lent.pop(session)
            self._ended.add(session)
            endpoint.slots.release()
        else:
            return
        self._discarded += 1
        self._tidy(endpoint)

    def _unshelve(self, session: WebTransportSession) -> _Endpoint:
        endpoint, _ = self._idle.pop(session)
        endpoint.idle.remove(session)
        return endpoint

    def _tidy(self, endpoint: _Endpoint) -> None:
        """Remove an endpoint that nobody uses."""
        # A waiter that gives up late may find that others have added it again.
        if self._endpoints.get(endpoint.parts) is endpoint and endpoint.is_unused:
            del self._endpoints[endpoint.parts]

    def _arm(self) -> None:
        """Set the one timer, for the session that expires first."""
        if self._timer is None and self._idle and not self._closed:
            _, deadline = next(iter(self._idle.values()))
            self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        """Close the sessions that have been idle for too long."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        for session, (endpoint, deadline) in list(self._idle.items()):
            if deadline > now:
                break
            self._expired += 1
            self._unshelve(session)
            self._close_later(session)
            self._tidy(endpoint)
        self._arm()


class _Endpoint:
    """The sessions to one URL; never more than there are slots, since idle ones are used first."""

    __slots__ = ("idle", "parts", "slots")

    def __init__(self, parts: URLParts, pool_size: int) -> None:
        self.parts = parts
        self.idle: list[WebTransportSession] = []  # the one that came back last comes last
        self.slots = Slots(pool_size)  # taken: one per session that is lent or being opened

    @property
    def is_unused(self) -> bool:
        return not self.idle and self.slots.unused


def _is_usable(session: WebTransportSession) -> bool:
    """Neither closed nor draining; a connection that drains (GOAWAY) drains its sessions."""
    return session.state is SessionState.CONNECTED


def _closed_error() -> ClientError:
    return ClientError("the pool is closed; make a new one")
