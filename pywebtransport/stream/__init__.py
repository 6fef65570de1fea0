"""WebTransport streams: reliable, ordered bytes."""

from .._core.receive_stream import WebTransportReceiveStream
from .._core.send_stream import WebTransportSendStream
from .._core.stream import WebTransportStream
from .._core.stream_base import StreamStats
from .._core.stream_manager import StreamManager
from .._core.structured_stream import StructuredStream
from ._buffer import StreamBuffer
from .pool import StreamPool

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
