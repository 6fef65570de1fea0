"""Tools for tests: servers for a block, sessions over a network in memory, a virtual clock."""

from __future__ import annotations

from ._certificates import Certificate, certificate
from ._clock import VirtualClockLoop
from ._network import Network
from ._serving import Served, serve, session_pair

__all__ = [
    "Certificate",
    "Network",
    "Served",
    "VirtualClockLoop",
    "certificate",
    "serve",
    "session_pair",
]
