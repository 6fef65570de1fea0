"""Key statistics of a connection, and the problems that they show."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .._states import ConnectionState
from ..utils._logs import shared_log
from .info import snapshot
from .memory import process_figures

if TYPE_CHECKING:
    from .connection import WebTransportConnection

__all__ = ["issues", "monitor_health", "summary"]

_logger = logging.getLogger("pywebtransport.connection")

_NS = 1e9
# After this many probe timeouts without a packet from the peer, a path counts as dead.
_SILENT_PROBES = 3
_GRANULARITY = 0.025  # the most by which a peer delays an acknowledgement (RFC 9000 section 18.2)
_LONGEST_LOOK = 3.0
_LOOK = 0.005


def summary(connection: WebTransportConnection) -> dict[str, Any]:
    """Return key statistics."""
    info = snapshot(connection)
    return {
        "id": connection.connection_id,
        "state": connection.state,
        "transport": info.transport,
        "reliability": info.reliability,
        "uptime": info.uptime,
        "remote_address": info.remote_address,
        "bytes_sent": info.bytes_sent,
        "bytes_received": info.bytes_received,
        "packets_sent": info.packets_sent,
        "packets_received": info.packets_received,
        "errors": info.error_count,
        "last_activity": info.last_activity,
        "memory": connection.memory_budget.figures(),
        "process_memory": process_figures(),
    }


async def issues(connection: WebTransportConnection) -> dict[str, Any]:
    """As ``WebTransportConnection.diagnose_issues``."""
    silence = await _silence(connection)
    info = snapshot(connection)
    found = []
    if connection.is_closed:
        found.append(f"the connection has ended: {connection.error or 'closed'}")
    if connection.state is ConnectionState.DRAINING:
        found.append("the peer is going away: no new sessions on this connection")
    if silence is not None:
        found.append(
            f"the path looks dead: {info.bytes_in_flight} bytes are not acknowledged, and no "
            f"packet came in {silence:.2f} s"
        )
    if info.rtt is not None and info.rtt > 1.0:
        found.append(f"the round-trip time is {info.rtt:.2f} s")
    if info.packets_lost and info.packets_lost > 0.05 * max(1, info.packets_sent):
        found.append(f"{info.packets_lost} of {info.packets_sent} packets lost")
    driver = connection._driver
    dropped = 0 if driver is None else driver.layer.early_dropped
    if dropped:
        found.append(f"{dropped} streams or datagrams were dropped: they came before their session")
    return {
        "connection_id": connection.connection_id,
        "state": connection.state,
        "issues": found,
        "info": info.to_dict(),
    }


async def monitor_health(
    connection: WebTransportConnection, check_interval: float, rtt_timeout: float
) -> None:
    """As ``WebTransportConnection.monitor_health``."""
    while not connection.is_closed:
        report = await connection.diagnose_issues()
        rtt = connection.rtt
        if rtt is not None and rtt > rtt_timeout:
            report["issues"].append(f"the round-trip time is over {rtt_timeout} s: {rtt:.2f} s")
        for issue in report["issues"]:
            shared_log(_logger).tell(
                "health", logging.WARNING, "connection %s: %s", connection.connection_id, issue
            )
        waiter = asyncio.ensure_future(connection.wait_closed())
        try:
            await asyncio.wait({waiter}, timeout=check_interval)
        finally:
            waiter.cancel()


async def _silence(connection: WebTransportConnection) -> float | None:
    """Return the seconds without a packet from the peer; None if it answers or need not.

    If an answer is outstanding, this waits for the next packet from the peer: at most three
    probe timeouts, and no longer than three seconds. Otherwise it does not wait.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    before: int | None = None
    while True:
        quic = connection._quic
        if quic is None or connection.is_closed:
            return None
        stats = quic.stats()
        if before is None:
            before = stats["packets_received"]
        rtt, variation = stats["smoothed_rtt"] or 0, stats["rttvar"] or 0
        if not stats["bytes_in_flight"] or not rtt or stats["packets_received"] != before:
            return None
        probe = (rtt + 4 * variation) / _NS + _GRANULARITY
        silent = loop.time() - started
        if silent > min(_SILENT_PROBES * probe, _LONGEST_LOOK):
            return silent
        await asyncio.sleep(_LOOK)
