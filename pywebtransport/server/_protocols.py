"""What the application gives to a server: decisions about sessions, ASGI applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from .._states import Headers

if TYPE_CHECKING:
    from ..session import WebTransportSession
    from .server import WebTransportServer

__all__ = [
    "AsgiApp",
    "AuthHandlerProtocol",
    "Message",
    "MiddlewareProtocol",
    "MountedApp",
    "Receive",
    "Scope",
    "Send",
    "SessionServer",
]

# The interface of ASGI.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
# Frameworks describe their three arguments in ways of their own.
AsgiApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[object]]


class SessionServer(Protocol):
    """An ASGI application on one server."""

    async def serve_session(self, session: WebTransportSession) -> None:
        """Serve a session, from its request to its end."""


class MountedApp(Protocol):
    """An ASGI application that ``ServerApp.mount`` was given; see ``asgi._mounted``."""

    async def startup(self) -> None:
        """Run its start-up."""

    async def shutdown(self) -> None:
        """Run its shutdown."""

    def serve(self, server: WebTransportServer) -> SessionServer:
        """Give it the requests of a server."""


@runtime_checkable
class AuthHandlerProtocol(Protocol):
    """Decides from the request's headers whether a session may be opened."""

    async def __call__(self, *, headers: Headers) -> bool: ...


@runtime_checkable
class MiddlewareProtocol(Protocol):
    """Sees a session in state CONNECTING; returning False answers 403."""

    async def __call__(self, *, session: WebTransportSession) -> bool: ...
