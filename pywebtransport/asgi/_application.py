"""An ASGI application on a server: how it is called, and what its errors become."""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..exceptions import invalid_config
from ..utils._async_functions import why_not_awaitable
from ..utils._failures import error_leaves, log_application_error
from ..utils._logs import shared_log
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable_path
from ._errors import ClientDisconnectedError
from ._types import AsgiApp, Receive, Scope, Send

if TYPE_CHECKING:
    from ..connection import WebTransportConnection
    from ..server.server import WebTransportServer

__all__ = ["AsgiServer", "OpenWebSocket", "check_application"]

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


class OpenWebSocket(Protocol):
    """A WebSocket that the application has accepted."""

    def go_away(self) -> asyncio.Task[None] | None:
        """The server stops: close it with code 1012. Idempotent.

        Returns:
            The task that does it; None: it is done.
        """


class AsgiServer:
    """A mounted application on one server.

    Attributes:
        app: The application.
        state: Of its lifespan; each scope gets a shallow copy.
        root_path: The beginning of all paths.
        server: The server that the requests came to.
        websockets: Those that are open, over HTTP/3 and TCP.
        is_stopping: The server closes its WebSockets, also those that are accepted from now on.
    """

    __slots__ = ("app", "is_stopping", "root_path", "server", "state", "websockets")

    def __init__(
        self, app: AsgiApp, root_path: str, state: dict[str, Any], server: WebTransportServer
    ) -> None:
        self.app = app
        self.root_path = root_path
        self.state = state
        self.server = server
        self.websockets: set[OpenWebSocket] = set()
        self.is_stopping = False

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
    why = why_not_awaitable(app)
    if why:
        raise invalid_config(key="app", value=app, reason=f"{why}; {hint}")


def _is_disconnect(error: BaseException) -> bool:
    """Whether an error only reports that the client is gone, in our words or those of Starlette."""
    return isinstance(error, ClientDisconnectedError) or type(error).__name__ == "ClientDisconnect"


def _described(scope: Scope) -> str:
    return f"{scope['type']} request for {printable_path(scope['path'])}"


@lru_cache(256)
def _client_certificate(der: bytes) -> tuple[str, str | None]:
    """A certificate in PEM form, and its subject (RFC 4514); None: it cannot be read."""
    from cryptography import x509

    try:
        name = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except (ValueError, x509.InvalidVersion):  # TLS libraries are less strict
        name = None
    return ssl.DER_cert_to_PEM_cert(der), name
