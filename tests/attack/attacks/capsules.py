"""Capsules on the CONNECT stream of a session."""

from __future__ import annotations

from pywebtransport._quic import QuicStream
from tests.integration import raw_h3 as h3

from ..field import Field
from ..peer import Peer
from ..registry import Run, add, attack

COUNT = 30_000


def flood(block: bytes, path: str = "/hold") -> Run:
    """Write a block to the CONNECT stream, for ever."""

    async def run(field: Field) -> None:
        async def once(peer: Peer) -> None:
            stream = await peer.session(path)
            await peer.flood(stream, block)

        await field.go()
        await field.repeat(once)

    return run


def number(value: int) -> bytes:
    """A number as a varint of eight bytes."""
    return (3 << 62 | value).to_bytes(8, "big")


BLOCKS = {
    "datagram-capsules-empty": ("DATAGRAM capsules without a byte", b"\0\0" * COUNT),
    "unknown-capsules-empty": ("unknown capsules of 0 bytes", b"\x17\0" * COUNT),
    "unknown-capsules-1": ("unknown capsules of 1 byte", b"\x17\x01x" * COUNT),
    "unknown-capsules-1k": ("unknown capsules of 1,000 bytes", h3.capsule(0x17, bytes(1000)) * 60),
    "drain-capsules": ("drain capsules", h3.capsule(h3.DRAIN) * (COUNT // 2)),
    "blocked-capsules": (
        "capsules that say that credit is missing",
        (
            h3.capsule(h3.CAP_DATA_BLOCKED, h3.varint(0))
            + h3.capsule(h3.CAP_BIDI_BLOCKED, h3.varint(0))
            + h3.capsule(h3.CAP_UNI_BLOCKED, h3.varint(0))
        )
        * (COUNT // 6),
    ),
    "datagram-capsules-64": (
        "DATAGRAM capsules of 64 bytes to a handler that reads none",
        h3.capsule(0, bytes(64)) * 900,
    ),
    "datagram-capsules-65000": (
        "DATAGRAM capsules of 65,000 bytes to a handler that reads none",
        h3.capsule(0, bytes(65000)),
    ),
}

for _name, (_doc, _block) in BLOCKS.items():
    add(_name, f"{_doc}, at full speed", flood(h3.data(_block)), group="capsules")

add(
    "split-capsules",
    "unknown capsules whose bytes come in DATA frames of one byte each",
    flood((h3.data(b"\x17") + h3.data(b"\x01") + h3.data(b"x")) * 7000),
    group="capsules",
)


@attack("credit-capsules", "capsules that raise the session's credit by one byte or stream each")
async def credit_capsules(field: Field) -> None:
    async def once(peer: Peer) -> None:
        stream = await peer.session("/hold")
        value = 1 << 25
        while True:
            await raise_credit(peer, stream, value)
            value += 1000

    await field.go()
    await field.repeat(once)


async def raise_credit(peer: Peer, stream: QuicStream, first: int) -> None:
    """A thousand of each kind."""
    block = bytearray()
    for value in range(first, first + 1000):
        block += h3.capsule(h3.CAP_MAX_DATA, number(value))
        block += h3.capsule(h3.CAP_MAX_UNI, number(value))
        block += h3.capsule(h3.CAP_MAX_BIDI, number(value))
    await peer.write(stream, h3.data(bytes(block)))


@attack(
    "many-datagram-capsules", "DATAGRAM capsules of 65,000 bytes in ten sessions that read none"
)
async def many_datagram_capsules(field: Field) -> None:
    block = h3.data(h3.capsule(0, bytes(65000)))

    async def once(peer: Peer) -> None:
        streams = [await peer.session("/hold") for _ in range(10)]
        while True:
            for stream in streams:
                await peer.write(stream, block)

    await field.go()
    await field.repeat(once)
