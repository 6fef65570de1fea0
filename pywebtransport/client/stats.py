"""The measured figures of a client."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..utils import get_timestamp

__all__ = ["ClientStats"]


@dataclass(kw_only=True)
class ClientStats:
    """How the connection attempts of one client went. Times are seconds."""

    created_at: float = field(default_factory=get_timestamp)
    connections_attempted: int = 0
    connections_successful: int = 0
    connections_failed: int = 0
    total_connect_time: float = 0.0
    min_connect_time: float = float("inf")
    max_connect_time: float = 0.0

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
        """All fields and derived figures as a plain dictionary."""
        return {
            **asdict(self),
            "avg_connect_time": self.avg_connect_time,
            "success_rate": self.success_rate,
        }
