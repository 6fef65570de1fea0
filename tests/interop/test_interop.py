"""The same checks with every peer, as client and as server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from pywebtransport import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.exceptions import StreamResetError, StreamStoppedError

from .link import Digest, Link, pattern

Linked = Callable[..., AbstractAsyncContextManager[Link]]

MIB = 1 << 20
BOTH = pytest.mark.parametrize("unidirectional", [False, True], ids=["bidi", "uni"])


async def arrival(session: WebTransportSession) -> WebTransportReceiveStream:
    """The next stream of the peer, of either kind."""
    async for stream in session.incoming_streams():
        return stream
    raise AssertionError("the session ended")


async def write_on_and_on(stream: WebTransportSendStream) -> None:
    """Write until that is no longer possible."""
    while True:
        await stream.write(bytes(100_000))
        await stream.flush()


async def test_session_opens(linked: Linked) -> None:
    async with linked() as link:
        assert link.ours.is_ready
        assert link.ours.path == "/interop"
        assert link.ours.max_datagram_size > 1000


async def test_bidirectional_stream_opened_here(linked: Linked) -> None:
    async with linked() as link:
        stream = await link.ours.create_bidirectional_stream()
        await stream.write_all(b"question")
        number = await link.far.accept_stream(unidirectional=False)
        assert number == stream.stream_id or not link.far.tells_ids
        assert await link.far.receive(number) == Digest.of(b"question")
        await link.far.send(number, b"answer", fin=True)
        assert await stream.read_all() == b"answer"


async def test_bidirectional_stream_opened_there(linked: Linked) -> None:
    async with linked() as link:
        number = await link.far.open_stream(unidirectional=False)
        await link.far.send(number, b"question", fin=True)
        stream = await arrival(link.ours)
        assert isinstance(stream, WebTransportStream)
        assert await stream.read_all() == b"question"
        await stream.write_all(b"answer")
        assert await link.far.receive(number) == Digest.of(b"answer")


async def test_unidirectional_streams_both_ways(linked: Linked) -> None:
    async with linked() as link:
        ours = await link.ours.create_unidirectional_stream()
        await ours.write_all(b"there")
        number = await link.far.accept_stream(unidirectional=True)
        assert await link.far.receive(number) == Digest.of(b"there")
        number = await link.far.open_stream(unidirectional=True)
        await link.far.send(number, b"back", fin=True)
        stream = await arrival(link.ours)
        assert not isinstance(stream, WebTransportStream)
        assert await stream.read_all() == b"back"


async def test_many_streams_at_once(linked: Linked) -> None:
    async with linked() as link:

        async def exchange(number: int) -> None:
            stream = await link.ours.create_unidirectional_stream()
            await stream.write_all(pattern(5000 + number, number))

        # Some peers allow few streams until they are accepted.
        sending = asyncio.gather(*(exchange(number) for number in range(40)))
        wanted = {Digest.of(pattern(5000 + number, number)) for number in range(40)}
        arrived = [await link.far.accept_stream(unidirectional=True) for _ in range(40)]
        received = await asyncio.gather(*(link.far.receive(number) for number in arrived))
        await sending
        assert set(received) == wanted


async def test_datagrams_both_ways(linked: Linked) -> None:
    async with linked() as link:
        await link.ours.datagrams.send(b"there")
        assert await link.far.receive_datagram() == b"there"
        await link.far.send_datagram(b"back")
        assert await link.ours.datagrams.receive(timeout=30) == b"back"
        largest = bytes(range(256)) * 4
        await link.ours.datagrams.send(largest)
        assert await link.far.receive_datagram() == largest
        await link.far.send_datagram(largest)
        assert await link.ours.datagrams.receive(timeout=30) == largest


@BOTH
async def test_reset_sent_here(linked: Linked, unidirectional: bool) -> None:
    async with linked() as link:
        if unidirectional:
            stream = await link.ours.create_unidirectional_stream()
        else:
            stream = await link.ours.create_bidirectional_stream()
        await stream.write(b"begin")
        number = await link.far.accept_stream(unidirectional=unidirectional)
        stream.reset(131)
        assert await link.far.was_reset(number) == 131


@BOTH
async def test_reset_sent_there(linked: Linked, unidirectional: bool) -> None:
    async with linked() as link:
        number = await link.far.open_stream(unidirectional=unidirectional)
        await link.far.send(number, b"begin")
        stream = await arrival(link.ours)
        assert await stream.readexactly(5) == b"begin"
        await link.far.reset(number, 132)
        with pytest.raises(StreamResetError) as caught:
            await stream.read()
        assert caught.value.error_code == 132


async def test_stop_sent_here(linked: Linked) -> None:
    async with linked() as link:
        number = await link.far.open_stream(unidirectional=True)
        await link.far.send(number, b"begin")
        stream = await arrival(link.ours)
        stream.stop_sending(133)
        assert await link.far.was_stopped(number) == 133


async def test_stop_sent_there(linked: Linked) -> None:
    async with linked() as link:
        stream = await link.ours.create_unidirectional_stream()
        await stream.write(b"begin")
        number = await link.far.accept_stream(unidirectional=True)
        await link.far.stop(number, 134)
        with pytest.raises(StreamStoppedError) as caught:
            await write_on_and_on(stream)
        assert caught.value.error_code == 134


async def test_close_sent_here(linked: Linked) -> None:
    async with linked() as link:
        closing = asyncio.create_task(link.ours.close(code=4001, reason="done here"))
        assert await link.far.was_closed() == (4001, "done here")
        await closing


async def test_close_sent_there(linked: Linked) -> None:
    async with linked() as link:
        closing = asyncio.create_task(link.far.close(4002, "done there"))
        info = await link.ours.wait_closed()
        assert (info.code, info.reason, info.remote) == (4002, "done there", True)
        await closing


@pytest.mark.loops("uvloop")
async def test_transfer_of_20_mib_from_here(linked: Linked) -> None:
    async with linked() as link:
        data = pattern(20 * MIB, 1)
        stream = await link.ours.create_unidirectional_stream()
        sending = asyncio.create_task(stream.write_all(data))
        number = await link.far.accept_stream(unidirectional=True)
        assert await link.far.receive(number) == Digest.of(data)
        await sending
        await stream.wait_acknowledged()


@pytest.mark.loops("asyncio")
async def test_transfer_of_20_mib_from_there(linked: Linked) -> None:
    async with linked() as link:
        number = await link.far.open_stream(unidirectional=False)
        sending = asyncio.create_task(link.far.send_pattern(number, 20 * MIB, 2))
        stream = await arrival(link.ours)
        assert Digest.of(await stream.read_all()) == Digest.of(pattern(20 * MIB, 2))
        await sending
