"""Calls whose method yields its results: the side of the caller."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..exceptions import WebTransportError
from ..serializer._rebuild import rebuild_in_turns
from ..stream import StructuredStream
from ..utils._tasks import is_being_cancelled
from ..utils._waiters import running_loop
from ._arguments import Progress
from ._call import RpcCall
from ._exceptions import RpcError, RpcTimeoutError
from ._messages import Item

__all__ = ["Flow", "ResultStream"]

T = TypeVar("T")


class Flow:
    """What a :class:`ResultStream` and the task of its call share.

    The interceptors run in that task, around the whole call. The iterator reads the messages
    itself, so that no item waits in a queue.

    Attributes:
        opened: Done once the request was sent, or the task has ended.
        over: Done once the iterator needs nothing more.
        structured: The stream; None until the request was sent.
        error: What the call ends with; None: its end, or nothing yet.
        answered: The peer has finished its side.
        has_begun: The request was sent.
        first: Called when the first message has arrived.
        task: Runs the interceptors.
    """

    __slots__ = (
        "_loop",
        "answered",
        "error",
        "first",
        "has_begun",
        "opened",
        "over",
        "structured",
        "task",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.has_begun = False
        self.opened: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self.structured: StructuredStream[Any] | None = None
        self.error: Exception | None = None
        self.answered = False
        self.first: Callable[[], object] | None = None
        self.task: asyncio.Task[Any] | None = None

    def run(self, work: Coroutine[Any, Any, Any], context: Context | None) -> None:
        """Start the task, in a copy of the caller's context or in the given one."""
        self.task = self._loop.create_task(work, name="rpc stream", context=context)
        self.task.add_done_callback(self._task_ended)

    def begin(self, structured: StructuredStream[Any] | None) -> None:
        """The request was sent."""
        self.structured = structured
        self.has_begun = True
        if not self.opened.done():
            self.opened.set_result(None)

    def end(self, error: Exception | None) -> None:
        """Let the task finish; the first call counts."""
        if not self.over.done():
            self.error = error
            self.over.set_result(None)

    def leave(self) -> None:
        """The iterator needs nothing more, before the end."""
        if self.has_begun:
            self.end(None)
        else:
            self.cancel()

    def cancel(self) -> None:
        """Cancel the task: it may wait for something else, or shall know of a cancellation."""
        if self.task is not None:
            self.task.cancel()

    def dropped(self) -> None:
        """Nothing refers to the iterator any more."""
        if self.task is None or self.task.done() or self._loop.is_closed():
            return
        if running_loop() is self._loop:
            self.leave()
        else:  # the garbage collector runs in any thread
            self._loop.call_soon_threadsafe(self.leave)

    async def wait(self) -> None:
        """Wait for the end of the task, however it ends.

        Cancellation: safe.
        """
        if self.task is not None and not self.task.done():
            await asyncio.wait([self.task])

    async def outcome(self, error: Exception | None, method: str) -> None:
        """End the task; raise the error that it ends with, if any.

        Args:
            error: What the iterator ends with; None: nothing.
            method: For the message.

        Cancellation: the task is cancelled.
        """
        self.end(error)
        if not self.has_begun:
            self.cancel()  # it waits for something else, or has ended
        try:
            if self.task is not None:
                await self.task
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            raise self.error or RpcError(
                "an interceptor was cancelled from within", method=method, remote=False
            ) from None
        if self.error is not None and not self.has_begun:
            raise self.error

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        """Called when the task is done. If it failed, the iterator raises its error."""
        if not task.cancelled():
            task.exception()  # nobody may be left to look at it
        if not self.opened.done():
            self.opened.set_result(None)

    def came(self) -> None:
        """A message has arrived."""
        if self.first is not None:
            first, self.first = self.first, None
            first()


Work = Callable[[Flow, float | None], Coroutine[Any, Any, Any]]
Receive = Callable[[StructuredStream[Any]], Coroutine[Any, Any, Any]]


class ResultStream(AsyncIterator[T], Generic[T]):
    """The items that a method of the peer yields, from :meth:`RpcManager.stream`.

    ::

        async for price in rpc.stream("prices", "tea", item_type=Price):
            print(price)

    The call begins with the first item that you ask for. The method runs ahead of your loop only as
    far as its write buffer and your receive window reach; then it waits until you ask for more.

    The method is ended when you leave the loop, when the waiting for an item is cancelled or takes
    too long, and when nothing refers to this object any more. ``async with`` and :meth:`aclose` do
    not depend on when Python notices the latter.
    """

    def __init__(
        self,
        call: RpcCall,
        work: Work,
        receive: Receive,
        *,
        item_type: Any,
        item_timeout: float | None,
        progress: Progress,
        context: Context | None = None,
    ) -> None:
        """Advanced: use :meth:`RpcManager.stream`."""
        self._call = call
        self._work = work
        self._receive = receive
        self._item_type = item_type
        self._item_timeout = item_timeout
        self._progress = progress
        self._context = context
        self._flow: Flow | None = None
        self._deadline: float | None = None
        self._items = 0
        self._is_over = False

    @property
    def method(self) -> str:
        """The name of the method."""
        return self._call.method

    @property
    def items(self) -> int:
        """How many items were returned."""
        return self._items

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
            RpcUnsupportedError: The peer is of a version without such calls.
            RpcTimeoutError: There was no item within ``item_timeout``, or the whole call took
                longer than ``timeout``.
            RpcError: The method raised it, after the items before; others as ``RpcManager.call``.

        Cancellation: ends the call, and the method at the peer.
        """
        if self._is_over:
            raise StopAsyncIteration
        try:
            message = await self._next()
            if isinstance(message, Item):
                value: T = message.value
                if self._item_type is not None:
                    turns = self._call.session.turns
                    value = await rebuild_in_turns(value, self._item_type, turns)
                self._items += 1
                return value
        except asyncio.CancelledError:
            self._is_over = True
            if self._flow is not None:
                self._flow.cancel()
            raise
        except Exception as error:
            await self._end(error)
        else:
            await self._end(None)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the call, and the method at the peer. Idempotent.

        Cancellation: the call ends anyway.
        """
        self._is_over = True
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

    async def _next(self) -> Item | None:
        """The next message: an item, or None at the end."""
        flow = self._flow or self._begin()
        loop = asyncio.get_running_loop()
        limit = self._item_timeout
        until = None if limit is None else loop.time() + limit
        is_last = self._deadline is not None and (until is None or self._deadline <= until)
        scope = asyncio.timeout_at(self._deadline if is_last else until)
        try:
            async with scope:
                if not flow.opened.done():
                    await asyncio.wait([flow.opened])
                if flow.structured is None:
                    return None  # the task has ended, and says why
                message = await self._receive(flow.structured)
                flow.came()
                if isinstance(message, Item):
                    return message
                flow.answered = True
                if isinstance(message, Exception):
                    raise message
                return None
        except builtins.TimeoutError as error:
            if not scope.expired() or isinstance(error, WebTransportError):
                raise
            seconds = self._call.timeout if is_last else limit
            what = "the method did not end" if is_last and self._items else "no item"
            raise RpcTimeoutError(
                f"{what} within {seconds} seconds; it waited for {self._progress}",
                method=self._call.method,
                timeout_duration=seconds,
                remote=False,
                details={"waited_for": str(self._progress), "items": self._items},
            ) from None

    def _begin(self) -> Flow:
        loop = asyncio.get_running_loop()
        if self._call.timeout is not None:
            self._deadline = loop.time() + self._call.timeout
        flow = self._flow = Flow(loop)
        flow.run(self._work(flow, self._deadline), self._context)
        return flow

    async def _end(self, error: Exception | None) -> None:
        """End the call; raise the error that it ends with, if any."""
        self._is_over = True
        assert self._flow is not None  # it was begun
        await self._flow.outcome(error, self._call.method)
