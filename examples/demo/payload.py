"""The bytes of the bulk transfers: the same on both sides, verified by CRC-32.

A transfer is one pseudo-random block sent again and again. CRC-32 is chosen
because it is cheap next to the transfer itself and a browser can compute it too.
"""

import hashlib
import zlib
from collections.abc import Iterator

BLOCK_SIZE = 1 << 20
BLOCK = hashlib.shake_128(b"pywebtransport demo").digest(BLOCK_SIZE)
UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def blocks(size: int) -> Iterator[bytes]:
    """Yield ``size`` bytes in blocks."""
    for _ in range(size // BLOCK_SIZE):
        yield BLOCK
    if size % BLOCK_SIZE:
        yield BLOCK[: size % BLOCK_SIZE]


def checksum(size: int) -> int:
    """Return the CRC-32 of the first ``size`` bytes."""
    crc = 0
    for block in blocks(size):
        crc = zlib.crc32(block, crc)
    return crc


def parse_size(text: str) -> int:
    """Turn "256MiB" into a number of bytes.

    Raises:
        ValueError: The text is not a positive number of bytes, KiB, MiB or GiB.
    """
    digits = text.strip().rstrip("BKMGIbkmgi")
    unit = text.strip()[len(digits) :].upper()
    if unit not in UNITS or not digits.isdecimal() or int(digits) == 0:
        raise ValueError(f"size {text!r}: expected a number like 1048576, 512KiB, 256MiB or 1GiB")
    return int(digits) * UNITS[unit]
