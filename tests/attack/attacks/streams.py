"""Streams, requests, sessions and connections: opened and held, reset, or closed at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from tests.integration import raw_h3 as h3

from ..field import Field
from ..peer import Closed, Peer, drain
from ..registry import Run, add, attack, for_ever

CHUNK = bytes(65536)


@attack("streams-held", "as many streams as there is credit for, full of bytes, never finished")
async def streams_held(field: Field) -> None:
    async def once(peer: Peer) -> None:
        session = await peer.session("/hold")
        await hold_streams(peer, session.stream_id)

    await field.go()
    await field.repeat(once, at_once=4, settings=h3.CHROME)


async def hold_streams(peer: Peer, session_id: int) -> None:
    """Open streams of both kinds while there is credit, and fill them."""
    for unidirectional in (False, True):
        header = h3.stream_header(session_id, unidirectional=unidirectional)
        while (stream := peer.try_open(header, unidirectional=unidirectional)) is not None:
            stream.write(CHUNK)
            await asyncio.sleep(0)
    while True:
        await peer.news()


def rapid_reset(path: str, *, unidirectional: bool) -> Run:
    """Streams of a session, reset at once."""

    async def run(field: Field) -> None:
        async def once(peer: Peer) -> None:
            session = await peer.session(path)
            header = h3.stream_header(session.stream_id, unidirectional=unidirectional)
            while True:
                stream = await peer.open(header + b"x", unidirectional=unidirectional)
                await asyncio.sleep(0)
                stream.reset(h3.stream_code(1))
                if not unidirectional:
                    stream.stop_sending(h3.stream_code(1))
                stream.release()

        await field.go()
        await field.repeat(once, settings=h3.CHROME)

    return run


add(
    "streams-reset",
    "bidirectional streams, opened and reset",
    rapid_reset("/echo", unidirectional=False),
    group="streams",
)
add(
    "uni-streams-reset",
    "unidirectional streams, opened and reset",
    rapid_reset("/echo", unidirectional=True),
    group="streams",
)


@attack("requests-reset", "requests for sessions, each reset at once")
async def requests_reset(field: Field) -> None:
    request = h3.connect("/hold")

    async def once(peer: Peer) -> None:
        while True:
            stream = await peer.open(request)
            await asyncio.sleep(0)
            stream.reset(0x10C)
            stream.stop_sending(0x10C)
            stream.release()

    await field.go()
    await field.repeat(once)


@attack("sessions-closed", "sessions, opened and closed with WT_CLOSE_SESSION at full speed")
async def sessions_closed(field: Field) -> None:
    request = h3.connect("/hold") + h3.data(h3.close_capsule(0))

    async def once(peer: Peer) -> None:
        while True:
            stream = await peer.open(request, fin=True)
            stream.sink = drain

    await field.go()
    await field.repeat(once)


@attack("sessions-waiting", "a thousand requests for sessions at a time, the answers not read")
async def sessions_waiting(field: Field) -> None:
    async def once(peer: Peer) -> None:
        while True:
            await peer.open(h3.connect("/hold"))

    await field.go()
    await field.repeat(once, at_once=4)


@attack("streams-echo", "streams of one byte to an echo handler, as many as there is credit for")
async def streams_echo(field: Field) -> None:
    async def once(peer: Peer) -> None:
        session = await peer.session("/echo")
        header = h3.stream_header(session.stream_id, unidirectional=False)
        while True:
            stream = await peer.open(header + b"x", fin=True)
            stream.sink = drain

    await field.go()
    await field.repeat(once, settings=h3.CHROME)


@attack("unknown-streams", "unidirectional streams of a reserved type")
async def unknown_streams(field: Field) -> None:
    async def once(peer: Peer) -> None:
        while True:
            stream = await peer.open(h3.varint(0x21) + b"xyz", unidirectional=True, fin=True)
            stream.release()

    await field.go()
    await field.repeat(once)


@attack("unknown-streams-held", "unidirectional streams of a reserved type, full of bytes, held")
async def unknown_streams_held(field: Field) -> None:
    async def once(peer: Peer) -> None:
        streams = []
        while (stream := peer.try_open(h3.varint(0x21), unidirectional=True)) is not None:
            streams.append(stream)
        while True:
            for stream in streams:
                if stream.can_write:
                    await peer.write(stream, CHUNK)
            await asyncio.sleep(0.01)
            peer.check()

    await field.go()
    await field.repeat(once)


@attack("untyped-streams", "unidirectional streams that do not even say their type, held")
async def untyped_streams(field: Field) -> None:
    async def once(peer: Peer) -> None:
        while True:
            await peer.open(b"\x40", unidirectional=True)

    await field.go()
    await field.repeat(once, at_once=4)


@attack("early-streams", "streams of sessions that are never opened, full of bytes")
async def early_streams(field: Field) -> None:
    async def once(peer: Peer) -> None:
        number = 0
        while True:
            header = h3.stream_header(4 * (number % 200 + 50), unidirectional=True)
            stream = await peer.open(header + CHUNK, unidirectional=True, fin=True)
            stream.release()
            number += 1

    await field.go()
    await field.repeat(once)


@attack("connections-closed", "connections, opened and closed at full speed, ten at a time")
async def connections_closed(field: Field) -> None:
    async def worker() -> None:
        while True:
            try:
                peer = await field.connect()
                assert peer.quic is not None
                peer.quic.close(0x100)
            except Closed:
                await asyncio.sleep(0.01)

    await field.go()
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(worker())


@attack(
    "connections-held",
    "connections with a session each, as many as are let in, and then new ones all the time",
    prepare=60.0,
)
async def connections_held(field: Field) -> None:
    async def worker(wanted: Iterable[int]) -> None:
        for _ in wanted:
            try:
                peer = await field.connect()
                await peer.session("/hold")
            except (Closed, TimeoutError):
                field.notes["refused"] += 1
                await asyncio.sleep(0.01)

    async def workers(wanted: Iterable[int]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(worker(wanted))

    await workers(iter(range(3100)))
    await field.go()
    await workers(itertools.count())


@attack(
    "scraped",
    "10,000 idle connections of 100 addresses while a monitor looks ten times a second",
    config={
        "max_connections": 20_000,
        "connection_idle_timeout": 600.0,
    },
    scrape=0.1,
    prepare=180.0,
    memory=1500.0,
)
async def scraped(field: Field) -> None:
    wanted = iter(range(10_000))
    endpoints = [field.endpoint(f"127.0.1.{number + 1}") for number in range(100)]

    async def worker() -> None:
        for number in wanted:
            try:
                await field.connect(endpoints[number % 100])
            except Closed:
                field.notes["refused"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(worker())
    await field.go()
    await for_ever()
