"""Remote calls in both directions over one session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeVar, overload

from .._states import Timeout
from ..exceptions import (
    ConfigurationError,
    invalid_config,
)
from ..serializer import JSONSerializer
from ..serializer._protocol import Serializer
from ..serializer._rebuild import check_type
from ..session import WebTransportSession
from ..stream import StructuredStream, WebTransportStream
from ..utils._budget import ByteBudget
from ..utils._checks import check_instance
from ..utils._closing import AsyncCloseable
from ._arguments import (
    Progress,
    check_limit,
    check_serializer,
    checked_interceptors,
    checked_metadata,
    checked_name,
    named_parameters,
)
from ._call import Interceptor, RpcCall
from ._incoming import Converse, IncomingCalls
from ._messages import (
    REGISTRY,
    check_method,
)
from ._method import Method
from ._outgoing import OutgoingCalls
from ._streaming import ResultStream

__all__ = [
    "DEFAULT_CALL_TIMEOUT",
    "DEFAULT_CONCURRENCY_LIMIT",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "RpcManager",
]

DEFAULT_CONCURRENCY_LIMIT = 100
"""Concurrent calls per direction."""
DEFAULT_CALL_TIMEOUT = 30.0
"""Seconds that a call may take."""
DEFAULT_MAX_MESSAGE_SIZE = 1_048_576
"""Bytes of one request or answer."""
DEFAULT_REQUEST_TIMEOUT = 30.0
"""Seconds that the peer may take to send a request after it has opened the stream."""

_MAX_LENGTH = 2**32 - 1
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class RpcManager(AsyncCloseable):
    """Calls methods of the peer, and serves methods to it, over one session.

    Both ends are equal: each may register methods and call the other's. Each call has its own
    bidirectional stream, so calls do not wait for each other, and a large call is delayed only by
    its own flow control. The manager accepts all incoming bidirectional streams of the session, so
    use a separate session for remote calls (with ``allow_pooling``, sessions share a connection).
    You can still use unidirectional streams and datagrams.

    ::

        async with RpcManager(session) as rpc:
            print(await rpc.call("add", 1, 2))
    """

    def __init__(
        self,
        session: WebTransportSession,
        *,
        concurrency_limit: int = DEFAULT_CONCURRENCY_LIMIT,
        default_timeout: Timeout = DEFAULT_CALL_TIMEOUT,
        request_timeout: float = DEFAULT_REQUEST_TIMEOUT,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        serializer: Serializer | None = None,
        interceptors: Iterable[Interceptor] = (),
    ) -> None:
        """Create a manager. Register methods, then enter it.

        Args:
            session: The session, at either end.
            concurrency_limit: Limit of concurrent calls, separately for incoming and outgoing ones.
                Further incoming calls wait in the session, whose limits on incoming streams then
                hold the peer back. Further outgoing calls wait in ``call``.
            default_timeout: Seconds for calls without a timeout; None: no limit.
            request_timeout: Seconds that the peer may take to send a request.
            max_message_size: Bytes of a request or answer, sent or received.
            serializer: The same at both ends; default ``JSONSerializer``.
            interceptors: Run around each call of both directions, the first outermost.

        Raises:
            ConfigurationError: An argument is of another type, or out of range.
        """
        settings = self.check_settings(
            concurrency_limit=concurrency_limit,
            default_timeout=default_timeout,
            request_timeout=request_timeout,
            max_message_size=max_message_size,
            serializer=serializer,
            interceptors=interceptors,
        )
        check_instance("session", session, WebTransportSession)
        self._interceptors: tuple[Interceptor, ...] = settings["interceptors"]
        self._session = session
        self._default_timeout = default_timeout
        self._max_size = max_message_size
        self._serializer: Serializer = settings["serializer"]
        self._incoming = IncomingCalls(
            session,
            self._structured,
            limit=concurrency_limit,
            request_timeout=request_timeout,
            interceptors=self._interceptors,
        )
        self._outgoing = OutgoingCalls(
            session,
            self._structured,
            limit=concurrency_limit,
            max_message_size=max_message_size,
            interceptors=self._interceptors,
        )
        self._closed = False

    @staticmethod
    def check_settings(
        *,
        concurrency_limit: int,
        default_timeout: Timeout,
        request_timeout: float,
        max_message_size: int,
        serializer: Serializer | None,
        interceptors: Iterable[Interceptor],
    ) -> dict[str, Any]:
        """Advanced: check arguments of the constructor, and return them with their defaults.

        Raises:
            ConfigurationError: An argument is of another type, or out of range.
        """
        for key, value in (
            ("concurrency_limit", concurrency_limit),
            ("max_message_size", max_message_size),
        ):
            if type(value) is not int or not 1 <= value <= _MAX_LENGTH:
                raise invalid_config(
                    key=key, value=value, reason=f"expected a whole number from 1 to {_MAX_LENGTH}"
                )
        check_limit("request_timeout", request_timeout)
        if default_timeout is not None:
            check_limit("default_timeout", default_timeout)
        if serializer is None:
            # The streams limit sizes before anything is stored.
            serializer = JSONSerializer(max_size=_MAX_LENGTH)
        check_serializer(serializer)
        return {
            "concurrency_limit": concurrency_limit,
            "default_timeout": default_timeout,
            "request_timeout": request_timeout,
            "max_message_size": max_message_size,
            "serializer": serializer,
            "interceptors": checked_interceptors(interceptors),
        }

    # ---------------------------------------------------------------- properties

    @property
    def session(self) -> WebTransportSession:
        """The session below."""
        return self._session

    @property
    def serializer(self) -> Serializer:
        """Converts messages to bytes and back."""
        return self._serializer

    @property
    def methods(self) -> tuple[str, ...]:
        """The registered names."""
        return tuple(self._incoming.methods)

    @property
    def is_closed(self) -> bool:
        """Whether the manager is closed; its session may still be open."""
        return self._closed

    @property
    def default_timeout(self) -> Timeout:
        """Seconds for calls without a timeout; None: no limit."""
        return self._default_timeout

    @property
    def has_interceptors(self) -> bool:
        """Whether interceptors run around each call."""
        return bool(self._interceptors)

    @property
    def outgoing(self) -> OutgoingCalls:
        """Advanced: makes the calls."""
        return self._outgoing

    @property
    def request_budget(self) -> ByteBudget:
        """Advanced: the bytes of requests being sent, ``used`` now and at the ``peak``."""
        return self._outgoing.under_way

    @property
    def active_calls(self) -> dict[str, int]:
        """Running calls by direction: ``incoming`` and ``outgoing``."""
        return {"incoming": len(self._incoming.tasks), "outgoing": len(self._outgoing.streams)}

    # ------------------------------------------------------------------- serving

    @overload
    def register(self, func: F, *, name: str | None = None) -> F: ...

    @overload
    def register(self, func: None = None, *, name: str | None = None) -> Callable[[F], F]: ...

    def register(self, func: F | None = None, *, name: str | None = None) -> F | Callable[[F], F]:
        """Let the peer call a function; also usable as a decorator.

        Parameters whose annotation is or contains a dataclass are rebuilt from the received data. A
        plain function runs on the event loop: it must not block.

        Args:
            func: Plain or ``async``.
            name: Name for the peer; default: the name of the function.

        Returns:
            ``func``, or a decorator if it is not given.

        Raises:
            ConfigurationError: The name is taken or unusable, or ``func`` is not a function.
        """
        if func is None:
            return lambda function: self.register(function, name=name)
        chosen = checked_name(func, name, self._incoming.methods)
        self._incoming.methods[chosen] = Method(chosen, func)
        return func

    def register_conversation(self, name: str, converse: Converse) -> None:
        """Advanced: let a function take over the streams of calls of a method.

        Such a stream carries more than one request and answer. It does not count towards
        ``concurrency_limit``, and interceptors do not see it.

        Args:
            name: Name of the method.
            converse: Called with each stream, after the request was read. It must raise nothing
                but a ``WebTransportError``, which abandons the stream.
        """
        self._incoming.conversations[name] = converse

    def unregister(self, name: str) -> None:
        """Remove a method; running calls continue. An unknown name is ignored."""
        if isinstance(name, str):
            self._incoming.methods.pop(name, None)

    # ---------------------------------------------------------------- life cycle

    async def start(self) -> None:
        """Start to serve. Idempotent.

        Raises:
            ConfigurationError: The manager was closed before.
        """
        self.start_nowait()

    def start_nowait(self) -> None:
        """Advanced: as ``start``."""
        if self._closed:
            raise ConfigurationError("an RpcManager cannot be started again; create another one")
        self._incoming.start()

    async def serve(self) -> None:
        """Serve until the session ends, then close the manager.

        Cancellation: closes the manager.
        """
        async with self:
            await self._session.wait_closed()

    async def close(self) -> None:
        """Stop serving and calling; the session stays open. Idempotent.

        Running handlers are cancelled, and their callers are told so. Calls of this end fail with
        :class:`RpcCancelledError`. Calls of the peer that still wait in the session, or arrive
        later, get no answer: close the session if you do not need it for anything else. A handler
        that continues for ``close_timeout`` seconds after its cancellation is named in the log, and
        no longer waited for.

        Cancellation: everything is stopped anyway; only the waiting ends.
        """
        await self.close_within(self._session.config.close_timeout)

    async def close_within(self, timeout: float) -> None:
        """Advanced: as ``close``.

        Args:
            timeout: Seconds for the handlers; ``close`` uses ``close_timeout``.

        Cancellation: as of ``close``.
        """
        self._closed = True
        self._outgoing.close()
        try:
            await self._incoming.stop(timeout)
        finally:
            await self._outgoing.stop(timeout)

    async def __aenter__(self) -> Self:
        await self.start()
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
        **named: Any,
    ) -> Any:
        """Run a method of the peer: ``await rpc.call("add", 1, b=2)``.

        Args:
            method: Name of the method.
            *params: Positional parameters.
            result_type: Type to rebuild the result as, for instance a dataclass.
            timeout: Seconds for everything, including the wait for a free stream. The peer then
                ends its handler, too. None: ``default_timeout``.
            named_params: Parameters by name, if their names are arguments of this method
                (``method``, ``timeout``, ...) or not identifiers.
            metadata: Names and strings for the interceptors of the peer.
            **named: Parameters by name.

        Returns:
            What the method returned.

        Raises:
            MethodNotFoundError: The peer has no such method.
            InvalidParamsError: The parameters do not match the method.
            RpcTimeoutError: It took too long, here or at the peer. The message says what it waited
                for: a stream, one of ``concurrency_limit`` calls, or the answer.
            RpcCancelledError: The peer cancelled the call, or this manager was closed.
            RpcError: The method raised it, with this code and data; or it failed in another way
                (INTERNAL_ERROR).
            SerializationError: A parameter cannot be sent, a message is larger than
                ``max_message_size``, or the answer cannot be understood.
            ConfigurationError: An argument is of another type, or out of range; nothing was
                sent.
            SessionClosedError: The session is over.

        Cancellation: the handler at the peer is cancelled too.
        """
        if result_type is not None:
            check_type("result_type", result_type)
        timeout = self._default_timeout if timeout is None else timeout
        call = self._prepare(method, params, timeout, named_params, metadata, named)
        return await self._outgoing.call(call, result_type, Progress())

    async def notify(
        self,
        method: str,
        *params: Any,
        timeout: Timeout = None,
        named_params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        **named: Any,
    ) -> None:
        """Run a method of the peer without an answer, not even errors.

        Returns once the request was passed to the network. If the session ends right afterwards,
        the peer may not get it.

        Args: as ``call``.

        Raises: as ``call``, for what happens on this side.

        Cancellation: safe; the notification may have been sent, or not.
        """
        timeout = self._default_timeout if timeout is None else timeout
        call = self._prepare(method, params, timeout, named_params, metadata, named)
        await self._outgoing.notify(call, Progress())

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
        **named: Any,
    ) -> ResultStream[T]: ...

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
        **named: Any,
    ) -> ResultStream[Any]: ...

    def stream(
        self,
        method: str,
        *params: Any,
        item_type: Any = None,
        timeout: Timeout = None,
        item_timeout: Timeout = None,
        named_params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        **named: Any,
    ) -> ResultStream[Any]:
        """Run a method of the peer that yields its results: an asynchronous generator.

        ``async for item in rpc.stream("prices", "tea")``. The call has a place among the
        ``concurrency_limit`` calls until it ends.

        Args:
            method: Name of the method.
            *params: Positional parameters.
            item_type: Type to rebuild each item as, for instance a dataclass.
            timeout: Seconds for the whole call, from the first item that you ask for. The peer then
                ends the method, too. None: no limit.
            item_timeout: Seconds that you wait for each item; for the first one, this includes the
                wait for a free stream. None: ``default_timeout``.
            named_params: As for ``call``.
            metadata: As for ``call``.
            **named: Parameters by name.

        Returns:
            An asynchronous iterator; see there for its errors.

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
        call = self._prepare(method, params, timeout, named_params, metadata, named)
        return self._outgoing.stream(call, item_type, item_timeout, Progress())

    # ------------------------------------------------------------------ internal

    def _prepare(
        self,
        method: str,
        params: tuple[Any, ...],
        timeout: float | None,
        named_params: Mapping[str, Any] | None,
        metadata: Mapping[str, str] | None,
        named: dict[str, Any],
    ) -> RpcCall:
        check_method(method)
        if timeout is not None:
            check_limit("timeout", timeout)
        return self._outgoing.prepare(
            method,
            params,
            timeout,
            named_parameters(named_params, named),
            checked_metadata(metadata),
        )

    def _structured(self, stream: WebTransportStream) -> StructuredStream[Any]:
        return StructuredStream(
            stream=stream,
            serializer=self._serializer,
            registry=REGISTRY,
            max_message_size=self._max_size,
        )
