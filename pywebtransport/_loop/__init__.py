"""The only package that knows asyncio: sockets, timers and flushes of one QUIC endpoint."""

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
from .tunnel import TunnelEndpoint

__all__ = [
    "FALLBACK_DELAY",
    "BindAddress",
    "Endpoint",
    "Failures",
    "LbConfig",
    "MemoryEndpoint",
    "RemoteAddress",
    "SharedPort",
    "Steering",
    "TunnelEndpoint",
    "UdpSocket",
    "WorkerSockets",
    "bind_addresses",
    "bind_shared",
    "bind_tcp_beside",
    "bind_udp_sockets",
    "connect_staggered",
    "open_udp_socket",
    "resolve",
]
