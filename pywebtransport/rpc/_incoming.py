"""The serving side of calls: reads a request, runs the method, and sends the answer."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias, TypeGuard

from .._states import EventType
from ..events import Event
from ..exceptions import (
    SerializationError,
    StreamError,
    StreamStoppedError,
    TimeoutError,
    WebTransportError,
)
from ..session import WebTransportSession
from ..stream import StructuredStream, WebTransportStream
from ..utils._budget import ByteBudget
from ..utils._failures import log_application_error
from ..utils._holding import Holding
from ..utils._logs import shared_log
from ..utils._stuck import end_tasks
from ..utils._tasks import cancel_in_turns, is_being_cancelled
from ..utils._text import printable
from ..utils._waiters import Waiters
from ._call import Interceptor, RpcCall, RpcDirection, run_intercepted
from ._exceptions import MethodNotFoundError, RpcError, RpcErrorCode
from ._messages import (
    End,
    Failure,
    Item,
    Notification,
    Request,
    Result,
    StreamCode,
    StreamRequest,
    check_request,
    give_up,
)
from ._method import Method

__all__ = ["Converse", "IncomingCalls", "Structure", "failure_for"]

Structure: TypeAlias = Callable[[WebTransportStream], StructuredStream[Any]]

Converse: TypeAlias = Callable[[WebTransportStream], Awaitable[None]]
"""Takes the stream of a call over, after its request was read."""

# What ``_answer`` returns if the method takes the stream over.
_TAKEN_OVER = Result()

# All that a caller learns about an exception of a handler.
_INTERNAL_ERROR = Failure(RpcErrorCode.INTERNAL_ERROR, "internal error")

# Exceptions that end the program, or a coroutine that is abandoned.
_NOT_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit)

# Up to this many concurrent calls of one session do not delay other tasks.
_FEW = 16
# Requests above this size in memory take longer to process than the call itself.
_LARGE = 65_536
# After so many items, check whether the turn of the event loop is over.
_STEP = 16

logger = logging.getLogger("pywebtransport.rpc")


class IncomingCalls:
    """Accepts the streams that the peer opens, runs a method for each, and answers.

    Args:
        session: The session of the streams.
        structure: Converts the bytes of a stream to messages.
        limit: Concurrent calls; further streams wait in the session.
        request_timeout: Seconds that the peer has to send a request.
        interceptors: Run around each call.

    Attributes:
        conversations: By the name of a method, what takes the stream of its call over. Such a
            stream does not count as one of the concurrent calls.
        methods: The registered methods by name.
        tasks: One for each running call.
    """

    def __init__(
        self,
        session: WebTransportSession,
        structure: Structure,
        *,
        limit: int,
        request_timeout: float,
        interceptors: tuple[Interceptor, ...],
    ) -> None:
        self.conversations: dict[str, Converse] = {}
        self.methods: dict[str, Method] = {}
        self._conversing: set[asyncio.Task[None]] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.session = session
        self._structure = structure
        self._limit = limit
        self._request_timeout = request_timeout
        self._interceptors = interceptors
        self._acceptor: asyncio.Task[None] | None = None
        self._slot_waiters = Waiters()
        # Half of the budget is for incoming requests, the other half for decoded ones: if these
        # took all of it, requests that the caller may send would be refused.
        memory = session.memory_budget
        half = memory.limit // 2
        self._unread = ByteBudget(memory.name, half, memory)
        self._decoded = memory.line = ByteBudget(memory.name, memory.limit - half)

    def start(self) -> None:
        """Start to accept streams. Idempotent."""
        if self._acceptor is None:
            self._acceptor = asyncio.create_task(self._accept(), name="rpc acceptor")
            self.session.add_watcher(EventType.SESSION_CLOSED, self._session_ended)

    async def stop(self, timeout: float) -> None:
        """Cancel all handlers, and wait for them for at most this many seconds.

        Cancellation: they are cancelled anyway.
        """
        self.session.remove_watcher(EventType.SESSION_CLOSED, self._session_ended)
        # A handler may stop its manager.
        tasks = [*self.tasks, *self._conversing]
        if self._acceptor is not None:
            tasks.insert(0, self._acceptor)
        await end_tasks(tasks, timeout=timeout, logger=logger, what="remote calls")

    async def _accept(self) -> None:
        """Accept streams while there are free slots."""
        turns = self.session.turns
        async for stream in self.session.incoming_bidirectional_streams():
            task = asyncio.create_task(self._handle(stream), name="rpc call")
            self.tasks.add(task)
            task.add_done_callback(partial(self._handled, stream))
            # Its first step is one of the next turn's: no more of them than fit into it. But it
            # stands in no line for that: streams that are not read use up the peer's credit.
            turns.woke()
            if turns.is_over:
                await asyncio.sleep(0)
            while len(self.tasks) >= self._limit:
                await self._slot_waiters.wait()

    def _handled(self, stream: WebTransportStream, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # maybe before its first step
            give_up(stream, StreamCode.CANCELLED)
        self.tasks.discard(task)
        self._slot_waiters.wake()

    def _session_ended(self, event: Event) -> None:
        """The session has ended: cancel all handlers, whose answers nobody will receive."""
        # A handler that closes its session continues after that.
        current = asyncio.current_task()
        tasks = (task for task in (*self.tasks, *self._conversing) if task is not current)
        cancel_in_turns(tasks, self.session.turns)

    def _caller_gone(self, task: asyncio.Task[Any]) -> None:
        # Of a session that ends all streams are over; that is the above's business.
        if not self.session.is_closed:
            task.cancel()

    async def _handle(self, stream: WebTransportStream) -> None:
        """Serve one call. Raises only when cancelled."""
        structured = self._structure(stream)
        try:
            if len(self.tasks) > _FEW:
                await self.session.turns.pause()
            # The decoded request stays in memory until it is answered.
            memory = self.session.memory_budget
            with Holding(memory, incoming=self._unread, decoded=self._decoded) as holding:
                method, answer = await self._answer(stream, structured, holding)
                if answer is not None and answer is not _TAKEN_OVER:
                    if holding.size > _LARGE:  # then the answer may be large, too
                        await self.session.turns.pause()
                    await self._reply(structured, method, answer)
            if answer is _TAKEN_OVER:
                await self._converse(stream, self.conversations[method])
            await stream.close()
            if not stream.at_eof():
                await self._finished(stream)
            stream.stop_sending(StreamCode.DONE)
        except asyncio.CancelledError:
            give_up(stream, StreamCode.CANCELLED)
            raise
        except WebTransportError as error:
            # The caller is gone, or does not read its answer.
            logger.debug("call on stream %d ended early: %s", stream.stream_id, printable(error))
            give_up(stream, StreamCode.CANCELLED)

    async def _converse(self, stream: WebTransportStream, converse: Converse) -> None:
        task = asyncio.current_task()
        assert task is not None  # this is a coroutine
        self.tasks.discard(task)
        self._slot_waiters.wake()
        self._conversing.add(task)
        try:
            await converse(stream)
        finally:
            self._conversing.discard(task)

    async def _finished(self, stream: WebTransportStream) -> None:
        """Wait for the FIN of a request: browsers send it in a packet of its own.

        STOP_SENDING must not overtake it, because Firefox then drops the answer, too.
        """
        with contextlib.suppress(WebTransportError, builtins.TimeoutError):
            async with asyncio.timeout(self._request_timeout):
                await stream.read(1)

    async def _answer(
        self, stream: WebTransportStream, structured: StructuredStream[Any], holding: Holding
    ) -> tuple[str, Result | End | Failure | None]:
        """Read the request and run it; return the method, and the answer or None."""
        try:
            received = await structured.receive_held(holding, self._request_timeout)
            if received is None:
                raise StreamError("the peer finished the stream of a call without a request")
            request = check_request(received[0])
        except (SerializationError, RpcError) as error:
            logger.debug(
                "unusable request on stream %d: %s", stream.stream_id, printable(error.message)
            )
            stream.stop_sending(StreamCode.BAD_MESSAGE)
            return "", Failure(RpcErrorCode.INVALID_REQUEST, error.message, _limits(error))
        except builtins.TimeoutError:
            stream.stop_sending(StreamCode.BAD_MESSAGE)
            return "", Failure(
                RpcErrorCode.INVALID_REQUEST, f"no request within {self._request_timeout} seconds"
            )
        if request.method in self.conversations and type(request) is Request:
            return request.method, _TAKEN_OVER
        call = RpcCall(
            session=self.session,
            direction=RpcDirection.INCOMING,
            method=request.method,
            params=request.params or (),
            named_params=request.named or {},
            metadata=request.metadata or {},
            timeout=request.timeout,
            is_notification=isinstance(request, Notification),
            is_stream=isinstance(request, StreamRequest),
        )
        # From here on only the call refers to the request, until its method returns.
        del received, request
        if call.is_notification:
            outcome = await self._run(call, partial(self._invoke_one, call))
            if isinstance(outcome, Failure):
                logger.debug(
                    "notification '%s' failed: %s",
                    printable(call.method),
                    printable(outcome.message),
                )
            return call.method, None
        if not stream.is_writable:
            raise StreamStoppedError("the caller gave up before its request was handled")
        task = asyncio.current_task()
        assert task is not None  # this is a coroutine
        caller_gone = partial(self._caller_gone, task)
        stream.add_stop_callback(caller_gone)
        try:
            if not call.is_stream:
                return call.method, await self._run(call, partial(self._invoke_one, call))
            outcome = await self._run(call, partial(self._send_items, call, structured))
            return call.method, outcome if isinstance(outcome, Failure) else End()
        finally:
            stream.remove_stop_callback(caller_gone)

    async def _run(
        self, call: RpcCall, innermost: Callable[[], Awaitable[Any]]
    ) -> Result | Failure:
        """Run the handler inside the interceptors; every outcome becomes an answer."""
        scope = asyncio.timeout(call.timeout)
        try:
            async with scope:
                return Result(await run_intercepted(self._interceptors, call, innermost))
        except _NOT_OURS:
            raise
        except BaseException as error:
            # Not the handler was cancelled, but something that it waited for: it failed.
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            too_late = scope.expired() and isinstance(error, builtins.TimeoutError)
            if too_late and not _is_for_caller(error):
                return Failure(
                    RpcErrorCode.TIMEOUT, f"not finished within {call.timeout:.3g} seconds"
                )
            return failure_for(error, call.method, self.session)

    async def _invoke(self, call: RpcCall) -> Any:
        method = self.methods.get(call.method)
        if method is None:
            raise MethodNotFoundError(f"there is no method '{printable(call.method)}'")
        return await method(call.params, call.named_params, self.session.turns)

    async def _invoke_one(self, call: RpcCall) -> Any:
        result = await self._invoke(call)
        if hasattr(type(result), "__anext__"):
            await _close(result)
            raise RpcError(
                f"'{printable(call.method)}' yields its results: call it with stream()",
                error_code=RpcErrorCode.INVALID_REQUEST,
            )
        return result

    async def _send_items(self, call: RpcCall, structured: StructuredStream[Any]) -> None:
        """Send what the method yields, as quickly as the caller takes it."""
        items = await self._invoke(call)
        if not hasattr(type(items), "__aiter__"):
            raise RpcError(
                f"'{printable(call.method)}' does not yield its results: call it with call()",
                error_code=RpcErrorCode.INVALID_REQUEST,
            )
        iterator = aiter(items)
        count = 0
        try:
            async for item in iterator:
                try:
                    encoded = structured.encode(Item(item))
                except SerializationError as error:
                    failure = _unsendable(error, call.method)
                    raise RpcError(
                        failure.message, error_code=failure.code, data=failure.data
                    ) from error
                await self._send_item(structured, encoded)
                count += 1
                if count % _STEP == 0:
                    await self.session.turns.pause()
        finally:
            await _close(iterator)

    async def _send_item(
        self, structured: StructuredStream[Any], encoded: tuple[bytes, bytes]
    ) -> None:
        """Send an item, and wait for room as long as the caller needs to take the ones before."""
        try:
            try:
                await structured.send_encoded(*encoded)
            except TimeoutError:
                # The item is queued. How long an item may take is for the caller to say.
                await self._wait_for_room(structured)
        except WebTransportError as error:
            # The caller is gone: the method ends as it does when the news comes first.
            logger.debug("stream %d ended early: %s", structured.stream_id, printable(error))
            task = asyncio.current_task()
            assert task is not None  # this is a coroutine
            task.cancel()
            await asyncio.sleep(0)

    async def _wait_for_room(self, structured: StructuredStream[Any]) -> None:
        stream = structured.stream
        assert isinstance(stream, WebTransportStream)
        while True:
            try:
                return await stream.flush()
            except TimeoutError:
                continue

    async def _reply(
        self, structured: StructuredStream[Any], method: str, answer: Result | End | Failure
    ) -> None:
        try:
            await structured.send_obj(obj=answer)
        except SerializationError as error:
            # A result, or data of an error, that cannot be sent is an error of the handler.
            await structured.send_obj(obj=_unsendable(error, method))


def _unsendable(error: SerializationError, method: str) -> Failure:
    """Report an answer that cannot be sent, and return what the caller gets instead."""
    shared_log(logger).tell(
        "answer",
        logging.ERROR,
        "an answer cannot be sent: %s (method '%s')",
        printable(error.message, 500),
        printable(method),
    )
    limits = _limits(error)
    if limits is None:
        return _INTERNAL_ERROR
    # The caller could ask for less.
    text = f"the answer cannot be sent: {error.message}"
    return Failure(RpcErrorCode.INTERNAL_ERROR, text, limits)


async def _close(iterator: Any) -> None:
    """Close an asynchronous generator; other iterators may lack the method."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


def _is_for_caller(error: BaseException) -> TypeGuard[RpcError]:
    # An error with which a call of the handler's own ended (remote is True or False) means
    # something else to this caller.
    return isinstance(error, RpcError) and error.remote is None


def failure_for(error: BaseException, method: str, session: WebTransportSession) -> Failure:
    """Return what the caller learns about an exception of a method.

    Args:
        error: The exception. It is logged, unless the method raised it for the caller.
        method: The name of the method.
        session: The session of the call.
    """
    if _is_for_caller(error):
        code = error.error_code
        return Failure(
            RpcErrorCode.INTERNAL_ERROR if code is None else code, str(error.message), error.data
        )
    # The peer learns only that there was an error.
    log_application_error(logger, f"handler of '{printable(method)}'", error, session=session)
    return _INTERNAL_ERROR


def _limits(error: WebTransportError) -> dict[str, int] | None:
    """Size and limit of a message that is too large; the caller may see these."""
    known = ("size", "items")
    found = {
        name: value
        for name, value in error.details.items()
        if name in known or name.startswith("max_")
    }
    return found if any(name not in known for name in found) else None
