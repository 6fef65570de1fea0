"""Packets written by hand: any frames under the right keys, and first packets by the thousand."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.tls import Epoch

from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import RawPeer

__all__ = ["Initials", "Sealer", "crypto_frame", "udp_socket"]

VERSION_1 = 1
_INITIAL = 0xC3  # long header, Initial, packet number of four bytes
_SMALLEST = 1200


class Sealer:
    """Seals frames into packets of an established connection.

    Args:
        peer: aioquic's end of it, which goes on to read what comes.
    """

    def __init__(self, peer: RawPeer) -> None:
        self._quic: QuicConnection = peer._quic
        self._crypto: CryptoPair = self._quic._cryptos[Epoch.ONE_RTT]

    def seal(self, frames: bytes) -> bytes:
        """One packet."""
        number = self._quic._packet_number
        self._quic._packet_number += 1
        header = b"\x43" + self._quic._peer_cid.cid + (number & 0xFFFFFFFF).to_bytes(4, "big")
        return self._crypto.encrypt_packet(header, frames.ljust(4, b"\0"), number)


class Initials:
    """First packets of clients that never go on, each with connection IDs of its own."""

    def __init__(self, hello: bytes, token: bytes = b"") -> None:
        self._hello = crypto_frame(0, hello)
        self._token = token

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self.make(os.urandom(8), os.urandom(8))

    def make(self, destination: bytes, source: bytes) -> bytes:
        """One packet, padded to the smallest size that a server takes."""
        pair = CryptoPair()
        pair.setup_initial(destination, is_client=True, version=VERSION_1)
        head = bytes([_INITIAL]) + VERSION_1.to_bytes(4, "big")
        head += bytes([len(destination)]) + destination + bytes([len(source)]) + source
        head += h3.varint(len(self._token)) + self._token
        room = _SMALLEST - len(head) - 2 - 4 - 16
        payload = self._hello.ljust(room, b"\0")
        head += (0x4000 | len(payload) + 4 + 16).to_bytes(2, "big") + bytes(4)
        return pair.encrypt_packet(head, payload, 0)


def crypto_frame(offset: int, data: bytes) -> bytes:
    """RFC 9000 section 19.6."""
    return b"\x06" + h3.varint(offset) + h3.varint(len(data)) + data


def udp_socket(address: str, port: int) -> socket.socket:
    """A socket of an attacker, connected to a port of 127.0.0.1."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", port))
    return sock
