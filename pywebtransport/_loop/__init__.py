"""The only package that knows asyncio: sockets and timers, of QUIC endpoints and over TCP."""

from __future__ import annotations

from .endpoint import Endpoint, UdpSocket
from .memory import MemoryEndpoint
from .resolve import FALLBACK_DELAY, Failures, RemoteAddress, connect_staggered, resolve
from .shared import SharedPort, WorkerSockets
from .sockets import (
    BindAddress,
    bind_addresses,
    bind_shared,
    bind_tcp_beside,
    bind_udp_sockets,
    open_udp_socket,
)
from .steering import LbConfig, Steering
from .tcp import HttpProxy, connect_proxy, dial
from .tunnel import TunnelEndpoint
from .websocket import LinkOptions, require_websockets
from .websocket_client import ClientLink
from .websocket_server import ServerLink

__all__ = [
    "FALLBACK_DELAY",
    "BindAddress",
    "ClientLink",
    "Endpoint",
    "Failures",
    "HttpProxy",
    "LbConfig",
    "LinkOptions",
    "MemoryEndpoint",
    "RemoteAddress",
    "ServerLink",
    "SharedPort",
    "Steering",
    "TunnelEndpoint",
    "UdpSocket",
    "WorkerSockets",
    "bind_addresses",
    "bind_shared",
    "bind_tcp_beside",
    "bind_udp_sockets",
    "connect_proxy",
    "connect_staggered",
    "dial",
    "open_udp_socket",
    "require_websockets",
    "resolve",
]
