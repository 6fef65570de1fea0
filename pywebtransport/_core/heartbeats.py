"""Datagrams that only show that their sender is still there."""

from __future__ import annotations

import struct
import time

from ..utils._checks import check_data

__all__ = ["create_heartbeat_datagram", "is_heartbeat_datagram"]

_MAGIC = b"HEARTBEAT:"
_TIME = struct.Struct("!d")


def create_heartbeat_datagram() -> bytes:
    """Create a small datagram that ``is_heartbeat_datagram`` recognizes; it carries a time."""
    return _MAGIC + _TIME.pack(time.time())


def is_heartbeat_datagram(data: bytes) -> bool:
    """Return whether ``create_heartbeat_datagram`` created ``data``."""
    raw = check_data("data", data)
    return len(raw) == len(_MAGIC) + _TIME.size and bytes(raw[: len(_MAGIC)]) == _MAGIC
