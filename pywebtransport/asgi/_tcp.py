"""The TCP side of a mounted application: requests in the same log and statistics as HTTP/3."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from .._states import Address
from ..config import ServerConfig
from ..exceptions import ConfigurationError, invalid_config
from ..h3._responses import check_response_lines
from ..server._access import log_access
from ..server._front import FrontOptions, TcpFront
from ..server._requests import CLIENT_CLOSED_REQUEST, RETRY_LATER
from ..server._worker import current_worker
from ..utils._timing import get_timestamp
from ._driver_options import DriverOptions
from ._drivers import make_front, require_front
from ._errors import AsgiMessageError, ClientDisconnectedError
from ._messages import SERVICE_RESTART, required, shown
from ._targets import split_absolute, with_host
from ._types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from ._application import AsgiServer

__all__ = ["TcpSide", "with_alt_svc"]

_ALT_SVC: Final = b"alt-svc"
_SWITCHING_PROTOCOLS = 101
_OK = 200
_BAD_REQUEST = 400
_FORBIDDEN = 403
_REQUEST_TIMEOUT = 408
_CONTENT_TOO_LARGE = 413
_NORMAL = 1000
_INTERNAL_SERVER_ERROR = 500
_SERVICE_UNAVAILABLE = 503
_INTERNAL_ERROR = 1011

# Of HTTP/1.1, beside those that HTTP/3 has.
_CONTROL: Final = re.compile(rb"[\x01-\x08\x0b-\x1f\x7f]")

_logger = logging.getLogger("pywebtransport.asgi")


def with_alt_svc(headers: Iterable[Iterable[bytes]], line: tuple[bytes, bytes]) -> list[Any]:
    """The headers of an application, with ``alt-svc`` unless it has set that itself."""
    lines = list(headers)
    if not any(name.lower() == _ALT_SVC for name, _ in lines):
        lines.append(line)
    return lines


class TcpSide:
    """Serves a mounted application over TCP, on the port numbers of its server.

    Args:
        asgi: The application and its server.
        tcp: False: it does not. None: it does if the packages are installed.
        http2: Speak HTTP/2, too.
    """

    def __init__(self, asgi: AsgiServer, *, tcp: bool | None, http2: bool) -> None:
        self._asgi = asgi
        self._tcp = tcp
        self._http2 = http2

    @property
    def protocols(self) -> str:
        """See ``TcpApplication``."""
        return "HTTP/2, HTTP/1.1 and WebSocket" if self._http2 else "HTTP/1.1 and WebSocket"

    @property
    def alpn(self) -> list[str]:
        """See ``TcpApplication``."""
        return ["h2", "http/1.1"] if self._http2 else ["http/1.1"]

    @property
    def is_required(self) -> bool:
        """See ``TcpApplication``."""
        return bool(self._tcp)

    def choose(self, *, tcp: bool | None, http2: bool) -> None:
        """See ``TcpApplication``."""
        self._tcp = tcp
        self._http2 = self._http2 or http2

    def is_wanted(self, config: ServerConfig) -> bool:
        """See ``TcpApplication``."""
        if self._tcp is False:
            return False
        if config.network is not None:
            if self._tcp:
                raise ConfigurationError(
                    "tcp=True: a network in memory has no TCP", config_key="tcp", config_value=True
                )
            return False
        try:
            require_front(http2=self._http2)
        except ConfigurationError as error:
            if self._tcp or self._http2:
                raise
            if current_worker() is None:
                _logger.info("no TCP side, clients need HTTP/3: %s", error)
            return False
        return True

    def make_front(self, options: FrontOptions) -> TcpFront:
        """See ``TcpApplication``."""
        config = self._asgi.server.config
        driver_options = DriverOptions(
            max_message=config.max_websocket_message,
            ping_interval=config.websocket_ping_interval,
            unreadable=self._unreadable,
        )
        return make_front(self.serve, options, driver_options, http2=self._http2)

    def stopping(self) -> list[asyncio.Task[None]]:
        """See ``TcpApplication``."""
        self._asgi.is_stopping = True
        return [task for each in [*self._asgi.websockets] if (task := each.go_away()) is not None]

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application that the front calls."""
        kind = _TcpRequest if scope["type"] == "http" else _TcpWebSocket
        await kind(self._asgi, self, scope, receive, send).run()

    def alt_svc_for(self, scope: Scope) -> tuple[bytes, bytes]:
        """The header for a response, see ``alt_svc``."""
        return self._asgi.server.tcp.alt_svc(scope["server"][1])

    def _unreadable(self, client: Address | None, port: int, status: int) -> tuple[bytes, bytes]:
        """See ``DriverOptions.unreadable``."""
        self._asgi.server.http_requests.unreadable_over_tcp(client, status)
        return self._asgi.server.tcp.alt_svc(port)


class _Exchange(ABC):
    """What requests and WebSockets over TCP have in common: state, counters, and the access log.

    Args:
        asgi: The application and its server.
        side: The TCP side.
        scope: As the front made it.
        receive: Of the front.
        send: Of the front.
    """

    def __init__(
        self, asgi: AsgiServer, side: TcpSide, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._asgi = asgi
        self._requests = asgi.server.http_requests
        self._side = side
        self._scope = scope
        self._next = receive
        self._pass_on = send
        self._started_at = get_timestamp()
        self._status: int | None = None  # that the client got
        self._is_gone = False  # the client, or the request was refused
        self._is_answered = False  # counted and logged
        _take_absolute(scope)
        query = scope["query_string"]
        self._target = scope["raw_path"] + (b"?" + query if query else b"")
        scope["state"] = asgi.state.copy()
        root = asgi.root_path
        scope["root_path"] = root
        self._is_proper = _is_proper(scope)
        if root and scope["path"] != "*":  # OPTIONS of the whole server
            scope["path"] = root + scope["path"]
            scope["raw_path"] = root.encode() + scope["raw_path"]

    async def run(self) -> None:
        """Run the application, and end what it did not end."""
        if not self._requests.arrived_over_tcp():
            await self._refuse(_SERVICE_UNAVAILABLE, (b"retry-after", RETRY_LATER.encode()))
            return
        try:
            if self._is_proper:
                await self._run()
            else:
                await self._refuse(_BAD_REQUEST)
        finally:
            self._requests.over_tcp -= 1
            self._answered()

    @abstractmethod
    async def _run(self) -> None:
        """Run the application."""

    async def _give(self, message: Message) -> None:
        """Pass a message on to the front.

        Raises:
            ClientDisconnectedError: The client is gone.
        """
        if self._has_left():
            self._is_gone = True
            raise ClientDisconnectedError("the client has left", remote=True)
        try:
            await self._pass_on(message)
        except OSError as error:
            self._is_gone = True
            raise ClientDisconnectedError("the client has left", remote=True) from error

    def _has_left(self) -> bool:
        """Whether the client left before the end.

        Uvicorn and hypercorn then drop what is sent, without a wait: an endless response would
        keep the event loop for ever.
        """
        served = getattr(self._pass_on, "__self__", None)
        return bool(getattr(served, "disconnected", False) or getattr(served, "closed", False))

    @abstractmethod
    async def _refuse(self, status: int, *lines: tuple[bytes, bytes]) -> None:
        """Answer in place of the application."""

    def _with_alt_svc(self, headers: Iterable[Iterable[bytes]]) -> list[Any]:
        lines = with_alt_svc(headers, self._side.alt_svc_for(self._scope))
        # The embedded servers notice it when the response has begun, or not at all.
        try:
            check_response_lines(lines)
        except ConfigurationError as error:
            raise AsgiMessageError(f"the message cannot be sent: {error}") from error
        if any(_CONTROL.search(value) for _, value in lines):
            raise AsgiMessageError("a header has a control character")
        return lines

    def _answered(self) -> None:
        """Count and log it, once."""
        if self._is_answered:
            return
        self._is_answered = True
        status = CLIENT_CLOSED_REQUEST if self._status is None else self._status
        if not self._requests.count(status):
            return
        scope = self._scope
        log_access(
            scope["client"],
            scope.get("method") or ("CONNECT" if scope["http_version"] == "2" else "GET"),
            self._target.decode("latin-1"),
            status,
            self._started_at,
            origin=_header(scope, b"origin"),
            version=f"HTTP/{scope['http_version']}",
        )


class _TcpRequest(_Exchange):
    """An HTTP request over TCP."""

    _is_read = False  # the body, to its end
    _is_complete = False  # the response
    _is_told = False  # the application, of the end
    _read = 0

    async def _run(self) -> None:
        length = _header(self._scope, b"content-length")
        most = self._requests.max_body
        if most is not None and length is not None and length.isdigit() and int(length) > most:
            await self._refuse(_CONTENT_TOO_LARGE)
            return
        fine = await self._asgi.call(self._scope, self.receive, self.send)
        if self._is_complete or self._is_gone:
            return
        if fine:
            self._asgi.unfinished(self._scope)
        # A response that has begun is cut by the front.
        if self._status is None:
            await self._refuse(_INTERNAL_SERVER_ERROR)

    async def receive(self) -> Message:
        """Return the next event."""
        if self._is_gone or self._is_told:  # hypercorn would say it once
            return {"type": "http.disconnect"}
        try:
            # After the body, the application waits for the end of the client.
            async with asyncio.timeout(None if self._is_read else self._requests.timeout):
                message = await self._next()
        except builtins.TimeoutError:
            await self._refuse(_REQUEST_TIMEOUT)
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._read += size
            self._requests.received += size
            self._is_read = not message.get("more_body", False)
            most = self._requests.max_body
            if most is not None and self._read > most:
                await self._refuse(_CONTENT_TOO_LARGE)
                return {"type": "http.disconnect"}
        else:
            self._is_told = True
            self._is_gone = not self._is_complete
        return message

    async def send(self, message: Message) -> None:
        """Take a message of the application."""
        if self._is_gone:
            raise ClientDisconnectedError("the client has left", remote=True)
        kind = message["type"]
        if kind == "http.response.start":
            _check_status(message, 200)
            headers = self._with_alt_svc(message.get("headers", ()))
            await self._give({**message, "headers": headers})
            self._status = message["status"]
            return
        await self._give(message)
        if kind == "http.response.body":
            self._requests.sent += len(message.get("body", b""))
            if not message.get("more_body", False):
                self._is_complete = True
                self._answered()
            elif self._scope["method"] == "HEAD":
                await asyncio.sleep(0)  # nothing else makes an endless body wait

    def _has_left(self) -> bool:
        return not self._is_complete and super()._has_left()

    async def _refuse(self, status: int, *lines: tuple[bytes, bytes]) -> None:
        self._is_gone = True
        if self._status is not None:
            return
        self._status = status
        headers = [(b"content-length", b"0"), *lines, self._side.alt_svc_for(self._scope)]
        if self._scope["http_version"] != "2":
            headers.append((b"connection", b"close"))  # nobody reads the rest of the body
        with contextlib.suppress(ClientDisconnectedError):
            await self._give({"type": "http.response.start", "status": status, "headers": headers})
            await self._give({"type": "http.response.body", "body": b"", "more_body": False})
        self._answered()


class _TcpWebSocket(_Exchange):
    """A WebSocket over TCP."""

    _is_open = False
    _is_known = False  # the application has asked for an event
    _sent_away = False
    _closed_with: tuple[int, str] | None = None  # code and reason of this end

    def go_away(self) -> asyncio.Task[None]:
        """See ``OpenWebSocket.go_away``."""
        return asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        if self._is_open and not self._sent_away:
            self._sent_away = True
            with contextlib.suppress(ClientDisconnectedError):
                await self._close({"type": "websocket.close", "code": SERVICE_RESTART})

    async def _run(self) -> None:
        if not self._requests.accepts_origin(_header(self._scope, b"origin")):
            await self._refuse(_FORBIDDEN)
            return
        try:
            fine = await self._asgi.call(
                self._scope, self.receive, self.send, knows_scope=lambda: self._is_known
            )
        finally:
            self._asgi.websockets.discard(self)
        if self._is_gone or self._sent_away:
            return
        if self._is_open:
            close = {"type": "websocket.close", "code": _NORMAL if fine else _INTERNAL_ERROR}
            with contextlib.suppress(ClientDisconnectedError):
                await self._give(close)
        elif self._status is None:
            if fine:
                self._asgi.unfinished(self._scope)
            await self._refuse(_INTERNAL_SERVER_ERROR)

    async def receive(self) -> Message:
        """Return the next event."""
        self._is_known = True
        message = await self._next()
        if message["type"] == "websocket.disconnect":
            self._is_gone = True
            if self._closed_with is not None:  # hypercorn has forgotten it
                code, reason = self._closed_with
                return {**message, "code": code, "reason": reason}
        return message

    async def send(self, message: Message) -> None:
        """Take a message of the application."""
        if self._sent_away:
            raise ClientDisconnectedError("the server stops: the WebSocket is closed")
        if self._closed_with is not None:
            raise AsgiMessageError("the WebSocket is closed by this end: nothing more can be sent")
        if self._is_gone:
            raise ClientDisconnectedError("the client has left", remote=True)
        kind = message["type"]
        if kind == "websocket.accept":
            subprotocol = message.get("subprotocol")
            if subprotocol is not None and subprotocol not in self._scope["subprotocols"]:
                raise invalid_config(
                    key="subprotocol", value=subprotocol, reason="the client did not offer it"
                )
            headers = self._with_alt_svc(message.get("headers", ()))
            await self._give({**message, "headers": headers})
            self._is_open = True
            self._asgi.websockets.add(self)
            self._status = _OK if self._scope["http_version"] == "2" else _SWITCHING_PROTOCOLS
            self._answered()
            if self._asgi.is_stopping:
                await self._leave()
        elif kind == "websocket.http.response.start":
            _check_status(message, 300)
            headers = self._with_alt_svc(message.get("headers", ()))
            await self._give({**message, "headers": headers})
            self._status = message["status"]
        elif kind == "websocket.close":
            await self._close(message)
            if self._status is None:
                self._status = _FORBIDDEN
        else:
            await self._give(message)

    async def _close(self, message: Message) -> None:
        if self._is_open:
            self._closed_with = message.get("code") or _NORMAL, message.get("reason") or ""
        await self._give(message)
        self._is_open = False
        self._asgi.websockets.discard(self)

    def _has_left(self) -> bool:
        return self._is_open and super()._has_left()

    async def _refuse(self, status: int, *lines: tuple[bytes, bytes]) -> None:
        self._is_gone = True
        self._status = status
        headers = [(b"content-length", b"0"), *lines, self._side.alt_svc_for(self._scope)]
        with contextlib.suppress(ClientDisconnectedError):
            await self._give(
                {"type": "websocket.http.response.start", "status": status, "headers": headers}
            )
            await self._give({"type": "websocket.http.response.body", "body": b""})
        self._answered()


def _check_status(message: Message, least: int) -> None:
    """Check the status of a response before the embedded server does, which then cannot answer.

    Raises:
        AsgiMessageError: It is not ``least`` to 599.
    """
    status = required(message, "status")
    if not isinstance(status, int) or not least <= status <= 599:
        raise AsgiMessageError(f"status = {shown(status)}: expected {least} to 599")


def _take_absolute(scope: Scope) -> None:
    """Replace a target in absolute form by path and host."""
    found = split_absolute(scope["raw_path"])
    if found is not None:
        authority, scope["raw_path"] = found
        scope["path"] = unquote(scope["raw_path"].decode("ascii"))
        scope["headers"] = with_host(list(scope["headers"]), authority, scope["http_version"])


def _is_proper(scope: Scope) -> bool:
    """Whether a request has a path and names its host once, as over HTTP/3 (RFC 9112 3.2)."""
    hosts = sum(name == b"host" for name, _ in scope["headers"])
    if hosts > 1 or (not hosts and scope["http_version"] == "1.1"):
        return False
    path: bytes = scope["raw_path"]
    return path.startswith(b"/") or (path == b"*" and scope.get("method") == "OPTIONS")


def _header(scope: Scope, name: bytes) -> str | None:
    """The first header of this name."""
    for found, value in scope["headers"]:
        if found == name:
            return str(value, "latin-1")
    return None
