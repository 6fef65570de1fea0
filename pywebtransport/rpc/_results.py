"""What the iterators over the results of a call have in common."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..stream import StructuredStream
from ..utils._tasks import is_being_cancelled
from ..utils._waiters import running_loop
from ._exceptions import RpcError

__all__ = ["Flow", "Results"]

T = TypeVar("T")


class Flow:
    """What an iterator over results and the task of its call share.

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


class Results(AsyncIterator[T], Generic[T]):
    """Ends the call together with the iteration, and the iteration together with the call."""

    def __init__(self) -> None:
        self._flow: Flow | None = None
        self._deadline: float | None = None
        self._is_over = False

    @property
    @abstractmethod
    def method(self) -> str:
        """The name of the method."""

    @property
    @abstractmethod
    def items(self) -> int:
        """How many items were returned."""

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

        Cancellation: ends the call, and the method at the peer.
        """
        if self._is_over:
            raise StopAsyncIteration
        try:
            return await self._next()
        except asyncio.CancelledError:
            self._is_over = True
            if self._flow is not None:
                self._flow.cancel()
            raise
        except StopAsyncIteration:
            await self._end(None)
        except Exception as error:
            await self._end(error)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the call, and the method at the peer. Idempotent.

        Cancellation: the call ends anyway.
        """
        self._is_over = True
        try:
            await self._stop()
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

    @abstractmethod
    async def _next(self) -> T:
        """Return the next item; raise what the call fails with, or StopAsyncIteration."""

    async def _stop(self) -> None:
        """Called by ``aclose``, before the task of the call is left."""

    async def _end(self, error: Exception | None) -> None:
        """End the call; raise the error that it ends with, if any."""
        self._is_over = True
        if self._flow is not None and self._flow.task is not None:
            await self._flow.outcome(error, self.method)
        elif error is not None:
            raise error
