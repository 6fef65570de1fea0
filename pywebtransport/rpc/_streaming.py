"""Calls whose method yields its results: the side of the caller."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from ..exceptions import WebTransportError
from ..serializer._rebuild import rebuild_in_turns
from ..stream import StructuredStream
from ._arguments import Progress
from ._call import RpcCall
from ._exceptions import RpcTimeoutError
from ._messages import Item
from ._results import Flow, Results

__all__ = ["ResultStream"]

T = TypeVar("T")

Work = Callable[[Flow, float | None], Coroutine[Any, Any, Any]]
Receive = Callable[[StructuredStream[Any]], Coroutine[Any, Any, Any]]


class ResultStream(Results[T]):
    """The items that a method of the peer yields, from :meth:`RpcManager.stream`.

    ::

        async for price in rpc.stream("prices", "tea", item_type=Price):
            print(price)

    The call begins with the first item that you ask for. The method runs ahead of your loop only as
    far as its write buffer and your receive window reach; then it waits until you ask for more.

    The method is ended when you leave the loop, when the waiting for an item is cancelled or takes
    too long, and when nothing refers to this object any more. ``async with`` and :meth:`aclose` do
    not depend on when Python notices the latter.

    Raises:
        RpcUnsupportedError: The peer is of a version without such calls. This and the other errors
            come from the loop.
        RpcTimeoutError: There was no item within ``item_timeout``, or the whole call took longer
            than ``timeout``.
        RpcError: The method raised it, after the items before; others as ``RpcManager.call``.
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
        super().__init__()
        self._call = call
        self._work = work
        self._receive = receive
        self._item_type = item_type
        self._item_timeout = item_timeout
        self._progress = progress
        self._context = context
        self._items = 0

    @property
    def method(self) -> str:
        """The name of the method."""
        return self._call.method

    @property
    def items(self) -> int:
        """How many items were returned."""
        return self._items

    # ------------------------------------------------------------------ internal

    async def _next(self) -> T:
        message = await self._receive_next()
        if message is None:
            raise StopAsyncIteration
        value: T = message.value
        if self._item_type is not None:
            value = await rebuild_in_turns(value, self._item_type, self._call.session.turns)
        self._items += 1
        return value

    async def _receive_next(self) -> Item | None:
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
