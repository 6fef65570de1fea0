"""A frame, and how it is sent.

Each frame has a unidirectional stream of its own: a header of 16 bytes, then the data up to the end
of the stream. The header has the number of the frame, from 0, and its timestamp in microseconds,
both as unsigned integers of 64 bits in network order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum

__all__ = ["DEFAULT_MAX_BYTES", "HEADER", "Frame", "FrameOrder", "MediaCode"]

HEADER = struct.Struct("!QQ")
"""Number, and timestamp in microseconds."""
DEFAULT_MAX_BYTES = 8 * 1024 * 1024
"""Bytes of frames held at a time, at either end."""


class MediaCode(IntEnum):
    """Application codes for resetting or stopping the stream of a frame."""

    CLOSED = 0
    """The sender or receiver was closed."""
    LATE = 1
    """The deadline of the frame has passed."""
    UNWANTED = 2
    """The receiver has returned a newer frame."""
    TOO_LARGE = 3
    """The receiver has no room for the frame."""


class FrameOrder(StrEnum):
    """In which order a :class:`FrameReceiver` returns frames."""

    NEWEST = "newest"
    """Only the newest one; older ones are dropped."""
    SEQUENCE = "sequence"
    """As they were sent, without those that do not arrive in time."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that has arrived.

    Attributes:
        sequence: Its number, from 0; frames that were dropped leave gaps.
        timestamp: Seconds, as the sender gave it; by default since the epoch.
        data: The bytes.
    """

    sequence: int
    timestamp: float
    data: bytes
