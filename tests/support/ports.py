"""Ports for programs that must be told one, and ports where nobody listens."""

from __future__ import annotations

import itertools
import os
import random
import re
import socket

__all__ = ["free_port", "free_port_of_both"]

# Below the ports that the system gives out: else any client of another test, in this process or in
# a worker beside it, may get a port between the moment it was found free and its use.
PORTS = range(10_000, 20_000)
SLICES = 10


def _slice() -> range:
    """The ports of this worker of a parallel run."""
    match = re.search(r"\d+$", os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
    index = int(match[0]) if match else 0
    return PORTS[index % SLICES :: SLICES]


_ports = itertools.cycle(_slice())
for _ in range(random.randrange(len(_slice()))):  # where a run beside this one does not start
    next(_ports)


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port that nobody uses on any address, and that nobody gets unless they name it.

    Args:
        kind: Of the socket: ``SOCK_DGRAM`` for UDP, ``SOCK_STREAM`` for TCP.
    """
    for port in itertools.islice(_ports, len(_slice())):
        with socket.socket(socket.AF_INET6, kind) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                probe.bind(("::", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port among {_slice()}")


def free_port_of_both() -> int:
    """As ``free_port``, for UDP and TCP."""
    while True:
        port = free_port()
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                probe.bind(("::", port))
            except OSError:
                continue
        return port
