"""Bytes that can be made again at the other end of a transfer."""

from __future__ import annotations

import hashlib
import random


def payload(size: int, seed: int = 1) -> bytes:
    """``size`` bytes that do not compress and do not repeat."""
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()
