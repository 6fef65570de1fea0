"""What workers and their supervisor send to each other to carry the messages of backends.

Both ends are processes of one program, connected by a socket pair that the workers inherit.
"""

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = ["GAP", "FrameKind", "FrameSplitter", "frame", "message_frame", "split_message"]

_HEADER = struct.Struct("!IB")  # bytes that follow, kind
_NAMES = struct.Struct("!HH")  # bytes of the backend's name, and of the channel

GAP = struct.Struct("!dQ")
"""Content of a gap: its duration in seconds, and how many messages were lost."""


class FrameKind(IntEnum):
    """What a frame is."""

    MESSAGE = 0
    """From a worker, and to all others that listen: a message of a backend."""
    LISTEN = 1
    """From a worker: send messages from now on. The answer is ``WELCOME``."""
    DEAF = 2
    """From a worker: send nothing any more."""
    WELCOME = 3
    """To a worker: messages that are published from now on will follow."""
    GAP = 4
    """To a worker: messages were lost here, because it did not read in time."""


def frame(kind: FrameKind, content: bytes = b"") -> bytes:
    """Return a whole frame."""
    return _HEADER.pack(len(content), kind) + content


def message_frame(name: bytes, channel: bytes, payload: bytes) -> bytes:
    """Return the frame of a message.

    Args:
        name: Which backend.
        channel: The channel in it.
        payload: The message.
    """
    size = _NAMES.size + len(name) + len(channel) + len(payload)
    header = _HEADER.pack(size, FrameKind.MESSAGE) + _NAMES.pack(len(name), len(channel))
    return b"".join((header, name, channel, payload))


def split_message(whole: bytes) -> tuple[bytes, bytes, bytes]:
    """Return name, channel and payload of a message's whole frame."""
    start = _HEADER.size + _NAMES.size
    name, channel = _NAMES.unpack_from(whole, _HEADER.size)
    middle = start + name
    end = middle + channel
    return whole[start:middle], whole[middle:end], whole[end:]


class FrameSplitter:
    """Finds the frames in the bytes that arrive."""

    __slots__ = ("_buffer", "_wanted")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = _HEADER.size  # bytes without which there is no further frame

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return kind and all bytes of each frame that is complete now."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._wanted:
            return []
        whole = bytes(buffer)
        frames: list[tuple[int, bytes]] = []
        start, length = 0, len(whole)
        self._wanted = _HEADER.size
        while length - start >= _HEADER.size:
            size, kind = _HEADER.unpack_from(whole, start)
            end = start + _HEADER.size + size
            if end > length:
                self._wanted = end - start
                break
            frames.append((kind, whole[start:end]))
            start = end
        del buffer[:start]
        return frames

    @staticmethod
    def content(whole: bytes) -> bytes:
        """Return the content of a whole frame."""
        return whole[_HEADER.size :]
