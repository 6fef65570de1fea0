"""The log of connections and sessions at level DEBUG: what happened to each, in a line per step.

Nothing here is called for packets, streams or datagrams; a session's last line counts them. The
trace of the QUIC library has a logger of its own, ``pywebtransport.quic.trace``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..utils._hosts import host_and_port
from ..utils._text import printable, printable_path
from ..utils._timing import get_timestamp
from .session_diagnostics import refresh

if TYPE_CHECKING:
    from .connection import WebTransportConnection
    from .session import WebTransportSession

__all__ = [
    "connection_over",
    "drain_requested",
    "established",
    "goaway_received",
    "ready",
    "requested",
    "session_over",
    "settings_received",
]

_connections = logging.getLogger("pywebtransport.connection")
_sessions = logging.getLogger("pywebtransport.session")
# QUIC versions (RFC 9000, RFC 9369), as people call them.
_VERSIONS = {0x1: "v1", 0x6B3343CF: "v2"}


def established(connection: WebTransportConnection) -> None:
    """The handshake is complete."""
    if _connections.isEnabledFor(logging.DEBUG):
        version = connection.get_stats().get("version")
        _tell(
            connection,
            "established with %s, %s%s",
            _peer(connection),
            "WebSocket" if version is None else f"QUIC {_VERSIONS.get(version, hex(version))}",
            ", resumed" if connection.is_resumed else "",
        )


def settings_received(connection: WebTransportConnection) -> None:
    """The peer's SETTINGS have arrived; over WebSocket there are none to wait for."""
    if connection.h3 is not None and _connections.isEnabledFor(logging.DEBUG):
        dialect = connection.dialect
        _tell(
            connection,
            "SETTINGS received, %s",
            "no WebTransport draft in common" if dialect is None else f"draft-{dialect:02}",
        )


def goaway_received(connection: WebTransportConnection) -> None:
    """The peer takes no new sessions."""
    if _connections.isEnabledFor(logging.DEBUG):
        _tell(connection, "the peer goes away: no new sessions")


def connection_over(connection: WebTransportConnection) -> None:
    """The connection has ended, or was not established."""
    if _connections.isEnabledFor(logging.DEBUG):
        error, count = connection.error, connection.session_count
        _tell(
            connection,
            "%s after %d session%s%s",
            connection.state,
            count,
            "" if count == 1 else "s",
            "" if error is None else f": {printable(error, 500)}",
        )


def requested(session: WebTransportSession) -> None:
    """A session was requested, by this end or by the peer."""
    if _sessions.isEnabledFor(logging.DEBUG):
        _tell_session(
            session,
            "%s requested with %s (origin %s)",
            printable_path(session.path),
            _peer(session._connection),
            "-" if session.origin is None else printable(session.origin),
        )


def ready(session: WebTransportSession) -> None:
    """The server has accepted the session."""
    if _sessions.isEnabledFor(logging.DEBUG):
        protocol = session.application_protocol
        _tell_session(
            session,
            "accepted after %.1f ms%s",
            (get_timestamp() - session._stats.created_at) * 1000,
            "" if protocol is None else f", application protocol {printable(protocol)}",
        )


def drain_requested(session: WebTransportSession) -> None:
    """The peer asks this end to finish."""
    if _sessions.isEnabledFor(logging.DEBUG):
        _tell_session(session, "the peer asks to finish")


def session_over(session: WebTransportSession) -> None:
    """The session has ended."""
    info = session.close_info
    if info is None or not _sessions.isEnabledFor(logging.DEBUG):
        return
    stats = refresh(session)
    _tell_session(
        session,
        "ended by %s, %s%s, after %.1f s, %d streams, %d datagrams sent, %d received",
        "the peer" if info.remote else "this end",
        "without a code" if info.code is None else f"code {info.code}",
        f" '{printable(info.reason)}'" if info.reason else "",
        stats.uptime,
        stats.streams_created,
        stats.datagrams_sent,
        stats.datagrams_received,
    )


def _tell(connection: WebTransportConnection, message: str, *args: Any) -> None:
    name = connection.connection_id
    extra = {"connection_id": name}
    _connections.debug(f"connection %s: {message}", name, *args, extra=extra)


def _tell_session(session: WebTransportSession, message: str, *args: Any) -> None:
    name = session.session_id
    _sessions.debug(f"session %s: {message}", name, *args, extra={"session_id": name})


def _peer(connection: WebTransportConnection) -> str:
    address = connection.remote_address
    return "an unknown peer" if address is None else host_and_port(*address)
