"""A UDP balancer: routes packets by the server ID in their connection ID, plain form of QUIC-LB."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Any

# A client's first packets have an ID of its own choice.
_LONG = 0x80
_RETRY = 0xB0  # of version 1


class Balancer:
    """Listens on a port of 127.0.0.1 and forwards to servers there.

    Each client address has a socket of its own towards each server, as with a balancer that keeps
    the ports of clients apart. It keeps no table of connections.

    Args:
        servers: Ports by server ID.
        config: The configuration that connection IDs must have.

    Attributes:
        port: Where clients reach it.
        routed: Packets whose connection ID named the server, by server ID.
        hashed: Packets that went where the client's address said.
        retries: Retry packets of the servers.
    """

    def __init__(self, servers: Mapping[bytes, int], config: int = 0) -> None:
        self.servers = dict(servers)
        self.config = config
        self.routed: Counter[bytes] = Counter()
        self.hashed = self.retries = 0
        self._front = _bound()
        self.port: int = self._front.getsockname()[1]
        self._backs: dict[tuple[Any, bytes], socket.socket] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._front, self._take)

    def close(self) -> None:
        """Stop."""
        for sock in (self._front, *self._backs.values()):
            self._loop.remove_reader(sock)
            sock.close()

    def rebind(self, client: tuple[str, int] | None = None) -> None:
        """Let the servers see a new address of a client, or of all."""
        for key in [key for key in self._backs if client is None or key[0][1] == client[1]]:
            sock = self._backs.pop(key)
            self._loop.remove_reader(sock)
            sock.close()

    def _take(self) -> None:
        while True:
            try:
                packet, client = self._front.recvfrom(65536)
            except BlockingIOError:
                return
            server_id = self.server_of(packet, client)
            key = client, server_id
            if key not in self._backs:
                back = self._backs[key] = _bound()
                back.connect(("127.0.0.1", self.servers[server_id]))
                self._loop.add_reader(back, self._give, back, client)
            _send(self._backs[key], packet)

    def server_of(self, packet: bytes, client: tuple[str, int]) -> bytes:
        """Return the ID of the server that gets a packet."""
        start = 6 if packet[0] & _LONG else 1
        cid = packet[start:]
        if cid and cid[0] >> 5 == self.config:
            for server_id in self.servers:
                if cid[1 : 1 + len(server_id)] == server_id:
                    self.routed[server_id] += 1
                    return server_id
        self.hashed += 1
        # A client's first packets come from one address.
        return list(self.servers)[client[1] % len(self.servers)]

    def _give(self, back: socket.socket, client: tuple[str, int]) -> None:
        while True:
            try:
                packet = back.recv(65536)
            except (BlockingIOError, ConnectionRefusedError):
                return
            self.retries += packet[0] & _RETRY == _RETRY
            _send(self._front, packet, client)


def _bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
    sock.bind(("127.0.0.1", 0))
    return sock


def _send(sock: socket.socket, packet: bytes, address: tuple[str, int] | None = None) -> None:
    try:
        if address is None:
            sock.send(packet)
        else:
            sock.sendto(packet, address)
    except (BlockingIOError, ConnectionRefusedError):
        pass  # as a network that is full, or a server that is gone
