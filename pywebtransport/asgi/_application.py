"""An ASGI application on a server: runs it for each request and session."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ..exceptions import invalid_config
from ..utils._checks import check_seconds, check_text
from ..utils._failures import error_leaves, log_application_error
from ..utils._logs import shared_log
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable_path
from ._errors import ClientDisconnectedError
from ._http import HttpRequest
from ._lifespan import LIFESPANS, Lifespan
from ._tcp import TcpSide
from ._types import AsgiApp, Receive, Scope, Send

if TYPE_CHECKING:
    from ..connection import WebTransportConnection
    from ..h3._exchange import H3Exchange
    from ..server import WebTransportServer
    from ..session import WebTransportSession

__all__ = ["AsgiServer", "Mounted"]

_logger = logging.getLogger("pywebtransport.asgi")

_TLS_1_3: Final = 0x0304

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
        for key, value, kinds in (("tcp", tcp, "True, False or None"), ("http2", http2, "a bool")):
            if not isinstance(value, bool) and not (key == "tcp" and value is None):
                raise invalid_config(key=key, value=value, reason=f"expected {kinds}")
        if http2 and tcp is False:
            raise invalid_config(key="http2", value=http2, reason="tcp=False leaves no HTTP/2")
        check_text("root_path", root_path)
        if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
            raise invalid_config(
                key="root_path",
                value=root_path,
                reason="expected an empty string, or a path that does not end with a slash",
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

    def serve(self, server: WebTransportServer) -> AsgiServer:
        """Answer the requests of a server with the application."""
        served = AsgiServer(self, server)
        server.tcp = TcpSide(served, tcp=self._tcp, http2=self._http2)
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
        if all(map(_is_disconnect, error_leaves(error))):
            return False
        session = scope.get("extensions", {}).get("webtransport", {}).get("session")
        what = f"{_described(scope)}: the application"
        if log_application_error(_logger, what, error, session=session):
            self.server.http_requests.failed()
        elif session is None or session.is_closed:
            return False  # it used the session itself, which has ended
        kind = scope["type"]
        if not knows_scope and kind in _HINTS:
            shared_log(_logger).tell(f"scope {kind}", logging.ERROR, "%s", _HINTS[kind])
        return True

    def unfinished(self, scope: Scope) -> None:
        """Log that the application returned before its answer was complete."""
        self.server.http_requests.failed()
        shared_log(_logger).tell(
            "unfinished",
            logging.ERROR,
            "%s: the application returned without a complete answer",
            _described(scope),
        )

    def tls(self, connection: WebTransportConnection) -> dict[str, Any]:
        """The ``tls`` extension of the scopes of a connection."""
        server = self.server
        found: dict[str, Any] = {
            "server_cert": server.certificate_text(connection),
            "tls_version": _TLS_1_3,
            "cipher_suite": None,
            "client_cert_chain": (),
            "client_cert_name": None,
            "client_cert_error": None,
        }
        if server.config.verify_mode is not ssl.CERT_NONE:
            certificate = connection.peer_certificate
            if certificate is not None:
                pem, name = _client_certificate(certificate)
                found["client_cert_chain"] = (pem,)
                found["client_cert_name"] = name
        return found


def check_application(app: Any) -> None:
    """Check that an object can be called as ``await app(scope, receive, send)``.

    Raises:
        ConfigurationError: It cannot.
    """
    hint = "expected an ASGI 3 application: async def app(scope, receive, send)"
    if isinstance(app, type) or not callable(app):
        raise invalid_config(key="app", value=app, reason=hint)
    try:
        inspect.signature(app).bind(None, None, None)
    except TypeError:
        raise invalid_config(key="app", value=app, reason=hint) from None
    except ValueError:
        pass  # of a built-in function


def _has_websockets() -> bool:
    """Whether what WebSockets need is installed."""
    return importlib.util.find_spec("wsproto") is not None


def _is_disconnect(error: BaseException) -> bool:
    """Whether an error only reports that the client is gone, in our words or those of Starlette."""
    return isinstance(error, ClientDisconnectedError) or type(error).__name__ == "ClientDisconnect"


def _described(scope: Scope) -> str:
    return f"{scope['type']} request for {printable_path(scope['path'])}"


@lru_cache(256)
def _client_certificate(der: bytes) -> tuple[str, str]:
    """A certificate in PEM form, and its subject (RFC 4514)."""
    from cryptography import x509

    subject = x509.load_der_x509_certificate(der).subject
    return ssl.DER_cert_to_PEM_cert(der), subject.rfc4514_string()
