"""WebTransport datagrams: unreliable messages within one packet."""

from .message import DatagramMessage, DatagramStats
from .transport import WebTransportDatagramTransport

__all__ = ["DatagramMessage", "DatagramStats", "WebTransportDatagramTransport"]
