"""QUIC connections that carry WebTransport sessions."""

from .connection import WebTransportConnection
from .info import ConnectionInfo
from .load_balancer import ConnectionLoadBalancer
from .manager import ConnectionManager
from .pool import ConnectionPool

__all__ = [
    "ConnectionInfo",
    "ConnectionLoadBalancer",
    "ConnectionManager",
    "ConnectionPool",
    "WebTransportConnection",
]
