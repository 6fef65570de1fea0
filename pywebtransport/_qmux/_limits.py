"""Limits of one QMux connection."""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import ConfigurationError
from ._frames import MAX_STREAM_COUNT, MAX_VARINT
from ._parameters import DEFAULT_RECORD_SIZE, Parameters

__all__ = ["QMuxLimits"]

_LONGEST = 1e9  # seconds, as in the configuration
_RANGES: dict[str, tuple[float, float]] = {
    "data_window": (1, MAX_VARINT),
    "max_data_window": (1, MAX_VARINT),
    "stream_window": (1, MAX_VARINT),
    "max_stream_window": (1, MAX_VARINT),
    "max_streams_bidi": (0, MAX_STREAM_COUNT),
    "max_streams_uni": (0, MAX_STREAM_COUNT),
    "max_datagram_frame_size": (0, MAX_VARINT),
    "max_record_size": (DEFAULT_RECORD_SIZE, 1 << 24),
    "idle_timeout": (0, _LONGEST),
    "keep_alive": (0, _LONGEST),
    "handshake_timeout": (0.001, _LONGEST),
    "datagram_queue": (1, 1 << 30),
    "write_low_water": (0, MAX_VARINT),
    "max_queued_data": (0, MAX_VARINT),
    "max_idle_items": (1, 1 << 30),
    "idle_items_per_second": (1, 1 << 30),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class QMuxLimits:
    """Limits and times of one connection.

    Raises:
        ConfigurationError: a field is outside its range.
    """

    data_window: int = 1 << 20
    """Bytes that the peer may send on all streams before the application reads."""
    max_data_window: int = 1 << 20
    """Bytes to which this grows while the application reads; bounds the unread bytes."""
    stream_window: int = 1 << 18
    """Bytes that the peer may send on one stream before the application reads."""
    max_stream_window: int = 1 << 18
    """Bytes to which this grows while the application reads."""
    max_streams_bidi: int = 100
    """Bidirectional streams that the peer may have open."""
    max_streams_uni: int = 100
    """Unidirectional streams that the peer may have open."""
    max_datagram_frame_size: int = DEFAULT_RECORD_SIZE
    """Bytes of a received DATAGRAM frame with its header; 0: no datagrams."""
    max_record_size: int = 65535
    """Bytes of a received record."""
    idle_timeout: float = 30.0
    """Seconds without a record until the connection is closed; 0: never."""
    keep_alive: float = 0.0
    """Seconds without sending until a QX_PING is sent; 0: none is sent."""
    handshake_timeout: float = 10.0
    """Seconds that the peer has to send its parameters."""
    datagram_queue: int = 1024
    """Datagrams that may wait to be sent."""
    write_low_water: int = 64 * 1024
    """Bytes queued on a stream at which a waiting writer continues."""
    max_queued_data: int = 16 * 1024 * 1024
    """Bytes queued on all streams from which on writers wait earlier."""
    max_idle_items: int = 2000
    """Frames that carry nothing until the connection is closed."""
    idle_items_per_second: int = 1000
    """How much their count falls each second."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(
                    f"{name} must be {low} to {high}, got {value!r}",
                    config_key=name,
                    config_value=value,
                )

    def parameters(self, draft: int) -> Parameters:
        """Return what this end announces.

        Args:
            draft: 1 or 2.
        """
        return Parameters(
            max_idle_timeout=int(self.idle_timeout * 1000),
            max_data=self.data_window,
            max_stream_data_bidi_local=self.stream_window,
            max_stream_data_bidi_remote=self.stream_window,
            max_stream_data_uni=self.stream_window,
            max_streams_bidi=self.max_streams_bidi,
            max_streams_uni=self.max_streams_uni,
            max_datagram_frame_size=self.max_datagram_frame_size,
            max_record_size=self.max_record_size,
            reset_stream_at=draft >= 2,
            drain=True,
        )
