"""Transport parameters of QMux: the first frame of each side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..h3._varint import decode_varint, encode_varint
from ._errors import QMuxConnectionError, QMuxError
from ._frames import MAX_STREAM_COUNT, PARAMETERS, PARAMETERS_HEAD

__all__ = ["DEFAULT_RECORD_SIZE", "Parameters", "encode_parameters", "parse_parameters"]

DEFAULT_RECORD_SIZE: Final = 16382
"""Bytes of the frames of one record that every peer accepts."""

_RESET_STREAM_AT: Final = 0x1D
_RECORD_SIZE: Final = 0x0571C59429CD0845
_DRAIN: Final = 0x2B76E4D19A5F3C08  # private: "I understand DRAIN"

_MOST: Final = 256

# Identifier -> field of ``Parameters``.
_NUMBERS: Final = {
    0x01: "max_idle_timeout",
    0x04: "max_data",
    0x05: "max_stream_data_bidi_local",
    0x06: "max_stream_data_bidi_remote",
    0x07: "max_stream_data_uni",
    0x08: "max_streams_bidi",
    0x09: "max_streams_uni",
    0x20: "max_datagram_frame_size",
    _RECORD_SIZE: "max_record_size",
}
_FLAGS: Final = {_RESET_STREAM_AT: "reset_stream_at", _DRAIN: "drain"}
_FORBIDDEN: Final = frozenset({0x00, 0x02, 0x03, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10})


@dataclass(slots=True)
class Parameters:
    """What one side announces. The defaults are what a parameter that is absent means."""

    max_idle_timeout: int = 0
    """Milliseconds; 0: none."""
    max_data: int = 0
    max_stream_data_bidi_local: int = 0
    """Bytes on a bidirectional stream that the sender of the parameters opens."""
    max_stream_data_bidi_remote: int = 0
    max_stream_data_uni: int = 0
    max_streams_bidi: int = 0
    max_streams_uni: int = 0
    max_datagram_frame_size: int = 0
    """0: no datagrams."""
    max_record_size: int = DEFAULT_RECORD_SIZE
    reset_stream_at: bool = False
    drain: bool = False


_DEFAULTS: Final = Parameters()


def encode_parameters(parameters: Parameters) -> bytes:
    """Return the frame. Numbers that say what absence says are left out, except for sizes that
    every implementation names."""
    pieces = []
    for identifier, name in _NUMBERS.items():
        value = getattr(parameters, name)
        if value != getattr(_DEFAULTS, name) or identifier == _RECORD_SIZE:
            number = encode_varint(value)
            pieces.append(encode_varint(identifier) + encode_varint(len(number)) + number)
    pieces += [
        encode_varint(identifier) + b"\0"
        for identifier, name in _FLAGS.items()
        if getattr(parameters, name)
    ]
    body = b"".join(pieces)
    return PARAMETERS_HEAD + encode_varint(len(body)) + body


def parse_parameters(body: bytes, draft: int) -> Parameters:
    """Parse the body of the frame.

    Args:
        body: Everything after its length.
        draft: 1 or 2.

    Raises:
        QMuxConnectionError: TRANSPORT_PARAMETER_ERROR, or FRAME_ENCODING_ERROR.
    """
    parameters = Parameters()
    seen: set[int] = set()
    pos = 0
    while pos < len(body):
        identifier, pos = _number(body, pos)
        length, pos = _number(body, pos)
        value = body[pos : pos + length]
        pos += length
        if pos > len(body):
            raise _bad("a parameter is longer than the frame")
        if identifier in _FORBIDDEN:
            raise _bad(f"parameter {identifier:#x} is not allowed")
        if identifier in seen:
            raise _bad(f"parameter {identifier:#x} comes twice")
        seen.add(identifier)
        if len(seen) > _MOST:
            raise _bad("there are too many parameters")
        if identifier in _NUMBERS:
            _set_number(parameters, _NUMBERS[identifier], value)
        elif identifier in _FLAGS and not (identifier == _RESET_STREAM_AT and draft < 2):
            if value:
                raise _bad(f"{_FLAGS[identifier]} has a value")
            setattr(parameters, _FLAGS[identifier], True)
    return parameters


def _set_number(parameters: Parameters, name: str, value: bytes) -> None:
    found = decode_varint(value)
    if found is None or found[1] != len(value):
        raise _bad(f"{name} is not one integer")
    number = found[0]
    if name.startswith("max_streams") and number > MAX_STREAM_COUNT:
        raise _bad(f"{name} is larger than 2**60")
    if name == "max_record_size" and number < DEFAULT_RECORD_SIZE:
        raise _bad(f"max_record_size is smaller than {DEFAULT_RECORD_SIZE}")
    setattr(parameters, name, number)


def _number(body: bytes, pos: int) -> tuple[int, int]:
    found = decode_varint(body, pos)
    if found is None:
        raise _bad("the last parameter is incomplete")
    return found


def _bad(reason: str) -> QMuxConnectionError:
    return QMuxConnectionError(QMuxError.TRANSPORT_PARAMETER_ERROR, reason, PARAMETERS)
