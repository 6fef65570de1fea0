"""Sessions over links at both ends: real sockets and TLS, much data, and sudden ends."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportSession, WebTransportStream
from pywebtransport._core.fallback import establish_over
from pywebtransport._loop import ClientLink, RemoteAddress, dial
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import SessionClosedError, StreamError, WebTransportError
from pywebtransport.utils._tls_contexts import client_tls_over_tcp
from tests.support.certificates import Certificates
from tests.support.qmux_server import qmux_served

Handler = Callable[[WebTransportSession], Awaitable[object]]
MIB = 1 << 20


@asynccontextmanager
async def session_over_tcp(
    certs: Certificates, handler: Handler, *, client: dict[str, Any] | None = None, **fields: Any
) -> AsyncIterator[tuple[WebTransportSession, ClientLink]]:
    """A client's session whose server runs the handler, and the client's link."""
    async with qmux_served(certs, handler, **fields) as served:
        config = ClientConfig(ca_certs=certs.authority.certfile, **(client or {}))
        link = await dial(
            RemoteAddress(socket.AF_INET, ("127.0.0.1", served.served.port)),
            server_name="localhost",
            tls=client_tls_over_tcp(config),
            timeout=10.0,
        )
        connection = WebTransportConnection(config=config)
        await establish_over(connection, link, "localhost", served.served.port)
        try:
            yield await connection.create_session("/"), link
        finally:
            await connection.close()


async def test_twenty_mebibytes_each_way_with_slow_readers(certs: Certificates) -> None:
    """Byte by byte the same, in windows that are much smaller."""
    window = 256 << 10
    data = random.randbytes(MIB)
    digest = hashlib.sha256(data * 20).digest()
    over = asyncio.Event()

    async def exchange(stream: WebTransportStream) -> None:
        found = hashlib.sha256()

        async def write() -> None:
            for last in [False] * 19 + [True]:
                await stream.write(data, end_stream=last)

        async def read() -> None:
            while piece := await stream.read(window):
                found.update(piece)
                await asyncio.sleep(0)  # others are faster

        await asyncio.gather(write(), read())
        assert found.digest() == digest

    async def handler(session: WebTransportSession) -> None:
        await exchange(await anext(session.incoming_bidirectional_streams()))
        await over.wait()

    limits = {"max_read_buffer_size": window, "max_stream_buffer_size": window}
    async with session_over_tcp(certs, handler, client=limits, **limits) as (session, _):
        await exchange(await session.create_bidirectional_stream())
        over.set()


async def test_a_reader_that_stops_stops_the_writer(certs: Certificates) -> None:
    window = 64 << 10
    read = asyncio.Event()
    received = bytearray()

    async def handler(session: WebTransportSession) -> None:
        stream = await anext(session.incoming_unidirectional_streams())
        await read.wait()
        received.extend(await stream.read_all())
        await session.close()

    limits = {"max_read_buffer_size": window, "max_stream_buffer_size": window}
    data = random.randbytes(4 * MIB)
    async with session_over_tcp(certs, handler, **limits) as (session, link):
        stream = await session.create_unidirectional_stream()
        writing = asyncio.ensure_future(stream.write_all(data))
        sent = -1
        while sent != link.bytes_sent or not sent:  # until it stands still
            sent = link.bytes_sent
            await asyncio.wait([writing], timeout=0.05)
        assert not writing.done()
        assert sent < 2 * window + 20_000
        read.set()
        await writing
        await session.wait_closed()
        assert received == data


async def test_two_hundred_streams_at_a_time(certs: Certificates) -> None:
    async def echo(session: WebTransportSession) -> None:
        async with asyncio.TaskGroup() as group:
            async for stream in session.incoming_bidirectional_streams():
                group.create_task(answer(stream))

    async def answer(stream: WebTransportStream) -> None:
        await stream.write_all((await stream.read_all())[::-1])

    async with session_over_tcp(certs, echo) as (session, _):
        streams = [await session.create_bidirectional_stream() for _ in range(200)]
        sent = [random.randbytes(random.randrange(30_000)) for _ in streams]
        for stream, data in zip(streams, sent, strict=True):
            await stream.write(data[: len(data) // 2])
        await asyncio.gather(
            *(s.write_all(data[len(data) // 2 :]) for s, data in zip(streams, sent, strict=True))
        )
        got = await asyncio.gather(*(stream.read_all() for stream in streams))
        assert [data[::-1] for data in got] == sent


async def test_a_close_does_not_overtake_what_was_written(certs: Certificates) -> None:
    received = asyncio.get_running_loop().create_future()

    async def handler(session: WebTransportSession) -> None:
        stream = await anext(session.incoming_unidirectional_streams())
        data = await stream.read_all()
        received.set_result((data, await session.wait_closed()))

    data = random.randbytes(3 * MIB)
    async with session_over_tcp(certs, handler) as (session, _):
        stream = await session.create_unidirectional_stream()
        await stream.write_all(data)
        await session.close(code=77, reason="bye \xe9")
        got, _ = await received
        assert got == data


@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_lost_connection_ends_everything_at_both_ends(
    certs: Certificates, who: str
) -> None:
    ended: list[type[BaseException]] = []
    begun = asyncio.Event()
    over = asyncio.Event()
    served: list[WebTransportSession] = []

    async def handler(session: WebTransportSession) -> None:
        served.append(session)
        stream = await anext(session.incoming_bidirectional_streams())
        begun.set()
        try:
            while True:
                await stream.read()
        except WebTransportError as error:
            ended.append(type(error))
        over.set()

    async with session_over_tcp(certs, handler) as (session, link):
        stream = await session.create_bidirectional_stream()
        await stream.write(b"x")
        await begun.wait()
        if who == "client":
            link.abort()
        else:
            connection = served[0].connection
            assert connection is not None
            await connection.close()
        with pytest.raises((StreamError, SessionClosedError)):
            await stream.read_all()
        await over.wait()
        await session.wait_closed()
        assert len(ended) == 1
        with pytest.raises(WebTransportError):
            await session.create_bidirectional_stream()
