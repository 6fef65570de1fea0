"""An ASGI application on a server: runs it for each request and session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..utils._failures import error_leaves, log_application_error
from ..utils._logs import shared_log
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable, printable_path
from ._errors import ClientDisconnectedError
from ._lifespan import Lifespan
from ._types import AsgiApp, Receive, Scope, Send

if TYPE_CHECKING:
    from ..connection import WebTransportConnection
    from ..h3._exchange import H3Exchange
    from ..server import WebTransportServer
    from ..session import WebTransportSession

__all__ = ["AsgiServer", "Mounted"]

_logger = logging.getLogger("pywebtransport.asgi")

# What a log says when an application does not know the type of a scope.
_HINTS = {
    "webtransport": (
        "if it does not know the scope type 'webtransport', as most frameworks, put "
        "pywebtransport.asgi.WebTransportRouter before it"
    ),
    "websocket": "the application may not know the scope type 'websocket'",
}


class Mounted:
    """An ASGI application with its options and its lifespan.

    Args:
        app: The application.
        root_path: Where it is mounted in the name space of a proxy; paths begin with it.
        lifespan: ``auto``, ``on`` or ``off``.
        startup_timeout: Seconds that its start may take.
        shutdown_timeout: Seconds that its shutdown may take.

    Attributes:
        state: What its lifespan leaves for requests; each request gets a shallow copy.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        root_path: str = "",
        lifespan: str = "auto",
        startup_timeout: float = 60.0,
        shutdown_timeout: float = 30.0,
    ) -> None:
        self.app = app
        self.root_path = root_path
        self.state: dict[str, Any] = {}
        self._lifespan = Lifespan(
            app,
            self.state,
            mode=lifespan,
            startup_timeout=startup_timeout,
            shutdown_timeout=shutdown_timeout,
        )

    async def startup(self) -> None:
        """Run ``lifespan.startup``.

        Raises:
            LifespanError: The application failed to start.
        """
        await self._lifespan.startup()

    async def shutdown(self) -> None:
        """Run ``lifespan.shutdown``; errors are logged."""
        await self._lifespan.shutdown()


class AsgiServer:
    """A mounted application on one server.

    Attributes:
        app: The application.
        state: Of its lifespan; each scope gets a shallow copy.
        root_path: The beginning of all paths.
        server: The server that the requests came to.
    """

    __slots__ = ("app", "root_path", "server", "state")

    def __init__(self, mounted: Mounted, server: WebTransportServer) -> None:
        self.app = mounted.app
        self.root_path = mounted.root_path
        self.state = mounted.state
        self.server = server

    def exchange_requested(self, connection: WebTransportConnection, exchange: H3Exchange) -> None:
        """Serve an HTTP request or a WebSocket (deliver phase)."""
        raise NotImplementedError

    async def serve_session(self, session: WebTransportSession) -> None:
        """Serve a WebTransport session, from its request to its end.

        Raises: what ``asgi._webtransport.run_session`` raises.
        """
        from ._webtransport import run_session

        await run_session(self, session)

    async def call(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        knows_scope: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Run the application.

        Args:
            scope: The scope.
            receive: Gives it events.
            send: Takes its messages.
            knows_scope: Whether the application has accepted the scope, for instance received an
                event. If it raises before, the log has a hint about scope types.

        Returns:
            True: it returned, or ended because the client is gone. False: it raised something
            else, which was logged and counted; the caller answers with 500 or resets.

        Cancellation: passes.
        """
        try:
            await self.app(scope, receive, send)
        except BaseException as error:
            return not self.failed(scope, error, knows_scope=knows_scope())
        return True

    def failed(self, scope: Scope, error: BaseException, *, knows_scope: bool = True) -> bool:
        """Log what the application raised, unless it only reports that the client is gone.

        Returns:
            Whether it is an error of the application.

        Raises:
            BaseException: ``error``, if it ends more than this request.
        """
        if isinstance(error, asyncio.CancelledError):
            if is_being_cancelled():
                raise error
        elif not isinstance(error, Exception):
            raise error
        if all(isinstance(leaf, ClientDisconnectedError) for leaf in error_leaves(error)):
            return False
        kind = scope["type"]
        what = f"{kind} request for {printable_path(scope['path'])}: the application"
        self.server.count_handler_error()
        log_application_error(_logger, what, error)
        if not knows_scope and kind in _HINTS:
            shared_log(_logger).tell(
                f"unknown scope {kind}", logging.ERROR, "%s", _HINTS[printable(kind)]
            )
        return True

    def tls(self, connection: WebTransportConnection) -> dict[str, Any]:
        """The ``tls`` extension of a connection."""
        raise NotImplementedError
