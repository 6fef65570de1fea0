"""WebTransport streams: reliable, ordered bytes."""

from .manager import StreamManager
from .pool import StreamPool
from .stream import (
    StreamBuffer,
    StreamStats,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from .structured import StructuredStream

__all__ = [
    "StreamBuffer",
    "StreamManager",
    "StreamPool",
    "StreamStats",
    "StructuredStream",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportStream",
]
