"""Bytes held on behalf of peers: by the whole process, and by one connection."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from .._quic import library_bytes, unread_bytes, watch_memory
from .._transport import LayerSession, Transport
from ..config import ClientConfig, ServerConfig
from ..utils._budget import PROCESS, ByteBudget
from ..utils._logs import BoundedLog
from .pressure import Pressure

if TYPE_CHECKING:
    from ..h3._exchange import H3Exchange
    from .connection import WebTransportConnection

__all__ = [
    "apply_limit",
    "has_room",
    "look",
    "process_figures",
    "session_memory",
    "takes_exchange",
    "takes_request",
    "watch",
]

_log = BoundedLog(logging.getLogger("pywebtransport.connection"), interval=10.0)

_pressure: Final = Pressure(PROCESS)
PROCESS.on_refused = _pressure.refused
watch_memory(PROCESS, _pressure.full)

_UNAVAILABLE = 503
_TRY_AGAIN = [(b"content-length", b"0"), (b"retry-after", b"1")]
_LEAST = 65536  # bytes in streams below which no turn looks at the limit
_REQUEST = 4096  # bytes that an HTTP request and its objects take, about
_LINE_OVERHEAD = 64  # two small objects of Python


def apply_limit(config: ClientConfig | ServerConfig) -> None:
    """Set the memory limit of the process if the configuration has one."""
    if config.max_memory is not None:
        PROCESS.limit = config.max_memory


def process_figures() -> dict[str, int]:
    """Return the statistics of the process's budget, and of what shares its limit.

    ``unread``: bytes in streams; ``out_of_order``: held by the QUIC library; ``closed``:
    connections that were closed because they held the most.
    """
    return {
        **PROCESS.figures(),
        "unread": unread_bytes(),
        "out_of_order": library_bytes(),
        "closed": _pressure.closed,
    }


def watch(connection: WebTransportConnection) -> None:
    """Count a connection that is not one of the engine among those that may be closed."""
    _pressure.watch(connection)


def look() -> None:
    """After a turn of such a connection, as the engine does: is more held than may be?"""
    if unread_bytes() + library_bytes() > _LEAST and _pressure.is_full:
        _pressure.full()


def has_room(quic: Transport) -> bool:
    """Return whether the process may hold more; if False, refuse the connection."""
    if _pressure.makes_room():
        return True
    PROCESS.refused += 1
    _log.tell(
        "refused",
        logging.WARNING,
        "refused a connection of %s: %d bytes are held on behalf of peers, where max_memory = %d, "
        "and no connection holds much of it",
        quic.remote_address,
        _pressure.total,
        PROCESS.limit,
    )
    return False


def session_memory(connection: WebTransportConnection, session: LayerSession) -> ByteBudget:
    """Create the budget of a session; it begins with the client's request."""
    limit = connection.config.max_session_memory
    memory = ByteBudget("max_session_memory", limit, connection.memory_budget)
    if not session.is_client:
        memory.take_anyway(_header_size(session))
    return memory


def _header_size(session: LayerSession) -> int:
    """Return the memory that the request header takes."""
    headers = session.request_headers
    return sum(_LINE_OVERHEAD + len(name) + len(text) for name, text in headers.lines)


def takes_request(connection: WebTransportConnection, session: LayerSession) -> bool:
    """Return whether there is room for a session's request; if not, reject it."""
    full = _full(connection, _header_size(session), "session")
    if full:
        session.reject(_UNAVAILABLE)
    return not full


def takes_exchange(connection: WebTransportConnection, exchange: H3Exchange) -> bool:
    """Return whether there is room for an HTTP request; if not, answer it."""
    if connection.memory_budget.lacking(_REQUEST) is None:
        return True
    if not _full(connection, _REQUEST, "request"):
        return True
    exchange.respond(_UNAVAILABLE, _TRY_AGAIN, fin=True)
    return False


def _full(connection: WebTransportConnection, size: int, what: str) -> bool:
    """Return whether there is no room for ``size`` bytes; log it then."""
    full = connection.memory_budget.lacking(size)
    if full is None or (full is PROCESS and _pressure.makes_room()):
        return False
    full.refused += 1
    _log.tell(
        what,
        logging.WARNING,
        "refused a %s of %s with status %d: %s = %d bytes are used up",
        what,
        connection.remote_address,
        _UNAVAILABLE,
        full.name,
        full.limit,
    )
    return True
