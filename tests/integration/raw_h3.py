"""HTTP/3 and WebTransport written by hand, byte by byte: what a peer can put on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import pylsqpack

# Frames.
DATA = 0x00
HEADERS = 0x01
SETTINGS = 0x04
GOAWAY = 0x07

# Settings.
CONNECT_PROTOCOL = 0x08
H3_DATAGRAM = 0x33
H3_DATAGRAM_OLD = 0xFFD277
FIELD_SECTION_SIZE = 0x06
MAX_DATA = 0x2B61
MAX_UNI = 0x2B64
MAX_BIDI = 0x2B65
WT_02 = 0x2B603742
WT_07 = 0xC671706A
WT_14 = 0x14E9CD29
WT_16 = 0x2C7CF000
GREASE = 0x1F * 0x1234567 + 0x21

# Capsules.
CLOSE = 0x2843
DRAIN = 0x78AE
CAP_MAX_DATA = 0x190B4D3D
CAP_MAX_STREAM_DATA = 0x190B4D3E
CAP_MAX_BIDI = 0x190B4D3F
CAP_MAX_UNI = 0x190B4D40
CAP_DATA_BLOCKED = 0x190B4D41
CAP_STREAM_DATA_BLOCKED = 0x190B4D42
CAP_BIDI_BLOCKED = 0x190B4D43
CAP_UNI_BLOCKED = 0x190B4D44

# Errors.
SESSION_GONE = 0x170D7B68
BUFFERED_REJECTED = 0x3994BD84
FLOW_CONTROL = 0x045D4487
ALPN = 0x0817B3DD
REQUIREMENTS = 0x212C0D48

# SETTINGS as the browsers send them (Chromium 152 and later, Firefox 14x, Safari 26.4), and
# those of a client that speaks the newest draft with session flow control.
CHROME = {
    0x01: 65536,
    0x06: 262144,
    0x07: 100,
    H3_DATAGRAM: 1,
    H3_DATAGRAM_OLD: 1,
    WT_02: 1,
    WT_07: 1,
    GREASE: 0x5A5A5A,
}
FIREFOX = {0x01: 65536, 0x07: 20, CONNECT_PROTOCOL: 1, H3_DATAGRAM: 1, WT_02: 1}
SAFARI = {
    0x01: 0,
    0x07: 0,
    CONNECT_PROTOCOL: 1,
    H3_DATAGRAM: 1,
    WT_07: 1,
    WT_14: 1,
    MAX_DATA: 1 << 20,
    MAX_UNI: 100,
    MAX_BIDI: 100,
}
DRAFT16 = {H3_DATAGRAM: 1, WT_16: 1, MAX_DATA: 1 << 24, MAX_UNI: 100, MAX_BIDI: 100}


class Frame(NamedTuple):
    """One received frame."""

    type: int
    payload: bytes


def varint(value: int) -> bytes:
    """RFC 9000 section 16, the shortest form."""
    for bits, prefix in ((6, 0), (14, 1), (30, 2), (62, 3)):
        if value < 1 << bits:
            return (prefix << bits | value).to_bytes((bits + 2) // 8, "big")
    raise ValueError(f"{value} is no varint")


def read_varint(buffer: bytes, at: int = 0) -> tuple[int, int]:
    """The varint at ``at``, and where it ends.

    Raises:
        IndexError: It is cut short.
    """
    size = 1 << (buffer[at] >> 6)
    if at + size > len(buffer):
        raise IndexError("varint cut short")
    value = int.from_bytes(buffer[at : at + size], "big")
    return value & (1 << (8 * size - 2)) - 1, at + size


def frame(frame_type: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/3; a capsule has the same shape."""
    return varint(frame_type) + varint(len(payload)) + payload


capsule = frame


def data(payload: bytes) -> bytes:
    """A DATA frame."""
    return frame(DATA, payload)


def close_capsule(code: int, reason: bytes = b"") -> bytes:
    """WT_CLOSE_SESSION."""
    return capsule(CLOSE, code.to_bytes(4, "big") + reason)


def settings_payload(settings: Mapping[int, int]) -> bytes:
    """Identifiers and values."""
    return b"".join(varint(key) + varint(value) for key, value in settings.items())


def settings_frame(settings: Mapping[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, settings_payload(settings))


def encode_headers(fields: Iterable[tuple[str, str]]) -> bytes:
    """A HEADERS frame; QPACK with the static table only."""
    lines = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    control, section = pylsqpack.Encoder().encode(0, lines)
    assert not control
    return frame(HEADERS, section)


def decode_headers(section: bytes) -> dict[str, str]:
    """The fields of a HEADERS frame that uses the static table only."""
    _, lines = pylsqpack.Decoder(0, 0).feed_header(0, section)
    return {name.decode(): value.decode("latin-1") for name, value in lines}


def literal_headers(fields: Iterable[tuple[str, str]]) -> bytes:
    """A HEADERS frame without Huffman coding and tables; lines may have any length."""

    def text(value: bytes, prefix: int, first: int) -> bytes:
        largest, size = (1 << prefix) - 1, len(value)
        if size < largest:
            return bytes([first | size]) + value
        rest, digits = size - largest, bytearray([first | largest])
        while rest >= 0x80:
            digits.append(rest & 0x7F | 0x80)
            rest >>= 7
        return bytes(digits) + bytes([rest]) + value

    lines = [text(k.encode(), 3, 0x20) + text(v.encode("latin-1"), 7, 0) for k, v in fields]
    return frame(HEADERS, b"\0\0" + b"".join(lines))


def decode_lines(section: bytes) -> list[tuple[str, str]]:
    """As ``decode_headers``, line by line."""
    _, lines = pylsqpack.Decoder(0, 0).feed_header(0, section)
    return [(name.decode(), value.decode("latin-1")) for name, value in lines]


def connect(
    path: str = "/",
    *,
    protocol: str = "webtransport-h3",
    fields: Iterable[tuple[str, str]] = (),
    **pseudo: str | None,
) -> bytes:
    """The HEADERS frame of a session request; ``scheme=None`` leaves ``:scheme`` out."""
    return encode_headers(request_lines(path, protocol=protocol, fields=fields, **pseudo))


def request_lines(
    path: str = "/",
    *,
    protocol: str = "webtransport-h3",
    fields: Iterable[tuple[str, str]] = (),
    **pseudo: str | None,
) -> list[tuple[str, str]]:
    """Its lines."""
    values: dict[str, str | None] = {
        "method": "CONNECT",
        "scheme": "https",
        "authority": "localhost",
        "path": path,
        "protocol": protocol,
    }
    lines = [(f":{name}", value) for name, value in (values | pseudo).items() if value is not None]
    return [*lines, *fields]


def stream_header(session_id: int, *, unidirectional: bool) -> bytes:
    """What a WebTransport stream begins with."""
    return varint(0x54 if unidirectional else 0x41) + varint(session_id)


def stream_code(code: int) -> int:
    """Application code of a stream -> code on the wire, by counting over the reserved ones."""
    return 0x52E4A40FA8DB + code + code // 0x1E


def read_frames(buffer: bytes) -> Iterator[Frame]:
    """The complete frames in ``buffer``; capsules are read in the same way."""
    at = 0
    while at < len(buffer):
        try:
            frame_type, start = read_varint(buffer, at)
            length, start = read_varint(buffer, start)
        except IndexError:
            return
        at = start + length
        if at > len(buffer):
            return
        yield Frame(frame_type, bytes(buffer[start:at]))


def read_capsules(buffer: bytes) -> list[Frame]:
    """The capsules in the DATA frames of a CONNECT stream."""
    frames = read_frames(buffer)
    body = b"".join(found.payload for found in frames if found.type == DATA)
    return list(read_frames(body))
