"""The server's end of a WebSocket: the upgrade request, and whether it is for QMux at all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from .._header_map import HeaderMap
from .websocket import LinkOptions, WebSocketLink, fields_of, is_own_field, quiet, write_head

if TYPE_CHECKING:
    from websockets.http11 import Request, Response

__all__ = ["ServerLink"]

_END: Final = b"\r\n\r\n"
_OFFERS: Final = re.compile(rb"(?mi)^sec-websocket-protocol[ \t]*:(.*)$")
_ABSOLUTE: Final = re.compile(r"(?i)(?:https?|wss?)://[^/?]*")
_VERSION: Final = "13"
_Lines: TypeAlias = list[tuple[str, str]]


class ServerLink(WebSocketLink):
    """The server's end: a protocol for a listener, or for a connection that somebody accepted.

    Requests that offer no subprotocol of QMux get an error.

    Args:
        on_request: Called when a request that offers QMux is complete. It waits, without a limit of
            its own, for ``accept`` or ``reject``.
        options: Limits.
        is_wanted: Whether an offered subprotocol is one of QMux.
        on_end: Called once, when the TCP connection has ended.

    Attributes:
        path: The path with the query; empty until there is a request, as all others.
        authority: The host and port that the client asked for.
        origin: The ``origin`` header.
        headers: The other header fields, except those of the upgrade itself.
        offered: The subprotocols that the client offers.
    """

    __slots__ = (
        "_head",
        "_is_held",
        "_is_wanted",
        "_on_end",
        "_on_request",
        "_response",
        "_searched",
        "authority",
        "headers",
        "offered",
        "origin",
        "path",
    )

    is_client = False

    def __init__(
        self,
        on_request: Callable[[ServerLink], object],
        options: LinkOptions | None = None,
        *,
        is_wanted: Callable[[str], bool],
        on_end: Callable[[ServerLink], object] | None = None,
    ) -> None:
        super().__init__(options or LinkOptions())
        self._on_request = on_request
        self._is_wanted = is_wanted
        self._on_end = on_end
        self._head = bytearray()
        self._searched = 0
        self._is_held = False
        self._response: Response | None = None
        self.path = ""
        self.authority = ""
        self.origin: str | None = None
        self.headers = HeaderMap()
        self.offered: tuple[str, ...] = ()

    # ------------------------------------------------------------- public face

    def accept(self, subprotocol: str | None, headers: HeaderMap) -> bool:
        """Answer 101: the WebSocket is open, and records can be sent.

        Args:
            subprotocol: One of those that were offered.
            headers: More header fields.

        Returns:
            False if the client has left.

        Raises:
            ConfigurationError: A header field cannot be sent.
        """
        response = self._response
        if not self._is_held or response is None:
            return False
        lines: _Lines = [*response.headers.raw_items(), *headers.lines]
        if subprotocol is not None:
            lines.append(("Sec-WebSocket-Protocol", subprotocol))
        head = write_head("HTTP/1.1 101 Switching Protocols", lines)
        self._is_held, self._response = False, None
        # The one of the handshake would keep the request.
        self._ws = self._library.Open(
            self._library.SERVER, max_size=self._options.max_record_size, logger=quiet
        )
        self._write([head])
        self._opened()
        return True

    def reject(self, status: int, headers: HeaderMap) -> bool:
        """Answer with an HTTP status, and close.

        Args:
            status: 400 to 599, or another one that is final.
            headers: Header fields.

        Returns:
            False if the client has left.

        Raises:
            ConfigurationError: A header field cannot be sent.
        """
        if not self._is_held:
            return False
        self._answer(status, headers.lines)
        return True

    # --------------------------------------------------- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._within(self._options.handshake_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection has ended."""
        super().connection_lost(exc)
        self._over()

    # ------------------------------------------------------------------ internal

    def _over(self) -> None:
        self._is_held, self._response = False, None
        self._stop_waiting()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)

    def _receive_head(self, data: bytes) -> None:
        if self._is_discarding or self._transport is None:
            return
        if self._is_held:
            self.abort()  # nothing may come before our answer
            return
        self._head += data
        found = self._head.find(_END, self._searched)
        self._searched = max(len(self._head) - len(_END) + 1, 0)
        end = found + len(_END)
        if found >= 0 and end <= self._options.max_head:
            self._examine(bytes(self._head), end)
        elif found >= 0 or len(self._head) > self._options.max_head:
            self._answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _examine(self, data: bytes, end: int) -> None:
        """The head of a request is complete."""
        names = self._names(data[:end])
        ws = self._library.Server(max_size=self._options.max_record_size, logger=quiet)
        ws.receive_data(data[:end])
        self._head.clear()
        events = ws.events_received()
        if not events:  # it is no request that could be an upgrade
            self._answer(HTTPStatus.BAD_REQUEST)
            return
        request = cast("Request", events[0])
        versions = request.headers.get_all("Sec-WebSocket-Version")
        if versions and versions != [_VERSION]:
            self._answer(HTTPStatus.UPGRADE_REQUIRED, [("Sec-WebSocket-Version", _VERSION)])
            return
        response = ws.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            kept = ("allow", "upgrade")
            lines = [line for line in response.headers.raw_items() if line[0].lower() in kept]
            self._answer(response.status_code, lines)
        elif (
            not any(map(self._is_wanted, names))
            or not self._read_fields(request)
            or len(data) > end
        ):
            self._answer(HTTPStatus.BAD_REQUEST)
        else:
            self.offered = names
            self._response, self._is_held = response, True
            self._stop_waiting()
            self._on_request(self)

    def _names(self, head: bytes) -> tuple[str, ...]:
        """The subprotocols that a request offers; none if the list is malformed."""
        try:
            return tuple(
                name
                for line in _OFFERS.findall(head)
                for name in self._library.subprotocols(line.decode("latin-1").strip())
            )
        except self._library.BadHandshake:
            return ()

    def _read_fields(self, request: Request) -> bool:
        """Set the attributes; False: something is wrong with the request."""
        hosts = request.headers.get_all("Host")
        path = _ABSOLUTE.sub("", request.path, count=1)
        if not path.startswith("/") and path != request.path:
            path = f"/{path}"  # an absolute URL without a path
        if len(hosts) != 1 or not hosts[0] or not path.startswith("/"):
            return False
        if not path.isascii() or not path.isprintable() or "#" in path:
            return False
        self.path, self.authority = path, hosts[0]
        fields = fields_of(request)
        self.origin = next((value for name, value in fields if name == "origin"), None)
        self.headers = HeaderMap(
            (name, value)
            for name, value in fields
            if name not in ("host", "origin") and not is_own_field(name)
        )
        return True

    def _answer(self, status: int, lines: Sequence[tuple[str, str]] = ()) -> None:
        """Send a response without a body, and close."""
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        own = [("Connection", "close"), ("Content-Length", "0")]
        head = write_head(f"HTTP/1.1 {status} {phrase}", [*own, *lines])
        self._is_held, self._response, self._is_discarding = False, None, True
        self._head.clear()
        if self._transport is not None:
            self._write([head])
            self._stop_waiting()
            self._within(self._options.close_timeout)
            self._end_tcp()
