"""SETTINGS: what this end sends, and the rules for what the peer sends."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from ._constants import (
    BOOLEAN_SETTINGS,
    RESERVED_SETTINGS,
    FrameType,
    H3Error,
    Setting,
    StreamType,
)
from ._errors import H3ConnectionError
from ._frames import encode_frame
from ._options import H3Options, LocalSettings
from ._varint import decode_varint, encode_varint

__all__ = [
    "build_settings",
    "check_settings",
    "encode_settings",
    "greeting",
    "local_settings",
    "parse_settings",
    "read_settings",
]

_CLIENT_SWITCHES = BOOLEAN_SETTINGS | {Setting.WT_ENABLED}
# Peers of one kind send the same bytes: one dictionary serves all their connections.
_SHARED_SIZE = 256
_SHARED_COUNT = 64


def local_settings(options: H3Options, *, is_client: bool) -> LocalSettings:
    """Return our SETTINGS and their frame, created once for all connections with these options."""
    made = options.local_settings.get(is_client)
    if made is None:
        values = build_settings(options, is_client=is_client)
        frame = encode_frame(FrameType.SETTINGS, encode_settings(values))
        made = options.local_settings[is_client] = LocalSettings(values, frame)
    return made


def greeting(options: H3Options) -> bytes:
    """Return the beginning of a server's control stream, which a transport may send early.

    A transport that sends it on a unidirectional stream before the handshake is complete returns
    this stream from ``take_greeting``. The client then knows our SETTINGS a round trip earlier.
    """
    opening = local_settings(options, is_client=False).opening
    return encode_varint(StreamType.CONTROL) + opening


def build_settings(options: H3Options, *, is_client: bool) -> dict[int, int]:
    """Return our SETTINGS.

    Draft-13/14's WT_MAX_SESSIONS is sent only together with non-zero
    WT_INITIAL_* values: some browsers refuse it without them.

    Args:
        options: Dialects and limits.
        is_client: Clients do not send ENABLE_CONNECT_PROTOCOL.
    """
    settings: dict[int, int] = {
        Setting.QPACK_MAX_TABLE_CAPACITY: options.qpack_max_table_capacity,
        Setting.QPACK_BLOCKED_STREAMS: options.qpack_blocked_streams,
        Setting.MAX_FIELD_SECTION_SIZE: options.max_field_section_size,
        Setting.H3_DATAGRAM: 1,
        Setting.H3_DATAGRAM_DRAFT04: 1,
    }
    if not is_client:
        settings[Setting.ENABLE_CONNECT_PROTOCOL] = 1
    for dialect in reversed(options.offered):
        value = options.max_sessions if dialect.counts_sessions else 1
        settings.update(dict.fromkeys(dialect.enabling, value))
        if dialect.flow_control != "never":
            settings[Setting.WT_INITIAL_MAX_DATA] = options.initial_max_data
            settings[Setting.WT_INITIAL_MAX_STREAMS_BIDI] = options.initial_max_streams_bidi
            settings[Setting.WT_INITIAL_MAX_STREAMS_UNI] = options.initial_max_streams_uni
    return settings


def encode_settings(settings: Mapping[int, int]) -> bytes:
    """Return the payload of a SETTINGS frame."""
    return b"".join(encode_varint(k) + encode_varint(v) for k, v in settings.items())


def read_settings(payload: bytes) -> Mapping[int, int]:
    """As :func:`parse_settings`; the result may be shared and must not be changed."""
    return _shared(payload) if len(payload) <= _SHARED_SIZE else parse_settings(payload)


def parse_settings(payload: bytes) -> dict[int, int]:
    """Read the payload of a SETTINGS frame; unknown settings are kept.

    Raises:
        H3ConnectionError: it is truncated (H3_FRAME_ERROR), or it contains an
            identifier twice or a forbidden one (H3_SETTINGS_ERROR).
    """
    settings: dict[int, int] = {}
    pos = 0
    while pos < len(payload):
        name = decode_varint(payload, pos)
        value = None if name is None else decode_varint(payload, name[1])
        if name is None or value is None:
            raise H3ConnectionError(H3Error.FRAME_ERROR, "SETTINGS is cut short")
        identifier = name[0]
        if identifier in RESERVED_SETTINGS:
            raise H3ConnectionError(
                H3Error.SETTINGS_ERROR, f"setting 0x{identifier:x} is forbidden in HTTP/3"
            )
        if identifier in settings:
            raise H3ConnectionError(
                H3Error.SETTINGS_ERROR, f"setting 0x{identifier:x} appears twice"
            )
        settings[identifier], pos = value
    return settings


def check_settings(settings: Mapping[int, int], *, is_client: bool) -> None:
    """Check the values of the peer's settings.

    Raises:
        H3ConnectionError: a switch is neither 0 nor 1 (H3_SETTINGS_ERROR). For
            WT_ENABLED, the rule applies to clients only.
    """
    for name in _CLIENT_SWITCHES if is_client else BOOLEAN_SETTINGS:
        value = settings.get(name, 0)
        if value > 1:
            raise H3ConnectionError(
                H3Error.SETTINGS_ERROR, f"setting 0x{name:x} is {value}: must be 0 or 1"
            )


@lru_cache(_SHARED_COUNT)
def _shared(payload: bytes) -> Mapping[int, int]:
    return parse_settings(payload)
