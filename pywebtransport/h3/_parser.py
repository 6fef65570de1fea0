"""What parsers of frames and of capsules have in common: the bytes that they were fed."""

from __future__ import annotations

__all__ = ["Parser"]


class Parser:
    """Keeps the bytes of a stream until they are taken.

    Most reads contain complete items: the bytes are used as they are, and copied into a
    ``bytearray`` only if an item is incomplete. Nothing is kept between items.
    """

    __slots__ = ("_buffer", "_pos")

    def __init__(self) -> None:
        self._buffer: bytes | bytearray = b""
        self._pos = 0

    @property
    def pending(self) -> int:
        """Bytes that were fed and not yet taken by ``next``."""
        return len(self._buffer) - self._pos

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        buffer, pos = self._buffer, self._pos
        self._pos = 0
        if pos == len(buffer):
            self._buffer = data
        elif isinstance(buffer, bytearray):
            del buffer[:pos]
            buffer += data
        else:
            self._buffer = bytearray(buffer[pos:]) + data
