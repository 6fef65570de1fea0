"""Calls whose method yields its results: the side of the caller."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Coroutine
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
        first: Called when the first message has arrived.
        task: Runs the interceptors.
    """

    __slots__ = ("answered", "error", "first", "opened", "over", "structured", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self.structured: StructuredStream[Any] | None = None
        self.error: Exception | None = None
        self.answered = False
        self.first: Callable[[], object] | None = None
        self.task: asyncio.Task[Any] | None = None

    def begin(self, structured: StructuredStream[Any]) -> None:
        """The request was sent."""
        self.structured = structured
        if not self.opened.done():
            self.opened.set_result(None)

    def end(self, error: Exception | None) -> None:
        """Let the task finish; the first call counts."""
        if not self.over.done():
            self.error = error
            self.over.set_result(None)

    def task_ended(self, task: asyncio.Task[Any]) -> None:
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
    ) -> None:
        """Advanced: use :meth:`RpcManager.stream`."""
        self._call = call
        self._work = work
        self._receive = receive
        self._item_type = item_type
        self._item_timeout = item_timeout
        self._progress = progress
        self._loop: asyncio.AbstractEventLoop | None = None
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
            self._stop()
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
        self._stop()
        task = None if self._flow is None else self._flow.task
        if task is not None and not task.done():
            await asyncio.wait([task])

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
        loop = self._loop
        task = None if self._flow is None else self._flow.task
        if task is None or task.done() or loop is None or loop.is_closed():
            return
        if running_loop() is loop:
            task.cancel()
        else:  # the garbage collector runs in any thread
            loop.call_soon_threadsafe(task.cancel)

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
        loop = self._loop = asyncio.get_running_loop()
        if self._call.timeout is not None:
            self._deadline = loop.time() + self._call.timeout
        flow = self._flow = Flow(loop)
        work = self._work(flow, self._deadline)
        flow.task = loop.create_task(work, name="rpc stream")
        flow.task.add_done_callback(flow.task_ended)
        return flow

    async def _end(self, error: Exception | None) -> None:
        """End the call; raise the error that it ends with, if any."""
        self._is_over = True
        flow = self._flow
        assert flow is not None  # it was begun
        assert flow.task is not None
        flow.end(error)
        if flow.structured is None:
            flow.task.cancel()  # it waits for something else, or has ended
        try:
            await flow.task
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            raise flow.error or RpcError(
                "an interceptor was cancelled from within", method=self._call.method, remote=False
            ) from None
        if flow.error is not None and flow.structured is None:
            raise flow.error

    def _stop(self) -> None:
        self._is_over = True
        if self._flow is not None and self._flow.task is not None:
            self._flow.task.cancel()
