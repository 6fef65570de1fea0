"""QUIC connections that carry WebTransport sessions."""

from .connection import WebTransportConnection
from .info import ConnectionInfo

__all__ = ["ConnectionInfo", "WebTransportConnection"]
