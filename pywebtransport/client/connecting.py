"""What ``WebTransportClient.connect`` returns: a coroutine and a context manager in one."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..session import WebTransportSession

__all__ = ["Connecting"]


class Connecting(Coroutine[Any, Any, "WebTransportSession"]):
    """``session = await client.connect(...)`` or ``async with client.connect(...) as session``."""

    __slots__ = ("_coroutine", "_session")

    def __init__(self, coroutine: Coroutine[Any, Any, WebTransportSession]) -> None:
        self._coroutine = coroutine
        self._session: WebTransportSession | None = None

    def __await__(self) -> Generator[Any, Any, WebTransportSession]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        """Coroutine protocol: resume."""
        return self._coroutine.send(value)

    def throw(self, *args: Any) -> Any:
        """Coroutine protocol: raise inside."""
        return self._coroutine.throw(*args)

    def close(self) -> None:
        """Coroutine protocol: give up without running."""
        self._coroutine.close()

    async def __aenter__(self) -> WebTransportSession:
        self._session = await self._coroutine
        return self._session

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.__aexit__(exc_type, exc, tb)
