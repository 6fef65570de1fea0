"""Remote calls in both directions over one session."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Self, TypeVar, overload

from .._core.opening import reached_limit
from .._states import Timeout
from ..exceptions import (
    ConfigurationError,
    SerializationError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
    TimeoutError,
    WebTransportError,
    invalid_config,
)
from ..serializer import JSONSerializer
from ..serializer._messages import MessageCodec
from ..serializer._protocol import Serializer
from ..serializer._rebuild import check_type, rebuild_in_turns
from ..session import WebTransportSession
from ..stream import StructuredStream, WebTransportStream
from ..utils._budget import ByteBudget
from ..utils._checks import check_instance
from ..utils._closing import AsyncCloseable
from ..utils._slots import Slots
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable
from ._call import Interceptor, RpcCall, RpcDirection, check_interceptor, run_intercepted
from ._exceptions import (
    RpcCancelledError,
    RpcError,
    RpcTimeoutError,
    error_from_code,
)
from ._incoming import Converse, IncomingCalls
from ._messages import (
    MAX_METADATA,
    REGISTRY,
    Failure,
    Notification,
    Request,
    Result,
    StreamCode,
    check_method,
    give_up,
)
from ._method import Method

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

# Seconds of a wait without limit: event loops do not accept infinity.
_FOREVER = 1e9
_MAX_LENGTH = 2**32 - 1
# Bytes of requests being sent at a time: a quarter of the peer's default memory limit.
_MOST_UNDER_WAY = 4 * 1024 * 1024
# Bytes of requests without an answer yet. The peer may be slow to decode them, and until then they
# use its room for incoming requests, 16 MiB by default; a part of it is left for small requests.
_MOST_UNANSWERED = 12 * 1024 * 1024
# Smaller requests do not count: all that may run at a time together take less.
_SMALL = 32768

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
        for key, value in (
            ("concurrency_limit", concurrency_limit),
            ("max_message_size", max_message_size),
        ):
            if type(value) is not int or not 1 <= value <= _MAX_LENGTH:
                raise invalid_config(
                    key=key, value=value, reason=f"expected a whole number from 1 to {_MAX_LENGTH}"
                )
        _check_seconds("request_timeout", request_timeout)
        if default_timeout is not None:
            _check_seconds("default_timeout", default_timeout)
        check_instance("session", session, WebTransportSession)
        self._interceptors = _interceptors(interceptors)
        self._session = session
        self._default_timeout = default_timeout
        self._max_size = max_message_size
        if serializer is None:
            # The streams limit sizes before anything is stored.
            serializer = JSONSerializer(max_size=_MAX_LENGTH)
        MessageCodec(serializer, REGISTRY)  # raises if it is not a serializer
        self._serializer: Serializer = serializer
        self._incoming = IncomingCalls(
            session,
            self._structured,
            limit=concurrency_limit,
            request_timeout=request_timeout,
            interceptors=self._interceptors,
        )
        self._limit = concurrency_limit
        self._outgoing_slots = Slots(concurrency_limit)
        self._outgoing: set[WebTransportStream] = set()
        self._under_way = ByteBudget("requests", max(_MOST_UNDER_WAY, max_message_size))
        self._unanswered = ByteBudget("requests", max(_MOST_UNANSWERED, max_message_size))
        self._closed = False

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
    def request_budget(self) -> ByteBudget:
        """Advanced: the bytes of requests being sent, ``used`` now and at the ``peak``."""
        return self._under_way

    @property
    def active_calls(self) -> dict[str, int]:
        """Running calls by direction: ``incoming`` and ``outgoing``."""
        return {"incoming": len(self._incoming.tasks), "outgoing": len(self._outgoing)}

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
        if not callable(func):
            raise invalid_config(key="func", value=func, reason="expected a function")
        chosen = getattr(func, "__name__", None) if name is None else name
        try:
            check_method(chosen)
        except RpcError as error:
            raise invalid_config(key="name", value=chosen, reason=error.message) from None
        assert isinstance(chosen, str)
        if chosen in self._incoming.methods:
            raise invalid_config(
                key="name", value=chosen, reason="expected a new name; it is registered already"
            )
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
        for stream in self._outgoing:
            give_up(stream, StreamCode.CANCELLED)
        await self._incoming.stop(timeout)

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
        call = self._outgoing_call(method, params, timeout, named_params, metadata, named)
        progress = _Progress()
        return await self._within(
            call, lambda deadline: self._ask(call, deadline, result_type, progress), progress
        )

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
        call = self._outgoing_call(method, params, timeout, named_params, metadata, named)
        call.is_notification = True
        progress = _Progress()
        await self._within(call, lambda deadline: self._tell(call, deadline, progress), progress)

    # ---------------------------------------------------------- internal: calling

    def _outgoing_call(
        self,
        method: str,
        params: tuple[Any, ...],
        timeout: float | None,
        named_params: Mapping[str, Any] | None,
        metadata: Mapping[str, str] | None,
        named: dict[str, Any],
    ) -> RpcCall:
        check_method(method)
        if timeout is None:
            timeout = self._default_timeout
        else:
            _check_seconds("timeout", timeout)
        return RpcCall(
            session=self._session,
            direction=RpcDirection.OUTGOING,
            method=method,
            params=params,
            named_params=_named(named_params, named),
            metadata=_metadata(metadata),
            timeout=timeout,
        )

    async def _within(
        self, call: RpcCall, work: Callable[[float | None], Awaitable[Any]], progress: _Progress
    ) -> Any:
        """Run the interceptors around ``work(deadline)``, all within the timeout."""
        deadline = None
        if call.timeout is not None:
            deadline = asyncio.get_running_loop().time() + call.timeout
        scope = asyncio.timeout_at(deadline)
        try:
            async with scope:
                return await run_intercepted(self._interceptors, call, lambda: work(deadline))
        except builtins.TimeoutError as error:
            # The peer's answer, an interceptor or the session may raise the same error.
            if not scope.expired() or isinstance(error, WebTransportError):
                raise
            failure = "not sent" if call.is_notification else "no answer"
            raise RpcTimeoutError(
                f"{failure} within {call.timeout} seconds; it waited for {progress}",
                method=call.method,
                timeout_duration=call.timeout,
                remote=False,
                details={"waited_for": str(progress)},
            ) from None
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            raise RpcError(
                "an interceptor was cancelled from within", method=call.method, remote=False
            ) from error

    async def _ask(
        self, call: RpcCall, deadline: float | None, result_type: Any, progress: _Progress
    ) -> Any:
        """The innermost part of an outgoing call."""
        progress.waits_for = self._slot_wanted()
        async with self._outgoing_slots:
            stream = await self._open(call, progress)
            progress.waits_for = "the peer's answer"
            try:
                request = _request(Request, call, deadline)
                answer = await self._exchange(stream, call, request, progress)
            except BaseException as error:
                bad = isinstance(error, SerializationError)
                give_up(stream, StreamCode.BAD_MESSAGE if bad else StreamCode.CANCELLED)
                raise
            finally:
                self._outgoing.discard(stream)
            # This end needs nothing after the answer.
            stream.stop_sending(StreamCode.DONE)
        if isinstance(answer, Failure):
            raise error_from_code(answer.code, answer.message, data=answer.data, method=call.method)
        value = answer.value
        if result_type is None:
            return value
        return await rebuild_in_turns(value, result_type, self._session.turns)

    def _slot_wanted(self) -> str:
        before = self._outgoing_slots.waiting
        queue = f"; {before} calls were before it" if before else ""
        return f"one of {self._limit} calls to end (concurrency_limit{queue})"

    async def _tell(self, call: RpcCall, deadline: float | None, progress: _Progress) -> None:
        """The innermost part of an outgoing notification."""
        progress.waits_for = self._slot_wanted()
        async with self._outgoing_slots:
            stream = await self._open(call, progress)
            progress.waits_for = "room to send"
            try:
                request = _request(Notification, call, deadline)
                structured = self._structured(stream)
                await self._send(stream, structured, structured.encode(request))
            except BaseException:
                give_up(stream, StreamCode.CANCELLED)
                raise
            finally:
                self._outgoing.discard(stream)
            stream.stop_sending(StreamCode.DONE)

    async def _open(self, call: RpcCall, progress: _Progress) -> WebTransportStream:
        if not self._closed:
            progress.waits_for = "a stream: a stream limit of the peer, or a local one, is reached"
            progress.stream_of = self._session
            # The call's own timeout ends it.
            stream = await self._session.create_bidirectional_stream(timeout=_FOREVER)
            progress.stream_of = None
            if not self._closed:
                self._outgoing.add(stream)
                return stream
            give_up(stream, StreamCode.CANCELLED)
        raise self._was_closed(call)

    async def _exchange(
        self, stream: WebTransportStream, call: RpcCall, request: Request, progress: _Progress
    ) -> Result | Failure:
        structured = self._structured(stream)
        encoded = structured.encode(request)
        size = len(encoded[1])
        if size <= _SMALL:
            return await self._answer_to(stream, structured, call, encoded)
        progress.waits_for = (
            f"answers to earlier requests, {self._unanswered.used} bytes in all; at most"
            f" {self._unanswered.limit} bytes of large requests may be unanswered"
        )
        await self._unanswered.acquire(size)
        progress.waits_for = "the peer's answer"
        try:
            return await self._answer_to(stream, structured, call, encoded)
        finally:
            self._unanswered.give_back(size)

    async def _answer_to(
        self,
        stream: WebTransportStream,
        structured: StructuredStream[Any],
        call: RpcCall,
        encoded: tuple[bytes, bytes],
    ) -> Result | Failure:
        """Send an encoded request and receive its answer."""
        try:
            # If the peer stops reading the request, its answer may say why.
            with contextlib.suppress(StreamStoppedError):
                await self._send(stream, structured, encoded)
            answer = await _received(structured)
        except StreamResetError as error:
            raise RpcCancelledError(
                f"the peer gave the call up (code {error.error_code} on its stream)",
                method=call.method,
                remote=True,
            ) from None
        except StreamError as error:
            if self._closed:
                raise self._was_closed(call) from None
            raise RpcCancelledError(
                f"the peer did not answer: {error.message}", method=call.method, remote=True
            ) from None
        if isinstance(answer, Result):
            return answer
        if isinstance(answer, Failure) and isinstance(answer.code, int):
            return Failure(answer.code, str(answer.message), answer.data)
        raise SerializationError(
            f"the peer answered '{call.method}' with a {type(answer).__name__}, "
            "expected a result or a failure",
            remote=True,
        )

    async def _send(
        self,
        stream: WebTransportStream,
        structured: StructuredStream[Any],
        encoded: tuple[bytes, bytes],
    ) -> None:
        """Send a request. The peer has limited room for incoming requests, and refuses more."""
        header, payload = encoded
        size = len(payload)
        if size <= _SMALL:
            await structured.send_encoded(header, payload)
            await stream.close()
            return
        await self._under_way.acquire(size)
        try:
            await structured.send_encoded(header, payload)
            await stream.close()
            await stream.wait_acknowledged()
        finally:
            self._under_way.give_back(size)

    def _was_closed(self, call: RpcCall) -> RpcCancelledError:
        return RpcCancelledError("the manager was closed", method=call.method, remote=False)

    def _structured(self, stream: WebTransportStream) -> StructuredStream[Any]:
        return StructuredStream(
            stream=stream,
            serializer=self._serializer,
            registry=REGISTRY,
            max_message_size=self._max_size,
        )


class _Progress:
    """What a call waits for, for the message of a timeout."""

    __slots__ = ("stream_of", "waits_for")

    def __init__(self) -> None:
        self.waits_for = "an interceptor"
        self.stream_of: WebTransportSession | None = None  # the limit is looked up only then

    def __str__(self) -> str:
        if self.stream_of is None or self.stream_of.is_closed:
            return self.waits_for
        limit = reached_limit(self.stream_of, False)
        return f"{self.waits_for} ({limit.owner}: {limit.text})"


def _interceptors(given: Any) -> tuple[Interceptor, ...]:
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise invalid_config(key="interceptors", value=given, reason="expected a list of functions")
    interceptors = tuple(given)
    for interceptor in interceptors:
        check_interceptor(interceptor)
    return interceptors


def _entries(key: str, given: Any) -> dict[str, Any]:
    """Check a mapping of names to values."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise invalid_config(key=key, value=given, reason="expected a mapping of names to values")
    return dict(given)


def _named(params: Any, keywords: dict[str, Any]) -> dict[str, Any]:
    """Merge parameters by name from a mapping and from keyword arguments."""
    if params is None:
        return keywords
    entries = _entries("named_params", params)
    for name in keywords:
        if name in entries:
            raise invalid_config(
                key="named_params",
                value=params,
                reason=f"parameter {printable(name)!r} is also given as a keyword argument",
            )
    return entries | keywords


def _metadata(given: Any) -> dict[str, str]:
    entries = _entries("metadata", given)
    if len(entries) > MAX_METADATA or not all(isinstance(text, str) for text in entries.values()):
        raise invalid_config(
            key="metadata",
            value=given,
            reason=f"expected a mapping of at most {MAX_METADATA} names to strings",
        )
    return entries


def _request(kind: type[Request], call: RpcCall, deadline: float | None) -> Request:
    """The message to send, with the time that is left."""
    left = None
    if deadline is not None:
        left = max(0.001, deadline - asyncio.get_running_loop().time())
    return kind(call.method, list(call.params), call.named_params, call.metadata, left)


async def _received(structured: StructuredStream[Any]) -> Any:
    """Read the next message, limited by the timeout of the call instead of ``read_timeout``."""
    while True:
        try:
            return await structured.receive_obj()
        except TimeoutError:
            continue


def _check_seconds(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _FOREVER:
        raise invalid_config(key=key, value=value, reason="expected seconds > 0")
