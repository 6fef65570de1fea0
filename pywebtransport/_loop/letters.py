"""Packets between workers, in the format of the engine, but built without an engine.

Used for packets that wait in the sockets of a worker that has ended: its parent has no engine.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Letter", "letter", "payload_of", "receive_letters"]

# Number of the socket, ECN, lengths of the local and the remote address, how often forwarded.
_HEAD = struct.Struct("BBBBB")
_IN = struct.Struct("=H2s4s8x")
_IN6 = struct.Struct("=H2s4s16sI")
_PORT = struct.Struct("!H")

# <linux/in.h> and <linux/udp.h>; the socket module does not have them.
_IP_PKTINFO = 8
_UDP_GRO = 104
_CONTROL_BYTES = 256
_LARGEST = 1 << 16
# How many packets are read at once; a full socket buffer has fewer useful ones.
_MOST = 8192


class Letter(NamedTuple):
    """One UDP payload, with both addresses as the kernel writes them."""

    local: bytes
    remote: bytes
    payload: bytes


def letter(position: int, found: Letter) -> bytes:
    """Return a packet in the format of ``QuicEndpoint.receive_foreign``.

    Args:
        position: Number of the socket among those of a worker.
        found: The packet.
    """
    head = _HEAD.pack(position, 0, len(found.local), len(found.remote), 1)
    return head + found.local + found.remote + found.payload


def payload_of(message: bytes) -> bytes:
    """Return the UDP payload of a packet between workers; empty if there is none."""
    if len(message) < _HEAD.size:
        return b""
    _, _, local, remote, _ = _HEAD.unpack_from(message)
    return message[_HEAD.size + local + remote :]


def receive_letters(sock: socket.socket) -> Iterator[Letter]:
    """Read the packets that wait in a UDP socket, at most some thousand."""
    bound = sock.getsockname()
    _ask_for_destination(sock)
    for _ in range(_MOST):
        try:
            data, control, _, remote = sock.recvmsg(_LARGEST, _CONTROL_BYTES, socket.MSG_DONTWAIT)
        except OSError:  # nothing is left, or an ICMP error that nobody needs
            return
        if not data or not remote:
            continue
        local, segment = bound, len(data)
        for level, kind, value in control:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                local = (socket.inet_ntoa(value[8:12]), *bound[1:])
            elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                host = socket.inet_ntop(socket.AF_INET6, value[:16])
                scope = struct.unpack_from("=I", value, 16)[0] if host.startswith("fe80:") else 0
                local = (host, bound[1], 0, scope)
            elif (level, kind) == (socket.IPPROTO_UDP, _UDP_GRO):
                segment = int.from_bytes(value, sys.byteorder)
        where = _sockaddr(sock.family, local), _sockaddr(sock.family, remote)
        for start in range(0, len(data), segment or len(data)):
            yield Letter(*where, data[start : start + (segment or len(data))])


def _ask_for_destination(sock: socket.socket) -> None:
    """Make the kernel report the address to which each packet was sent.

    A socket that no engine has used does not report it yet. Without it, these packets would seem to
    use another path than later packets of their connection, and the handshake would not continue.
    """
    with contextlib.suppress(OSError):
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _sockaddr(family: int, address: tuple[Any, ...]) -> bytes:
    port = _PORT.pack(address[1])
    if family == socket.AF_INET:
        return _IN.pack(family, port, socket.inet_aton(address[0]))
    host = socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])
    return _IN6.pack(family, port, b"", host, address[3])
