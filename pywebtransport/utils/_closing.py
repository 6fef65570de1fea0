"""``async with`` for classes that only have to be closed at the end of the block."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Protocol, Self

from ._turns import Turns

__all__ = ["AsyncCloseable", "AsyncContext", "close_all"]


class AsyncContext:
    """Base of classes that are ended at the end of their ``async with`` block."""

    __slots__ = ()

    @abstractmethod
    async def _end_block(self) -> None:
        """Call the method that ends the object."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._end_block()


class AsyncCloseable(AsyncContext):
    """The same for classes of which this method is ``close``."""

    __slots__ = ()

    @abstractmethod
    async def close(self) -> None:
        """End the object."""

    async def _end_block(self) -> None:
        await self.close()


class _Closed(Protocol):
    def close(self) -> Coroutine[Any, Any, None]: ...
    def close_nowait(self) -> None: ...


async def close_all(items: Iterable[_Closed]) -> None:
    """Close connections or sessions, all at the same time; only some begin in each turn.

    Cancellation: they are closed anyway, without the wait.
    """
    closed = tuple(items)
    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    turns = Turns.of(loop)
    try:
        for item in closed:
            tasks.append(loop.create_task(item.close()))
            turns.woke()
            await turns.pause()
        await asyncio.gather(*tasks, return_exceptions=True)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    finally:
        for item in closed:
            item.close_nowait()
