"""Statistics of a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..utils._timing import get_timestamp

__all__ = ["ClientStats"]


@dataclass(kw_only=True)
class ClientStats:
    """Statistics of the connection attempts of one client. Times are in seconds.

    ``connections_lost`` counts connections that were established and then ended by an error or an
    idle timeout. ``addresses_failed`` counts addresses of a host that failed while another one
    worked. ``requests_retried`` counts session requests that were sent again because the server had
    not processed them.

    ``sessions_by_quic`` and ``sessions_by_websocket`` count sessions by their transport.
    ``fallbacks_tried`` counts connections that were also tried by TCP, ``fallbacks_won`` those that
    were made by TCP.
    """

    created_at: float = field(default_factory=get_timestamp)
    connections_attempted: int = 0
    connections_successful: int = 0
    connections_failed: int = 0
    total_connect_time: float = 0.0
    min_connect_time: float = float("inf")
    max_connect_time: float = 0.0
    connections_lost: int = 0
    addresses_failed: int = 0
    requests_retried: int = 0
    sessions_by_quic: int = 0
    sessions_by_websocket: int = 0
    fallbacks_tried: int = 0
    fallbacks_won: int = 0

    @property
    def avg_connect_time(self) -> float:
        """Average time from ``connect`` to a ready session."""
        count = self.connections_successful
        return self.total_connect_time / count if count else 0.0

    @property
    def success_rate(self) -> float:
        """Share of successful attempts, 0 to 1; 1 before the first attempt."""
        finished = self.connections_successful + self.connections_failed
        return self.connections_successful / finished if finished else 1.0

    def record(self, seconds: float, transport: str = "quic") -> None:
        """Count a successful attempt that took ``seconds``, by ``quic`` or ``websocket``."""
        self.connections_successful += 1
        if transport == "websocket":
            self.sessions_by_websocket += 1
        else:
            self.sessions_by_quic += 1
        self.total_connect_time += seconds
        self.min_connect_time = min(self.min_connect_time, seconds)
        self.max_connect_time = max(self.max_connect_time, seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics by group, as JSON values.

        Returns:
            ``created_at`` (seconds since the epoch), ``uptime``; ``connections``:
            ``attempted``, ``successful``, ``failed``, ``success_rate``, ``lost``,
            ``addresses_failed``, ``requests_retried``; ``transports``: ``quic`` and ``websocket``
            (sessions), ``fallbacks_tried``, ``fallbacks_won``; ``performance``:
            ``avg_connect_time``, ``min_connect_time``, ``max_connect_time`` (0.0 each
            before the first success), ``total_connect_time``.
        """
        return {
            "created_at": self.created_at,
            "uptime": max(0.0, get_timestamp() - self.created_at),
            "connections": {
                "attempted": self.connections_attempted,
                "successful": self.connections_successful,
                "failed": self.connections_failed,
                "success_rate": self.success_rate,
                "lost": self.connections_lost,
                "addresses_failed": self.addresses_failed,
                "requests_retried": self.requests_retried,
            },
            "transports": {
                "quic": self.sessions_by_quic,
                "websocket": self.sessions_by_websocket,
                "fallbacks_tried": self.fallbacks_tried,
                "fallbacks_won": self.fallbacks_won,
            },
            "performance": {
                "avg_connect_time": self.avg_connect_time,
                "min_connect_time": self.min_connect_time if self.connections_successful else 0.0,
                "max_connect_time": self.max_connect_time,
                "total_connect_time": self.total_connect_time,
            },
        }
