"""The measured figures of a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..utils.timing import get_timestamp

__all__ = ["ClientStats"]


@dataclass(kw_only=True)
class ClientStats:
    """How the connection attempts of one client went. Times are seconds.

    Beside the contract's fields: ``connections_lost`` counts connections that ended by
    an error or in silence after they were up, ``addresses_failed`` those addresses of a
    host that failed while another one worked, and ``requests_retried`` session requests
    that a server had left alone and that were sent again.
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

    @property
    def avg_connect_time(self) -> float:
        """Mean seconds from ``connect`` to a ready session."""
        count = self.connections_successful
        return self.total_connect_time / count if count else 0.0

    @property
    def success_rate(self) -> float:
        """Successful over finished attempts, 0 to 1; 1 before the first."""
        finished = self.connections_successful + self.connections_failed
        return self.connections_successful / finished if finished else 1.0

    def record(self, seconds: float) -> None:
        """Count one success that took ``seconds``."""
        self.connections_successful += 1
        self.total_connect_time += seconds
        self.min_connect_time = min(self.min_connect_time, seconds)
        self.max_connect_time = max(self.max_connect_time, seconds)

    def to_dict(self) -> dict[str, Any]:
        """The figures by group; all of them are values that JSON has.

        Returns:
            ``created_at`` (seconds since the epoch), ``uptime``; ``connections``:
            ``attempted``, ``successful``, ``failed``, ``success_rate``, ``lost``,
            ``addresses_failed``, ``requests_retried``; ``performance``:
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
            "performance": {
                "avg_connect_time": self.avg_connect_time,
                "min_connect_time": self.min_connect_time if self.connections_successful else 0.0,
                "max_connect_time": self.max_connect_time,
                "total_connect_time": self.total_connect_time,
            },
        }
