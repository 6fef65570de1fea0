"""Remote calls over a session that is opened again when it is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Self, TypeVar, overload

from .._states import Timeout
from ..exceptions import ConfigurationError, invalid_config
from ..serializer._protocol import Serializer
from ..serializer._rebuild import check_type
from ..utils._checks import check_signature, check_texts
from ..utils._closing import AsyncCloseable
from ._arguments import check_limit, checked_metadata, checked_name, named_parameters
from ._call import Interceptor
from ._manager import (
    DEFAULT_CALL_TIMEOUT,
    DEFAULT_CONCURRENCY_LIMIT,
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_REQUEST_TIMEOUT,
    RpcManager,
)
from ._messages import check_method
from ._method import Method
from ._reconnecting_results import ReconnectingResults
from ._repeating import Around, Attempt, CallRequest, Repeater, RpcStats, SessionSource
from ._streaming import ResultStream

__all__ = ["ReconnectingRpc", "RpcState"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class RpcState(StrEnum):
    """What a :class:`ReconnectingRpc` does."""

    CONNECTING = "connecting"
    """There is no session; calls wait for one."""
    CONNECTED = "connected"
    FAILED = "failed"
    """The client gave up: ``client.error`` says why."""
    CLOSED = "closed"


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
        client: SessionSource,
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
        self._repeater = Repeater(client, settings, around)

    # ---------------------------------------------------------------- properties

    @property
    def client(self) -> Any:
        """The client below."""
        return self._client

    @property
    def state(self) -> RpcState:
        """Whether there is a session, and if not, whether there will be one."""
        if self.is_closed or self._client.is_closed:
            return RpcState.CLOSED
        if self._client.error is not None:
            return RpcState.FAILED
        return RpcState.CONNECTED if self._client.is_connected else RpcState.CONNECTING

    @property
    def stats(self) -> RpcStats:
        """A copy of the counters."""
        return replace(self._repeater.stats)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names that the server may call."""
        return tuple(self._repeater.methods)

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._repeater.is_closed

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
        chosen = checked_name(func, name, self._repeater.methods)
        Method(chosen, func)  # raises if it cannot be called by a peer
        self._repeater.register(chosen, func)
        return func

    # ---------------------------------------------------------------- life cycle

    async def close(self) -> None:
        """Stop serving and calling; the client and its session stay open. Idempotent.

        Calls under way fail with :class:`RpcCancelledError`.

        Cancellation: everything is stopped anyway; only the waiting ends.
        """
        await self._repeater.close()

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            ConfigurationError: It was closed before.
            ClientError: The client is not started, closed, or gave up.
        """
        if self.is_closed:
            raise ConfigurationError(
                "a ReconnectingRpc cannot be started again; create another one"
            )
        await self._repeater.start()
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

        async def once(manager: RpcManager, attempt: Attempt) -> Any:
            call = request.prepare(manager, attempt)
            return await manager.outgoing.call(call, result_type, attempt.progress)

        request = self._request(method, params, timeout, named_params, metadata, named, idempotent)
        return await self._repeater.run(request, once)

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

        async def once(manager: RpcManager, attempt: Attempt) -> None:
            call = request.prepare(manager, attempt)
            await manager.outgoing.notify(call, attempt.progress)

        request = self._request(method, params, timeout, named_params, metadata, named, idempotent)
        await self._repeater.run(request, once)

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

        def begin(manager: RpcManager, attempt: Attempt) -> ResultStream[Any]:
            call = request.prepare(manager, attempt)
            return manager.outgoing.stream(
                call, item_type, item_timeout, attempt.progress, attempt.context
            )

        return ReconnectingResults(self._repeater, request, begin, item_timeout)

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
    ) -> CallRequest:
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
        return CallRequest(method, params, merged, checked_metadata(metadata), timeout, idempotent)
