"""One datagram with its metadata, and the statistics of a transport."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .._states import SessionId
from ..utils._checks import check_instance, check_number
from ..utils._timing import get_timestamp

__all__ = ["DatagramMessage", "DatagramStats"]


@dataclass(kw_only=True)
class DatagramMessage:
    """A datagram with its metadata. Times are in seconds."""

    data: bytes
    timestamp: float = field(default_factory=get_timestamp)
    size: int = field(init=False)
    checksum: str | None = None
    sequence: int | None = None
    priority: int = 0
    ttl: float | None = None

    def __post_init__(self) -> None:
        check_instance("data", self.data, bytes, bytearray, memoryview)
        check_number("timestamp", self.timestamp)
        if self.ttl is not None:
            check_number("ttl", self.ttl)
        self.size = len(self.data)

    @property
    def age(self) -> float:
        """Seconds since ``timestamp``."""
        return max(0.0, get_timestamp() - self.timestamp)

    @property
    def is_expired(self) -> bool:
        """The datagram is older than ``ttl``; always False if ``ttl`` is None."""
        return self.ttl is not None and self.age > self.ttl

    def to_dict(self) -> dict[str, Any]:
        """Return the metadata without the payload."""
        return {
            "size": self.size,
            "timestamp": self.timestamp,
            "age": self.age,
            "checksum": self.checksum,
            "sequence": self.sequence,
            "priority": self.priority,
            "ttl": self.ttl,
            "is_expired": self.is_expired,
        }


@dataclass(kw_only=True)
class DatagramStats:
    """Statistics of one datagram transport. Times are in seconds, sizes in bytes.

    ``datagrams_sent`` counts datagrams for which ``send`` has returned. If one of them is
    dropped before it is put into a packet (queue cleared, expired), it moves to
    ``send_drops``, which also counts those that ``try_send`` refused.
    ``datagrams_transmitted`` counts those that were put into packets. ``receive_drops`` counts
    datagrams that arrived but were dropped because the application did not read in time.
    """

    session_id: SessionId
    created_at: float
    datagrams_sent: int = 0
    bytes_sent: int = 0
    send_failures: int = 0
    send_drops: int = 0
    datagrams_received: int = 0
    bytes_received: int = 0
    receive_drops: int = 0
    receive_errors: int = 0
    total_send_time: float = 0.0
    total_receive_time: float = 0.0
    max_send_time: float = 0.0
    max_receive_time: float = 0.0
    min_datagram_size: float = float("inf")
    max_datagram_size: int = 0
    total_datagram_size: int = 0
    datagrams_transmitted: int = 0
    datagrams_acknowledged: int = 0
    datagrams_lost: int = 0
    datagrams_expired: int = 0

    @property
    def avg_datagram_size(self) -> float:
        """Average payload size over both directions."""
        count = self.datagrams_sent + self.datagrams_received
        return self.total_datagram_size / count if count else 0.0

    @property
    def avg_receive_time(self) -> float:
        """Seconds that a ``receive`` waited on average."""
        count = self.datagrams_received
        return self.total_receive_time / count if count else 0.0

    @property
    def avg_send_time(self) -> float:
        """Seconds that a ``send`` waited for room on average."""
        return self.total_send_time / self.datagrams_sent if self.datagrams_sent else 0.0

    @property
    def receive_success_rate(self) -> float:
        """Share of the arrived datagrams that were delivered, 0 to 1; 1 if none arrived."""
        total = self.datagrams_received + self.receive_drops
        return self.datagrams_received / total if total else 1.0

    @property
    def send_success_rate(self) -> float:
        """Share of the submitted datagrams that were sent, 0 to 1; 1 if none were submitted."""
        total = self.datagrams_sent + self.send_drops + self.send_failures
        return self.datagrams_sent / total if total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and derived values as a plain dictionary."""
        return {
            **asdict(self),
            # Infinity before the first datagram, which JSON cannot represent.
            "min_datagram_size": self.min_datagram_size if self.max_datagram_size else 0,
            "avg_datagram_size": self.avg_datagram_size,
            "avg_receive_time": self.avg_receive_time,
            "avg_send_time": self.avg_send_time,
            "receive_success_rate": self.receive_success_rate,
            "send_success_rate": self.send_success_rate,
        }
