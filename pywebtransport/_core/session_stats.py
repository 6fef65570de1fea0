"""The statistics of a session."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .._states import SessionId
from ..utils._timing import get_timestamp

__all__ = ["SessionStats"]


@dataclass(kw_only=True, slots=True)
class SessionStats:
    """Statistics of one session. Times are in seconds."""

    session_id: SessionId
    created_at: float
    ready_at: float | None = None
    closed_at: float | None = None
    streams_created: int = 0
    streams_closed: int = 0
    stream_errors: int = 0
    bidirectional_streams: int = 0
    unidirectional_streams: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0
    protocol_errors: int = 0

    @property
    def active_streams(self) -> int:
        """How many streams are open."""
        return self.streams_created - self.streams_closed

    @property
    def uptime(self) -> float:
        """Seconds since the session was ready, until it closed; 0 before."""
        if self.ready_at is None:
            return 0.0
        end = self.closed_at if self.closed_at is not None else get_timestamp()
        return max(0.0, end - self.ready_at)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and derived values as a plain dictionary."""
        return {**asdict(self), "active_streams": self.active_streams, "uptime": self.uptime}
