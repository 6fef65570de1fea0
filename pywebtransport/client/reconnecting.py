"""A client that keeps one session up."""

from __future__ import annotations

import asyncio
import builtins
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

from ..events import EventEmitter
from ..exceptions import (
    ClientError,
    SessionRejectedError,
    TimeoutError,
    WebTransportError,
    is_fatal_error,
)
from ..types import URL, EventType
from ..utils import parse_webtransport_url
from ..utils.waiters import Waiters
from .client import WebTransportClient

if TYPE_CHECKING:
    from ..config import ClientConfig
    from ..session import WebTransportSession

__all__ = ["ReconnectingClient"]

_logger = logging.getLogger("pywebtransport.client")


class ReconnectingClient(EventEmitter):
    """Keeps a session to one URL up, and opens it again when it is lost.

    ::

        async with ReconnectingClient(url, config=config) as client:
            session = await client.get_session()

    **When it connects.** Entering the block starts to connect. When the peer or
    the network ended the session, it is opened again after a pause. When the
    application closed the session itself, the next ``get_session`` opens one.

    **Pauses.** Each is chosen at random between 0 and a bound ("full jitter"):
    ``config.retry_delay`` seconds at first, ``config.retry_backoff`` times more
    after each try, ``config.max_retry_delay`` at most. A server that refuses
    with ``retry-after`` gets at least that pause, up to ``max_retry_delay``.

    **Giving up.** After ``config.max_retries`` tries in a row that failed (0:
    after the first), or after an error that trying again cannot heal
    (``is_fatal_error``: certificate, configuration, most refusals), the client
    gives up: ``error`` tells why, and ``get_session`` raises. A session that
    lived for ``retry_delay`` seconds makes count and pauses start anew.

    **Events.** Their data is a dictionary with ``url``, ``attempt`` (the number
    of the try, from 1), and:

    - ``CONNECTION_ESTABLISHED``: ``session``.
    - ``CONNECTION_FAILED``, for each try that failed: ``error``, ``delay``
      (seconds until the next try, None: the client gave up).
    - ``CONNECTION_LOST``: ``session_id``, ``code``, ``reason``, ``remote``,
      ``error``, ``delay``; the try is the one that had opened the session.
    - ``CONNECTION_CLOSED``, when this side ended the session or the client:
      ``session_id``, ``code``, ``reason``.
    """

    def __init__(
        self,
        url: URL,
        *,
        config: ClientConfig,
        on_session: Callable[[WebTransportSession], Awaitable[None]] | None = None,
    ) -> None:
        """A client that is not started; ``async with`` starts it.

        Args:
            url: ``https://host[:port]/path?query``.
            config: Of the client below, and the ``*retr*`` fields.
            on_session: Restores state: runs on each new session before
                ``get_session`` gives it out, for ``connect_timeout`` seconds at
                most. If it raises, the session is closed and the try counts as
                failed.

        Raises:
            ConfigurationError: The URL is malformed, or a field is out of range.
        """
        super().__init__()
        parse_webtransport_url(url)
        self._url = url
        self._client = WebTransportClient(config=config)
        self._on_session = on_session
        self._session: WebTransportSession | None = None
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = Waiters()
        self._wanted = asyncio.Event()
        self._closed = False
        self._bound = config.retry_delay
        self._retries = 0
        self._tries = 0
        # What chance and the clock say; tests put their own here.
        self._random: Callable[[], float] = random.random
        self._now: Callable[[], float] = _loop_time

    @classmethod
    def create(
        cls,
        url: URL,
        *,
        config: ClientConfig,
        on_session: Callable[[WebTransportSession], Awaitable[None]] | None = None,
    ) -> Self:
        """As the constructor."""
        return cls(url, config=config, on_session=on_session)

    # -------------------------------------------------------------- properties

    @property
    def url(self) -> URL:
        """Where it connects."""
        return self._url

    @property
    def config(self) -> ClientConfig:
        """The configuration in force."""
        return self._client.config

    @property
    def is_connected(self) -> bool:
        """There is a session that works."""
        return self._session is not None and self._session.is_ready

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._closed

    @property
    def error(self) -> Exception | None:
        """Why the client gave up; None while it has not."""
        return self._error

    # ----------------------------------------------------------------- sessions

    async def get_session(self, *, wait_timeout: float | None = 5.0) -> WebTransportSession | None:
        """The session that is up, as soon as one is.

        Args:
            wait_timeout: Seconds to wait at most; None: no limit.

        Returns:
            A session that ``on_session`` has seen; None when none was up in time.

        Raises:
            ClientError: The client gave up (``__cause__`` is the last error, whose
                ``details`` it repeats), is closed, or was not started.

        Cancellation: safe.
        """
        loop = self._client._home.enter()
        deadline = None if wait_timeout is None else loop.time() + wait_timeout
        while True:
            if self._closed:
                raise ClientError("the client is closed; make a new one", target_url=self._url)
            if self._task is None:
                raise ClientError(
                    "the client is not started; use it in 'async with'", target_url=self._url
                )
            if self._session is not None and self._session.is_ready:
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

        Cancellation: everything is released all the same.
        """
        if self._closed:
            return
        if self._client._home.is_gone:
            self._closed = True
            await self._client.close()
            return
        self._client._home.enter()
        self._closed = True
        session, self._session = self._session, None
        task = self._task
        try:
            if task is not None:
                task.cancel()
                if task is not asyncio.current_task():
                    await asyncio.wait({task})
            facts = {
                "url": self._url,
                "attempt": self._retries + 1,
                "session_id": None if session is None else session.session_id,
                "code": 0,
                "reason": "",
            }
            await self.emit(EventType.CONNECTION_CLOSED, facts)
        finally:
            self._changed.wake()
            try:
                await self._client.close()
            finally:
                await EventEmitter.close(self)

    async def __aenter__(self) -> Self:
        self._client._home.enter()
        if self._closed:
            raise ClientError("the client is closed; make a new one", target_url=self._url)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    # ------------------------------------------------------------------ internal

    async def _run(self) -> None:
        """Keep a session up until the client gives up or is closed."""
        delay: float | None = 0.0
        while delay is not None:
            await asyncio.sleep(delay)
            attempt = self._retries + 1
            try:
                session = await self._open()
            except Exception as error:
                delay = self._after_failure(error)
                self._fell(delay, error, attempt)
                self._tell(EventType.CONNECTION_FAILED, attempt, error=error, delay=delay)
            else:
                delay = await self._live(session, attempt)
        self._changed.wake()

    async def _live(self, session: WebTransportSession, attempt: int) -> float | None:
        """Give the session out until it ends; then the pause before the next, None: no more."""
        since = self._now()
        self._session = session
        self._wanted.clear()
        self._tell(EventType.CONNECTION_ESTABLISHED, attempt, session=session)
        self._changed.wake()
        info = await session.wait_closed()
        self._session = None
        facts = {"session_id": session.session_id, "code": info.code, "reason": info.reason}
        if not info.remote and info.code is not None:
            self._start_anew()
            self._tell(EventType.CONNECTION_CLOSED, attempt, **facts)
            await self._wanted.wait()
            return 0.0
        if self._now() - since >= self.config.retry_delay:
            self._start_anew()
        delay = self._next_delay()
        error = session._error or session._closed_error("it was lost")
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

    async def _open(self) -> WebTransportSession:
        session = await self._client.connect(self._url)
        try:
            if self._on_session is not None:
                await self._restore(self._on_session, session)
            if session.is_closed:
                raise session._closed_error("it ended before it could be used")
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
                await on_session(session)
        except builtins.TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"on_session took longer than connect_timeout={seconds} s",
                timeout_duration=seconds,
                operation="on_session",
            ) from None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something that it waited for was cancelled, not this client.
            raise ClientError("on_session was cancelled from within") from error

    def _after_failure(self, error: Exception) -> float | None:
        """The pause after a try that failed, None: no more tries."""
        delay = None if is_fatal_error(exception=error) else self._next_delay()
        if delay is None:
            return None
        return max(delay, min(_retry_after(error), self.config.max_retry_delay))

    def _next_delay(self) -> float | None:
        config = self.config
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
            _logger.warning("gave up on %s: %s", self._url, error)
        else:
            _logger.info("next try to reach %s in %.2f s: %s", self._url, delay, error)

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


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _retry_after(error: Exception) -> float:
    """Seconds that a refusal asks to wait (RFC 9110 section 10.2.3; dates are not understood)."""
    if isinstance(error, SessionRejectedError):
        text = error.headers.get("retry-after", "")
        if text.isascii() and text.isdigit():
            return float(text[:9])
    return 0.0
