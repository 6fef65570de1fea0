"""Frames of QMux: their types, and bytes of those that are sent."""

from __future__ import annotations

from struct import Struct
from typing import Final

from ..h3._varint import MAX_VARINT, encode_varint

__all__ = ["CLOSE_APPLICATION", "CLOSE_TRANSPORT", "DATAGRAM", "DRAIN", "FORBIDDEN", "MAX_DATA"]
__all__ += ["MAX_STREAMS", "MAX_STREAM_COUNT", "MAX_STREAM_DATA", "MAX_VARINT", "PARAMETERS"]
__all__ += ["PARAMETERS_HEAD", "PING_REQUEST", "PING_RESPONSE", "RESET_STREAM", "RESET_STREAM_AT"]
__all__ += ["STOP_SENDING", "STREAM", "STREAM_HEADER_SIZE", "encode_close", "encode_number"]
__all__ += ["encode_varint", "stream_header"]

MAX_STREAM_COUNT: Final = 1 << 60

RESET_STREAM: Final = 0x04
STOP_SENDING: Final = 0x05
STREAM: Final = 0x08
MAX_DATA: Final = 0x10
MAX_STREAM_DATA: Final = 0x11
MAX_STREAMS: Final = 0x12
CLOSE_TRANSPORT: Final = 0x1C
CLOSE_APPLICATION: Final = 0x1D
RESET_STREAM_AT: Final = 0x24
DATAGRAM: Final = 0x31  # with a length
PING_REQUEST: Final = 0x348C67529EF8C7BD
PING_RESPONSE: Final = 0x348C67529EF8C7BE
PARAMETERS: Final = 0x3F5153300D0A0D0A
DRAIN: Final = 0x2D1F8A6BC94E7035
"""Asks the peer to end the session soon. Private: sent to those who announced it."""

PARAMETERS_HEAD: Final = encode_varint(PARAMETERS)

FORBIDDEN: Final = {
    0x01: "PING",
    0x02: "ACK",
    0x03: "ACK",
    0x06: "CRYPTO",
    0x07: "NEW_TOKEN",
    0x18: "NEW_CONNECTION_ID",
    0x19: "RETIRE_CONNECTION_ID",
    0x1A: "PATH_CHALLENGE",
    0x1B: "PATH_RESPONSE",
    0x1E: "HANDSHAKE_DONE",
}
"""Frames of QUIC that QMux does not have."""

_FOUR: Final = 0x8000_0000
_EIGHT: Final = 0xC000_0000_0000_0000
_SMALL: Final = 1 << 30
# Integers of fixed sizes: one call makes a header. Any size is legal, except for the type's.
_FIRST: Final = Struct(">BII").pack
_NEXT: Final = Struct(">BIII").pack
_LARGE: Final = Struct(">BQQQ").pack

STREAM_HEADER_SIZE: Final = 25
"""Bytes of the longest header of a STREAM frame."""


def stream_header(stream_id: int, offset: int, length: int, fin: bool) -> bytes:
    """Return the header of a STREAM frame.

    Args:
        stream_id: The stream.
        offset: Of the first byte.
        length: Bytes of data, less than 2**30.
        fin: Whether the stream ends with them.
    """
    if stream_id < _SMALL:
        if offset == 0:
            return _FIRST(0x0B if fin else 0x0A, stream_id | _FOUR, length | _FOUR)
        if offset < _SMALL:
            return _NEXT(0x0F if fin else 0x0E, stream_id | _FOUR, offset | _FOUR, length | _FOUR)
    return _LARGE(0x0F if fin else 0x0E, stream_id | _EIGHT, offset | _EIGHT, length | _EIGHT)


def encode_number(frame_type: int, *numbers: int) -> bytes:
    """Return a frame whose fields are integers only."""
    return encode_varint(frame_type) + b"".join(map(encode_varint, numbers))


def encode_close(code: int, reason: bytes, *, application: bool, frame_type: int = 0) -> bytes:
    """Return CONNECTION_CLOSE."""
    if application:
        head = encode_number(CLOSE_APPLICATION, code, len(reason))
    else:
        head = encode_number(CLOSE_TRANSPORT, code, frame_type, len(reason))
    return head + reason
