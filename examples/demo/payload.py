"""The bytes of the bulk transfers: the same at both ends, verified with CRC-32.

A transfer is one pseudo-random block sent again and again. CRC-32 is chosen
because it is cheap next to the transfer itself and a browser can compute it too.
"""

import hashlib
import zlib
from collections.abc import Iterator

BLOCK_SIZE = 1 << 20
BLOCK = hashlib.shake_128(b"pywebtransport demo").digest(BLOCK_SIZE)


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
