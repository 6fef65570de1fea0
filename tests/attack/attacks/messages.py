"""What frameworks take: remote calls, messages on streams, publications, relayed streams."""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
from typing import Any

from pywebtransport._quic import QuicStream
from pywebtransport.exceptions import WebTransportError
from tests.integration import raw_h3 as h3

from ..field import Field
from ..peer import Closed, Peer, drain
from ..registry import Run, add, attack, for_ever
from .streams import hold_streams

REQUEST = 1
ITEM = 1
MIB = 1 << 20


def message(type_id: int, payload: bytes) -> bytes:
    """As ``StructuredStream`` frames it."""
    return struct.pack("!HI", type_id, len(payload)) + payload


def call(method: str, *params: Any) -> bytes:
    """A remote call in JSON."""
    return message(REQUEST, json.dumps({"method": method, "params": params}).encode())


def json_lists(size: int) -> bytes:
    """A list of empty lists in so many bytes of JSON."""
    return b"[" + b",".join([b"[]"] * (size // 3 - 1)) + b"]"


def msgpack_lists(size: int) -> bytes:
    """The same in MessagePack."""
    return b"\xdd" + (size - 5).to_bytes(4, "big") + b"\x90" * (size - 5)


def json_call(method: str, value: bytes) -> bytes:
    """A call with one parameter that is in JSON already."""
    return message(REQUEST, b'{"method":"%s","params":[%s]}' % (method.encode(), value))


def msgpack_call(method: str, value: bytes) -> bytes:
    """The same in MessagePack."""
    name = method.encode()
    return message(
        REQUEST,
        b"\x82\xa6method" + bytes([0xA0 | len(name)]) + name + b"\xa6params\x91" + value,
    )


def calls(path: str, data: bytes, at_once: int = 100) -> Run:
    """So many streams at a time with these bytes, and new ones when they are answered."""

    async def run(field: Field) -> None:
        async def once(peer: Peer) -> None:
            session = await peer.session(path)
            header = h3.stream_header(session.stream_id, unidirectional=False)
            room = asyncio.Semaphore(at_once)

            async def one() -> None:
                try:
                    stream = await peer.open(header)
                    stream.sink = drain
                    for at in range(0, len(data), 1 << 16):
                        await peer.write(stream, data[at : at + (1 << 16)])
                    stream.write(b"", True)
                    while not stream.is_closed:
                        await ended(stream, peer)
                except (Closed, WebTransportError):
                    peer.check()
                finally:
                    room.release()

            async with asyncio.TaskGroup() as group:
                while True:
                    await room.acquire()
                    peer.check()
                    group.create_task(one())

        await field.go()
        await field.repeat(once, settings=h3.CHROME)

    return run


async def ended(stream: QuicStream, peer: Peer) -> None:
    """Wait a little for the end of a stream."""
    future = asyncio.get_running_loop().create_future()

    def closed(_: QuicStream) -> None:
        if not future.done():
            future.set_result(None)

    stream.on_closed = closed
    if not stream.is_closed:
        await asyncio.wait([future], timeout=0.5)
    peer.check()


LARGE = MIB - 200
for _name, _doc, _path, _data in (
    (
        "rpc-json-lists",
        "100 calls at a time of 1 MiB of empty lists in JSON",
        "/rpc",
        json_call("echo", json_lists(LARGE)),
    ),
    (
        "rpc-msgpack-lists",
        "100 calls at a time of 1 MiB of empty lists in MessagePack",
        "/rpc-msgpack",
        msgpack_call("echo", msgpack_lists(LARGE)),
    ),
    (
        "rpc-waiting",
        "100 calls of 1 MiB of empty lists to a method that waits",
        "/rpc",
        json_call("wait", json_lists(LARGE)),
    ),
    (
        "rpc-unknown",
        "100 calls at a time of 1 MiB to a method that there is not",
        "/rpc",
        json_call("nope", json_lists(LARGE)),
    ),
    (
        "rpc-typed",
        "100 calls at a time of 1 MiB to a method with other types",
        "/rpc",
        json_call("typed", json_lists(LARGE)),
    ),
    ("rpc-small", "small calls, 100 at a time", "/rpc", call("echo", 1)),
    (
        "structured-json-lists",
        "messages of 4 MiB of empty lists in JSON on 20 streams",
        "/structured",
        message(ITEM, b'{"name":"x","values":' + json_lists(4 * MIB - 200) + b"}"),
    ),
    (
        "structured-msgpack-lists",
        "messages of 4 MiB of empty lists in MessagePack on 20 streams",
        "/structured-msgpack",
        message(ITEM, b"\x82\xa4name\xa1x\xa6values" + msgpack_lists(4 * MIB - 200)),
    ),
    (
        "structured-small",
        "messages of a few bytes, at full speed on 20 streams",
        "/structured",
        message(ITEM, b'{"name":"x","values":[]}') * 20_000,
    ),
    (
        "structured-malformed",
        "messages that are none, at full speed on 20 streams",
        "/structured",
        message(ITEM, b"") * 80_000,
    ),
):
    add(
        _name,
        _doc,
        calls(_path, _data, 20 if _path.startswith("/structured") else 100),
        group="messages",
    )


class Subscriber:
    """A session at the broker."""

    def __init__(self, peer: Peer, session_id: int) -> None:
        self._peer = peer
        self._header = h3.stream_header(session_id, unidirectional=False)
        self._numbers = itertools.count(1)

    @classmethod
    async def open(cls, peer: Peer) -> Subscriber:
        """Open it."""
        return cls(peer, (await peer.session("/pubsub")).stream_id)

    async def call(self, method: str, *params: Any) -> QuicStream:
        """A call, the answer to which is forgotten."""
        stream = await self._peer.open(self._header + call(method, *params), fin=True)
        stream.sink = drain
        return stream

    async def subscribe(self, pattern: str) -> None:
        """Wait for the end of the call."""
        stream = await self.call("pubsub.subscribe", next(self._numbers), pattern, "drop_oldest")
        await ended(stream, self._peer)


@attack(
    "patterns",
    "patterns of one address, as many as the broker takes, held",
    probe="subscribe",
    prepare=60.0,
)
async def patterns(field: Field) -> None:
    names = itertools.count()

    async def take_100() -> None:
        try:
            peer = await field.connect(settings=h3.CHROME)
            peer.drains = True
            session = await Subscriber.open(peer)
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(session.subscribe(f"a.{next(names)}.*"))
        except* (Closed, TimeoutError):
            field.notes["refused"] += 1

    for _ in range(30):
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(take_100())
    await field.go()
    while True:
        await take_100()
        await asyncio.sleep(0.05)


@attack("slow-subscribers", "sessions with 100 subscriptions that read nothing, publishing 60 KB")
async def slow_subscribers(field: Field) -> None:
    data = "x" * 60_000

    async def once(peer: Peer) -> None:
        session = await Subscriber.open(peer)
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(session.subscribe("news"))
        while True:
            await ended(await session.call("pubsub.publish", "news", data), peer)

    await field.go()
    await field.repeat(once, at_once=5, settings=h3.CHROME)


@attack(
    "fan-out",
    "8,000 subscribers of 80 addresses, and small publications to all of them",
    prepare=120.0,
    memory=600.0,
)
async def fan_out(field: Field) -> None:
    async def fill(address: int) -> None:
        try:
            peer = await field.connect(field.endpoint(f"127.0.2.{address}"), settings=h3.CHROME)
            peer.drains = True
            session = await Subscriber.open(peer)
            for _ in range(100):
                await session.subscribe("news")
        except (Closed, TimeoutError):
            field.notes["refused"] += 1

    for first in range(1, 81, 10):
        async with asyncio.TaskGroup() as group:
            for address in range(first, first + 10):
                group.create_task(fill(address))

    async def once(peer: Peer) -> None:
        session = await Subscriber.open(peer)
        while True:
            await ended(await session.call("pubsub.publish", "news", "x"), peer)
            field.notes["published"] += 1
            await asyncio.sleep(0.05)

    await field.go()
    await field.repeat(once, settings=h3.CHROME)


@attack(
    "forwarded-streams",
    "255 streams through the forwarder to an upstream that reads nothing",
    upstream=True,
)
async def forwarded_streams(field: Field) -> None:
    async def once(peer: Peer) -> None:
        session = await peer.session("/forward")
        await hold_streams(peer, session.stream_id)

    await field.go()
    await field.repeat(once, settings=h3.CHROME)


@attack(
    "forwarded-bytes",
    "255 streams through the forwarder, each as full as it gets",
    upstream=True,
)
async def forwarded_bytes(field: Field) -> None:
    block = bytes(1 << 16)

    async def once(peer: Peer) -> None:
        session = await peer.session("/forward")
        header = h3.stream_header(session.stream_id, unidirectional=True)
        streams = []
        while (stream := peer.try_open(header, unidirectional=True)) is not None:
            streams.append(stream)
        while True:
            for stream in streams:
                if stream.can_write and stream.queued < 1 << 17:
                    stream.write(block)
            await asyncio.sleep(0.01)
            peer.check()

    await field.go()
    await field.repeat(once, settings=h3.CHROME)


@attack(
    "held-broker", "100 sessions at the broker that subscribe and read nothing of their streams"
)
async def held_broker(field: Field) -> None:
    async def one(peer: Peer) -> None:
        session = await Subscriber.open(peer)
        await session.subscribe("**")
        await for_ever()

    async def once(peer: Peer) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(25):
                group.create_task(one(peer))
            session = await Subscriber.open(peer)
            while True:
                await ended(await session.call("pubsub.publish", "news", "x" * 60_000), peer)

    await field.go()
    await field.repeat(once, at_once=4, settings=h3.CHROME)
