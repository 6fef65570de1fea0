"""Compatibility path of structured datagrams: import them from ``pywebtransport.datagram``."""

from .._core.structured_datagrams import StructuredDatagramTransport

__all__ = ["StructuredDatagramTransport"]
