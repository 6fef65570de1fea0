"""Variable-length integers (RFC 9000 section 16)."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_VARINT", "decode_varint", "encode_varint", "varint_size"]

MAX_VARINT: Final = (1 << 62) - 1

_ONE_BYTE: Final = tuple(bytes([n]) for n in range(0x40))


def encode_varint(value: int) -> bytes:
    """Encode ``value`` in the fewest bytes.

    Args:
        value: 0 to 2**62 - 1.

    Raises:
        ValueError: the value is outside that range.
    """
    if 0 <= value < 0x40:
        return _ONE_BYTE[value]
    if 0 <= value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if 0 <= value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    if 0 <= value <= MAX_VARINT:
        return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")
    raise ValueError(f"value {value} does not fit a varint: 0 to {MAX_VARINT}")


def decode_varint(data: bytes | bytearray, pos: int = 0) -> tuple[int, int] | None:
    """Decode the integer that starts at ``pos``; any of its encodings is accepted.

    Returns:
        The value and the position after it, or None when bytes are missing.
    """
    if pos >= len(data):
        return None
    first = data[pos]
    if first < 0x40:
        return first, pos + 1
    end = pos + (1 << (first >> 6))
    if end > len(data):
        return None
    mask = (1 << (((end - pos) << 3) - 2)) - 1
    return int.from_bytes(data[pos:end], "big") & mask, end


def varint_size(value: int) -> int:
    """Return how many bytes :func:`encode_varint` needs for ``value``."""
    return len(encode_varint(value))
