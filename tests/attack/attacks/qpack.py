"""The streams of QPACK, and field sections that wait for them (RFC 9204)."""

from __future__ import annotations

from tests.integration import raw_h3 as h3

from ..field import Field
from ..peer import Peer
from ..registry import Run, add, attack

SET_CAPACITY_4096 = b"\x3f\xe1\x1f"
SET_CAPACITY_0 = b"\x20"
INSERT = b"\x41a\x01b"
CANCEL_STREAM = b"\x44"


def instructions(stream: str, first: bytes, block: bytes) -> Run:
    """Write instructions to one of the two streams, for ever."""

    async def run(field: Field) -> None:
        async def once(peer: Peer) -> None:
            found = getattr(peer, stream)
            await peer.write(found, first)
            await peer.flood(found, block)

        await field.go()
        await field.repeat(once)

    return run


add(
    "encoder-capacity",
    "the capacity of the dynamic table, set again and again",
    instructions("encoder", b"", SET_CAPACITY_0 * 30_000),
    group="qpack",
)
add(
    "encoder-inserts",
    "entries for the dynamic table, at full speed",
    instructions("encoder", SET_CAPACITY_4096, INSERT * 10_000),
    group="qpack",
)
add(
    "decoder-cancellations",
    "cancellations of a stream on the decoder stream",
    instructions("decoder", b"", CANCEL_STREAM * 30_000),
    group="qpack",
)


@attack("blocked-requests", "requests that wait for entries of the dynamic table that never come")
async def blocked_requests(field: Field) -> None:
    # Encoded Required Insert Count 2: one entry is needed; then the entry itself.
    request = h3.frame(h3.HEADERS, b"\x02\x00\x80" + b"\xd1" * 50)

    async def once(peer: Peer) -> None:
        while True:
            stream = await peer.open(request)
            stream.release()

    await field.go()
    await field.repeat(once)
