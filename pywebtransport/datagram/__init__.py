"""WebTransport datagrams: unreliable messages within one packet, and services over them."""

from .broadcaster import DatagramBroadcaster
from .message import DatagramMessage, DatagramStats
from .monitor import DatagramMonitor
from .queue import DatagramQueue
from .reliability import DatagramReliabilityLayer
from .structured import StructuredDatagramTransport
from .transport import WebTransportDatagramTransport

__all__ = [
    "DatagramBroadcaster",
    "DatagramMessage",
    "DatagramMonitor",
    "DatagramQueue",
    "DatagramReliabilityLayer",
    "DatagramStats",
    "StructuredDatagramTransport",
    "WebTransportDatagramTransport",
]
