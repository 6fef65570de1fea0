"""What hostile clients over WebSocket can make a server do, while others are served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import websockets

from pywebtransport.session import WebTransportSession
from tests.support.certificates import Certificates
from tests.support.qmux_server import QMuxClient, qmux_served, stream, varint
from tests.support.steps import until

from .test_server import echo

_PING = 0x348C67529EF8C7BD
# Frames that cost the server something and bring nothing, by number.
FLOODS: dict[str, Callable[[int], bytes]] = {
    "QX_PING": lambda number: varint(_PING) + varint(number),
    "empty STREAM": lambda number: stream(0),
    "tiny MAX_DATA": lambda number: varint(0x10) + varint((1 << 20) + number),
    "tiny MAX_STREAM_DATA": lambda number: varint(0x11) + varint(0) + varint((1 << 18) + number),
    "tiny MAX_STREAMS": lambda number: varint(0x12) + varint(100 + number),
    "DATA_BLOCKED": lambda number: varint(0x14) + varint(number),
    "streams that are reset": lambda number: (
        stream(2 + 4 * (number % 50)) + varint(0x04) + varint(2 + 4 * (number % 50)) + bytes(2)
    ),
}


async def read_nothing(session: WebTransportSession) -> None:
    """Leaves everything to the limits."""
    await session.wait_closed()


@pytest.mark.parametrize("kind", FLOODS)
async def test_floods_end_their_session_alone(certs: Certificates, kind: str) -> None:
    """Negative case 61: frames without use are counted, and too many close the connection."""
    frame = FLOODS[kind]
    handlers = {"/": read_nothing, "/echo": echo}
    async with (
        qmux_served(certs, handlers, close_timeout=0.2) as served,
        served.session("/echo") as other,
        served.session() as client,
    ):
        await client.send(stream(0, b"x"))
        ended = asyncio.ensure_future(client.end())
        number = 0
        with_others = 0
        while not ended.done():
            record = b""
            while len(record) < 8000:
                record += frame(number)
                number += 1
            try:
                await client.send(record)
            except websockets.ConnectionClosed:
                break
            await other.echo(4 * with_others, b"still here")
            with_others += 1
            assert number < 200_000
        code, frames = await ended
        assert (frames[-1].type, frames[-1].numbers[0]) == (0x1C, 0x0A)
        assert code == 1002
        assert await other.echo(4 * with_others, b"still here") == b"still here"
        await until(lambda: len(served.server.sessions) == 1)
        assert served.server.refresh_stats().connection_errors == 1


async def test_half_a_record_does_not_keep_a_connection(certs: Certificates) -> None:
    """Negative case 62: only whole records count as signs of life."""
    gone = asyncio.Event()

    async def pieces() -> Any:
        yield b"\0"
        while not gone.is_set():
            await asyncio.sleep(0.01)  # the time that a slow client takes
            yield b"\0"

    async with (
        qmux_served(certs, read_nothing, connection_idle_timeout=0.3, close_timeout=0.2) as served,
        served.session() as client,
    ):
        await until(lambda: len(served.server.sessions) == 1)
        sending = asyncio.ensure_future(client.socket.send(pieces()))
        await until(lambda: not served.server.sessions)
        gone.set()
        await asyncio.gather(sending, return_exceptions=True)


async def test_pings_of_websocket_have_a_limit(certs: Certificates) -> None:
    async with (
        qmux_served(certs, read_nothing, close_timeout=0.2) as served,
        served.session() as client,
    ):
        await until(lambda: len(served.server.sessions) == 1)
        ended = asyncio.ensure_future(client.socket.wait_closed())
        while not ended.done():
            client.socket.transport.write(b"\x89\x80\0\0\0\0" * 1000)
            await asyncio.wait([ended], timeout=0.01)
        await until(lambda: not served.server.sessions)


async def test_a_client_without_parameters_is_closed(certs: Certificates) -> None:
    """Negative case 12: it has as long as for a handshake."""
    async with (
        qmux_served(certs, read_nothing, handshake_timeout=0.3) as served,
        served.session(parameters=b"") as client,
    ):
        await client.end()
        await until(lambda: not served.server.sessions)


async def test_datagrams_that_nobody_reads(certs: Certificates) -> None:
    """They are dropped and counted; the connection goes on."""
    async with qmux_served(certs, echo_streams) as served, served.session() as client:
        for _ in range(100):
            await client.send(*(varint(0x31) + varint(100) + bytes(100) for _ in range(50)))
        assert await client.echo(0, b"x") == b"x"
        stats = await served.server.get_server_stats()
        assert stats["traffic"]["datagrams_received"] == 5000


async def echo_streams(session: WebTransportSession) -> None:
    async for each in session.incoming_bidirectional_streams():
        await each.write_all(await each.read_all())


# ---------------------------------------------------------------------- the older framing


async def legacy(served: Any) -> QMuxClient:
    """A session with the older framing."""
    return QMuxClient(await served.websocket("/", ["webtransport"]))


async def test_the_older_framing_has_a_limit_of_streams(certs: Certificates) -> None:
    async with qmux_served(
        certs,
        read_nothing,
        websocket_legacy=True,
        close_timeout=0.2,
        initial_max_streams_bidi=10,
        max_incoming_streams=10,
    ) as served:
        client = await legacy(served)
        for number in range(10):
            await client.send(b"\x08" + varint(4 * number) + b"x")
        await until(lambda: served.server.measure()["traffic"]["streams_opened_remote"] == 10)
        await client.send(b"\x08" + varint(40) + b"x")
        assert (await client.socket.recv())[0] == 0x1C
        await client.socket.wait_closed()
        await until(lambda: not served.server.sessions)


async def test_the_older_framing_waits_for_the_handler(certs: Certificates) -> None:
    """The server reads no more than it may keep, and everything arrives when it is read."""
    size, piece = 24 << 20, 16_000
    read = asyncio.Event()
    total = 0

    async def slow(session: WebTransportSession) -> None:
        nonlocal total
        incoming = await anext(session.incoming_unidirectional_streams())
        await read.wait()
        while data := await incoming.read(1 << 20):
            total += len(data)
        await session.close()

    async with qmux_served(
        certs,
        slow,
        websocket_legacy=True,
        initial_max_data=1 << 20,
        max_read_buffer_size=1 << 20,
        max_stream_buffer_size=1 << 20,
    ) as served:
        client = await legacy(served)

        async def send() -> None:
            for _ in range(0, size, piece):
                await client.send(b"\x08\x02" + bytes(piece))
            await client.send(b"\x09\x02")

        sending = asyncio.ensure_future(send())

        async def stands_still() -> None:
            seen = -1
            while (
                seen != (now := served.server.measure()["traffic"]["stream_bytes_received"])
                or not now
            ):
                seen = now
                await asyncio.wait([sending], timeout=0.2)

        await stands_still()
        received = served.server.measure()["traffic"]["stream_bytes_received"]
        assert 0 < received < 4 << 20
        assert not sending.done()
        read.set()
        await sending
        await client.socket.wait_closed()
        assert total == -(-size // piece) * piece
