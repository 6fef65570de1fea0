"""Datagrams that only say that their sender is there."""

from __future__ import annotations

import struct
import time

from ..utils._checks import check_data

__all__ = ["create_heartbeat_datagram", "is_heartbeat_datagram"]

_MAGIC = b"HEARTBEAT:"
_TIME = struct.Struct("!d")


def create_heartbeat_datagram() -> bytes:
    """A small datagram that ``is_heartbeat_datagram`` recognises; carries the sender's clock."""
    return _MAGIC + _TIME.pack(time.time())


def is_heartbeat_datagram(data: bytes) -> bool:
    """Whether ``data`` was made by ``create_heartbeat_datagram``."""
    raw = check_data("data", data)
    return len(raw) == len(_MAGIC) + _TIME.size and bytes(raw[: len(_MAGIC)]) == _MAGIC
