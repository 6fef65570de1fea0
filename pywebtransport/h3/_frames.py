"""HTTP/3 frames (RFC 9114 section 7): an incremental parser and the encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ._parser import Parser
from ._varint import decode_varint, encode_varint

__all__ = ["SKIP", "SKIPPED", "STREAM", "Frame", "FrameParser", "encode_frame"]

SKIP: Final = -1
"""Policy: drop the payload as it arrives."""
STREAM: Final = -2
"""Policy: pass on the payload in pieces as it arrives."""


def encode_frame(frame_type: int, payload: bytes) -> bytes:
    """Return a frame: type, length, payload."""
    return encode_varint(frame_type) + encode_varint(len(payload)) + payload


class Frame(NamedTuple):
    """A complete frame, or one piece of a streamed one."""

    type: int
    payload: bytes | None
    """None: the frame is larger than the policy allows; its payload is dropped."""


SKIPPED: Final = Frame(-1, None)
"""A placeholder for a frame whose payload was dropped."""


class FrameParser(Parser):
    """Splits a byte stream into frames, however the bytes were divided.

    Args:
        policy: Called once per frame as soon as its type is known, before the
            length: returns ``SKIP``, ``STREAM``, or the largest payload to
            collect in bytes. It may raise to refuse the type.
    """

    __slots__ = ("_action", "_begun", "_policy", "_remaining", "_type", "begins")

    def __init__(self, policy: Callable[[int], int] | None = None) -> None:
        super().__init__()
        self._policy = policy
        self._type = -1  # -1: the next bytes are a frame type
        self._action = SKIP
        self._remaining = -1  # payload bytes to come; -1: the length is not known yet
        self._begun = 0
        self.begins = -1
        """Payload size of the frame that :meth:`next` returned; -1 for a later piece of it."""

    def judge(self, frame_type: int) -> int:
        """The policy; subclasses may override it."""
        return SKIP if self._policy is None else self._policy(frame_type)

    @property
    def at_boundary(self) -> bool:
        """Nothing is left over: the stream may end here."""
        return self._type < 0 and self._pos == len(self._buffer)

    @property
    def wanted(self) -> int:
        """How many of the next bytes belong to the current frame for certain; 1 or more."""
        if self._remaining < 0:
            return 1
        return max(1, self._remaining - (len(self._buffer) - self._pos))

    def rest(self) -> bytes:
        """Return the bytes of :attr:`pending` without removing them."""
        return bytes(self._buffer[self._pos :])

    def next(self) -> Frame | None:
        """Return the next frame or piece, or ``SKIPPED``; None if more bytes are needed."""
        if self._remaining < 0 and not self._read_header():
            if self._pos == len(self._buffer):
                self._pos, self._buffer = 0, b""
            return None
        available = len(self._buffer) - self._pos
        if self._action >= 0:
            if self._remaining > self._action:
                self._action = SKIP
                return Frame(self._type, None)
            if available < self._remaining:
                return None
            return self._take(self._remaining)
        if self._action == STREAM:
            if available == 0 and self._remaining:
                return None
            return self._take(min(available, self._remaining))
        skipped = min(available, self._remaining)
        self._pos += skipped
        self._remaining -= skipped
        if self._remaining:
            return None
        self._reset()
        return SKIPPED

    def _read_header(self) -> bool:
        """Read type and length; True once both are known and the payload is due."""
        if self._type < 0:
            decoded = decode_varint(self._buffer, self._pos)
            if decoded is None:
                return False
            frame_type, self._pos = decoded
            self._action = self.judge(frame_type)
            self._type = frame_type
        decoded = decode_varint(self._buffer, self._pos)
        if decoded is None:
            return False
        self._remaining, self._pos = decoded
        self._begun = self._remaining
        return True

    def _take(self, size: int) -> Frame:
        self.begins, self._begun = self._begun, -1
        payload = bytes(self._buffer[self._pos : self._pos + size])
        self._pos += size
        self._remaining -= size
        frame = Frame(self._type, payload)
        if self._remaining == 0:
            self._reset()
        return frame

    def _reset(self) -> None:
        self._type = -1
        self._remaining = -1
