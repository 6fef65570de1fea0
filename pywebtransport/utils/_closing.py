"""``async with`` for classes that only have to be closed at the end of the block."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

__all__ = ["AsyncCloseable", "AsyncContext", "close_connections"]


class AsyncContext:
    """Base of classes that end with their ``async with`` block, whether or not it raised."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._leave()

    @abstractmethod
    async def _leave(self) -> None:
        """What the end of the block does."""


class AsyncCloseable(AsyncContext):
    """Base of classes of which ``close`` is called at the end of their ``async with`` block."""

    __slots__ = ()

    @abstractmethod
    async def close(self) -> None:
        """End the object."""

    async def _leave(self) -> None:
        await self.close()


class _Connection(Protocol):
    async def close(self) -> None: ...
    def close_nowait(self) -> None: ...


async def close_connections(connections: Iterable[_Connection]) -> None:
    """Close connections, all at the same time.

    Cancellation: they are closed all the same, without the wait.
    """
    connections = tuple(connections)
    try:
        await asyncio.gather(
            *(connection.close() for connection in connections), return_exceptions=True
        )
    finally:
        for connection in connections:
            connection.close_nowait()
