"""Capsules on the CONNECT stream (RFC 9297 section 3, draft-16 section 5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from ._constants import MAX_CLOSE_REASON, CapsuleType
from ._errors import CapsuleError
from ._parser import Parser
from ._varint import decode_varint, encode_varint

__all__ = [
    "FLOW_CONTROL_CAPSULES",
    "PROHIBITED_CAPSULES",
    "SESSION_CAPSULES",
    "SKIPPED",
    "Capsule",
    "CapsuleParser",
    "cut_reason",
    "encode_capsule",
    "encode_close",
    "encode_number",
    "parse_close",
    "parse_number",
]

SESSION_CAPSULES: Final = frozenset(
    {CapsuleType.DATAGRAM, CapsuleType.WT_CLOSE_SESSION, CapsuleType.WT_DRAIN_SESSION}
)
"""Known to every dialect."""

FLOW_CONTROL_CAPSULES: Final = frozenset(
    {
        CapsuleType.WT_MAX_DATA,
        CapsuleType.WT_MAX_STREAMS_BIDI,
        CapsuleType.WT_MAX_STREAMS_UNI,
        CapsuleType.WT_DATA_BLOCKED,
        CapsuleType.WT_STREAMS_BLOCKED_BIDI,
        CapsuleType.WT_STREAMS_BLOCKED_UNI,
    }
)
"""Known while session flow control is on; each holds one varint."""

PROHIBITED_CAPSULES: Final = frozenset(
    {CapsuleType.WT_MAX_STREAM_DATA, CapsuleType.WT_STREAM_DATA_BLOCKED}
)
"""Streams have their own limits in QUIC: never sent over HTTP/3."""

# Accepted lengths of the value, (smallest, largest).
_LENGTHS: Final[dict[int, tuple[int, int]]] = {
    CapsuleType.WT_CLOSE_SESSION: (4, 4 + MAX_CLOSE_REASON),
    CapsuleType.WT_DRAIN_SESSION: (0, 0),
    **dict.fromkeys(FLOW_CONTROL_CAPSULES, (1, 8)),
}


class Capsule(NamedTuple):
    """One complete capsule of a known type."""

    type: int
    value: bytes


SKIPPED: Final = Capsule(-1, b"")
"""A placeholder for a dropped capsule."""


class CapsuleParser(Parser):
    """Splits the payload of DATA frames into capsules, however the bytes were divided.

    Unknown capsules, and DATAGRAM capsules larger than ``max_datagram``, are
    dropped as they arrive, whatever their length; they are not collected.

    Args:
        known: Types to collect.
        max_datagram: Largest value of a DATAGRAM capsule in bytes.
    """

    __slots__ = ("_known", "_max_datagram", "_skip")

    def __init__(self, known: Collection[int], max_datagram: int) -> None:
        super().__init__()
        self._known = known
        self._max_datagram = max_datagram
        self._skip = 0

    @property
    def at_boundary(self) -> bool:
        """No capsule is incomplete: the stream may end here."""
        return self._pos == len(self._buffer) and not self._skip

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if self._skip >= len(data):
            self._skip -= len(data)
            return
        if self._skip:
            data, self._skip = data[self._skip :], 0
        super().feed(data)

    def next(self) -> Capsule | None:
        """Return the next known capsule, or ``SKIPPED``; None if more bytes are needed.

        Raises:
            CapsuleError: the length does not fit the type. Raised as soon as
                the length is known.
        """
        buffer = self._buffer
        header = decode_varint(buffer, self._pos)
        length = None if header is None else decode_varint(buffer, header[1])
        if header is None or length is None:
            if self._pos == len(buffer):
                self._pos, self._buffer = 0, b""
            return None
        capsule_type, (size, start) = header[0], length
        end = start + size
        if not self._is_wanted(capsule_type, size):
            self._skip = max(0, end - len(buffer))
            self._pos = min(end, len(buffer))
            return SKIPPED
        if end > len(buffer):
            return None
        self._pos = end
        return Capsule(capsule_type, bytes(buffer[start:end]))

    def _is_wanted(self, capsule_type: int, size: int) -> bool:
        if capsule_type not in self._known:
            return False
        if capsule_type == CapsuleType.DATAGRAM:
            return size <= self._max_datagram
        if capsule_type in PROHIBITED_CAPSULES:
            raise CapsuleError(f"capsule 0x{capsule_type:x} is prohibited over HTTP/3")
        low, high = _LENGTHS[capsule_type]
        if not low <= size <= high:
            raise CapsuleError(
                f"capsule 0x{capsule_type:x} has a value of {size} bytes: must be {low} to {high}"
            )
        return True


def encode_capsule(capsule_type: int, value: bytes) -> bytes:
    """Return a capsule: type, length, value."""
    return encode_varint(capsule_type) + encode_varint(len(value)) + value


def encode_number(capsule_type: int, number: int) -> bytes:
    """Return a capsule whose value is one varint."""
    return encode_capsule(capsule_type, encode_varint(number))


def encode_close(code: int, reason: str) -> bytes:
    """Return WT_CLOSE_SESSION; the reason is cut to 1024 bytes at a character boundary."""
    value = code.to_bytes(4, "big") + cut_reason(reason)
    return encode_capsule(CapsuleType.WT_CLOSE_SESSION, value)


def cut_reason(reason: str) -> bytes:
    """Return ``reason`` as at most 1024 bytes of UTF-8 that end at a character boundary."""
    encoded = reason.encode("utf-8", "replace")
    if len(encoded) <= MAX_CLOSE_REASON:
        return encoded
    return encoded[:MAX_CLOSE_REASON].decode("utf-8", "ignore").encode("utf-8")


def parse_close(value: bytes) -> tuple[int, str]:
    """Return code and reason of WT_CLOSE_SESSION.

    Raises:
        CapsuleError: the length is wrong or the reason is not UTF-8.
    """
    if not 4 <= len(value) <= 4 + MAX_CLOSE_REASON:
        raise CapsuleError(f"WT_CLOSE_SESSION has a value of {len(value)} bytes")
    try:
        return int.from_bytes(value[:4], "big"), value[4:].decode("utf-8")
    except UnicodeDecodeError:
        raise CapsuleError("the reason in WT_CLOSE_SESSION is not UTF-8") from None


def parse_number(capsule_type: int, value: bytes) -> int:
    """Return the number in a flow-control capsule.

    Raises:
        CapsuleError: the value is not exactly one varint.
    """
    decoded = decode_varint(value)
    if decoded is None or decoded[1] != len(value):
        raise CapsuleError(f"capsule 0x{capsule_type:x} does not hold exactly one varint")
    return decoded[0]
