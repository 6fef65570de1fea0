"""WebTransport streams: reliable, ordered bytes."""

from .stream import (
    StreamStats,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)

__all__ = [
    "StreamStats",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportStream",
]
