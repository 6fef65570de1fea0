"""Frames of QUIC itself, in packets with the right keys (RFC 9000 section 19)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import RawPeer, raw_client

from ..field import Field
from ..packets import Sealer, crypto_frame
from ..peer import ADDRESS
from ..registry import Run, add

# Frames of one packet, and packets between two looks at what came back.
_SIZE = 1100
_BURST = 32


def flood(make: Callable[[int], bytes], *, session: bool = False) -> Run:
    """Packets full of frames, each made for its number, for ever; anew when it is closed."""

    async def run(field: Field) -> None:
        await field.go()
        while True:
            try:
                async with raw_client(field.port, local=ADDRESS) as peer:
                    if session:
                        await peer.session("/hold")
                    await _send(field, peer, make)
            except (ConnectionError, TimeoutError, AssertionError):
                field.notes["no connection"] += 1
            await asyncio.sleep(0.02)

    return run


async def _send(field: Field, peer: RawPeer, make: Callable[[int], bytes]) -> None:
    sealer, number = Sealer(peer), 0
    transport = peer._transport
    field.notes["connections"] += 1
    while peer.terminated is None:
        for _ in range(_BURST):
            frames = bytearray()
            while len(frames) < _SIZE:
                frames += make(number)
                number += 1
            packet = sealer.seal(bytes(frames[:1400]))
            transport.sendto(packet, ("127.0.0.1", field.port))
            field.sent += len(packet)
        await asyncio.sleep(0)
    end = peer.terminated
    kind = "application" if end.frame_type is None else "transport"
    field.notes[f"{kind} {end.error_code:#x} by the other end"] += 1


def connection_id(number: int) -> bytes:
    """NEW_CONNECTION_ID that retires all before it."""
    sequence = number + 1
    return (
        b"\x18" + h3.varint(sequence) + h3.varint(sequence) + b"\x08" + os.urandom(8)
        + os.urandom(16)
    )  # fmt: skip


FRAMES: dict[str, tuple[str, Callable[[int], bytes], bool]] = {
    "pings": ("PING frames", lambda number: b"\x01", False),
    "path-challenges": ("PATH_CHALLENGE frames", lambda number: b"\x1a" + os.urandom(8), False),
    "new-connection-ids": ("NEW_CONNECTION_ID frames that retire", connection_id, False),
    "max-data": (
        "MAX_DATA frames that grow",
        lambda number: b"\x10" + h3.varint((1 << 30) + number),
        False,
    ),
    "max-streams": (
        "MAX_STREAMS frames that grow",
        lambda number: b"\x12" + h3.varint(1000 + number),
        False,
    ),
    "blocked": ("DATA_BLOCKED frames", lambda number: b"\x14" + h3.varint(number), False),
    "acks": ("ACK frames of one range", lambda number: b"\x02\x00\x00\x00\x00", False),
    "crypto-gaps": (
        "CRYPTO frames of one byte with gaps between",
        lambda number: crypto_frame(1 + 2 * number % 60_000, b"x"),
        False,
    ),
    "crypto-far": (
        "CRYPTO frames of one byte, ever further away",
        lambda number: crypto_frame(1 + 2 * number, b"x"),
        False,
    ),
    "stream-gaps": (
        "STREAM frames of one byte on a held stream with gaps between",
        # Stream 4: a request; offset and length, no FIN.
        lambda number: b"\x0e\x04" + h3.varint(1 + 2 * number % 1_000_000) + b"\x01x",
        True,
    ),
    "stream-empty": (
        "STREAM frames without a byte",
        lambda number: b"\x0e\x04\x00\x00",
        True,
    ),
    "streams-blocked": (
        "STREAMS_BLOCKED frames",
        lambda number: b"\x16" + h3.varint(number),
        False,
    ),
    "max-stream-data": (
        "MAX_STREAM_DATA frames that grow, for the CONNECT stream",
        lambda number: b"\x11\x00" + h3.varint((1 << 30) + number),
        True,
    ),
    "stops": (
        "STOP_SENDING frames for the CONNECT stream",
        lambda number: b"\x05\x00\x00",
        True,
    ),
    "handshake-tokens": (
        "frames that only a server may send",
        lambda number: b"\x07\x01x",
        False,
    ),
}
for _name, (_doc, _make, _session) in FRAMES.items():
    add(
        f"quic-{_name}",
        f"{_doc}, packets full of them",
        flood(_make, session=_session),
        group="quic",
    )
