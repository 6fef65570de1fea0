"""What a session looks like from the other stack: the same few verbs for every peer."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pywebtransport import WebTransportSession

__all__ = ["Digest", "Far", "Link", "pattern"]


class Digest(NamedTuple):
    """What was received: how many bytes, and their SHA-256."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Of bytes at hand."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


def pattern(size: int, seed: int) -> bytes:
    """Bytes that both ends can make: the peers' programs hold the same line."""
    return random.Random(seed).randbytes(size)


class Far(Protocol):
    """A session, or the connection it lives on, in the hands of the other stack.

    Attributes:
        tells_ids: A stream goes by its ID; otherwise by a number that is the peer's own.
    """

    tells_ids: bool

    async def open_stream(self, *, unidirectional: bool) -> int:
        """Open a stream; returns what it goes by."""

    async def accept_stream(self, *, unidirectional: bool) -> int:
        """Wait for the next stream that we opened; returns what it goes by."""

    async def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        """Send bytes."""

    async def send_pattern(self, stream_id: int, size: int, seed: int) -> None:
        """Send ``pattern(size, seed)`` and finish the stream."""

    async def receive(self, stream_id: int) -> Digest:
        """Read a stream to its end."""

    async def reset(self, stream_id: int, code: int) -> None:
        """Abandon sending, with an application code."""

    async def stop(self, stream_id: int, code: int) -> None:
        """Stop reading, with an application code."""

    async def was_reset(self, stream_id: int) -> int:
        """Wait for our reset; returns its application code."""

    async def was_stopped(self, stream_id: int) -> int:
        """Wait for our STOP_SENDING; returns its application code."""

    async def send_datagram(self, data: bytes) -> None:
        """Send a datagram."""

    async def receive_datagram(self) -> bytes:
        """Wait for a datagram."""

    async def close(self, code: int, reason: str) -> None:
        """Close the session."""

    async def was_closed(self) -> tuple[int, str]:
        """Wait until we closed the session; returns code and reason."""


@dataclass
class Link:
    """One session, seen from both ends."""

    ours: WebTransportSession
    far: Far
