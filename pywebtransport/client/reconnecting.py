"""A client that keeps one session open."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import inspect
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from .._states import URL, EventType, SessionState
from ..config import ClientConfig
from ..events import EventEmitter
from ..exceptions import (
    ClientError,
    SessionRejectedError,
    TimeoutError,
    WebTransportError,
    invalid_config,
    is_fatal_error,
)
from ..utils._checks import check_callable, check_instance, check_timeout
from ..utils._failures import describe_error, log_application_error
from ..utils._stuck import end_tasks, run_within
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable
from ..utils._urls import parse_webtransport_url
from ..utils._waiters import Waiters
from ._opening import Connect, open_session

if TYPE_CHECKING:
    from ..session import WebTransportSession
    from ..utils._home import HomeLoop

__all__ = ["ReconnectingClient"]

# A peer that closes sends a drain just before: report one event, not two.
_GRACE = 0.05

_logger = logging.getLogger("pywebtransport.client")


class _Client(Protocol):
    """``WebTransportClient``, as the client above it needs it."""

    home_loop: HomeLoop

    @property
    def config(self) -> ClientConfig: ...
    async def connect(self, url: URL) -> WebTransportSession: ...
    async def close(self) -> None: ...
    async def close_until(self, deadline: float) -> None: ...


class ReconnectingClient(EventEmitter):
    """Keeps a session to one URL open, and opens a new one when it is lost.

    ::

        async with ReconnectingClient(url, config=config) as client:
            session = await client.get_session()

    **When it connects.** Entering the block starts the first connection attempt. When the peer or
    the network ends the session, the client opens a new one after a pause. When you close the
    session yourself, the next ``get_session`` opens a new one.

    **Draining.** A peer that will end the session soon announces this (a DRAIN capsule or GOAWAY).
    From then on, ``get_session`` does not return that session any more. The client opens a new one
    after a pause. You can use the old one until it ends.

    **Pauses.** Each is chosen at random between 0 and a bound ("full jitter"). The bound is
    ``config.retry_delay`` seconds at first, and is multiplied by ``config.retry_backoff`` after
    each attempt, up to ``config.max_retry_delay``. If a server refuses with ``retry-after``, the
    pause is at least that long, up to ``max_retry_delay``.

    **Giving up.** After ``config.max_retries`` failed attempts in a row (0: after the first), or
    after an error that another attempt cannot fix (``is_fatal_error``: certificate, configuration,
    most refusals), the client gives up: ``error`` says why, and ``get_session`` raises. A session
    that lasted for ``retry_delay`` seconds resets the count and the pauses.

    **Events.** Their data is a dictionary with ``url``, ``attempt`` (the number
    of the attempt, from 1), and:

    - ``CONNECTION_ESTABLISHED``: ``session``.
    - ``CONNECTION_FAILED``, for each failed attempt: ``error``, ``delay`` (seconds until the next
      attempt, None: the client gave up).
    - ``CONNECTION_LOST``: ``session_id``, ``code``, ``reason``, ``remote``,
      ``error``, ``delay``; ``attempt`` is the one that opened the session.
    - ``SESSION_DRAINING``, when a new session will be opened because one drains:
      ``session``, the old one, whose end is not reported again. One that ends at once
      is only lost.
    - ``CONNECTION_CLOSED``, when this side ended the session or the client:
      ``session_id``, ``code``, ``reason``.
    """

    # ``WebTransportClient`` sets this: it creates clients of this class, so it imports this module.
    client_type: ClassVar[Callable[..., _Client]]

    def __init__(
        self,
        url: URL,
        *,
        config: ClientConfig,
        on_session: Callable[[WebTransportSession], Awaitable[None]] | None = None,
        connect: Connect | None = None,
    ) -> None:
        """Create a client; ``async with`` starts it.

        Args:
            url: ``https://host[:port]/path?query``.
            config: Configuration of the client below; its ``*retr*`` fields apply here.
            on_session: Restores state: called with each new session before ``get_session`` returns
                it, for at most ``connect_timeout`` seconds. If it raises, the session is closed and
                the attempt counts as failed.
            connect: ``async def connect(client, url)`` opens a session in place of
                ``client.connect(url)``, such as ``Tracing.connect``.

        Raises:
            ConfigurationError: The URL is malformed, a field is out of range, or
                ``on_session`` or ``connect`` cannot be called.
        """
        check_instance("config", config, ClientConfig)
        if on_session is not None:
            check_callable("on_session", on_session)
        if connect is not None:
            check_callable("connect", connect)
        super().__init__()
        parse_webtransport_url(url)
        self._url = url
        self._client: _Client = self.client_type(config=config)
        self._on_session = on_session
        self._connect = connect
        self._session: WebTransportSession | None = None
        # Not returned any more, but open until its peer ends it.
        self._drained: WebTransportSession | None = None
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = Waiters()
        self._wanted = asyncio.Event()
        self._closed = False
        self._bound = config.retry_delay
        self._retries = 0
        self._tries = 0
        # Random numbers and the clock; tests replace them.
        self._random: Callable[[], float] = random.random
        self._now: Callable[[], float] = _loop_time

    @classmethod
    def create(
        cls,
        url: URL,
        *,
        config: ClientConfig,
        on_session: Callable[[WebTransportSession], Awaitable[None]] | None = None,
        connect: Connect | None = None,
    ) -> Self:
        """Same as the constructor."""
        return cls(url, config=config, on_session=on_session, connect=connect)

    # -------------------------------------------------------------- properties

    @property
    def url(self) -> URL:
        """The URL to connect to."""
        return self._url

    @property
    def config(self) -> ClientConfig:
        """The configuration in force."""
        return self._client.config

    @property
    def is_connected(self) -> bool:
        """Whether there is an open session that does not drain."""
        return self._session is not None and _is_usable(self._session)

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._closed

    @property
    def error(self) -> Exception | None:
        """Why the client gave up; None if it has not."""
        return self._error

    # ----------------------------------------------------------------- sessions

    async def get_session(self, *, wait_timeout: float | None = 5.0) -> WebTransportSession | None:
        """Return the open session, or wait for one.

        Args:
            wait_timeout: Longest wait in seconds; None: no limit.

        Returns:
            A session for which ``on_session`` has run and that does not drain; None if there was
            none in time.

        Raises:
            ConfigurationError: ``wait_timeout`` is neither None nor a number.
            ClientError: The client gave up (``__cause__`` is the last error, whose
                ``details`` it repeats), is closed, or was not started.

        Cancellation: safe.
        """
        loop = self._client.home_loop.enter()
        if isinstance(wait_timeout, int | float):
            wait_timeout = max(wait_timeout, 0.0)  # the rest of the caller's timeout
        limit = check_timeout("wait_timeout", wait_timeout)
        deadline = None if limit is None else loop.time() + limit
        while True:
            if self._closed:
                raise ClientError("the client is closed; make a new one", target_url=self._url)
            if self._task is None:
                raise ClientError(
                    "the client is not started; use it in 'async with'", target_url=self._url
                )
            if self._session is not None and _is_usable(self._session):
                return self._session
            if self._error is not None:
                raise self._given_up(self._error) from self._error
            self._wanted.set()
            left = None if deadline is None else max(0.0, deadline - loop.time())
            if not await self._changed.wait(left):
                return None

    # --------------------------------------------------------------- life cycle

    async def close(self) -> None:
        """Stop connecting and close the session. Idempotent.

        Takes at most about ``close_timeout`` seconds. Listeners and an ``on_session`` that take
        longer are cancelled. If they continue anyway, they are named in the log and no longer
        waited for.

        Cancellation: everything is released anyway.
        """
        if self._closed:
            return
        if self._client.home_loop.is_gone:
            self._closed = True
            await self._client.close()
            return
        loop = self._client.home_loop.enter()
        self._closed = True
        session, self._session = self._session, None
        seconds = self.config.close_timeout
        deadline = loop.time() + seconds
        try:
            if self._task is not None:
                self._task.cancel()
            facts = {
                "url": self._url,
                "attempt": self._retries + 1,
                "session_id": None if session is None else session.session_id,
                "code": 0,
                "reason": "",
            }
            # on_session may close its client: it cannot wait for itself.
            task = None if self._task is asyncio.current_task() else self._task
            await asyncio.gather(
                end_tasks(
                    [] if task is None else [task],
                    timeout=seconds,
                    logger=_logger,
                    what="tasks of a reconnecting client",
                ),
                run_within(
                    partial(self.emit, EventType.CONNECTION_CLOSED, facts),
                    timeout=seconds,
                    logger=_logger,
                    what="telling that the client was closed",
                ),
                self._client.close_until(deadline),
                return_exceptions=True,  # or it would not wait for all when it is cancelled
            )
        finally:
            self._changed.wake()
            try:
                await self._client.close_until(deadline)
            finally:
                await self._emitter_close(deadline - loop.time())

    async def __aenter__(self) -> Self:
        self._client.home_loop.enter()
        if self._closed:
            raise ClientError("the client is closed; make a new one", target_url=self._url)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    # ------------------------------------------------------------------ internal

    async def _run(self) -> None:
        """Keep a session open until the client gives up or is closed."""
        delay: float | None = 0.0
        # A hook that suppresses its cancellation must not keep a closed client running.
        while delay is not None and not self._closed:
            await asyncio.sleep(delay)
            attempt = self._retries + 1
            try:
                session = await self._open()
            except (Exception, asyncio.CancelledError) as raised:
                error = raised if isinstance(raised, Exception) else _own_cancellation(raised)
                delay = self._after_failure(error)
                self._fell(delay, error, attempt)
                self._tell(EventType.CONNECTION_FAILED, attempt, error=error, delay=delay)
            else:
                delay = await self._live(session, attempt)
        self._changed.wake()

    async def _live(self, session: WebTransportSession, attempt: int) -> float | None:
        """Offer the session until it ends; return the pause before the next one, None: no more."""
        since = self._now()
        self._session = session
        self._wanted.clear()
        self._tell(EventType.CONNECTION_ESTABLISHED, attempt, session=session)
        self._changed.wake()
        if await session.wait_draining() and await self._leave(session, since, attempt):
            return None if self._error is not None else 0.0
        self._session = None
        lived = self._now() - since >= self.config.retry_delay
        info = await session.wait_closed()
        facts = {"session_id": session.session_id, "code": info.code, "reason": info.reason}
        if not info.remote and info.code is not None:
            self._start_anew()
            self._tell(EventType.CONNECTION_CLOSED, attempt, **facts)
            await self._wanted.wait()
            return 0.0
        if lived:
            self._start_anew()
        delay = self._next_delay()
        error = session.error or session.closed_error("it was lost")
        self._fell(delay, error, attempt)
        self._tell(
            EventType.CONNECTION_LOST,
            attempt,
            **facts,
            remote=info.remote,
            error=error,
            delay=delay,
        )
        return delay

    async def _leave(self, session: WebTransportSession, since: float, attempt: int) -> bool:
        """Stop offering a draining session, and pause; False if it ended meanwhile."""
        lived = self._now() - since >= self.config.retry_delay
        if lived:
            self._start_anew()
        pause = max(_GRACE, self._random() * self._bound)
        with contextlib.suppress(builtins.TimeoutError):
            async with asyncio.timeout(pause):
                await session.wait_closed()
        if session.is_closed:
            return False
        self._session = None
        # This is not a failure, but a peer that drains every session must use up the attempts.
        if not lived and self._next_delay() is None:
            self._fell(None, _drained_error(session, self._url), attempt)
        else:
            self._drained = session
            _logger.info("the session to %s drains; opening a new one", printable(self._url))
        self._tell(EventType.SESSION_DRAINING, attempt, session=session)
        return True

    async def _open(self) -> WebTransportSession:
        session = await open_session(self._connect, self._client, self._url)
        try:
            if self._on_session is not None:
                await self._restore(self._on_session, session)
            if session.is_closed:
                raise session.closed_error("it ended before it could be used")
            if not _is_usable(session):
                raise _drained_error(session, self._url)
        except BaseException:
            await session.close(code=1)
            raise
        return session

    async def _restore(
        self,
        on_session: Callable[[WebTransportSession], Awaitable[None]],
        session: WebTransportSession,
    ) -> None:
        seconds = self.config.connect_timeout
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                result: object = on_session(session)
                if not inspect.isawaitable(result):
                    raise invalid_config(
                        key="on_session",
                        value=on_session,
                        reason="expected 'async def on_session(session)'",
                    )
                await result
        except builtins.TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"on_session took longer than connect_timeout={seconds} s",
                timeout_duration=seconds,
                operation="on_session",
            ) from None
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            # Something that the hook waited for was cancelled, not this client.
            log_application_error(_logger, "on_session", error, session=session)
            raise ClientError("on_session was cancelled from within") from error
        except WebTransportError:
            raise
        except Exception as error:
            log_application_error(_logger, "on_session", error, session=session)
            raise

    def _after_failure(self, error: Exception) -> float | None:
        """The pause after a failed attempt, None: no more attempts."""
        delay = None if is_fatal_error(exception=error) else self._next_delay()
        if delay is None:
            return None
        return max(delay, min(_retry_after(error), self.config.max_retry_delay))

    def _next_delay(self) -> float | None:
        config = self.config
        drained = self._drained
        if drained is not None and drained.is_closed:
            self._drained = None
            self._start_anew()
        elif drained is not None and self._retries >= config.max_retries:
            # Giving up has time until the old session has ended.
            return self._random() * config.max_retry_delay
        if self._retries >= config.max_retries:
            return None
        self._retries += 1
        bound = self._bound
        self._bound = min(bound * config.retry_backoff, config.max_retry_delay)
        return self._random() * bound

    def _start_anew(self) -> None:
        self._retries = 0
        self._bound = self.config.retry_delay

    def _fell(self, delay: float | None, error: Exception, attempt: int) -> None:
        """Note that there is no session, and whether there will be one."""
        if delay is None:
            self._error = error
            self._tries = attempt
            _logger.warning("gave up on %s: %s", printable(self._url), describe_error(error))
        else:
            _logger.info(
                "next attempt to reach %s in %.2f s: %s",
                printable(self._url),
                delay,
                describe_error(error),
            )

    def _tell(self, event_type: EventType, attempt: int, **facts: Any) -> None:
        if self._has_listeners(event_type):
            self._emit_nowait(event_type, {"url": self._url, "attempt": attempt, **facts})

    def _given_up(self, error: Exception) -> ClientError:
        known = error if isinstance(error, WebTransportError) else WebTransportError(str(error))
        return ClientError(
            f"gave up on {self._url} at try {self._tries}: {type(error).__name__}: {known.message}",
            error_code=known.error_code,
            target_url=self._url,
            details={**known.details, "attempts": self._tries},
            reason=known.reason,
            remote=known.remote,
        )


def _is_usable(session: WebTransportSession) -> bool:
    return session.state is SessionState.CONNECTED


def _drained_error(session: WebTransportSession, url: URL) -> ClientError:
    return ClientError(
        f"the server drained session {session.session_id} as soon as it was open",
        target_url=url,
        remote=True,
    )


def _own_cancellation(error: BaseException) -> Exception:
    """The error for a CancelledError from elsewhere; that of the client itself is raised again."""
    if is_being_cancelled():
        raise error
    return ClientError("connecting was cancelled from within")


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _retry_after(error: Exception) -> float:
    """Seconds that a refusal asks to wait (RFC 9110 section 10.2.3; dates are not understood)."""
    if isinstance(error, SessionRejectedError):
        text = error.headers.get("retry-after", "")
        if text.isascii() and text.isdigit():
            return float(text[:9])
    return 0.0
