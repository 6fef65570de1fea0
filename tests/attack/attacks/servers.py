"""A hostile server against a client that talks to a good server at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pywebtransport._quic import QuicConnection, QuicStream, QuicTls
from tests.integration import raw_h3 as h3

from ..field import Field
from ..peer import Closed, Peer, engine, readable
from ..registry import add, for_ever
from .capsules import BLOCKS
from .streams import CHUNK

Work = Callable[[Peer, QuicStream], Awaitable[None]]

# What a server says: like a client, and how much the client may send.
SETTINGS = h3.DRAFT16 | {h3.CONNECT_PROTOCOL: 1}


def hostile_server(work: Work) -> Callable[[Field], Awaitable[None]]:
    """A server that answers each request for a session, and then does this to it."""

    async def run(field: Field) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept(connection: QuicConnection) -> Peer:
            peer = field.add(Peer())
            peer.quic = connection
            task = asyncio.get_running_loop().create_task(serve(peer, work))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return peer

        tls = QuicTls(is_server=True, alpn=["h3"], **field.files)
        endpoint = field.keep(engine(tls=tls, accept=accept))
        field.port = (await endpoint.bind("127.0.0.1", 0))[0][1]
        await field.go()
        await for_ever()

    return run


async def serve(peer: Peer, work: Work) -> None:
    """One connection."""
    try:
        peer.start(SETTINGS)
        request = await first_request(peer)
        request.write(h3.encode_headers([(":status", "200")]))
        await work(peer, request)
    except Closed:
        pass


async def first_request(peer: Peer) -> QuicStream:
    """Wait for the first bidirectional stream of the client and its first bytes."""
    while True:
        for stream in peer.streams:
            if not stream.is_unidirectional:
                while not stream.peek(1):
                    await readable(stream)
                    peer.check()
                return stream
        await peer.news()


def blocks(block: bytes) -> Work:
    """The same bytes on the CONNECT stream, for ever."""

    async def work(peer: Peer, request: QuicStream) -> None:
        await peer.flood(request, block)

    return work


def control(block: bytes) -> Work:
    """The same on the control stream."""

    async def work(peer: Peer, request: QuicStream) -> None:
        assert peer.control is not None
        await peer.flood(peer.control, block)

    return work


async def streams_held(peer: Peer, request: QuicStream) -> None:
    """Streams of both kinds, full of bytes, as many as there is credit for."""
    for unidirectional in (True, False):
        header = h3.stream_header(request.stream_id, unidirectional=unidirectional)
        while (stream := peer.try_open(header, unidirectional=unidirectional)) is not None:
            stream.write(CHUNK)
            await asyncio.sleep(0)
    while True:
        await peer.news()


async def streams_reset(peer: Peer, request: QuicStream) -> None:
    """Streams that are opened and reset."""
    header = h3.stream_header(request.stream_id, unidirectional=True)
    while True:
        stream = await peer.open(header + b"x", unidirectional=True)
        await asyncio.sleep(0)
        stream.reset(h3.stream_code(1))
        stream.release()


async def datagrams(peer: Peer, request: QuicStream) -> None:
    """Datagrams that are not read."""
    assert peer.quic is not None
    prefix = h3.varint(request.stream_id // 4)
    while True:
        peer.check()
        while peer.quic.datagrams_queued < 256 and peer.quic.send_datagram(prefix, bytes(1000)):
            pass
        await asyncio.sleep(0.0005)


async def goodbyes(peer: Peer, request: QuicStream) -> None:
    """Sessions that are closed as soon as they are open."""
    request.write(h3.data(h3.close_capsule(1, b"x" * 1024)), True)
    await for_ever()


add_all: dict[str, tuple[str, Work]] = {
    **{f"server-{name}": (doc, blocks(h3.data(block))) for name, (doc, block) in BLOCKS.items()},
    "server-data-frames-empty": ("DATA frames of 0 bytes", blocks(b"\0\0" * 30_000)),
    "server-unknown-frames": ("frames of a reserved type", blocks(b"\x21\0" * 30_000)),
    "server-control-grease": (
        "frames of a reserved type on the control stream",
        control(b"\x21\0" * 30_000),
    ),
    "server-goaways": (
        "GOAWAY frames",
        control(h3.frame(h3.GOAWAY, h3.varint(1 << 20)) * 10_000),
    ),
    "server-streams-held": ("streams of both kinds, full of bytes, held", streams_held),
    "server-streams-reset": ("streams, opened and reset", streams_reset),
    "server-datagrams": ("datagrams that nobody reads", datagrams),
    "server-goodbyes": ("sessions that end as they begin", goodbyes),
}
for _name, (_doc, _work) in add_all.items():
    add(
        _name,
        f"a server that sends {_doc}",
        hostile_server(_work),
        group="servers",
        victim="client",
    )
