"""Statistics and snapshots of a session, and the problems that they show."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from ..exceptions import ProtocolError
from ..utils._logs import shared_log
from .session_stats import SessionStats

if TYPE_CHECKING:
    from .session import WebTransportSession

# A half-open stream that nobody waits on is reported after this many seconds.
_IDLE_AGE = 10.0
_SHOWN = 10

__all__ = ["debug_state", "issues", "monitor_health", "refresh", "summary"]


def refresh(session: WebTransportSession) -> SessionStats:
    """Return the session's statistics up to now."""
    figures = _data_figures(session)
    stats = session._stats
    stats.datagrams_sent = figures["datagrams_sent"]
    stats.datagrams_received = figures["datagrams_received"]
    # The HTTP/3 layer already counts streams for flow control.
    counts = session._h3.stats()
    for kind, name in (("bidi", "bidirectional"), ("uni", "unidirectional")):
        opened = counts.get(f"streams_opened_{kind}") or 0
        received = counts.get(f"streams_received_{kind}") or 0
        setattr(stats, f"{name}_streams", opened + received)
    stats.streams_created = stats.bidirectional_streams + stats.unidirectional_streams
    stats.protocol_errors = int(isinstance(session._error, ProtocolError))
    stats.streams_closed = stats.streams_created - session._open_count
    return stats


def summary(session: WebTransportSession) -> dict[str, Any]:
    """Return key statistics, grouped."""
    stats = refresh(session)
    return {
        "session_id": session.session_id,
        "state": session.state,
        "path": session.path,
        "uptime": stats.uptime,
        "streams": {
            "total_created": stats.streams_created,
            "active": session._open_count,
            "bidirectional": stats.bidirectional_streams,
            "unidirectional": stats.unidirectional_streams,
        },
        "data": _data_figures(session),
        "errors": {
            "stream_errors": stats.stream_errors,
            "protocol_errors": stats.protocol_errors,
        },
    }


def debug_state(session: WebTransportSession) -> dict[str, Any]:
    """Return a snapshot of the whole session."""
    stats = refresh(session)
    return {
        "session": {
            "id": session.session_id,
            "state": session.state,
            "path": session.path,
            "headers": session.headers,
            "created_at": stats.created_at,
            "ready_at": stats.ready_at,
            "uptime": stats.uptime,
            "application_protocol": session.application_protocol,
            "dialect": getattr(session._h3.dialect, "draft", None),
        },
        "statistics": stats.to_dict(),
        "streams": [stream.debug_state() for stream in session.open_streams()],
        "datagrams": session.datagrams.debug_state(),
        "memory": session.memory_budget.figures(),
        "connection": {
            "id": session._connection.connection_id,
            "state": session._connection.state,
        },
    }


async def issues(session: WebTransportSession) -> list[str]:
    """Return one sentence for each problem."""
    found = []
    stats = refresh(session)
    if session.is_closed:
        found.append(f"the session is closed: {session.close_info}")
    if stats.stream_errors:
        found.append(f"{stats.stream_errors} streams ended with an error")
    waiting = len(session._incoming_bidi or ()) + len(session._incoming_uni or ())
    if waiting > 0.9 * session._config.max_incoming_streams:
        found.append(f"{waiting} incoming streams wait to be accepted")
    found += _stream_issues(session)
    found += await session.datagrams.diagnose_issues()
    connection = await session._connection.diagnose_issues()
    found += connection["issues"]
    return found


def _stream_issues(session: WebTransportSession) -> list[str]:
    """Report streams that nobody uses, and streams that were dropped."""
    found = []
    orphans = session._orphans
    if orphans is not None and orphans.count:
        found.append(
            f"{orphans.count} streams were dropped with their sending half open, and were ended: "
            "use 'async with stream:'"
        )
    latest = time.time() - _IDLE_AGE
    idle = [
        stream
        for stream in session.open_streams()
        if stream._created_at < latest
        and not stream._arrival
        and not stream._has_waiter()
        and (stream._is_half_open() or (orphans is not None and orphans.holds(stream)))
    ]
    if idle:
        names = ", ".join(str(stream.stream_id) for stream in idle[:_SHOWN])
        more = "" if len(idle) <= _SHOWN else f" and {len(idle) - _SHOWN} more"
        found.append(
            f"{len(idle)} streams older than {_IDLE_AGE:g} s are half open or dropped, and nobody "
            f"waits on them: {names}{more}; end them with close(), stop_sending() or abort()"
        )
    return found


async def monitor_health(session: WebTransportSession, check_interval: float) -> None:
    """Log each issue as a warning, every ``check_interval`` seconds until the session ends."""
    while not session.is_closed:
        for issue in await session.diagnose_issues():
            shared_log(session._logger).tell(
                "health", logging.WARNING, "session %s: %s", session.session_id, issue
            )
        waiter = asyncio.ensure_future(session.wait_closed())
        try:
            await asyncio.wait({waiter}, timeout=check_interval)
        finally:
            waiter.cancel()


def _data_figures(session: WebTransportSession) -> dict[str, int]:
    figures = session._h3.stats()
    datagrams = session._datagrams
    return {
        "bytes_sent": figures.get("bytes_sent") or 0,
        "bytes_received": figures.get("bytes_received") or 0,
        "datagrams_sent": 0 if datagrams is None else datagrams.datagrams_sent,
        "datagrams_received": 0 if datagrams is None else datagrams.datagrams_received,
    }
