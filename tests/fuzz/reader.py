"""Decisions out of the bytes of a fuzzer: what is left out is zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Reader"]

T = TypeVar("T")


class Reader:
    """Takes numbers and bytes from the front of the input.

    Args:
        data: The input.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pos = 0

    def __bool__(self) -> bool:
        """Something is left."""
        return self._pos < len(self._data)

    def byte(self) -> int:
        """A number from 0 to 255."""
        if not self:
            return 0
        self._pos += 1
        return self._data[self._pos - 1]

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.byte() & 1)

    def choice(self, items: Sequence[T]) -> T:
        """One of some."""
        return items[self.byte() % len(items)]

    def some(self) -> bytes:
        """A number of bytes that the input names: at most 255 of them, or all that is left."""
        size = self.byte()
        found = self._data[self._pos : self._pos + size]
        self._pos += len(found)
        return found

    def rest(self) -> bytes:
        """All that is left."""
        found = self._data[self._pos :]
        self._pos = len(self._data)
        return found
