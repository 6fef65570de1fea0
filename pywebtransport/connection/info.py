"""What is known about a connection at one moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..types import Address, ConnectionState
from ..utils import get_timestamp

__all__ = ["ConnectionInfo"]


@dataclass(kw_only=True, slots=True)
class ConnectionInfo:
    """A snapshot of a connection. Times are seconds, sizes bytes, figures measured.

    ``packets_lost`` is None where the QUIC library does not tell.
    """

    connection_id: str
    state: ConnectionState
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
        """Seconds from established to closed, or until now; 0 before."""
        if self.established_at is None:
            return 0.0
        end = self.closed_at if self.closed_at is not None else get_timestamp()
        return max(0.0, end - self.established_at)

    def to_dict(self) -> dict[str, Any]:
        """All fields and ``uptime`` as a plain dictionary."""
        return {**asdict(self), "uptime": self.uptime}
