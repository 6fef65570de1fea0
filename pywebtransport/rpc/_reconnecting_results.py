"""Calls over a client that reconnects, whose method yields its results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TypeVar

from ..exceptions import WebTransportError
from ._arguments import Progress
from ._exceptions import RpcConnectionLostError
from ._manager import RpcManager
from ._repeating import Attempt, CallRequest, Repeater, hold, is_loss, surrounded
from ._results import Flow, Results
from ._streaming import ResultStream

__all__ = ["ReconnectingResults"]

T = TypeVar("T")


class ReconnectingResults(Results[T]):
    """The items that a method of the server yields, from :meth:`ReconnectingRpc.stream`.

    As :class:`ResultStream`. If the session is lost, it raises :class:`RpcConnectionLostError`,
    whose ``details["items"]`` is the number of items before. A call that may be repeated, and has
    not returned an item yet, is repeated instead.

    Raises:
        RpcConnectionLostError: The session was lost. This and the other errors come from the loop.
        RpcTimeoutError: There was no session or item within ``item_timeout``, or the whole call
            took longer than ``timeout``.
        RpcError: As ``ReconnectingRpc.call``.
    """

    def __init__(
        self,
        repeater: Repeater,
        request: CallRequest,
        begin: Callable[[RpcManager, Attempt], ResultStream[T]],
        item_timeout: float | None,
    ) -> None:
        """Advanced: use :meth:`ReconnectingRpc.stream`."""
        super().__init__()
        self._repeater = repeater
        self._request = request
        self._begin = begin
        self._item_timeout = item_timeout
        self._attempts = 0
        self._manager: RpcManager | None = None
        self._results: ResultStream[T] | None = None
        # In which the attempts run, for what runs around them.
        self._contexts: list[Context] = []
        self._progress = Progress()

    @property
    def method(self) -> str:
        """The name of the method."""
        return self._request.method

    @property
    def items(self) -> int:
        """How many items were returned."""
        return 0 if self._results is None else self._results.items

    # ------------------------------------------------------------------ internal

    async def _next(self) -> T:
        if self._flow is None:
            await self._surround()
        while True:
            if self._results is None:
                self._results = await self._start()
            try:
                return await anext(self._results)
            except WebTransportError as error:
                self._lost(error, self._results)
                self._results = None

    async def _stop(self) -> None:
        if self._results is not None:
            await self._results.aclose()

    async def _surround(self) -> None:
        """Start what runs around all attempts."""
        flow = self._flow = Flow(asyncio.get_running_loop())
        around = self._repeater.around
        if around is None:
            return
        work = surrounded(around, self.method, partial(hold, self._contexts, flow))
        flow.run(work, None)
        await asyncio.wait([flow.opened])
        if not flow.has_begun:
            await flow.outcome(None, self.method)
            raise StopAsyncIteration

    async def _start(self) -> ResultStream[T]:
        loop = asyncio.get_running_loop()
        now = loop.time()
        seconds = self._request.timeout
        if not self._attempts:
            self._repeater.stats.calls += 1
            self._deadline = None if seconds is None else now + seconds
        deadline = self._deadline
        limit = self._item_timeout
        if limit is not None and (deadline is None or now + limit < deadline):
            deadline, seconds = now + limit, limit
        self._manager = await self._repeater.manager(self._request, deadline, seconds)
        self._attempts += 1
        left = None
        if self._deadline is not None:
            left = max(0.001, self._deadline - loop.time())
        self._progress = Progress()
        context = self._contexts[0].copy() if self._contexts else None
        attempt = Attempt(self._attempts, left, self._progress, context)
        return self._begin(self._manager, attempt)

    def _lost(self, error: WebTransportError, results: ResultStream[T]) -> None:
        """Return if the call is to be repeated; otherwise raise what it ends with."""
        assert self._manager is not None  # it was started
        if results.items:
            if self._repeater.is_closed or not is_loss(error, self._manager.session):
                raise error
            self._repeater.stats.interrupted += 1
            raise RpcConnectionLostError(
                f"the session was lost after {results.items} items: {error.message}",
                method=self.method,
                details={"items": results.items},
            ) from error
        self._repeater.check_repeatable(error, self._request, self._manager, self._progress)
