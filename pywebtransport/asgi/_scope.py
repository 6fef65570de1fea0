"""The scopes of requests and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from ..connection import WebTransportConnection
    from ..h3._exchange import H3Exchange
    from ..h3._fields import Request
    from ..session import WebTransportSession
    from ._application import AsgiServer

__all__ = ["http_scope", "webtransport_scope", "websocket_scope"]

_Lines = list[tuple[bytes, bytes]]

SPEC_VERSION = "2.4"


def http_scope(
    server: AsgiServer, connection: WebTransportConnection, exchange: H3Exchange
) -> dict[str, Any]:
    """The scope of an HTTP request."""
    request = exchange.request
    path, raw_path, query = _target(server.root_path, request.path)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
        "http_version": "3",
        "method": request.method,
        "scheme": request.scheme,
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": server.root_path,
        "headers": _headers(request),
        "client": connection.remote_address,
        "server": connection.local_address,
        "state": server.state.copy(),
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
    request = exchange.request
    path, raw_path, query = _target(server.root_path, request.path)
    headers = _headers(request)
    offered = [value for name, value in headers if name == b"sec-websocket-protocol"]
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
        "http_version": "3",
        "scheme": "wss",
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": server.root_path,
        "headers": headers,
        "client": connection.remote_address,
        "server": connection.local_address,
        "subprotocols": [
            name for name in map(str.strip, b",".join(offered).decode("latin-1").split(",")) if name
        ],
        "state": server.state.copy(),
        "extensions": {"websocket.http.response": {}, "tls": server.tls(connection)},
    }


def webtransport_scope(server: AsgiServer, session: WebTransportSession) -> dict[str, Any]:
    """The scope of a WebTransport session."""
    connection = session.connection
    path, raw_path, query = _target(server.root_path, session.path)
    headers = [(b"host", session.authority.encode("latin-1"))]
    headers += [
        (name.encode("ascii"), value.encode("latin-1"))
        for name, value in session.headers.lines
        if name != "host"
    ]
    return {
        "type": "webtransport",
        "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
        "http_version": "3",
        "method": "CONNECT",
        "scheme": "https",
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": server.root_path,
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


def _target(root_path: str, target: str) -> tuple[str, bytes, bytes]:
    """Split ``:path`` into the decoded path, the path as it came, and the query.

    The paths begin with ``root_path``, as in other servers.
    """
    raw, _, query = target.partition("?")
    path = unquote(raw) if "%" in raw else raw
    if root_path:
        return root_path + path, (root_path + raw).encode(), query.encode("latin-1")
    return path, raw.encode("latin-1"), query.encode("latin-1")


def _headers(request: Request) -> _Lines:
    """The field lines as they came, with ``:authority`` as the first one, named ``host``."""
    headers: _Lines = [(b"host", request.authority.encode("latin-1"))]
    cookies = 0
    for line in request.lines:
        name = line[0]
        if name == b"host":
            continue
        cookies += name == b"cookie"
        headers.append(line)
    return _with_one_cookie(headers) if cookies > 1 else headers


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
