"""DATAGRAM frames (RFC 9221)."""

from __future__ import annotations

import asyncio

from tests.integration import raw_h3 as h3

from ..field import Field
from ..peer import Peer
from ..registry import Run, add


def flood(path: str, size: int, *, known: bool = True) -> Run:
    """Datagrams of one size to a session, or to none."""

    async def run(field: Field) -> None:
        async def once(peer: Peer) -> None:
            session = await peer.session(path)
            number = session.stream_id // 4 + (0 if known else 100)
            prefix, data = h3.varint(number), bytes(size)
            assert peer.quic is not None
            while True:
                peer.check()
                while peer.quic.send_datagram(prefix, data):
                    if peer.quic.datagrams_queued >= 256:
                        break
                await asyncio.sleep(0)
                if peer.quic.datagrams_queued >= 256:
                    await asyncio.sleep(0.001)

        await field.go()
        await field.repeat(once)

    return run


for _name, _doc, _run in (
    ("datagrams", "1,000 bytes each to a handler that reads none", flood("/hold", 1000)),
    ("datagrams-empty", "without a byte to a handler that reads none", flood("/hold", 0)),
    ("datagrams-echo", "of 1 byte to an echo handler", flood("/echo", 1)),
    ("datagrams-unknown", "of sessions that are never opened", flood("/hold", 1000, known=False)),
):
    add(_name, f"QUIC datagrams {_doc}, at full speed", _run, group="datagrams")
