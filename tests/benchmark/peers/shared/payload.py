"""What is sent, so that the receiver can check every byte at the price of a comparison."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from math import lcm
from typing import Any

__all__ = [
    "DATAGRAM_HEAD",
    "Checker",
    "ContentError",
    "DatagramCounter",
    "blocks",
    "datagrams",
    "message",
]

# The stream repeats this. No write size divides it, so blocks that change places are noticed.
PERIOD = 80 << 10
# The longest piece that one comparison can check.
_LONGEST = 1 << 20
_EXPECTED = random.Random(1).randbytes(PERIOD) * (_LONGEST // PERIOD + 2)

DATAGRAM_HEAD = 4


class ContentError(Exception):
    """What arrived is not what was sent."""


def blocks(size: int) -> list[bytes]:
    """Blocks of ``size`` bytes; written round and round they are the expected stream."""
    count = lcm(size, PERIOD) // size
    return [_EXPECTED[at : at + size] for at in (n * size % PERIOD for n in range(count))]


def message(size: int) -> bytes:
    """A message of ``size`` bytes."""
    return _EXPECTED[:size]


class Checker:
    """Compares a stream, piece by piece, with the expected one; ``size`` counts its bytes."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0

    def feed(self, data: Any) -> None:
        """Check the next piece.

        Raises:
            ContentError: It differs.
        """
        length = len(data)
        if length > _LONGEST:
            view = memoryview(data)
            for start in range(0, length, _LONGEST):
                self.feed(view[start : start + _LONGEST])
            return
        if not _EXPECTED.startswith(data, self.size % PERIOD):
            raise ContentError(f"wrong bytes between {self.size} and {self.size + length}")
        self.size += length


def datagrams(size: int) -> Iterator[bytes]:
    """Numbered datagrams of ``size`` bytes, without end."""
    tail = _EXPECTED[: size - DATAGRAM_HEAD]
    for number in itertools.count():
        yield number.to_bytes(DATAGRAM_HEAD, "little") + tail


class DatagramCounter:
    """Counts and checks numbered datagrams; each is counted once."""

    def __init__(self, size: int) -> None:
        self._tail = _EXPECTED[: size - DATAGRAM_HEAD]
        self._size = size
        self._numbers = bytearray()
        self.wrong = 0

    def add(self, batch: Iterable[Any]) -> None:
        """Take a batch of datagrams."""
        numbers, tail, size = self._numbers, self._tail, self._size
        for data in batch:
            # Not ==: that compares a memoryview byte by byte, in the interpreter's time.
            if len(data) != size or not tail.startswith(data[DATAGRAM_HEAD:]):
                self.wrong += 1
            numbers += data[:DATAGRAM_HEAD]

    @property
    def arrived(self) -> int:
        """How many arrived, repetitions included."""
        return len(self._numbers) // DATAGRAM_HEAD

    @property
    def distinct(self) -> int:
        """How many different ones arrived."""
        return len(set(memoryview(self._numbers).cast("I")))
