"""Compatibility path of the stream classes: import them from ``pywebtransport.stream``."""

from .._core.receive_stream import WebTransportReceiveStream
from .._core.send_stream import WebTransportSendStream
from .._core.stream import WebTransportStream
from .._core.stream_base import StreamStats
from .buffer import StreamBuffer

__all__ = [
    "StreamBuffer",
    "StreamStats",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportStream",
]
