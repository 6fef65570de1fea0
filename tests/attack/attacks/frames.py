"""Frames of HTTP/3 on request streams and on the control stream."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration import raw_h3 as h3

from ..field import Field
from ..peer import Closed, Peer
from ..registry import Run, add, attack
from .capsules import COUNT, flood, number

PRIORITY_UPDATE = 0xF0700
MAX_PUSH_ID = 0x0D
GREASE = b"\x21"


def control(block: Callable[[int], bytes]) -> Run:
    """Write blocks to the control stream, each made for its number, for ever."""

    async def run(field: Field) -> None:
        async def once(peer: Peer) -> None:
            assert peer.control is not None
            turn = 0
            while True:
                await peer.write(peer.control, block(turn))
                turn += 1

        await field.go()
        await field.repeat(once)

    return run


add(
    "data-frames-empty",
    "DATA frames of 0 bytes in a session",
    flood(b"\0\0" * COUNT),
    group="frames",
)
add(
    "unknown-frames-empty",
    "frames of a reserved type and 0 bytes in a session",
    flood(b"\x21\0" * COUNT),
    group="frames",
)
add(
    "unknown-frames-1",
    "frames of a reserved type and 1 byte in a session",
    flood(b"\x21\x01x" * COUNT),
    group="frames",
)

CONTROL: dict[str, tuple[str, bytes]] = {
    "control-grease-empty": ("frames of a reserved type and 0 bytes", b"\x21\0" * COUNT),
    "control-grease-1": ("frames of a reserved type and 1 byte", b"\x21\x01x" * COUNT),
    "priority-updates": (
        "PRIORITY_UPDATE frames for one request",
        h3.frame(PRIORITY_UPDATE, h3.varint(0) + b"u=1") * 6000,
    ),
    "cancel-pushes": ("CANCEL_PUSH frames", h3.frame(0x03, h3.varint(0)) * COUNT),
    "goaways": ("GOAWAY frames", h3.frame(h3.GOAWAY, h3.varint(0)) * COUNT),
}
for _name, (_doc, _block) in CONTROL.items():
    add(
        _name,
        f"{_doc} on the control stream",
        control(lambda turn, block=_block: block),
        group="frames",
    )

add(
    "priority-updates-spread",
    "PRIORITY_UPDATE frames for requests that are never made",
    control(
        lambda turn: b"".join(
            h3.frame(PRIORITY_UPDATE, h3.varint(4 * (turn * 2000 + n) % (1 << 24)) + b"u=1")
            for n in range(2000)
        )
    ),
    group="frames",
)
add(
    "max-push-ids",
    "MAX_PUSH_ID frames that grow by one",
    control(
        lambda turn: b"".join(h3.frame(MAX_PUSH_ID, number(turn * 2000 + n)) for n in range(2000))
    ),
    group="frames",
)


@attack("request-grease", "frames of a reserved type on request streams, before any HEADERS")
async def request_grease(field: Field) -> None:
    async def once(peer: Peer) -> None:
        while True:
            stream = await peer.open()
            try:
                await peer.flood(stream, GREASE + b"\0" + GREASE + b"\x01x")
            except Closed:
                peer.check()

    await field.go()
    await field.repeat(once, at_once=4)


@attack("header-bombs", "requests with 60,000 field lines in as many bytes")
async def header_bombs(field: Field) -> None:
    await _requests(field, h3.frame(h3.HEADERS, b"\0\0" + b"\xd1" * 60_000))


@attack("header-lines", "requests whose header section is as large as is accepted")
async def header_lines(field: Field) -> None:
    lines = h3.request_lines("/hold", fields=[(f"x{n}", "v") for n in range(1700)])
    await _requests(field, h3.literal_headers(lines))


@attack("plain-requests", "GET requests for what there is not, one after another")
async def plain_requests(field: Field) -> None:
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/none")]
    await _requests(field, h3.encode_headers(fields))


async def _requests(field: Field, request: bytes) -> None:
    async def once(peer: Peer) -> None:
        while True:
            stream = await peer.open(request, fin=True)
            stream.release()

    await field.go()
    await field.repeat(once)


@attack("slow-headers", "as many requests as are allowed, their header sections a byte at a time")
async def slow_headers(field: Field) -> None:
    lines = h3.request_lines("/hold", fields=[("x", "v" * 60_000)])
    request = h3.literal_headers(lines)

    async def once(peer: Peer) -> None:
        streams = []
        while (stream := peer.try_open(request[:1])) is not None:
            streams.append(stream)
        for at in range(1, len(request) - 1):
            for stream in streams:
                if stream.can_write:
                    await peer.write(stream, request[at : at + 1])

    await field.go()
    await field.repeat(once)
