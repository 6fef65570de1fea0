"""Repeats calls over the sessions of a client that reconnects."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from .._states import EventType, SessionState
from ..events import Event
from ..exceptions import ClientError, ConfigurationError, WebTransportError, invalid_config
from ..session import WebTransportSession
from ._arguments import Progress
from ._call import Proceed, RpcCall
from ._exceptions import RpcCancelledError, RpcConnectionLostError, RpcError, RpcTimeoutError
from ._manager import RpcManager
from ._results import Flow

__all__ = [
    "Around",
    "Attempt",
    "CallRequest",
    "Once",
    "Repeater",
    "RpcStats",
    "SessionSource",
    "hold",
    "is_loss",
    "surrounded",
]

Around: TypeAlias = Callable[[str, Proceed], Awaitable[Any]]
"""``async def around(method, proceed)``; runs around all attempts of a call."""


@dataclass(slots=True)
class RpcStats:
    """Counters of a :class:`ReconnectingRpc`.

    Attributes:
        sessions: Sessions used so far.
        calls: Calls, notifications and streams.
        repeated: Attempts after the first one, because a session was lost.
        interrupted: Calls that failed with ``RpcConnectionLostError``.
    """

    sessions: int = 0
    calls: int = 0
    repeated: int = 0
    interrupted: int = 0


class SessionSource(Protocol):
    """``ReconnectingClient``, as far as it is needed here."""

    @property
    def is_connected(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def error(self) -> Exception | None: ...
    async def get_session(self, *, wait_timeout: float | None = ...) -> Any: ...


@dataclass(slots=True)
class CallRequest:
    """What is called: with all attempts together at most ``timeout`` seconds."""

    method: str
    params: tuple[Any, ...]
    named: dict[str, Any]
    metadata: dict[str, str]
    timeout: float | None
    idempotent: bool

    def prepare(self, manager: RpcManager, attempt: Attempt) -> RpcCall:
        """One attempt; interceptors may change its metadata."""
        call = manager.outgoing.prepare(
            self.method, self.params, attempt.timeout, self.named, dict(self.metadata)
        )
        call.attempt = attempt.number
        return call


@dataclass(slots=True)
class Attempt:
    """One attempt: its number from 1, the seconds that are left, how far it came, and where."""

    number: int
    timeout: float | None
    progress: Progress
    context: Context | None = None


Once: TypeAlias = Callable[[RpcManager, Attempt], Awaitable[Any]]
"""Makes one attempt."""


class Repeater:
    """Has a manager for each session of the client, and repeats calls when one is lost.

    Args:
        client: Opens the sessions.
        settings: Keyword arguments of the managers.
        around: Runs around all attempts of a call.

    Attributes:
        around: The same.
        is_closed: ``close`` was called.
        methods: What the peer may call, by name; registered at each manager.
        stats: The counters.
    """

    def __init__(
        self, client: SessionSource, settings: dict[str, Any], around: Around | None
    ) -> None:
        self.around = around
        self.is_closed = False
        self.methods: dict[str, Callable[..., Any]] = {}
        self.stats = RpcStats()
        self._client = client
        self._settings = settings
        self._managers: dict[WebTransportSession, RpcManager] = {}
        self._follower: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def register(self, name: str, function: Callable[..., Any]) -> None:
        """Let the peer call a function, over all sessions."""
        self.methods[name] = function
        for manager in self._managers.values():
            manager.register(function, name=name)

    async def start(self) -> None:
        """Serve over each session as soon as it is open. Idempotent.

        Raises:
            ClientError: The client is not started, closed, or gave up.
        """
        if self._follower is None:
            session = await self._client.get_session(wait_timeout=0.0)
            if session is not None:
                self._manager_of(session)
            loop = asyncio.get_running_loop()
            self._follower = loop.create_task(self._follow(), name="rpc sessions")

    async def close(self) -> None:
        """Stop serving and calling. Idempotent.

        Cancellation: everything is stopped anyway; only the waiting ends.
        """
        self.is_closed = True
        self._closing.set()
        managers, self._managers = self._managers, {}
        if self._follower is not None:
            self._follower.cancel()
        for session in managers:
            session.remove_watcher(EventType.SESSION_CLOSED, self._session_ended)
        await asyncio.gather(
            *(manager.close() for manager in managers.values()), return_exceptions=True
        )
        if self._follower is not None:
            await asyncio.wait([self._follower])

    async def run(self, request: CallRequest, once: Once) -> Any:
        self.stats.calls += 1
        return await surrounded(self.around, request.method, lambda: self._attempts(request, once))

    async def _attempts(self, request: CallRequest, once: Once) -> Any:
        loop = asyncio.get_running_loop()
        deadline = None if request.timeout is None else loop.time() + request.timeout
        number = 0
        while True:
            manager = await self.manager(request, deadline)
            number += 1
            left = None if deadline is None else max(0.001, deadline - loop.time())
            attempt = Attempt(number, left, Progress())
            try:
                return await once(manager, attempt)
            except WebTransportError as error:
                self.check_repeatable(error, request, manager, attempt.progress)

    def check_repeatable(
        self,
        error: WebTransportError,
        request: CallRequest,
        manager: RpcManager,
        progress: Progress,
    ) -> None:
        """Return if the call may be repeated; otherwise raise what it ends with."""
        if self.is_closed or not is_loss(error, manager.session):
            raise error
        if progress.sent and not request.idempotent:
            self.stats.interrupted += 1
            raise RpcConnectionLostError(
                f"the session was lost while the call ran: {error.message}", method=request.method
            ) from error
        self.stats.repeated += 1

    async def manager(
        self, request: CallRequest, deadline: float | None, seconds: float | None = None
    ) -> RpcManager:
        """Return the manager of the open session, or wait for one.

        Args:
            request: What is called.
            deadline: When to give up; None: never.
            seconds: For the message; None: the timeout of the request.
        """
        while True:
            if self.is_closed:
                raise RpcCancelledError(
                    "the ReconnectingRpc was closed", method=request.method, remote=False
                )
            if self._follower is None:
                raise ConfigurationError(
                    "the ReconnectingRpc is not started; use it in 'async with'"
                )
            left = None
            if deadline is not None:
                left = max(0.0, deadline - asyncio.get_running_loop().time())
            session = await self._session(left)
            if session is not None:
                return self._manager_of(session)
            if not self.is_closed:
                seconds = request.timeout if seconds is None else seconds
                raise RpcTimeoutError(
                    f"no answer within {seconds} seconds; it waited for a session",
                    method=request.method,
                    timeout_duration=seconds,
                    remote=False,
                    details={"waited_for": "a session"},
                )

    async def _session(self, seconds: float | None) -> WebTransportSession | None:
        """The open session; None if there is none in time, or this object is closed first."""
        session: WebTransportSession | None
        if self._client.is_connected or seconds == 0:
            session = await self._client.get_session(wait_timeout=seconds)
            return session
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self._client.get_session(wait_timeout=seconds)),
            loop.create_task(self._closing.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                return None
            session = tasks[0].result()
            return session
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if not tasks[0].cancelled():
                tasks[0].exception()  # raised above, or no longer wanted

    def _manager_of(self, session: WebTransportSession) -> RpcManager:
        manager = self._managers.get(session)
        if manager is None:
            manager = RpcManager(session, **self._settings)
            for name, function in self.methods.items():
                manager.register(function, name=name)
            if not session.is_closed:
                self._managers[session] = manager
                manager.start_nowait()
                self.stats.sessions += 1
                session.add_watcher(EventType.SESSION_CLOSED, self._session_ended)
        return manager

    def _session_ended(self, event: Event) -> None:
        # What runs in its manager ends by itself.
        for session in [session for session in self._managers if session.is_closed]:
            del self._managers[session]

    async def _follow(self) -> None:
        """Serve over each session as soon as it is open."""
        with contextlib.suppress(ClientError):  # the client gave up, or was closed
            while True:
                session = await self._client.get_session(wait_timeout=None)
                self._manager_of(session)
                await session.wait_draining()


async def surrounded(around: Around | None, method: str, proceed: Proceed) -> Any:
    """Run ``around`` around the attempts of a call."""
    if around is None:
        return await proceed()
    result: Any = around(method, proceed)
    if not inspect.isawaitable(result):
        raise invalid_config(
            key="around",
            value=around,
            reason=f"expected 'async def', but it returned a {type(result).__name__}",
        )
    return await result


async def hold(contexts: list[Context], flow: Flow) -> None:
    """What ``around`` surrounds for a stream: the time until the iterator is done."""
    contexts.append(copy_context())
    flow.begin(None)
    await flow.over
    if flow.error is not None:
        raise flow.error


def is_loss(error: WebTransportError, session: WebTransportSession) -> bool:
    """Whether a call failed because its session was lost."""
    if session.state is SessionState.CONNECTED or isinstance(error, ConfigurationError):
        return False
    if isinstance(error, RpcError):
        # A server that ends its sessions cancels what runs in them.
        return isinstance(error, RpcCancelledError) and error.remote is True
    return session.is_closed
