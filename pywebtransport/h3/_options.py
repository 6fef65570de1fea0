"""Settings of the HTTP/3 layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..exceptions import ConfigurationError
from ._constants import MAX_SESSION_STREAMS, RESERVED_SETTINGS, Setting, is_grease
from ._dialects import ALL_DIALECTS, Dialect, add_enabling
from ._varint import MAX_VARINT

__all__ = ["H3Options", "LocalSettings"]


class LocalSettings(NamedTuple):
    """Our SETTINGS; shared, must not be changed."""

    values: Mapping[int, int]
    opening: bytes
    """The first bytes of the control stream, after its type: the SETTINGS frame."""


_LONGEST = 1e9  # seconds, as in the configuration
_RANGES: dict[str, tuple[float, float]] = {
    "max_sessions": (1, MAX_VARINT),
    "initial_max_data": (1, MAX_VARINT),
    "initial_max_streams_bidi": (1, MAX_SESSION_STREAMS),
    "initial_max_streams_uni": (1, MAX_SESSION_STREAMS),
    "stream_increment_bidi": (1, MAX_SESSION_STREAMS),
    "stream_increment_uni": (1, MAX_SESSION_STREAMS),
    "max_early_streams": (0, MAX_VARINT),
    "max_early_bytes": (0, MAX_VARINT),
    "max_early_per_session": (0, MAX_VARINT),
    "max_early_total": (0, MAX_VARINT),
    "early_timeout": (0.001, _LONGEST),
    "settings_timeout": (0.001, _LONGEST),
    "close_timeout": (0, _LONGEST),
    "header_timeout": (0.001, _LONGEST),
    "write_high_water": (0, MAX_VARINT),
    "max_field_section_size": (1024, 1 << 24),
    "max_control_frame_size": (64, 1 << 24),
    "max_capsule_size": (0, 1 << 24),
    "max_capsule_backlog": (1024, 1 << 30),
    "qpack_max_table_capacity": (0, 1 << 20),
    "qpack_blocked_streams": (0, 65535),
    "max_pending_connects": (0, 65536),
    "max_refused_sessions": (1, 1 << 30),
    "refused_window": (0.001, 3600),
    "max_idle_items": (1, 1 << 30),
    "idle_items_per_second": (1, 1 << 30),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class H3Options:
    """Limits and choices of one HTTP/3 connection.

    Raises:
        ConfigurationError: a field is outside its range.
    """

    dialects: frozenset[int] = field(default=ALL_DIALECTS)
    """Generations to offer, a subset of {2, 7, 14, 16}."""
    extra_enabling_settings: Mapping[int, int] = field(default_factory=dict, hash=False)
    """Extra settings that announce a dialect: setting identifier -> 2, 7, 14 or 16. They are
    sent and understood like those of the drafts."""
    max_sessions: int = 100
    """Open sessions at the same time on one connection."""
    initial_max_data: int = 16 * 1024 * 1024
    """Receive window of one session in bytes, over all its streams."""
    initial_max_streams_bidi: int = 100
    """Bidirectional streams of one session that the peer may have open."""
    initial_max_streams_uni: int = 100
    """Unidirectional streams of one session that the peer may have open."""
    stream_increment_bidi: int = 128
    """After this many streams have ended, the peer may open as many new ones."""
    stream_increment_uni: int = 128
    """The same for unidirectional streams."""
    max_early_streams: int = 24
    """Streams of one connection that may wait for their session."""
    max_early_bytes: int = 65536
    """Bytes of one such stream, and of the datagrams that wait for one session."""
    max_early_per_session: int = 64
    """Streams, and datagrams, that may wait for one session."""
    max_early_total: int = 1024
    """Streams and datagrams of one connection that may wait for their sessions."""
    early_timeout: float = 5.0
    """Seconds until streams and datagrams of an unknown session are dropped."""
    settings_timeout: float = 10.0
    """Seconds that the peer has to send its SETTINGS."""
    close_timeout: float = 2.0
    """Seconds that the peer has to finish its CONNECT stream after we finished ours."""
    header_timeout: float = 10.0
    """Seconds that a client has for the header of a request after its first byte."""
    write_high_water: int = 1024 * 1024
    """Bytes of a response that may be queued before its writer has to wait."""
    max_field_section_size: int = 65536
    """Size of a request or response header, counted as in RFC 9114 section 4.2.2."""
    max_control_frame_size: int = 16384
    """Bytes of one frame on the control stream."""
    max_capsule_size: int = 65536
    """Bytes of a DATAGRAM capsule; larger ones are dropped."""
    max_capsule_backlog: int = 262144
    """Bytes of capsules that may wait because the peer does not read its CONNECT stream."""
    qpack_max_table_capacity: int = 0
    """Bytes of the dynamic tables; 0 uses the static table only."""
    qpack_blocked_streams: int = 0
    """Requests that may wait for the dynamic table."""
    max_pending_connects: int = 16
    """Requests that may wait for the client's SETTINGS."""
    max_refused_sessions: int = 100
    """Refused sessions within ``refused_window`` until the connection is closed; each accepted
    session lowers the count by one."""
    refused_window: float = 10.0
    """Seconds over which refused sessions are counted."""
    max_idle_items: int = 2000
    """Frames, capsules, streams and requests that carry nothing (see ``load``) until the
    connection is closed."""
    idle_items_per_second: int = 1000
    """How much their count falls each second."""
    peer_bidi_streams: int | None = None
    """Bidirectional streams that the transport lets a client have open at once. A session ID
    beyond what that allows closes the connection; None: not checked."""
    legacy_token_retry: bool = True
    """Client: retry with the older ``:protocol`` if a server that also announces an older
    generation answers ``webtransport-h3`` with 400, 405 or 501."""
    offered: tuple[Dialect, ...] = field(default=(), init=False, repr=False, compare=False)
    """The dialects to offer, newest first, with the settings that announce them."""
    local_settings: dict[bool, LocalSettings] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Our SETTINGS by ``is_client``, created once and shared by all connections; see
    ``settings.local_settings``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dialects", frozenset(self.dialects))
        if not self.dialects or not self.dialects <= ALL_DIALECTS:
            raise _bad("dialects", sorted(self.dialects), f"a subset of {sorted(ALL_DIALECTS)}")
        extra = dict(self.extra_enabling_settings)
        object.__setattr__(self, "extra_enabling_settings", extra)
        self._check_enabling()
        offered = add_enabling(self.dialects, self.extra_enabling_settings)
        object.__setattr__(self, "offered", offered)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise _bad(name, value, f"{low} to {high}")
        if self.peer_bidi_streams is not None and self.peer_bidi_streams < 1:
            raise _bad("peer_bidi_streams", self.peer_bidi_streams, "at least 1, or None")

    def _check_enabling(self) -> None:
        for name, draft in self.extra_enabling_settings.items():
            if (
                not 0 <= name <= MAX_VARINT
                or name in RESERVED_SETTINGS
                or name in set(Setting)
                or is_grease(name)
                or draft not in self.dialects
            ):
                raise _bad(
                    "extra_enabling_settings",
                    {name: draft},
                    f"a setting that has no other meaning, and one of {sorted(self.dialects)}",
                )


def _bad(name: str, value: object, accepted: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} must be {accepted}, got {value!r}", config_key=name, config_value=value
    )
