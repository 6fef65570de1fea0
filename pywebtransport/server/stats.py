"""The measured figures of a server."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ServerStats"]


@dataclass(kw_only=True)
class ServerStats:
    """Counters of one server since it began to listen. ``uptime`` is seconds."""

    connections_accepted: int = 0
    connections_rejected: int = 0
    connection_errors: int = 0
    protocol_errors: int = 0
    uptime: float = 0.0
    sessions_accepted: int = 0
    sessions_rejected: int = 0
    handler_errors: int = 0

    def to_dict(self) -> dict[str, Any]:
        """All fields as a plain dictionary."""
        return asdict(self)
