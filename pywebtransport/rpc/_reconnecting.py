"""Remote calls over a session that is opened again when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar, overload

from .._states import EventType, SessionState, Timeout
from ..events import Event
from ..exceptions import ClientError, ConfigurationError, WebTransportError, invalid_config
from ..serializer._protocol import Serializer
from ..serializer._rebuild import check_type
from ..session import WebTransportSession
from ..utils._checks import check_signature, check_texts
from ..utils._closing import AsyncCloseable
from ._arguments import Progress, check_limit, checked_metadata, checked_name, named_parameters
from ._call import Interceptor, Proceed, RpcCall
from ._exceptions import (
    RpcCancelledError,
    RpcConnectionLostError,
    RpcError,
    RpcTimeoutError,
)
from ._manager import (
    DEFAULT_CALL_TIMEOUT,
    DEFAULT_CONCURRENCY_LIMIT,
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_REQUEST_TIMEOUT,
    RpcManager,
)
from ._messages import check_method
from ._method import Method
from ._streaming import Flow, ResultStream

__all__ = ["Around", "ReconnectingResults", "ReconnectingRpc", "RpcState", "RpcStats"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Around: TypeAlias = Callable[[str, Proceed], Awaitable[Any]]
"""``async def around(method, proceed)``; runs around all attempts of a call."""


class RpcState(StrEnum):
    """What a :class:`ReconnectingRpc` does."""

    CONNECTING = "connecting"
    """There is no session; calls wait for one."""
    CONNECTED = "connected"
    FAILED = "failed"
    """The client gave up: ``client.error`` says why."""
    CLOSED = "closed"


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


class _Client(Protocol):
    """``ReconnectingClient``, as far as it is needed here."""

    @property
    def is_connected(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def error(self) -> Exception | None: ...
    async def get_session(self, *, wait_timeout: float | None = ...) -> Any: ...


class ReconnectingRpc(AsyncCloseable):
    """Calls methods of a server over a :class:`~pywebtransport.client.ReconnectingClient`.

    ::

        async with (
            ReconnectingClient(url, config=config) as client,
            ReconnectingRpc(client, idempotent=["price"]) as rpc,
        ):
            print(await rpc.call("price", "tea"))

    **New calls** wait for a session, within their timeout. When the client gives up, they raise its
    ``ClientError``.

    **Calls under way when the session is lost** may have run at the server, or not. They fail with
    :class:`RpcConnectionLostError`, with two exceptions, which are repeated over the next session
    within their timeout: calls of which nothing was sent yet, and calls of methods that you declare
    idempotent, which means that running them twice does no harm.

    **A session that drains** gets no new calls; those under way end normally.

    **Methods** that you register here can be called by the server over each session.

    The events of the client tell you when sessions come and go; :attr:`state` and :attr:`stats`
    have the present.
    """

    def __init__(
        self,
        client: _Client,
        *,
        idempotent: Iterable[str] = (),
        concurrency_limit: int = DEFAULT_CONCURRENCY_LIMIT,
        default_timeout: Timeout = DEFAULT_CALL_TIMEOUT,
        request_timeout: float = DEFAULT_REQUEST_TIMEOUT,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        serializer: Serializer | None = None,
        interceptors: Iterable[Interceptor] = (),
        around: Around | None = None,
    ) -> None:
        """Create an object for a client; both are started by ``async with``.

        Args:
            client: A ``ReconnectingClient``. It is not closed by this object.
            idempotent: Names of methods whose calls may be repeated.
            concurrency_limit: As for :class:`RpcManager`, and so the following ones.
            default_timeout: Seconds for calls without a timeout; None: no limit.
            request_timeout: Seconds that the server may take to send a request.
            max_message_size: Bytes of a request or answer.
            serializer: The same at both ends; default ``JSONSerializer``.
            interceptors: Run around each attempt, the first outermost.
            around: Runs around all attempts of a call together; see ``Tracing.calls``.

        Raises:
            ConfigurationError: An argument is of another type, or out of range.
        """
        kind = type(client)
        if not (hasattr(kind, "is_connected") and hasattr(kind, "get_session")):
            raise invalid_config(key="client", value=client, reason="expected a ReconnectingClient")
        if around is not None:
            check_signature("around", around, "'async def around(method, proceed)'", "", None)
        self._client = client
        self._idempotent = frozenset(check_texts("idempotent", idempotent))
        self._default_timeout = default_timeout
        settings = RpcManager.check_settings(
            concurrency_limit=concurrency_limit,
            default_timeout=default_timeout,
            request_timeout=request_timeout,
            max_message_size=max_message_size,
            serializer=serializer,
            interceptors=interceptors,
        )
        self._settings: dict[str, Any] = settings
        self._around = around
        self._methods: dict[str, Callable[..., Any]] = {}
        self._managers: dict[WebTransportSession, RpcManager] = {}
        self._stats = RpcStats()
        self._follower: asyncio.Task[None] | None = None
        self._closed = False
        self._closing = asyncio.Event()

    # ---------------------------------------------------------------- properties

    @property
    def client(self) -> Any:
        """The client below."""
        return self._client

    @property
    def state(self) -> RpcState:
        """Whether there is a session, and if not, whether there will be one."""
        if self._closed or self._client.is_closed:
            return RpcState.CLOSED
        if self._client.error is not None:
            return RpcState.FAILED
        return RpcState.CONNECTED if self._client.is_connected else RpcState.CONNECTING

    @property
    def stats(self) -> RpcStats:
        """A copy of the counters."""
        return replace(self._stats)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names that the server may call."""
        return tuple(self._methods)

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._closed

    # ------------------------------------------------------------------- serving

    @overload
    def register(self, func: F, *, name: str | None = None) -> F: ...

    @overload
    def register(self, func: None = None, *, name: str | None = None) -> Callable[[F], F]: ...

    def register(self, func: F | None = None, *, name: str | None = None) -> F | Callable[[F], F]:
        """Let the server call a function, over this session and all later ones.

        Args, results and errors: as ``RpcManager.register``.
        """
        if func is None:
            return lambda function: self.register(function, name=name)
        chosen = checked_name(func, name, self._methods)
        Method(chosen, func)  # raises if it cannot be called by a peer
        self._methods[chosen] = func
        for manager in self._managers.values():
            manager.register(func, name=chosen)
        return func

    # ---------------------------------------------------------------- life cycle

    async def close(self) -> None:
        """Stop serving and calling; the client and its session stay open. Idempotent.

        Calls under way fail with :class:`RpcCancelledError`.

        Cancellation: everything is stopped anyway; only the waiting ends.
        """
        self._closed = True
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

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            ConfigurationError: It was closed before.
            ClientError: The client is not started, closed, or gave up.
        """
        if self._closed:
            raise ConfigurationError(
                "a ReconnectingRpc cannot be started again; create another one"
            )
        if self._follower is None:
            session = await self._client.get_session(wait_timeout=0.0)
            if session is not None:
                self._manager_of(session)
            loop = asyncio.get_running_loop()
            self._follower = loop.create_task(self._follow(), name="rpc sessions")
        return self

    # ------------------------------------------------------------------- calling

    @overload
    async def call(
        self,
        method: str,
        *params: Any,
        result_type: type[T],
        timeout: Timeout = None,
        named_params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        **named: Any,
    ) -> T: ...

    @overload
    async def call(
        self,
        method: str,
        *params: Any,
        result_type: Any = None,
        timeout: Timeout = None,
        named_params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        **named: Any,
    ) -> Any: ...

    async def call(
        self,
        method: str,
        *params: Any,
        result_type: Any = None,
        timeout: Timeout = None,
        named_params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        **named: Any,
    ) -> Any:
        """Run a method of the server, over this session or the next one.

        Args:
            method: Name of the method.
            *params: Positional parameters.
            result_type: As for ``RpcManager.call``, and so the others.
            timeout: Seconds for everything, including the wait for a session and all attempts.
            named_params: Parameters by name.
            metadata: Names and strings for the interceptors of the server.
            idempotent: Whether the call may be repeated; None: if its method is declared so.
            **named: Parameters by name.

        Returns:
            What the method returned.

        Raises:
            RpcConnectionLostError: The session was lost while the call ran, and it may not be
                repeated.
            RpcTimeoutError: It took too long, or there was no session in time.
            ClientError: The client gave up, or is closed.
            RpcCancelledError: This object was closed.
            Otherwise as ``RpcManager.call``.

        Cancellation: the handler at the server is cancelled too.
        """
        if result_type is not None:
            check_type("result_type", result_type)

        async def once(manager: RpcManager, attempt: _Attempt) -> Any:
            call = request.prepare(manager, attempt)
            return await manager.outgoing.call(call, result_type, attempt.progress)

        request = self._request(method, params, timeout, named_params, metadata, named, idempotent)
        return await self._run(request, once)

    async def notify(
        self,
        method: str,
        *params: Any,
        timeout: Timeout = None,
        named_params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        **named: Any,
    ) -> None:
        """Run a method of the server without an answer, over this session or the next one.

        Args, errors: as ``call``, for what happens on this side.

        Cancellation: safe; the notification may have been sent, or not.
        """

        async def once(manager: RpcManager, attempt: _Attempt) -> None:
            call = request.prepare(manager, attempt)
            await manager.outgoing.notify(call, attempt.progress)

        request = self._request(method, params, timeout, named_params, metadata, named, idempotent)
        await self._run(request, once)

    @overload
    def stream(
        self,
        method: str,
        *params: Any,
        item_type: type[T],
        timeout: Timeout = None,
        item_timeout: Timeout = None,
        named_params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        **named: Any,
    ) -> ReconnectingResults[T]: ...

    @overload
    def stream(
        self,
        method: str,
        *params: Any,
        item_type: Any = None,
        timeout: Timeout = None,
        item_timeout: Timeout = None,
        named_params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        **named: Any,
    ) -> ReconnectingResults[Any]: ...

    def stream(
        self,
        method: str,
        *params: Any,
        item_type: Any = None,
        timeout: Timeout = None,
        item_timeout: Timeout = None,
        named_params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        **named: Any,
    ) -> ReconnectingResults[Any]:
        """Run a method of the server that yields its results.

        It is repeated only before its first item: after that, you know better where to continue.

        Args:
            method: Name of the method.
            *params: Positional parameters.
            item_type: As for ``RpcManager.stream``, and so the others.
            timeout: Seconds for the whole call, from the first item that you ask for.
            item_timeout: Seconds to wait for a session, and for each item.
            named_params: Parameters by name.
            metadata: Names and strings for the interceptors of the server.
            idempotent: As for ``call``.
            **named: Parameters by name.

        Returns:
            An asynchronous iterator, which raises what ``call`` raises.

        Raises:
            RpcError: ``method`` is not a name (INVALID_REQUEST).
            ConfigurationError: An argument is of another type, or out of range.
        """
        if item_type is not None:
            check_type("item_type", item_type)
        if item_timeout is None:
            item_timeout = self._default_timeout
        else:
            check_limit("item_timeout", item_timeout)
        request = self._request(method, params, timeout, named_params, metadata, named, idempotent)
        request.timeout = timeout

        def begin(manager: RpcManager, attempt: _Attempt) -> ResultStream[Any]:
            call = request.prepare(manager, attempt)
            return manager.outgoing.stream(
                call, item_type, item_timeout, attempt.progress, attempt.context
            )

        return ReconnectingResults(self, request, begin, item_timeout)

    # ------------------------------------------------------------------ internal

    def _request(
        self,
        method: str,
        params: tuple[Any, ...],
        timeout: float | None,
        named_params: Mapping[str, Any] | None,
        metadata: Mapping[str, str] | None,
        named: dict[str, Any],
        idempotent: bool | None,
    ) -> _Request:
        """Check what can be checked without a session."""
        check_method(method)
        if timeout is None:
            timeout = self._default_timeout
        else:
            check_limit("timeout", timeout)
        merged = named_parameters(named_params, named)
        if idempotent is None:
            idempotent = method in self._idempotent
        elif not isinstance(idempotent, bool):
            raise invalid_config(
                key="idempotent", value=idempotent, reason="expected True, False or None"
            )
        return _Request(method, params, merged, checked_metadata(metadata), timeout, idempotent)

    async def _run(
        self, request: _Request, once: Callable[[RpcManager, _Attempt], Awaitable[Any]]
    ) -> Any:
        self._stats.calls += 1
        return await _surrounded(
            self._around, request.method, lambda: self._attempts(request, once)
        )

    async def _attempts(
        self, request: _Request, once: Callable[[RpcManager, _Attempt], Awaitable[Any]]
    ) -> Any:
        loop = asyncio.get_running_loop()
        deadline = None if request.timeout is None else loop.time() + request.timeout
        number = 0
        while True:
            manager = await self._manager(request, deadline)
            number += 1
            left = None if deadline is None else max(0.001, deadline - loop.time())
            attempt = _Attempt(number, left, Progress())
            try:
                return await once(manager, attempt)
            except WebTransportError as error:
                self._check_repeatable(error, request, manager, attempt.progress)

    def _check_repeatable(
        self, error: WebTransportError, request: _Request, manager: RpcManager, progress: Progress
    ) -> None:
        """Return if the call may be repeated; otherwise raise what it ends with."""
        if self._closed or not _is_loss(error, manager.session):
            raise error
        if progress.sent and not request.idempotent:
            self._stats.interrupted += 1
            raise RpcConnectionLostError(
                f"the session was lost while the call ran: {error.message}", method=request.method
            ) from error
        self._stats.repeated += 1

    async def _manager(
        self, request: _Request, deadline: float | None, seconds: float | None = None
    ) -> RpcManager:
        """Return the manager of the open session, or wait for one.

        Args:
            request: What is called.
            deadline: When to give up; None: never.
            seconds: For the message; None: the timeout of the request.
        """
        while True:
            if self._closed:
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
            if not self._closed:
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
            for name, function in self._methods.items():
                manager.register(function, name=name)
            if not session.is_closed:
                self._managers[session] = manager
                manager.start_nowait()
                self._stats.sessions += 1
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


class ReconnectingResults(AsyncIterator[T], Generic[T]):
    """The items that a method of the server yields, from :meth:`ReconnectingRpc.stream`.

    As :class:`ResultStream`. If the session is lost, it raises :class:`RpcConnectionLostError`,
    whose ``details["items"]`` is the number of items before. A call that may be repeated, and has
    not returned an item yet, is repeated instead.
    """

    def __init__(
        self,
        rpc: ReconnectingRpc,
        request: _Request,
        begin: Callable[[RpcManager, _Attempt], ResultStream[T]],
        item_timeout: float | None,
    ) -> None:
        """Advanced: use :meth:`ReconnectingRpc.stream`."""
        self._rpc = rpc
        self._request = request
        self._begin = begin
        self._item_timeout = item_timeout
        self._deadline: float | None = None
        self._attempts = 0
        self._manager: RpcManager | None = None
        self._results: ResultStream[T] | None = None
        # Of what runs around the attempts, and the context in which it continues.
        self._flow: Flow | None = None
        self._contexts: list[Context] = []
        self._progress = Progress()
        self._is_over = False

    @property
    def method(self) -> str:
        """The name of the method."""
        return self._request.method

    @property
    def items(self) -> int:
        """How many items were returned."""
        return 0 if self._results is None else self._results.items

    @property
    def is_closed(self) -> bool:
        """The call is over: there are no further items."""
        return self._is_over

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Return the next item.

        Raises:
            StopAsyncIteration: The method has ended, or this object was closed.
            RpcConnectionLostError: The session was lost.
            RpcTimeoutError: There was no session or item within ``item_timeout``, or the whole call
                took longer than ``timeout``.
            Otherwise as ``ReconnectingRpc.call``.

        Cancellation: ends the call, and the method at the server.
        """
        if self._is_over:
            raise StopAsyncIteration
        try:
            if self._flow is None:
                await self._surround()
            while True:
                if self._results is None:
                    self._results = await self._start()
                try:
                    return await anext(self._results)
                except WebTransportError as error:
                    self._lost(error, self._results)
                    self._results = None
        except StopAsyncIteration:
            self._is_over = True
            await self._end(None)
            raise
        except asyncio.CancelledError:
            self._is_over = True
            if self._flow is not None:
                self._flow.cancel()
            raise
        except Exception as error:
            self._is_over = True
            await self._end(error)
            raise

    async def aclose(self) -> None:
        """End the call, and the method at the server. Idempotent.

        Cancellation: the call ends anyway.
        """
        self._is_over = True
        try:
            if self._results is not None:
                await self._results.aclose()
        finally:
            if self._flow is not None:
                self._flow.leave()
                await self._flow.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        flow = getattr(self, "_flow", None)  # the constructor may have failed
        if flow is not None:
            flow.dropped()

    # ------------------------------------------------------------------ internal

    async def _surround(self) -> None:
        """Start what runs around all attempts."""
        flow = self._flow = Flow(asyncio.get_running_loop())
        around = self._rpc._around
        if around is None:
            return
        work = _surrounded(around, self.method, partial(_hold, self._contexts, flow))
        flow.run(work, None)
        await asyncio.wait([flow.opened])
        if not flow.has_begun:
            await flow.outcome(None, self.method)
            raise StopAsyncIteration

    async def _end(self, error: Exception | None) -> None:
        """End what runs around the attempts; it may raise another error."""
        if self._flow is not None and self._flow.task is not None:
            await self._flow.outcome(error, self.method)

    async def _start(self) -> ResultStream[T]:
        loop = asyncio.get_running_loop()
        now = loop.time()
        seconds = self._request.timeout
        if not self._attempts:
            self._rpc._stats.calls += 1
            self._deadline = None if seconds is None else now + seconds
        deadline = self._deadline
        limit = self._item_timeout
        if limit is not None and (deadline is None or now + limit < deadline):
            deadline, seconds = now + limit, limit
        self._manager = await self._rpc._manager(self._request, deadline, seconds)
        self._attempts += 1
        left = None
        if self._deadline is not None:
            left = max(0.001, self._deadline - loop.time())
        self._progress = Progress()
        context = self._contexts[0].copy() if self._contexts else None
        attempt = _Attempt(self._attempts, left, self._progress, context)
        return self._begin(self._manager, attempt)

    def _lost(self, error: WebTransportError, results: ResultStream[T]) -> None:
        """Return if the call is to be repeated; otherwise raise what it ends with."""
        assert self._manager is not None  # it was started
        if results.items:
            if self._rpc._closed or not _is_loss(error, self._manager.session):
                raise error
            self._rpc._stats.interrupted += 1
            raise RpcConnectionLostError(
                f"the session was lost after {results.items} items: {error.message}",
                method=self.method,
                details={"items": results.items},
            ) from error
        self._rpc._check_repeatable(error, self._request, self._manager, self._progress)


@dataclass(slots=True)
class _Request:
    """What is called: with all attempts together at most ``timeout`` seconds."""

    method: str
    params: tuple[Any, ...]
    named: dict[str, Any]
    metadata: dict[str, str]
    timeout: float | None
    idempotent: bool

    def prepare(self, manager: RpcManager, attempt: _Attempt) -> RpcCall:
        """One attempt; interceptors may change its metadata."""
        call = manager.outgoing.prepare(
            self.method, self.params, attempt.timeout, self.named, dict(self.metadata)
        )
        call.attempt = attempt.number
        return call


@dataclass(slots=True)
class _Attempt:
    """One attempt: its number from 1, the seconds that are left, how far it came, and where."""

    number: int
    timeout: float | None
    progress: Progress
    context: Context | None = None


async def _surrounded(around: Around | None, method: str, proceed: Proceed) -> Any:
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


async def _hold(contexts: list[Context], flow: Flow) -> None:
    """What ``around`` surrounds for a stream: the time until the iterator is done."""
    contexts.append(copy_context())
    flow.begin(None)
    await flow.over
    if flow.error is not None:
        raise flow.error


def _is_loss(error: WebTransportError, session: WebTransportSession) -> bool:
    """Whether a call failed because its session was lost."""
    if session.state is SessionState.CONNECTED or isinstance(error, ConfigurationError):
        return False
    if isinstance(error, RpcError):
        # A server that ends its sessions cancels what runs in them.
        return isinstance(error, RpcCancelledError) and error.remote is True
    return session.is_closed
