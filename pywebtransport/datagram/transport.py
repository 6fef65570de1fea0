"""Compatibility path of the datagram classes: import them from ``pywebtransport.datagram``."""

from .._core.datagram_message import DatagramMessage, DatagramStats
from .._core.datagram_transport import WebTransportDatagramTransport
from .queue import DatagramQueue

__all__ = [
    "DatagramMessage",
    "DatagramQueue",
    "DatagramStats",
    "WebTransportDatagramTransport",
]
