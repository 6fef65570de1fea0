"""Streams over WebSocket: what the application sees of both kinds, in both directions."""

import asyncio
import os

import pytest

from pywebtransport import WebTransportSession
from pywebtransport.constants import MAX_APPLICATION_CODE
from pywebtransport.exceptions import (
    ConfigurationError,
    SessionClosedError,
    StreamError,
    StreamLimitError,
    StreamResetError,
    StreamStoppedError,
)
from pywebtransport.stream import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from tests.support.steps import until

from .bed import Bed

pytestmark = pytest.mark.loops("virtual")


async def echo(session: WebTransportSession) -> None:
    """Answer bidirectional streams on themselves, and others on a new stream."""
    await session.accept()
    async for stream in session.incoming_streams():
        data = await stream.read_all()
        if isinstance(stream, WebTransportStream):
            await stream.write(data, end_stream=True)
        else:
            answer = await session.create_unidirectional_stream()
            await answer.write(data, end_stream=True)


async def stay(session: WebTransportSession) -> None:
    await session.accept()
    await session.wait_closed()


class Meeting:
    """Both ends of the first stream that the client opens.

    Attributes:
        far: The server's end, once there is one.
    """

    def __init__(self) -> None:
        self.far: asyncio.Future[WebTransportStream | WebTransportReceiveStream]
        self.far = asyncio.get_running_loop().create_future()

    async def __call__(self, session: WebTransportSession) -> None:
        await session.accept()
        async for stream in session.incoming_streams():
            self.far.set_result(stream)
            await session.wait_closed()
            return

    async def pair(
        self, session: WebTransportSession
    ) -> tuple[WebTransportStream, WebTransportStream]:
        near = await session.create_bidirectional_stream()
        await near.write(b"!")
        far = await self.far
        assert isinstance(far, WebTransportStream)
        assert await far.readexactly(1) == b"!"
        return near, far


@pytest.mark.parametrize("size", [0, 1, 16_384, 1_000_000])
async def test_a_bidirectional_stream_carries_bytes_both_ways(size: int) -> None:
    data = os.urandom(size)
    async with Bed(echo) as bed, bed.session() as session:
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data)
        assert await stream.read_all() == data
        assert stream.stream_id == 0


@pytest.mark.parametrize("size", [1, 200_000])
async def test_a_unidirectional_stream_carries_bytes(size: int) -> None:
    data = os.urandom(size)
    async with Bed(echo) as bed, bed.session() as session:
        out = await session.create_unidirectional_stream()
        await out.write(data, end_stream=True)
        async for back in session.incoming_unidirectional_streams():
            assert await back.read_all() == data
            assert (out.stream_id, back.stream_id) == (2, 3)
            break


async def test_a_hundred_streams_at_once() -> None:
    async def one(session: WebTransportSession, number: int) -> None:
        stream = await session.create_bidirectional_stream()
        await stream.write(b"%d" % number * 100, end_stream=True)
        assert await stream.read_all() == b"%d" % number * 100

    async with Bed(echo) as bed, bed.session() as session:
        await asyncio.gather(*(one(session, number) for number in range(100)))
        stats = await session.get_session_stats()
        assert stats["bidirectional_streams"] == 100
        assert session.open_streams() == []


async def test_the_server_opens_streams_at_once() -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        stream = await session.create_bidirectional_stream()
        await stream.write(b"hello", end_stream=True)
        assert await stream.read_all() == b"you"
        await session.close(code=3)

    async with Bed(handler) as bed, bed.session() as session:
        async for stream in session.incoming_bidirectional_streams():
            assert await stream.read_all() == b"hello"
            assert stream.stream_id == 1
            await stream.write(b"you", end_stream=True)
        assert session.close_info is not None
        assert session.close_info.code == 3


async def test_a_stream_can_be_opened_before_the_answer() -> None:
    async with Bed(echo) as bed:
        connection, _ = await bed.dial()
        session = await connection.create_session("/")
        stream = await session.create_bidirectional_stream()  # waits for the server's limits
        await stream.write(b"early", end_stream=True)
        assert await stream.read_all() == b"early"
        await connection.close()


@pytest.mark.parametrize("code", [0, 9, 255, MAX_APPLICATION_CODE])
async def test_a_reset_arrives_with_its_code(code: int) -> None:
    meeting = Meeting()
    async with Bed(meeting) as bed, bed.session() as session:
        near, far = await meeting.pair(session)
        near.reset(code)
        with pytest.raises(StreamResetError) as caught:
            await far.read()
        assert caught.value.error_code == code
        assert caught.value.details["code"] == code
        with pytest.raises(StreamError):
            await near.write(b"more")


@pytest.mark.parametrize("code", [0, 8, MAX_APPLICATION_CODE])
async def test_a_stop_arrives_with_its_code(code: int) -> None:
    meeting = Meeting()
    async with Bed(meeting) as bed, bed.session() as session:
        near, far = await meeting.pair(session)
        far.stop_sending(code)
        assert await near.wait_stopped() == code
        with pytest.raises(StreamStoppedError) as caught:
            await near.write(b"more")
        assert caught.value.error_code == code


async def test_a_wire_code_beyond_the_range_is_none() -> None:
    meeting = Meeting()
    async with Bed(meeting) as bed, bed.session() as session:
        near, far = await meeting.pair(session)
        near._quic.reset(2**32)
        with pytest.raises(StreamResetError) as caught:
            await far.read()
        assert caught.value.error_code is None
        assert caught.value.details["code"] == 2**32


async def test_a_code_out_of_range_changes_nothing() -> None:
    meeting = Meeting()
    async with Bed(meeting) as bed, bed.session() as session:
        near, far = await meeting.pair(session)
        for act in (near.reset, near.stop_sending):
            with pytest.raises(ConfigurationError):
                act(MAX_APPLICATION_CODE + 1)
        await near.write(b"still", end_stream=True)
        assert await far.read_all() == b"still"


async def test_bytes_before_a_reset_can_be_made_to_arrive() -> None:
    meeting = Meeting()
    async with Bed(meeting) as bed, bed.session() as session:
        near, far = await meeting.pair(session)
        near._quic.set_reliable_size(6)
        await near.write(b"12345" * 10_000)
        near.reset(4)
        assert await far.readexactly(5) == b"12345"
        with pytest.raises(StreamResetError):
            await far.read_all()


async def test_a_writer_waits_for_a_reader() -> None:
    meeting = Meeting()
    async with Bed(meeting) as bed, bed.session() as session:
        near, far = await meeting.pair(session)
        data = os.urandom(8 * 1024 * 1024)
        writing = asyncio.ensure_future(near.write_all(data))
        await until(lambda: far._quic.buffered >= 64 * 1024)
        await asyncio.sleep(1)
        assert not writing.done()
        held = far._quic.buffered
        assert held <= session.config.read_buffer_limit  # what a peer may send unread
        assert await far.read_all(max_size=len(data)) == data
        await writing


async def test_an_abandoned_write_leaves_the_stream_usable() -> None:
    meeting = Meeting()
    async with Bed(meeting) as bed, bed.session() as session:
        near, far = await meeting.pair(session)
        writing = asyncio.ensure_future(near.write(bytes(4_000_000)))
        await asyncio.sleep(0.1)
        assert not writing.done()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        near.reset(1)
        with pytest.raises(StreamResetError):
            await far.read_all()


async def test_more_urgent_streams_go_first() -> None:
    """Both have more to send than the peer takes at once; the order of the ends tells."""
    order: list[int] = []
    done = asyncio.Event()

    async def read(stream: WebTransportReceiveStream) -> None:
        await stream.read_all(max_size=10_000_000)
        order.append(stream.stream_id)
        if len(order) == 2:
            done.set()

    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        async with asyncio.TaskGroup() as group:
            async for stream in session.incoming_unidirectional_streams():
                group.create_task(read(stream))

    async with Bed(handler) as bed, bed.session() as session:
        late = await session.create_unidirectional_stream(send_order=-1)
        first = await session.create_unidirectional_stream(send_order=5)
        assert first.send_order == 5
        for stream in (late, first):
            assert isinstance(stream, WebTransportSendStream)
            await stream.write(bytes(500_000), end_stream=True, wait_flush=False)
        await done.wait()
        assert order == [first.stream_id, late.stream_id]


@pytest.mark.parametrize("unidirectional", [False, True])
async def test_the_limit_of_the_peer_is_named(unidirectional: bool) -> None:
    limits = {"initial_max_streams_bidi": 3, "initial_max_streams_uni": 3}
    async with Bed(stay, limits) as bed, bed.session() as session:
        create = session.create_bidirectional_stream
        if unidirectional:
            create = session.create_unidirectional_stream  # type: ignore[assignment]
        streams = [await create() for _ in range(3)]
        for stream in streams:
            await stream.write(b"x")
        with pytest.raises(StreamLimitError) as caught:
            await create(timeout=0.5)
        name = f"MAX_STREAMS_{'UNI' if unidirectional else 'BIDI'}"
        assert f"QMux {name}, is 3 streams in total; 3 such streams" in str(caught.value)
        assert caught.value.details["limit"] == name
        assert (caught.value.details["value"], caught.value.details["open"]) == (3, 3)
        for stream in streams:
            await stream.abort()


async def test_a_stream_that_ends_makes_room() -> None:
    limits = {"initial_max_streams_bidi": 2}
    async with Bed(echo, limits) as bed, bed.session() as session:
        for number in range(20):
            stream = await session.create_bidirectional_stream(timeout=5)
            await stream.write(b"%d" % number, end_stream=True)
            assert await stream.read_all() == b"%d" % number


async def test_a_caller_that_waits_for_a_limit_goes_on() -> None:
    meeting = Meeting()
    async with Bed(meeting, {"initial_max_streams_bidi": 1}) as bed, bed.session() as session:
        near, far = await meeting.pair(session)
        waiting = asyncio.ensure_future(session.create_bidirectional_stream(timeout=10))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await near.write(b"", end_stream=True)
        await far.write(b"", end_stream=True)
        assert await far.read_all() == await near.read_all() == b""
        stream = await waiting
        assert stream.stream_id == 4
        await stream.abort()


async def test_closing_a_session_lets_finished_streams_arrive() -> None:
    data = os.urandom(300_000)
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        async for stream in session.incoming_unidirectional_streams():
            received.set_result(await stream.read_all(max_size=len(data)))

    async with Bed(handler) as bed, bed.session() as session:
        stream = await session.create_unidirectional_stream()
        await stream.write(data, end_stream=True)
        await session.close(code=2)
        assert await received == data
        assert (await bed.sessions[0].wait_closed()).code == 2


async def test_what_came_before_the_end_can_still_be_read() -> None:
    ended = asyncio.Event()
    result: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        streams = session.incoming_bidirectional_streams()
        await session.wait_closed()
        ended.set()
        async for stream in streams:
            result.set_result(await stream.read_all())

    async with Bed(handler) as bed, bed.session() as session:
        stream = await session.create_bidirectional_stream()
        await stream.write(b"last words", end_stream=True)
        await session.close()
        await ended.wait()
        assert await result == b"last words"


async def test_waiting_callers_hear_of_the_end() -> None:
    meeting = Meeting()
    async with Bed(meeting) as bed, bed.session() as session:
        near, far = await meeting.pair(session)
        waiting = [
            asyncio.ensure_future(near.read()),
            asyncio.ensure_future(near.wait_stopped()),
            asyncio.ensure_future(session.datagrams.receive()),
        ]
        await asyncio.sleep(0)
        await bed.sessions[0].close(code=6, reason="over")
        for one in waiting:
            with pytest.raises(SessionClosedError) as caught:
                await one
            assert (caught.value.code, caught.value.reason) == (6, "over")
        with pytest.raises(SessionClosedError):
            await far.write(b"x")


async def test_acknowledged_means_handed_over() -> None:
    meeting = Meeting()
    async with Bed(meeting) as bed:
        connection, link = await bed.dial()
        session = await connection.create_session("/")
        await session.ready()
        near, _ = await meeting.pair(session)
        link.is_stuck = True
        await near.write(b"x" * 1000, end_stream=True)
        waiting = asyncio.ensure_future(near.wait_acknowledged())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        link.unblock()
        await waiting
        await connection.close()


async def test_serve_streams() -> None:
    async def serve(stream: WebTransportStream) -> None:
        await stream.write((await stream.read_all()).upper(), end_stream=True)

    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        await session.serve_streams(serve)

    async with Bed(handler) as bed, bed.session() as session:
        for word in (b"one", b"two"):
            stream = await session.create_bidirectional_stream()
            await stream.write(word, end_stream=True)
            assert await stream.read_all() == word.upper()


async def test_streams_arrive_in_the_order_in_which_they_were_opened() -> None:
    """Whether they have data, an end, or nothing yet."""
    got: list[int] = []
    done = asyncio.Event()

    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        async for stream in session.incoming_unidirectional_streams():
            got.append(stream.stream_id)
            if len(got) == 6:
                done.set()

    async with Bed(handler) as bed, bed.session() as session:
        streams = [await session.create_unidirectional_stream() for _ in range(6)]
        await streams[1].write(b"data")
        await streams[3].write(b"", end_stream=True)
        await streams[4].write(b"data", end_stream=True)
        await done.wait()
        assert got == [stream.stream_id for stream in streams]
        for stream in streams:
            await stream.abort()


async def test_a_reset_that_nobody_reads_makes_room() -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        async for stream in session.incoming_unidirectional_streams():
            held.append(stream)

    held: list[WebTransportReceiveStream] = []
    async with Bed(handler, {"initial_max_streams_uni": 2}) as bed, bed.session() as session:
        for _ in range(10):
            stream = await session.create_unidirectional_stream(timeout=5)
            await stream.write(b"x")
            stream.reset(2)
