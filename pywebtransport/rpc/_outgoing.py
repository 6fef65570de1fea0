"""The calling side of calls: sends a request, and receives the answer or the items."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any

from ..exceptions import (
    SerializationError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
    WebTransportError,
)
from ..serializer._rebuild import rebuild_in_turns
from ..session import WebTransportSession
from ..stream import StructuredStream, WebTransportStream
from ..utils._budget import ByteBudget
from ..utils._slots import Slots
from ..utils._stuck import end_tasks
from ..utils._tasks import is_being_cancelled
from ._arguments import FOREVER, Progress, received, request_of
from ._call import Interceptor, RpcCall, RpcDirection, run_intercepted
from ._exceptions import (
    RpcCancelledError,
    RpcError,
    RpcErrorCode,
    RpcTimeoutError,
    RpcUnsupportedError,
    error_from_code,
)
from ._incoming import Structure
from ._messages import (
    UNKNOWN_TYPE,
    End,
    Failure,
    Item,
    Notification,
    Request,
    Result,
    StreamCode,
    StreamRequest,
    give_up,
)
from ._results import Flow
from ._streaming import ResultStream

__all__ = ["OutgoingCalls"]

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


class OutgoingCalls:
    """Opens a stream for each call, sends the request, and receives the answer.

    Args:
        session: The session of the streams.
        structure: Converts the bytes of a stream to messages.
        limit: Concurrent calls; further calls wait.
        max_message_size: Bytes of a request.
        interceptors: Run around each call.

    Attributes:
        streams: One for each running call.
        under_way: The bytes of requests being sent.
    """

    def __init__(
        self,
        session: WebTransportSession,
        structure: Structure,
        *,
        limit: int,
        max_message_size: int,
        interceptors: tuple[Interceptor, ...],
    ) -> None:
        self.streams: set[WebTransportStream] = set()
        self.under_way = ByteBudget("requests", max(_MOST_UNDER_WAY, max_message_size))
        self._session = session
        self._structured = structure
        self._limit = limit
        self._interceptors = interceptors
        self._flows: dict[Flow, RpcCall] = {}
        self._slots = Slots(limit)
        self._unanswered = ByteBudget("requests", max(_MOST_UNANSWERED, max_message_size))
        self._closed = False

    def close(self) -> None:
        """Let all calls fail."""
        self._closed = True
        for stream in self.streams:
            give_up(stream, StreamCode.CANCELLED)
        for flow, call in self._flows.items():
            flow.end(self._was_closed(call))

    async def stop(self, timeout: float) -> None:
        """After ``close``: wait for the tasks of calls for at most this many seconds.

        Cancellation: they are cancelled anyway.
        """
        tasks = [flow.task for flow in self._flows if flow.task is not None]
        await end_tasks(tasks, timeout=timeout, logger=_logger, what="calls of streams")

    async def call(self, call: RpcCall, result_type: Any, progress: Progress) -> Any:
        """Make a call and return its result."""
        return await self._within(
            call, lambda deadline: self._ask(call, deadline, result_type, progress), progress
        )

    async def notify(self, call: RpcCall, progress: Progress) -> None:
        """Make a call without an answer."""
        call.is_notification = True
        await self._within(call, lambda deadline: self._tell(call, deadline, progress), progress)

    def stream(
        self,
        call: RpcCall,
        item_type: Any,
        item_timeout: float | None,
        progress: Progress,
        context: Context | None = None,
    ) -> ResultStream[Any]:
        """Prepare a call whose method yields its results."""
        call.is_stream = True
        return ResultStream(
            call,
            partial(self._run_flow, call, progress),
            partial(self._receive_item, call),
            item_type=item_type,
            item_timeout=item_timeout,
            progress=progress,
            context=context,
        )

    async def _run_flow(
        self, call: RpcCall, progress: Progress, flow: Flow, deadline: float | None
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
        async with self._slots:
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
                if not flow.answered:
                    if flow.error is not None:
                        raise flow.error
                    give_up(stream, StreamCode.CANCELLED)
            except BaseException as error:
                bad = isinstance(error, SerializationError)
                give_up(stream, StreamCode.BAD_MESSAGE if bad else StreamCode.CANCELLED)
                raise
            finally:
                flow.came()
                self.streams.discard(stream)
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

    def prepare(
        self,
        method: str,
        params: tuple[Any, ...],
        timeout: float | None,
        named: dict[str, Any],
        metadata: dict[str, str],
    ) -> RpcCall:
        """The call for checked arguments."""
        return RpcCall(
            session=self._session,
            direction=RpcDirection.OUTGOING,
            method=method,
            params=params,
            named_params=named,
            metadata=metadata,
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
        async with self._slots:
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
                self.streams.discard(stream)
            # This end needs nothing after the answer.
            stream.stop_sending(StreamCode.DONE)
        if isinstance(answer, Failure):
            raise _failure(answer, call)
        value = answer.value
        if result_type is None:
            return value
        return await rebuild_in_turns(value, result_type, self._session.turns)

    def _slot_wanted(self) -> str:
        before = self._slots.waiting
        queue = f"; {before} calls were before it" if before else ""
        return f"one of {self._limit} calls to end (concurrency_limit{queue})"

    async def _tell(self, call: RpcCall, deadline: float | None, progress: Progress) -> None:
        """The innermost part of an outgoing notification."""
        progress.waits_for = self._slot_wanted()
        async with self._slots:
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
                self.streams.discard(stream)
            stream.stop_sending(StreamCode.DONE)

    async def _open(self, call: RpcCall, progress: Progress) -> WebTransportStream:
        if not self._closed:
            progress.waits_for = "a stream: a stream limit of the peer, or a local one, is reached"
            progress.stream_of = self._session
            # The call's own timeout ends it.
            stream = await self._session.create_bidirectional_stream(timeout=FOREVER)
            progress.stream_of = None
            if not self._closed:
                self.streams.add(stream)
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
        await self.under_way.acquire(size)
        try:
            await structured.send_encoded(header, payload)
            await stream.close()
            await stream.wait_acknowledged()
        finally:
            self.under_way.give_back(size)

    def _was_closed(self, call: RpcCall) -> RpcCancelledError:
        return RpcCancelledError("the manager was closed", method=call.method, remote=False)


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
