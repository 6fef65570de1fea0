"""Remote calls in both directions over one session."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self, TypeVar, overload

from .._states import Timeout
from ..exceptions import (
    ConfigurationError,
    SerializationError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
    WebTransportError,
    invalid_config,
)
from ..serializer import JSONSerializer
from ..serializer._protocol import Serializer
from ..serializer._rebuild import check_type, rebuild_in_turns
from ..session import WebTransportSession
from ..stream import StructuredStream, WebTransportStream
from ..utils._budget import ByteBudget
from ..utils._checks import check_instance
from ..utils._closing import AsyncCloseable
from ..utils._slots import Slots
from ..utils._stuck import end_tasks
from ..utils._tasks import is_being_cancelled
from ._arguments import (
    FOREVER,
    Progress,
    check_limit,
    check_serializer,
    checked_interceptors,
    checked_metadata,
    checked_name,
    named_parameters,
    received,
    request_of,
)
from ._call import Interceptor, RpcCall, RpcDirection, run_intercepted
from ._exceptions import (
    RpcCancelledError,
    RpcError,
    RpcErrorCode,
    RpcTimeoutError,
    RpcUnsupportedError,
    error_from_code,
)
from ._incoming import IncomingCalls
from ._messages import (
    REGISTRY,
    UNKNOWN_TYPE,
    End,
    Failure,
    Item,
    Notification,
    Request,
    Result,
    StreamCode,
    StreamRequest,
    check_method,
    give_up,
)
from ._method import Method
from ._streaming import Flow, ResultStream

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
# Bytes of requests being sent at a time: a quarter of the peer's default memory limit.
_MOST_UNDER_WAY = 4 * 1024 * 1024
# Bytes of requests without an answer yet. The peer may be slow to decode them, and until then they
# use its room for incoming requests, 16 MiB by default; a part of it is left for small requests.
_MOST_UNANSWERED = 12 * 1024 * 1024
# Smaller requests do not count: all that may run at a time together take less.
_SMALL = 32768

# How peers answer to a ``StreamRequest`` that do not know it.
_NO_STREAMS = UNKNOWN_TYPE.format(5)

_logger = logging.getLogger("pywebtransport.rpc")

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
        self._limit = concurrency_limit
        self._outgoing_slots = Slots(concurrency_limit)
        self._outgoing: set[WebTransportStream] = set()
        self._flows: dict[Flow, RpcCall] = {}
        self._under_way = ByteBudget("requests", max(_MOST_UNDER_WAY, max_message_size))
        self._unanswered = ByteBudget("requests", max(_MOST_UNANSWERED, max_message_size))
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
        chosen = checked_name(func, name, self._incoming.methods)
        self._incoming.methods[chosen] = Method(chosen, func)
        return func

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
        flows, self._flows = self._flows, {}
        for flow, call in flows.items():
            flow.end(self._was_closed(call))
        tasks = [flow.task for flow in flows if flow.task is not None]
        try:
            await self._incoming.stop(timeout)
        finally:
            await end_tasks(tasks, timeout=timeout, logger=_logger, what="calls of streams")

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
        return await self._call(call, result_type, Progress())

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
        await self._notify(call, Progress())

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
        call, limit = self._stream_call(
            method, params, item_type, timeout, item_timeout, named_params, metadata, named
        )
        return ResultStream(
            call,
            partial(self._run_flow, call),
            partial(self._receive_item, call),
            item_type=item_type,
            item_timeout=limit,
        )

    # ---------------------------------------------------------- internal: calling

    async def _call(self, call: RpcCall, result_type: Any, progress: Progress) -> Any:
        return await self._within(
            call, lambda deadline: self._ask(call, deadline, result_type, progress), progress
        )

    async def _notify(self, call: RpcCall, progress: Progress) -> None:
        call.is_notification = True
        await self._within(call, lambda deadline: self._tell(call, deadline, progress), progress)

    def _stream_call(
        self,
        method: str,
        params: tuple[Any, ...],
        item_type: Any,
        timeout: float | None,
        item_timeout: float | None,
        named_params: Mapping[str, Any] | None,
        metadata: Mapping[str, str] | None,
        named: dict[str, Any],
    ) -> tuple[RpcCall, float | None]:
        """The call, and the seconds for each item."""
        if item_type is not None:
            check_type("item_type", item_type)
        if item_timeout is None:
            item_timeout = self._default_timeout
        else:
            check_limit("item_timeout", item_timeout)
        call = self._outgoing_call(method, params, timeout, named_params, metadata, named)
        call.timeout = timeout
        call.is_stream = True
        return call, item_timeout

    async def _run_flow(
        self, call: RpcCall, flow: Flow, progress: Progress, deadline: float | None
    ) -> None:
        """The task of a call whose method yields its results."""
        self._flows[flow] = call
        try:
            hold = partial(self._hold, call, flow, progress, deadline)
            await run_intercepted(self._interceptors, call, hold)
        finally:
            self._flows.pop(flow, None)

    async def _hold(
        self, call: RpcCall, flow: Flow, progress: Progress, deadline: float | None
    ) -> None:
        """Send the request, and keep the stream until the iterator is done with it."""
        progress.waits_for = self._slot_wanted()
        async with self._outgoing_slots:
            stream = await self._open(call, progress)
            try:
                structured = self._structured(stream)
                encoded = structured.encode(request_of(StreamRequest, call, deadline))
                await self._acquire_unanswered(len(encoded[1]), progress)
                flow.first = partial(self._give_back_unanswered, len(encoded[1]))
                progress.waits_for = "the peer's next item"
                progress.sent = True
                try:
                    with contextlib.suppress(StreamStoppedError):
                        await self._send(stream, structured, encoded)
                except StreamError as error:
                    raise self._gave_up(error, call) from None
                flow.begin(structured)
                await flow.over
                if flow.error is not None and not flow.answered:
                    raise flow.error
            except BaseException as error:
                bad = isinstance(error, SerializationError)
                give_up(stream, StreamCode.BAD_MESSAGE if bad else StreamCode.CANCELLED)
                raise
            finally:
                flow.came()
                self._outgoing.discard(stream)
            stream.stop_sending(StreamCode.DONE)
        if flow.error is not None:
            raise flow.error

    async def _receive_item(self, call: RpcCall, structured: StructuredStream[Any]) -> Any:
        """The next item; None at the end; an exception if the call has failed."""
        try:
            message = await received(structured)
        except StreamError as error:
            raise self._gave_up(error, call) from None
        if isinstance(message, Item):
            return message
        if isinstance(message, End):
            return None
        if isinstance(message, Failure) and isinstance(message.code, int):
            return _failure(message, call)
        raise _unexpected(message, call, "an item, an end or a failure")

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
            check_limit("timeout", timeout)
        return RpcCall(
            session=self._session,
            direction=RpcDirection.OUTGOING,
            method=method,
            params=params,
            named_params=named_parameters(named_params, named),
            metadata=checked_metadata(metadata),
            timeout=timeout,
        )

    async def _within(
        self, call: RpcCall, work: Callable[[float | None], Awaitable[Any]], progress: Progress
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
        self, call: RpcCall, deadline: float | None, result_type: Any, progress: Progress
    ) -> Any:
        """The innermost part of an outgoing call."""
        progress.waits_for = self._slot_wanted()
        async with self._outgoing_slots:
            stream = await self._open(call, progress)
            progress.waits_for = "the peer's answer"
            try:
                request = request_of(Request, call, deadline)
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
            raise _failure(answer, call)
        value = answer.value
        if result_type is None:
            return value
        return await rebuild_in_turns(value, result_type, self._session.turns)

    def _slot_wanted(self) -> str:
        before = self._outgoing_slots.waiting
        queue = f"; {before} calls were before it" if before else ""
        return f"one of {self._limit} calls to end (concurrency_limit{queue})"

    async def _tell(self, call: RpcCall, deadline: float | None, progress: Progress) -> None:
        """The innermost part of an outgoing notification."""
        progress.waits_for = self._slot_wanted()
        async with self._outgoing_slots:
            stream = await self._open(call, progress)
            progress.waits_for = "room to send"
            try:
                request = request_of(Notification, call, deadline)
                structured = self._structured(stream)
                encoded = structured.encode(request)
                progress.sent = True
                await self._send(stream, structured, encoded)
            except BaseException:
                give_up(stream, StreamCode.CANCELLED)
                raise
            finally:
                self._outgoing.discard(stream)
            stream.stop_sending(StreamCode.DONE)

    async def _open(self, call: RpcCall, progress: Progress) -> WebTransportStream:
        if not self._closed:
            progress.waits_for = "a stream: a stream limit of the peer, or a local one, is reached"
            progress.stream_of = self._session
            # The call's own timeout ends it.
            stream = await self._session.create_bidirectional_stream(timeout=FOREVER)
            progress.stream_of = None
            if not self._closed:
                self._outgoing.add(stream)
                return stream
            give_up(stream, StreamCode.CANCELLED)
        raise self._was_closed(call)

    async def _exchange(
        self, stream: WebTransportStream, call: RpcCall, request: Request, progress: Progress
    ) -> Result | Failure:
        structured = self._structured(stream)
        encoded = structured.encode(request)
        size = len(encoded[1])
        await self._acquire_unanswered(size, progress)
        progress.waits_for = "the peer's answer"
        progress.sent = True
        try:
            return await self._answer_to(stream, structured, call, encoded)
        finally:
            self._give_back_unanswered(size)

    async def _acquire_unanswered(self, size: int, progress: Progress) -> None:
        if size > _SMALL:
            progress.waits_for = (
                f"answers to earlier requests, {self._unanswered.used} bytes in all; at most"
                f" {self._unanswered.limit} bytes of large requests may be unanswered"
            )
            await self._unanswered.acquire(size)

    def _give_back_unanswered(self, size: int) -> None:
        if size > _SMALL:
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
            answer = await received(structured)
        except StreamError as error:
            raise self._gave_up(error, call) from None
        if isinstance(answer, Result):
            return answer
        if isinstance(answer, Failure) and isinstance(answer.code, int):
            return Failure(answer.code, str(answer.message), answer.data)
        raise _unexpected(answer, call, "a result or a failure")

    def _gave_up(self, error: StreamError, call: RpcCall) -> RpcCancelledError:
        if isinstance(error, StreamResetError):
            text = f"the peer gave the call up (code {error.error_code} on its stream)"
        elif self._closed:
            return self._was_closed(call)
        else:
            text = f"the peer did not answer: {error.message}"
        return RpcCancelledError(text, method=call.method, remote=True)

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


def _failure(answer: Failure, call: RpcCall) -> RpcError:
    """The exception for a failure that the peer sent."""
    code, message = answer.code, str(answer.message)
    if call.is_stream and code == RpcErrorCode.INVALID_REQUEST and message.startswith(_NO_STREAMS):
        return RpcUnsupportedError(
            "the peer is of a version that does not know calls that yield their results",
            method=call.method,
            remote=True,
        )
    return error_from_code(code, message, data=answer.data, method=call.method)


def _unexpected(message: Any, call: RpcCall, expected: str) -> SerializationError:
    return SerializationError(
        f"the peer answered '{call.method}' with a {type(message).__name__}, expected {expected}",
        remote=True,
    )
