"""A snapshot of a connection."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .._states import Address, ConnectionState
from ..utils._timing import get_timestamp

if TYPE_CHECKING:
    from .connection import WebTransportConnection

__all__ = ["RELIABILITY", "ConnectionInfo", "snapshot"]

# By ``connection.transport``, in the terms of the W3C's WebTransport.
RELIABILITY = {None: "pending", "quic": "supports-unreliable", "websocket": "reliable-only"}
_NS = 1e9


@dataclass(kw_only=True, slots=True)
class ConnectionInfo:
    """A snapshot of a connection. Times are in seconds, sizes in bytes.

    ``packets_lost`` is None if the QUIC library does not report it. Over WebSocket, a packet is a
    WebSocket message.
    """

    connection_id: str
    state: ConnectionState
    transport: str | None = None
    reliability: str = "pending"
    local_address: Address | None = None
    remote_address: Address | None = None
    established_at: float | None = None
    closed_at: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    error_count: int = 0
    last_activity: float | None = None
    rtt: float | None = None
    min_rtt: float | None = None
    congestion_window: int = 0
    bytes_in_flight: int = 0
    packets_lost: int | None = None
    max_udp_payload: int = 0

    @property
    def uptime(self) -> float:
        """Seconds since the connection was established, until it closed; 0 before."""
        if self.established_at is None:
            return 0.0
        end = self.closed_at if self.closed_at is not None else get_timestamp()
        return max(0.0, end - self.established_at)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and ``uptime`` as a plain dictionary."""
        return {**asdict(self), "uptime": self.uptime}


def snapshot(connection: WebTransportConnection) -> ConnectionInfo:
    """Return the current statistics; the last ones if the connection has ended."""
    info = ConnectionInfo(
        connection_id=connection._id,
        state=connection._state,
        transport=connection.transport,
        reliability=connection.reliability,
        established_at=connection._established_at,
        closed_at=connection._closed_at,
        error_count=connection.error_count,
        last_activity=connection.last_activity_time,
    )
    quic = connection._quic
    if quic is None:
        return info
    stats = quic.stats()
    info.local_address = quic.local_address
    info.remote_address = quic.remote_address
    for name in ("bytes_sent", "bytes_received", "packets_sent", "packets_received"):
        setattr(info, name, stats[name] or 0)
    info.rtt = _seconds(stats["smoothed_rtt"])
    info.min_rtt = _seconds(stats["min_rtt"])
    info.congestion_window = stats["cwnd"] or 0
    info.bytes_in_flight = stats["bytes_in_flight"] or 0
    info.packets_lost = stats["packets_lost"]
    info.max_udp_payload = stats["max_udp_payload"] or 0
    return info


def _seconds(nanoseconds: int | None) -> float | None:
    return nanoseconds / _NS if nanoseconds else None
