"""Decides who serves a new TCP connection: a session over WebSocket, or HTTP beside it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol, cast

from ..utils._deadlines import Deadline, Deadlines
from ..utils._tcp import abort

if TYPE_CHECKING:
    from ._accepting import Place
    from ._front import TcpFront

__all__ = ["Doorman", "Visits", "asks_for_session"]

_MAX_HEAD: Final = 16384
"""Bytes that the head of a request for a session may have."""
_END: Final = re.compile(rb"\r?\n\r?\n")
_REQUEST: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.([01])")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\n-\x1f\x7f]*)")
_VERSION: Final = "13"


class Visits(Protocol):
    """What a doorman asks its server."""

    @property
    def handshake_timeout(self) -> float:
        """Seconds for the head of a request."""

    def accepts(self, offered: Sequence[str]) -> bool:
        """Whether one of these subprotocols is for sessions."""

    def make_link(self, place: Place) -> asyncio.Protocol:
        """The protocol of a connection that becomes a session."""

    @property
    def front(self) -> TcpFront | None:
        """Who gets connections with other requests; None: nobody."""

    def refused(self, host: str, port: int, status: int) -> Sequence[tuple[str, str]]:
        """A request is answered by the doorman.

        Args:
            host: Address of the client.
            port: Port that it connected to.
            status: Of the answer.

        Returns:
            Headers of the answer.
        """

    def entered(self, doorman: Doorman) -> None:
        """A client is there; nobody serves it yet."""

    def gone(self, doorman: Doorman) -> None:
        """Somebody serves it, or it has left."""


class Doorman(asyncio.Protocol):
    """The protocol of a connection until the head of its first request is complete.

    Args:
        place: Of the connection.
        visits: The server.
    """

    def __init__(self, place: Place, visits: Visits) -> None:
        self._place = place
        self._visits = visits
        self._transport: asyncio.Transport | None = None
        self._timer: Deadline | asyncio.Handle | None = None
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is complete."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            self._turn_away(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
            return
        self._visits.entered(self)
        self._timer = Deadlines.of(asyncio.get_running_loop()).call_later(
            self._visits.handshake_timeout, self._late
        )

    def data_received(self, data: bytes) -> None:
        """A part of the head, or all of it and more."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        # An empty line may precede the request line (RFC 9112 section 2.2).
        self._head += data.lstrip(b"\r\n") if not self._head else data
        if not self._head:
            return
        end = _END.search(self._head, max(0, len(self._head) - len(data) - 3))
        size = len(self._head) if end is None else end.end()
        if size > _MAX_HEAD:
            self._turn_away(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif end is not None:
            self._decide(_read(bytes(self._head[: end.start()])))
        elif self._visits.front is not None and not self._may_be_session():
            self._turn_away(HTTPStatus.BAD_REQUEST)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was turned away."""
        self._let_go()
        self._place.leave()

    def cut(self) -> None:
        """End the connection: nobody takes new ones any more."""
        if self._transport is not None:
            abort(self._transport)

    def _may_be_session(self) -> bool:
        """Whether what has come can be the beginning of the request of a session."""
        size = min(4, len(self._head))
        return self._head[:size] == b"GET "[:size]

    def _decide(self, request: _Request | None) -> None:
        """The head is complete."""
        if request is None:
            self._turn_away(HTTPStatus.BAD_REQUEST)
        elif request.is_upgrade and self._visits.accepts(request.offered):
            if request.all("sec-websocket-version") == [_VERSION]:
                self._become(self._visits.make_link(self._place))
            else:
                line = ("sec-websocket-version", _VERSION)
                self._answer(HTTPStatus.UPGRADE_REQUIRED, ("upgrade", "websocket"), line)
        elif request.method != "GET":
            self._turn_away(HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "GET"))
        elif request.is_upgrade:  # none of the subprotocols that it offers is for sessions
            self._turn_away(HTTPStatus.BAD_REQUEST)
        else:
            self._turn_away(HTTPStatus.NOT_FOUND)

    def _turn_away(self, status: HTTPStatus, *lines: tuple[str, str]) -> None:
        """It is no request for a session: the front takes it, if there is one."""
        front = self._visits.front
        if front is None:
            self._answer(status, *lines)
        else:
            self._become(front.make_protocol(self._place))

    def _become(self, protocol: asyncio.Protocol) -> None:
        """Let another protocol have the connection, from its beginning on."""
        transport, self._transport = self._transport, None
        assert transport is not None
        self._let_go()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        head, self._head = bytes(self._head), bytearray()
        if head:
            protocol.data_received(head)

    def _answer(self, status: HTTPStatus, *lines: tuple[str, str]) -> None:
        """Answer, and end the connection."""
        transport = self._transport
        assert transport is not None
        self._let_go()
        peer, own = (transport.get_extra_info(name) for name in ("peername", "sockname"))
        further = self._visits.refused(peer[0] if peer else "", own[1] if own else 0, status)
        transport.write(_response(status, *lines, *further))
        transport.close()

    def _late(self) -> None:
        self._timer = None
        if self._transport is None or self._transport.is_closing():
            return
        if self._head:
            self._answer(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.cut()

    def _let_go(self) -> None:
        self._visits.gone(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


@dataclass(frozen=True)
class _Request:
    """The head of a request.

    Attributes:
        method: The method.
        fields: Lines of its header, names in lower case.
    """

    method: str
    fields: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """The members of a header that is a list."""
        found = ",".join(value for key, value in self.fields if key == name)
        return [item.strip() for item in found.split(",") if item.strip()]

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a WebSocket."""
        return (
            self.method == "GET"
            and "websocket" in map(str.lower, self.all("upgrade"))
            and "upgrade" in map(str.lower, self.all("connection"))
        )

    @property
    def offered(self) -> list[str]:
        """The subprotocols that it offers."""
        return self.all("sec-websocket-protocol")


def _read(head: bytes) -> _Request | None:
    """Read a head without the empty line at its end; None: it is malformed."""
    first, *lines = head.split(b"\n")
    request = _REQUEST.fullmatch(first.rstrip(b"\r"))
    fields = [_FIELD.fullmatch(line.rstrip(b"\r")) for line in lines]
    if request is None or not all(fields):
        return None
    return _Request(
        request[1].decode(),
        [(found[1].decode().lower(), found[2].decode("latin-1")) for found in fields if found],
    )


def asks_for_session(head: bytes, accepts: Callable[[Sequence[str]], bool]) -> bool:
    """Whether a head, with the empty line at its end, is that of a request for a session.

    Args:
        head: The head.
        accepts: Whether one of some subprotocols is for sessions.
    """
    request = _read(head.removesuffix(b"\r\n\r\n"))
    return request is not None and request.is_upgrade and accepts(request.offered)


def _response(status: HTTPStatus, *lines: tuple[str, str]) -> bytes:
    """An answer without a body, after which the connection ends.

    Args:
        status: The status.
        *lines: Further headers.
    """
    fields = (("content-length", "0"), ("connection", "close"), *lines)
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    return (head + "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n").encode()
