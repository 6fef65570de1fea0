"""A mounted ASGI application: its lifespan, and who serves what comes to its servers."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from ..exceptions import invalid_config
from ..utils._checks import check_instance, check_seconds, check_text
from ._application import AsgiServer, check_application
from ._http import HttpRequest
from ._lifespan import LIFESPANS, Lifespan
from ._tcp import TcpSide
from ._types import AsgiApp

if TYPE_CHECKING:
    from ..connection import WebTransportConnection
    from ..h3._exchange import H3Exchange
    from ..server.server import WebTransportServer
    from ..session import WebTransportSession

__all__ = ["Mounted"]

# It becomes part of ``path`` and of ``raw_path``: it looks the same decoded and encoded.
_ROOT_PATH: Final = re.compile(r"(?:/[!$&-.0->@-~]+)+")


class Mounted:
    """An ASGI application with its options and its lifespan.

    Args:
        app: The application.
        root_path: Where it is mounted in the name space of a proxy; paths begin with it.
        lifespan: ``auto``, ``on`` or ``off``.
        startup_timeout: Seconds that its start may take.
        shutdown_timeout: Seconds that its shutdown may take.
        tcp: Serve it over TCP, too; None: if the packages are installed.
        http2: Speak HTTP/2 there.

    Raises:
        ConfigurationError: An argument has a wrong value.

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
        tcp: bool | None = None,
        http2: bool = False,
    ) -> None:
        check_application(app)
        if tcp is not None:
            check_instance("tcp", tcp, bool)
        check_instance("http2", http2, bool)
        if http2 and tcp is False:
            raise invalid_config(key="http2", value=http2, reason="tcp=False leaves no HTTP/2")
        check_text("root_path", root_path)
        if root_path and not _ROOT_PATH.fullmatch(root_path):
            raise invalid_config(
                key="root_path",
                value=root_path,
                reason="expected an empty string, or a path of ASCII characters that begins with a "
                "slash, ends without one, and has no '%', '?', '#' or space",
            )
        if lifespan not in LIFESPANS:
            reason = f"expected one of {', '.join(LIFESPANS)}"
            raise invalid_config(key="lifespan", value=lifespan, reason=reason)
        self.app = app
        self.root_path = root_path
        self.state: dict[str, Any] = {}
        self._tcp = tcp
        self._http2 = http2
        self._lifespan = Lifespan(
            app,
            self.state,
            mode=lifespan,
            startup_timeout=check_seconds("startup_timeout", startup_timeout),
            shutdown_timeout=check_seconds("shutdown_timeout", shutdown_timeout),
        )

    def serve(self, server: WebTransportServer) -> _Served:
        """Answer the requests of a server with the application."""
        served = _Served(self.app, self.root_path, self.state, server)
        server.tcp.application = TcpSide(served, tcp=self._tcp, http2=self._http2)
        server.serve_requests_with(served.exchange_requested, accepts_websockets=_has_websockets())
        return served

    async def startup(self) -> None:
        """Run ``lifespan.startup``.

        Raises:
            LifespanError: The application failed to start.
        """
        await self._lifespan.startup()

    async def shutdown(self) -> None:
        """Run ``lifespan.shutdown``; errors are logged."""
        await self._lifespan.shutdown()


class _Served(AsgiServer):
    """Gives requests and sessions of a server to the functions that run the application."""

    __slots__ = ()

    def exchange_requested(self, connection: WebTransportConnection, exchange: H3Exchange) -> None:
        """Serve an HTTP request or a WebSocket (deliver phase)."""
        if exchange.request.protocol is None:
            request = HttpRequest(self, connection, exchange)
            self.server.http_requests.start(request, request.run())
            return
        from ._websocket import run_websocket

        self.server.http_requests.start(
            exchange, self._serve_websocket(run_websocket, connection, exchange)
        )

    async def _serve_websocket(
        self,
        run: Callable[[AsgiServer, WebTransportConnection, H3Exchange], Awaitable[None]],
        connection: WebTransportConnection,
        exchange: H3Exchange,
    ) -> None:
        try:
            await run(self, connection, exchange)
        finally:
            self.server.http_requests.ended(exchange)

    async def serve_session(self, session: WebTransportSession) -> None:
        """Serve a WebTransport session, from its request to its end.

        Raises: what ``asgi._webtransport.run_session`` raises.
        """
        from ._webtransport import run_session

        await run_session(self, session)


def _has_websockets() -> bool:
    """Whether what WebSockets need is installed."""
    return importlib.util.find_spec("wsproto") is not None
