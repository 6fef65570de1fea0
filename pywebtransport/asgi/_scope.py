"""The scopes of requests and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import unquote

if TYPE_CHECKING:
    from ..connection import WebTransportConnection
    from ..h3._exchange import H3Exchange
    from ..h3._fields import Request
    from ..session import WebTransportSession
    from ._application import AsgiServer

__all__ = ["Head", "head_of", "http_scope", "websocket_scope", "webtransport_scope"]

_Lines: TypeAlias = list[tuple[bytes, bytes]]

SPEC_VERSION = "2.4"


class Head(NamedTuple):
    """What the scopes need of the header of a request; kept in ``Request.memo``."""

    path: str
    raw_path: bytes
    query: bytes
    headers: _Lines
    expects_continue: bool
    wants_trailers: bool


def head_of(request: Request) -> Head:
    """The header in the form of ASGI; made once for all requests that have the same header."""
    head = request.memo
    if head is None:
        head = request.memo = _make_head(request)
    return head  # type: ignore[no-any-return]


def http_scope(
    server: AsgiServer, connection: WebTransportConnection, exchange: H3Exchange
) -> dict[str, Any]:
    """The scope of an HTTP request."""
    request = exchange.request
    return {
        "type": "http",
        **_common(server, connection, request),
        "method": request.method,
        "scheme": request.scheme,
        "extensions": {
            "http.response.trailers": {},
            "http.response.early_hint": {},
            "http.response.pathsend": {},
            "tls": server.tls(connection),
        },
    }


def websocket_scope(
    server: AsgiServer, connection: WebTransportConnection, exchange: H3Exchange
) -> dict[str, Any]:
    """The scope of a WebSocket (RFC 9220)."""
    common = _common(server, connection, exchange.request)
    offered = [value for name, value in common["headers"] if name == b"sec-websocket-protocol"]
    names = b",".join(offered).decode("latin-1").split(",")
    return {
        "type": "websocket",
        **common,
        "scheme": "wss",
        "subprotocols": [name.strip() for name in names if name.strip()],
        "extensions": {"websocket.http.response": {}, "tls": server.tls(connection)},
    }


def _common(
    server: AsgiServer, connection: WebTransportConnection, request: Request
) -> dict[str, Any]:
    head = request.memo or head_of(request)
    root = server.root_path if head.path != "*" else ""  # OPTIONS of the whole server
    return {
        "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
        "http_version": "3",
        "path": root + head.path if root else head.path,
        "raw_path": root.encode() + head.raw_path if root else head.raw_path,
        "query_string": head.query,
        "root_path": server.root_path,
        "headers": head.headers.copy(),
        "client": connection.remote_address,
        "server": connection.local_address,
        "state": server.state.copy(),
    }


def webtransport_scope(server: AsgiServer, session: WebTransportSession) -> dict[str, Any]:
    """The scope of a WebTransport session."""
    connection = session.connection
    path, raw_path, query = _split_target(session.path)
    root = server.root_path
    headers = [(b"host", session.authority.encode("latin-1"))]
    headers += [
        (name.encode("ascii"), value.encode("latin-1"))
        for name, value in session.headers.lines
        if name != "host"
    ]
    return {
        "type": "webtransport",
        "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
        "http_version": "3" if session.transport == "quic" else "1.1",
        "method": "CONNECT" if session.transport == "quic" else "GET",
        "scheme": "https",
        "path": root + path,
        "raw_path": root.encode() + raw_path,
        "query_string": query,
        "root_path": root,
        "headers": _with_one_cookie(headers),
        "client": session.remote_address,
        "server": None if connection is None else connection.local_address,
        "subprotocols": list(session.offered_protocols),
        "state": server.state.copy(),
        "extensions": {
            "webtransport": {
                "version": 1,
                "draft": session.dialect,
                "max_datagram_size": session.max_datagram_size,
                "session": session,
            },
            "tls": {} if connection is None else server.tls(connection),
        },
    }


def _make_head(request: Request) -> Head:
    headers: _Lines = [(b"host", request.authority.encode("latin-1"))]
    cookies = 0
    expects = trailers = False
    for line in request.lines:
        name, value = line
        if name == b"host":
            continue
        if name == b"cookie":
            cookies += 1
        elif name == b"expect":
            expects = value.lower() == b"100-continue"
        elif name == b"te":
            trailers = True  # the only value that HTTP/3 allows
        headers.append(line)
    if cookies > 1:
        headers = _with_one_cookie(headers)
    return Head(*_split_target(request.path), headers, expects, trailers)


def _split_target(target: str) -> tuple[str, bytes, bytes]:
    """Split ``:path`` into the decoded path, the path as it came, and the query."""
    raw, _, query = target.partition("?")
    path = unquote(raw) if "%" in raw else raw
    return path, raw.encode("latin-1"), query.encode("latin-1")


def _with_one_cookie(lines: _Lines) -> _Lines:
    """Join the ``cookie`` lines (RFC 9114 section 4.2.1), at the place of the first."""
    cookie = b"; ".join(value for name, value in lines if name == b"cookie")
    joined: _Lines = []
    for name, value in lines:
        if name != b"cookie":
            joined.append((name, value))
        elif cookie:
            joined.append((name, cookie))
            cookie = b""
    return joined
