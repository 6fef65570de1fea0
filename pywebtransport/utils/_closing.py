"""``async with`` for classes that only have to be closed at the end of the block."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Protocol, Self

from ._turns import Turns

__all__ = ["AsyncCloseable", "AsyncContext", "close_all", "in_turns"]


class AsyncContext:
    """Base of classes that are ended at the end of their ``async with`` block."""

    __slots__ = ()

    @abstractmethod
    async def _end_block(self) -> None:
        """Call the method that ends the object."""

    def _end_failed_block(self) -> Coroutine[Any, Any, None]:
        """The same for a block that raises."""
        return self._end_block()

    async def __aenter__(self) -> Self:
        return self

    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        return self._end_block() if exc_type is None else self._end_failed_block()


class AsyncCloseable(AsyncContext):
    """The same for classes of which this method is ``close``."""

    __slots__ = ()

    @abstractmethod
    async def close(self) -> None:
        """End the object."""

    def _end_block(self) -> Coroutine[Any, Any, None]:
        return self.close()


class _Closed(Protocol):
    def close(self) -> Coroutine[Any, Any, None]: ...
    def close_nowait(self) -> None: ...


async def in_turns(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines at the same time, whatever they raise; only some begin in each turn.

    Cancellation: all of them are cancelled.
    """
    loop = asyncio.get_running_loop()
    turns = Turns.of(loop)
    tasks: list[asyncio.Task[None]] = []
    try:
        for coroutine in coroutines:
            tasks.append(loop.create_task(coroutine))
            turns.woke()
            await turns.pause()
        await asyncio.gather(*tasks, return_exceptions=True)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


async def close_all(items: Iterable[_Closed]) -> None:
    """Close connections or sessions, all at the same time; only some begin in each turn.

    Cancellation: they are closed anyway, without the wait.
    """
    closed = tuple(items)
    try:
        await in_turns(item.close() for item in closed)
    finally:
        for item in closed:
            item.close_nowait()
