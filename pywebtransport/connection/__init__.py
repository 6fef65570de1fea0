"""QUIC connections that carry WebTransport sessions."""

from .._core.connection import WebTransportConnection
from .._core.info import ConnectionInfo
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
