"""What the application gives to a server: decisions about sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .._states import Headers

if TYPE_CHECKING:
    from ..session import WebTransportSession

__all__ = ["AuthHandlerProtocol", "MiddlewareProtocol"]


@runtime_checkable
class AuthHandlerProtocol(Protocol):
    """Decides from the request's headers whether a session may be opened."""

    async def __call__(self, *, headers: Headers) -> bool: ...


@runtime_checkable
class MiddlewareProtocol(Protocol):
    """Sees a session in state CONNECTING; returning False answers 403."""

    async def __call__(self, *, session: WebTransportSession) -> bool: ...
