"""First packets, with and without a token, and what belongs to no connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import Epoch

from ..field import Field
from ..packets import Initials, udp_socket
from ..peer import ADDRESS
from ..registry import attack

_BURST = 32


def client_hello() -> bytes:
    """A real one, of aioquic's TLS."""
    quic = QuicConnection(
        configuration=QuicConfiguration(
            is_client=True, alpn_protocols=["h3"], server_name="localhost"
        )
    )
    quic.connect(("127.0.0.1", 1), now=0.0)
    sender = quic._crypto_streams[Epoch.INITIAL].sender
    return bytes(sender._buffer)


async def send(field: Field, packets: Iterator[bytes], *, ports: int = 64) -> None:
    """Send packets for ever, from so many ports in turn."""
    sockets = [udp_socket(ADDRESS, field.port) for _ in range(ports)]
    try:
        while True:
            for number in range(_BURST):
                packet = next(packets)
                with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                    sockets[number % ports].send(packet)
                field.sent += len(packet)
                field.notes["packets"] += 1
            await asyncio.sleep(0)
    finally:
        for sock in sockets:
            sock.close()


@attack("initials", "first packets of one address, from 64 ports, none of which goes on")
async def initials(field: Field) -> None:
    hello = client_hello()
    await field.go()
    await send(field, iter(Initials(hello)))


@attack("initials-token", "the same, with a token that a connection of this address was given")
async def initials_token(field: Field) -> None:
    peer = await field.connect()
    async with asyncio.timeout(5):
        await peer.has_token.wait()
    hello = client_hello()
    await field.go()
    await send(field, iter(Initials(hello, peer.tokens[0])))


@attack("initials-wrong", "first packets with a token that nobody gave out")
async def initials_wrong(field: Field) -> None:
    hello = client_hello()
    await field.go()
    await send(field, iter(Initials(hello, os.urandom(60))))


@attack("initials-garbage", "first packets whose handshake message is random")
async def initials_garbage(field: Field) -> None:
    await field.go()
    await send(field, (next(iter(Initials(os.urandom(300)))) for _ in iter(int, 1)))


@attack("half-open", "first packets of one address, slowly: as many half-open connections as go")
async def half_open(field: Field) -> None:
    hello = client_hello()
    packets = iter(Initials(hello))
    await field.go()
    sock = udp_socket(ADDRESS, field.port)
    try:
        while True:
            packet = next(packets)
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                sock.send(packet)
            field.sent += len(packet)
            await asyncio.sleep(0.002)
    finally:
        sock.close()


@attack("short-garbage", "packets of no connection, which ask for a stateless reset")
async def short_garbage(field: Field) -> None:
    await field.go()
    await send(field, (b"\x43" + os.urandom(60) for _ in iter(int, 1)))


@attack("versions", "first packets of a version that there is not")
async def versions(field: Field) -> None:
    await field.go()
    await send(
        field,
        (
            b"\xc3\x1a\x2a\x3a\x4a\x08" + os.urandom(8) + b"\x08" + os.urandom(8) + bytes(1200)
            for _ in iter(int, 1)
        ),
    )
