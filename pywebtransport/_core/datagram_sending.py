"""Senders that wait for room for a datagram: served in order, in all sessions of a connection."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING

from ..utils import _clock as clock
from ..utils._gates import Gates
from .datagram_arguments import check_age, check_priority

if TYPE_CHECKING:
    from .datagram_transport import WebTransportDatagramTransport

__all__ = ["close_turns", "open_turns", "send_in_turn", "try_submit"]

# The key for the limit of the connection's queue; for that of a session, it is its transport.
_CONNECTION = "connection"


def try_submit(
    transport: WebTransportDatagramTransport, payload: bytes, priority: int, ttl: float | None
) -> bool:
    """Queue one datagram now; return False if there is no room, or other callers wait for it.

    Raises: as ``send``.
    """
    if _is_held(transport):
        _check(transport, payload, priority, ttl)
        return False
    return transport.submit(payload, priority, ttl)


def open_turns(transport: WebTransportDatagramTransport) -> None:
    """There may be room in a queue: the caller that has waited longest tries."""
    gates = transport._session._connection._datagram_gates
    if gates:
        gates.open(transport)
        gates.open(_CONNECTION)


def close_turns(transport: WebTransportDatagramTransport) -> None:
    """No more is sent in this session: wake its waiting callers; others may use the room."""
    gates = transport._session._connection._datagram_gates
    if gates:
        gates.fail(transport, lambda: transport.closed_error("no datagram can be sent"))
        gates.open(_CONNECTION)


async def send_in_turn(
    transport: WebTransportDatagramTransport, payload: bytes, priority: int, ttl: float | None
) -> None:
    """Queue one datagram as soon as there is room, after all earlier callers.

    Otherwise, a caller that sends without a pause would take the room of each one that wakes
    up, and a session that of all others on its connection.

    Raises: as ``send``.

    Cancellation: safe; nothing was queued.
    """
    if try_submit(transport, payload, priority, ttl):
        return
    started = clock.monotonic()
    connection = transport._session._connection
    gates = connection._datagram_gates
    if gates is None:
        gates = connection._datagram_gates = Gates(transport._session._loop)
    await gates.wait(
        gates.held((transport, _CONNECTION)) or _full_queue(transport),
        transport,
        partial(_attempt, transport, payload, priority, ttl),
        partial(_full_queue, transport),
    )
    waited = clock.monotonic() - started
    stats = transport.refresh_stats()
    stats.total_send_time += waited
    stats.max_send_time = max(stats.max_send_time, waited)


def _attempt(
    transport: WebTransportDatagramTransport, payload: bytes, priority: int, ttl: float | None
) -> bool | None:
    return transport.submit(payload, priority, ttl) or None


def _full_queue(transport: WebTransportDatagramTransport) -> Hashable:
    """The limit that kept the last datagram from its queue."""
    if transport._h3.session_id < 0:
        return transport  # the session is not requested yet
    # A session that may fill the connection's queue alone found that queue full.
    limit = transport._high_water_mark
    own = limit < transport._session._config.datagram_queue_size
    return transport if own and transport.get_send_buffer_size() >= limit else _CONNECTION


def _is_held(transport: WebTransportDatagramTransport) -> bool:
    """Other callers wait for room that a datagram of this session would take."""
    gates = transport._session._connection._datagram_gates
    return gates is not None and gates.held((transport, _CONNECTION)) is not None


def _check(
    transport: WebTransportDatagramTransport, payload: bytes, priority: int, ttl: float | None
) -> None:
    """Raise now the error that would be raised when this datagram has its turn."""
    if priority != 0:
        check_priority(priority)
    if ttl is not None:
        check_age("ttl", ttl)
    if transport.is_closed or len(payload) > transport.max_datagram_size:
        transport.submit(payload, priority, ttl)  # raises
