"""Files: uploads that are checked, a relay, an echo, and ends before the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pywebtransport import (
    StreamError,
    WebTransportClient,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.stream import StreamBuffer
from pywebtransport.stream.utils import copy_stream_data, echo_stream
from pywebtransport.utils import Timer, calculate_checksum, chunked_read, format_duration
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving

MAX_FILE = 1_000_000


async def test_upload_is_answered_with_its_checksum(
    serving: Serving, client_config: ClientFactory, tmp_path: Path
) -> None:
    async def store(session: WebTransportSession) -> None:
        async for stream in session.incoming_streams():
            assert isinstance(stream, WebTransportStream)
            name = (await stream.readline()).decode().strip()
            try:
                data = await stream.read_all(max_size=MAX_FILE)
            except StreamError:
                await stream.abort(code=13)
                continue
            (tmp_path / name).write_bytes(data)
            await stream.write_all(data=calculate_checksum(data=data, algorithm="sha256").encode())

    content = bytes(range(256)) * 2000
    timer = Timer(name="upload")
    async with (
        serving({"/upload": store}) as served,
        WebTransportClient(config=client_config()) as client,
        await client.connect(url=served.url("/upload")) as session,
    ):
        timer.start()
        stream = await session.create_bidirectional_stream()
        await stream.write(data="a.bin\n")
        await stream.write_all(data=content, chunk_size=10_000)
        assert (await stream.read_all()).decode() == calculate_checksum(data=content)
        assert timer.stop() == timer.elapsed > 0
        assert format_duration(seconds=timer.elapsed)
        assert (tmp_path / "a.bin").read_bytes() == content

        chunks = await session.create_bidirectional_stream()
        await chunks.write(data=bytearray(b"b.bin\n"))
        for chunk in chunked_read(data=content, chunk_size=100_000):
            await chunks.write(data=memoryview(chunk), wait_flush=False)
        await chunks.flush()
        await chunks.close()
        assert len(await chunks.read_all()) == 64
        assert (tmp_path / "b.bin").read_bytes() == content

        large = await session.create_bidirectional_stream()
        await large.write(data=b"c.bin\n")
        with pytest.raises(StreamError) as caught:
            await large.write_all(data=bytes(20 * MAX_FILE))
        assert caught.value.error_code == 13
        assert not (tmp_path / "c.bin").exists()


async def test_relay_and_echo(pair: PairOfSessions) -> None:
    async with pair() as (client, server):

        async def relay() -> int:
            source = await anext(aiter(server.incoming_streams()))
            destination = await server.create_unidirectional_stream()
            assert isinstance(source, WebTransportReceiveStream)
            return await copy_stream_data(source=source, destination=destination, chunk_size=1000)

        relaying = asyncio.create_task(relay())
        there = await client.create_unidirectional_stream()
        assert isinstance(there, WebTransportSendStream)
        async with there:
            await there.initialize()
            assert there.is_writable
            await there.write_all(data=b"y" * 50_000)
        back = await anext(aiter(client.incoming_streams()))
        async with back:
            await back.initialize()
            assert back.is_readable
            assert await back.read_all() == b"y" * 50_000
        assert await relaying == 50_000

        async def echo() -> None:
            stream = await anext(aiter(server.incoming_streams()))
            assert isinstance(stream, WebTransportStream)
            await echo_stream(stream=stream)

        echoing = asyncio.create_task(echo())
        stream = await client.create_bidirectional_stream()
        await stream.write_all(data=b"hello")
        assert await stream.read_all() == b"hello"
        await echoing


async def test_abort_tells_the_peer_the_code(pair: PairOfSessions) -> None:
    async with pair() as (client, server):
        upload = await client.create_unidirectional_stream()
        await upload.write(data=b"half of")
        arrived = await anext(aiter(server.incoming_streams()))
        assert await arrived.readexactly(n=4) == b"half"
        await upload.abort(code=7)
        with pytest.raises(StreamError) as caught:
            await arrived.read_all()
        assert caught.value.error_code == 7

        other = await client.create_unidirectional_stream()
        await other.write(data=b"x")
        arrived = await anext(aiter(server.incoming_streams()))
        await arrived.abort(code=9)
        with pytest.raises(StreamError) as caught:
            await other.write_all(data=bytes(20 * MAX_FILE))
        assert caught.value.error_code == 9


async def test_buffer() -> None:
    buffer = StreamBuffer(max_size=10)
    await buffer.initialize()
    await buffer.feed_data(data=b"hello")
    assert buffer.size == 5
    assert await buffer.read(size=2, timeout=1.0) == (b"he", False)
    waiting = asyncio.create_task(buffer.read(size=-1))
    assert await waiting == (b"llo", False)
    await buffer.feed_data(data=b"!", eof=True)
    assert await buffer.read() == (b"!", True)
    assert buffer.at_eof
