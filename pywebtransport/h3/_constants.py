"""All protocol numbers in one table: HTTP/3, QPACK, datagrams, WebTransport drafts.

RFC 9114, 9204, 9218, 9220, 9297 and draft-ietf-webtrans-http3-02 to -16. While
the drafts last, code points may be renumbered; nothing outside this file and
``dialects.py`` names one as a literal. Error codes are those of ``constants.ErrorCodes``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from ..constants import ErrorCodes

__all__ = ["CapsuleType", "FrameType", "H3Error", "Setting", "StreamType"]


class FrameType(IntEnum):
    """HTTP/3 frames (RFC 9114 section 7.2, RFC 9218 section 7.2) and the stream signal 0x41."""

    DATA = 0x00
    HEADERS = 0x01
    CANCEL_PUSH = 0x03
    SETTINGS = 0x04
    PUSH_PROMISE = 0x05
    GOAWAY = 0x07
    MAX_PUSH_ID = 0x0D
    WEBTRANSPORT_STREAM = 0x41
    PRIORITY_UPDATE_REQUEST = 0xF0700
    PRIORITY_UPDATE_PUSH = 0xF0701


# Frame types of HTTP/2 that HTTP/3 forbids (RFC 9114 section 7.2.8).
RESERVED_FRAME_TYPES: Final = frozenset({0x02, 0x06, 0x08, 0x09})


class StreamType(IntEnum):
    """First varint of a unidirectional stream (RFC 9114 section 6.2, RFC 9204 section 4.2)."""

    CONTROL = 0x00
    PUSH = 0x01
    QPACK_ENCODER = 0x02
    QPACK_DECODER = 0x03
    WEBTRANSPORT = 0x54


class Setting(IntEnum):
    """SETTINGS identifiers; the enabling ids of the WebTransport drafts are in ``dialects``."""

    QPACK_MAX_TABLE_CAPACITY = 0x01
    MAX_FIELD_SECTION_SIZE = 0x06
    QPACK_BLOCKED_STREAMS = 0x07
    ENABLE_CONNECT_PROTOCOL = 0x08
    H3_DATAGRAM = 0x33
    H3_DATAGRAM_DRAFT04 = 0xFFD277
    WT_INITIAL_MAX_DATA = 0x2B61
    WT_INITIAL_MAX_STREAMS_UNI = 0x2B64
    WT_INITIAL_MAX_STREAMS_BIDI = 0x2B65
    ENABLE_WEBTRANSPORT_DRAFT02 = 0x2B603742
    WT_MAX_SESSIONS_DRAFT07 = 0xC671706A
    WT_MAX_SESSIONS_DRAFT14 = 0x14E9CD29
    WT_ENABLED = 0x2C7CF000


# Identifiers of HTTP/2 that HTTP/3 forbids (RFC 9114 section 7.2.4.1).
RESERVED_SETTINGS: Final = frozenset({0x00, 0x02, 0x03, 0x04, 0x05})


def is_grease(number: int) -> bool:
    """Return whether a number is reserved to test that it is ignored (RFC 9114 7.2.4.1)."""
    return number >= 0x21 and (number - 0x21) % 0x1F == 0


# Settings that must be 0 or 1; anything else is H3_SETTINGS_ERROR.
BOOLEAN_SETTINGS: Final = frozenset(
    {
        Setting.ENABLE_CONNECT_PROTOCOL,
        Setting.H3_DATAGRAM,
        Setting.H3_DATAGRAM_DRAFT04,
        Setting.ENABLE_WEBTRANSPORT_DRAFT02,
    }
)


class CapsuleType(IntEnum):
    """Capsules (RFC 9297 section 5.4 and the WebTransport drafts)."""

    DATAGRAM = 0x00
    WT_CLOSE_SESSION = 0x2843
    WT_DRAIN_SESSION = 0x78AE
    WT_MAX_DATA = 0x190B4D3D
    WT_MAX_STREAM_DATA = 0x190B4D3E
    WT_MAX_STREAMS_BIDI = 0x190B4D3F
    WT_MAX_STREAMS_UNI = 0x190B4D40
    WT_DATA_BLOCKED = 0x190B4D41
    WT_STREAM_DATA_BLOCKED = 0x190B4D42
    WT_STREAMS_BLOCKED_BIDI = 0x190B4D43
    WT_STREAMS_BLOCKED_UNI = 0x190B4D44


class H3Error(IntEnum):
    """Error codes (RFC 9114 section 8.1, RFC 9204 section 6, RFC 9297 section 5.2, the drafts)."""

    DATAGRAM_ERROR = ErrorCodes.H3_DATAGRAM_ERROR
    NO_ERROR = ErrorCodes.H3_NO_ERROR
    GENERAL_PROTOCOL_ERROR = ErrorCodes.H3_GENERAL_PROTOCOL_ERROR
    INTERNAL_ERROR = ErrorCodes.H3_INTERNAL_ERROR
    STREAM_CREATION_ERROR = ErrorCodes.H3_STREAM_CREATION_ERROR
    CLOSED_CRITICAL_STREAM = ErrorCodes.H3_CLOSED_CRITICAL_STREAM
    FRAME_UNEXPECTED = ErrorCodes.H3_FRAME_UNEXPECTED
    FRAME_ERROR = ErrorCodes.H3_FRAME_ERROR
    EXCESSIVE_LOAD = ErrorCodes.H3_EXCESSIVE_LOAD
    ID_ERROR = ErrorCodes.H3_ID_ERROR
    SETTINGS_ERROR = ErrorCodes.H3_SETTINGS_ERROR
    MISSING_SETTINGS = ErrorCodes.H3_MISSING_SETTINGS
    REQUEST_REJECTED = ErrorCodes.H3_REQUEST_REJECTED
    REQUEST_CANCELLED = ErrorCodes.H3_REQUEST_CANCELLED
    REQUEST_INCOMPLETE = ErrorCodes.H3_REQUEST_INCOMPLETE
    MESSAGE_ERROR = ErrorCodes.H3_MESSAGE_ERROR
    CONNECT_ERROR = ErrorCodes.H3_CONNECT_ERROR
    QPACK_DECOMPRESSION_FAILED = ErrorCodes.QPACK_DECOMPRESSION_FAILED
    QPACK_ENCODER_STREAM_ERROR = ErrorCodes.QPACK_ENCODER_STREAM_ERROR
    QPACK_DECODER_STREAM_ERROR = ErrorCodes.QPACK_DECODER_STREAM_ERROR
    WT_FLOW_CONTROL_ERROR = ErrorCodes.WT_FLOW_CONTROL_ERROR
    WT_ALPN_ERROR = ErrorCodes.WT_ALPN_ERROR
    WT_SESSION_GONE = ErrorCodes.WT_SESSION_GONE
    WT_REQUIREMENTS_NOT_MET = ErrorCodes.WT_REQUIREMENTS_NOT_MET
    WT_BUFFERED_STREAM_REJECTED = ErrorCodes.WT_BUFFERED_STREAM_REJECTED


# Application stream codes on the wire: base + n + floor(n / 30).
STREAM_CODE_BASE: Final[int] = ErrorCodes.WT_APPLICATION_ERROR_FIRST.value
STREAM_CODE_LAST: Final[int] = ErrorCodes.WT_APPLICATION_ERROR_LAST.value

# Most bytes of a field name, and of name and value together: deployed QPACK coders accept this.
MAX_FIELD_NAME: Final = 1024
MAX_FIELD_LINE: Final = 65500
MAX_FIELD_LINES: Final = 256  # accepted in one header
MAX_UDP_PAYLOAD: Final = 65527  # bytes of one proxied UDP payload (RFC 9298 section 5)
MAX_CLOSE_REASON: Final = 1024  # bytes of UTF-8 in WT_CLOSE_SESSION
MAX_SESSION_STREAMS: Final = 1 << 60  # largest value of WT_MAX_STREAMS and WT_STREAMS_BLOCKED
MAX_QUARTER_STREAM_ID: Final = (1 << 60) - 1  # RFC 9297 section 2.1
FIRST_GOAWAY_ID: Final = (1 << 62) - 4  # graceful shutdown, RFC 9114 section 5.2

WEBTRANSPORT_TOKEN: Final = "webtransport"
WEBTRANSPORT_H3_TOKEN: Final = "webtransport-h3"
CONNECT_UDP_TOKEN: Final = "connect-udp"
WEBSOCKET_TOKEN: Final = "websocket"
TOKENS: Final = frozenset({WEBTRANSPORT_TOKEN, WEBTRANSPORT_H3_TOKEN})

DRAFT02_REQUEST_FIELD: Final = "sec-webtransport-http3-draft02"
DRAFT02_RESPONSE_FIELD: Final = "sec-webtransport-http3-draft"
DRAFT02_RESPONSE_VALUE: Final = "draft02"
AVAILABLE_PROTOCOLS_FIELD: Final = "wt-available-protocols"
PROTOCOL_FIELD: Final = "wt-protocol"

CAPSULE_PROTOCOL_FIELD: Final = "capsule-protocol"

EXPORTER_LABEL: Final = b"EXPORTER-WebTransport"
