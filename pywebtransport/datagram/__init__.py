"""WebTransport datagrams: unreliable messages within one packet, and services over them."""

from .._core.datagram_message import DatagramMessage, DatagramStats
from .._core.datagram_transport import WebTransportDatagramTransport
from .._core.structured_datagrams import StructuredDatagramTransport
from ._queue import DatagramQueue
from .broadcaster import DatagramBroadcaster
from .monitor import DatagramMonitor
from .reliability import DatagramReliabilityLayer

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
