"""The wire format of reliable datagrams.

Each frame is one datagram. Its first byte is the version (high half, now 1)
and the kind (low half); numbers are variable-length integers (RFC 9000
section 16).

===== =====  ==============================================================
byte  kind   what follows
===== =====  ==============================================================
0x11  DATA   sequence number from 0 on; payload to the end of the frame
0x12  ACK    expected: all sequence numbers below have arrived;
             limit: the first sequence number that may not be sent yet;
             to the end of the frame a bitmap of what arrived beyond:
             bit i of byte j, lowest bit first, is expected + 1 + 8 * j + i
0x13  PROBE  nothing; asks for an ACK
===== =====  ==============================================================

An ACK has the complete state of the receiver, so that a later ACK replaces
any that was lost.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..h3._varint import MAX_VARINT, decode_varint, encode_varint

__all__ = [
    "INITIAL_LIMIT",
    "MAX_HEADER",
    "MAX_WINDOW",
    "PROBE",
    "Ack",
    "Data",
    "FrameError",
    "Probe",
    "decode",
    "encode_ack",
    "encode_data",
]

_DATA: Final = 0x11
_ACK: Final = 0x12
_PROBE: Final = 0x13

PROBE: Final = bytes([_PROBE])
MAX_HEADER: Final = 9
"""Bytes of a DATA frame that are not payload, at most."""
INITIAL_LIMIT: Final = 32
"""Datagrams that may be sent before the first ACK; every receiver has room for them."""
MAX_WINDOW: Final = 1024
"""Most datagrams between the first one missing and the last one that may be sent."""


class FrameError(ValueError):
    """A frame that is not valid in this format."""


class Data(NamedTuple):
    """A numbered datagram."""

    sequence: int
    payload: bytes


class Ack(NamedTuple):
    """What has arrived; bit i of ``beyond`` is the sequence number ``expected + 1 + i``."""

    expected: int
    limit: int
    beyond: int


class Probe(NamedTuple):
    """Asks for an ACK."""


def encode_data(sequence: int, payload: bytes) -> bytes:
    """Return a DATA frame.

    Raises:
        ValueError: All 2**62 sequence numbers are used up.
    """
    return b"\x11" + encode_varint(sequence) + payload


def encode_ack(expected: int, limit: int, beyond: int) -> bytes:
    """Return an ACK frame."""
    bitmap = beyond.to_bytes((beyond.bit_length() + 7) // 8, "little")
    return b"\x12" + encode_varint(expected) + encode_varint(min(limit, MAX_VARINT)) + bitmap


def decode(frame: bytes) -> Data | Ack | Probe:
    """Parse a frame.

    Raises:
        FrameError: It is malformed, or of another version or kind.
    """
    kind = frame[0] if frame else None
    if kind == _DATA:
        number = decode_varint(frame, 1)
        if number is not None:
            return Data(number[0], frame[number[1] :])
    elif kind == _ACK:
        expected = decode_varint(frame, 1)
        limit = None if expected is None else decode_varint(frame, expected[1])
        if expected is not None and limit is not None and len(frame) - limit[1] <= MAX_WINDOW // 8:
            return Ack(expected[0], limit[0], int.from_bytes(frame[limit[1] :], "little"))
    elif frame == PROBE:
        return Probe()
    raise FrameError(f"not a frame of reliable datagrams: {frame[:16].hex()}")
