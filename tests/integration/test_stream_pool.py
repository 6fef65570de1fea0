"""``StreamPool`` and ``StreamBuffer``."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from contextlib import AsyncExitStack

import pytest

from pywebtransport import WebTransportSession, WebTransportStream
from pywebtransport.exceptions import (
    ConfigurationError,
    SessionClosedError,
    SessionError,
    StreamError,
    TimeoutError,
)
from pywebtransport.stream import StreamBuffer, StreamPool
from tests.support.endpoints import PairOfSessions
from tests.support.steps import cancelled_at, take, until


async def answer_lines(session: WebTransportSession) -> None:
    """A server of requests that are lines: each gets back its line in capitals."""

    async def answer(stream: WebTransportStream) -> None:
        with contextlib.suppress(StreamError):  # nobody wants the answer any more
            while line := await stream.readline():
                await stream.write(line.upper())
            await stream.close()

    async with asyncio.TaskGroup() as group:
        async for stream in session.incoming_bidirectional_streams():
            group.create_task(answer(stream))


async def request(stream: WebTransportStream, line: bytes) -> bytes:
    await stream.write(line + b"\n")
    return await stream.readline()


async def only_idle(pool: StreamPool) -> WebTransportStream:
    """The one idle stream of a pool, which stays in it."""
    assert pool.get_stats()["idle_streams"] == 1
    async with pool.stream(timeout=0) as stream:
        return stream


def is_unused(pool: StreamPool) -> bool:
    """No stream is in use or being opened, and no caller waits for one."""
    return pool.get_stats()["active_streams"] == 0 == pool.waiting_callers


# ------------------------------------------------------------------------- reuse


async def test_stream_carries_one_request_after_another(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        server = asyncio.create_task(answer_lines(far))
        async with StreamPool.create(session=near, pool_size=2) as pool:
            assert len(near._streams) == 0  # opened when wanted
            first = await pool.get_stream()
            assert await request(first, b"one") == b"ONE\n"
            await pool.return_stream(stream=first)
            again = await pool.get_stream()
            assert again is first
            assert await request(again, b"two") == b"TWO\n"
            other = await pool.get_stream()
            assert other is not first
            assert await request(other, b"three") == b"THREE\n"
            assert len(far._streams) == 2
            await pool.return_stream(other)
            await pool.return_stream(other)  # twice
            assert await only_idle(pool) is other
        # The pool finished its streams, the one in use as well: the server reads their end.
        await until(lambda: not far._streams)
        assert not first.is_writable
        await near.close()
        await server


async def test_answer_of_an_interrupted_user_reaches_nobody_else(pair: PairOfSessions) -> None:
    """However the user before was interrupted, the next one gets its own answer."""

    async def two_steps(pool: StreamPool, seen: asyncio.Event) -> None:
        stream = await pool.get_stream()
        try:
            await stream.write(b"lost\n")
            seen.set()
            await stream.readline()
        finally:
            await pool.return_stream(stream)

    async def block(pool: StreamPool, seen: asyncio.Event) -> None:
        async with pool.stream() as stream:
            await stream.write(b"lost\n")
            seen.set()
            await stream.readline()

    async def impatient(pool: StreamPool, seen: asyncio.Event) -> None:
        stream = await pool.get_stream()
        await stream.write(b"lost\n")
        with contextlib.suppress(builtins.TimeoutError):
            await asyncio.wait_for(stream.readline(), 0)
        await pool.return_stream(stream)
        seen.set()
        await asyncio.get_running_loop().create_future()

    for way in (two_steps, block, impatient):
        async with pair() as (near, far), StreamPool(near, pool_size=1) as pool:
            seen = asyncio.Event()
            user = asyncio.create_task(way(pool, seen))
            await seen.wait()
            user.cancel()
            with pytest.raises(asyncio.CancelledError):
                await user
            server = asyncio.create_task(answer_lines(far))
            async with pool.stream(timeout=5) as stream:
                assert await request(stream, b"mine") == b"MINE\n"
            assert await only_idle(pool) is stream
            server.cancel()


async def test_block_that_ends_well_leaves_its_stream_to_the_next(pair: PairOfSessions) -> None:
    async with pair() as (near, far), StreamPool(near) as pool:
        server = asyncio.create_task(answer_lines(far))
        async with pool.stream() as first:
            assert await request(first, b"one") == b"ONE\n"
        async with pool.stream() as again:
            assert again is first
        async with pool.stream() as unused:  # nothing written, nothing to wait for
            assert unused is first
        with contextlib.suppress(KeyError):
            async with pool.stream() as broken:
                assert await request(broken, b"two") == b"TWO\n"
                raise KeyError("two")
        assert pool.get_stats()["idle_streams"] == 0
        assert not broken.is_writable
        async with AsyncExitStack() as all_lent:
            for _ in range(10):
                await all_lent.enter_async_context(pool.stream(timeout=0))
            with pytest.raises(TimeoutError, match="stayed in use"):
                await all_lent.enter_async_context(pool.stream(timeout=0))
        server.cancel()


async def test_callers_wait_in_order_and_leave_cleanly(pair: PairOfSessions) -> None:
    async with pair() as (near, _), StreamPool(near, pool_size=1) as pool:
        stream = await pool.get_stream()
        with pytest.raises(TimeoutError, match="all 1 streams of the pool"):
            await pool.get_stream(timeout=0.01)
        order: list[int] = []

        async def use(number: int) -> None:
            taken = await pool.get_stream(timeout=50)
            assert taken is stream
            order.append(number)
            await pool.return_stream(taken)

        tasks = [asyncio.create_task(use(number)) for number in range(5)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        await pool.return_stream(stream)
        tasks[0].cancel()  # in the very turn in which it is served
        await asyncio.gather(*tasks[2:])
        assert order == [2, 3, 4]
        assert await only_idle(pool) is stream


async def test_cancelled_while_the_peer_gives_no_credit(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_bidi": 1}) as (near, _):
        stream = await near.create_bidirectional_stream()
        async with StreamPool(near, pool_size=1) as pool:
            assert await cancelled_at(pool.get_stream, 0)
            assert is_unused(pool)
            with pytest.raises(TimeoutError, match="no more bidirectional streams"):
                await pool.get_stream(timeout=0.01)
            assert is_unused(pool)
            # Closing the pool while it waits for the peer.
            waiting = asyncio.create_task(pool.get_stream(timeout=50))
            await asyncio.sleep(0)
        await stream.abort()
        await near.close()
        with pytest.raises(SessionError):
            await waiting


async def test_stream_opened_for_a_closed_pool_is_finished(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_bidi": 1}) as (near, far):
        blocker = await near.create_bidirectional_stream()
        await blocker.write(b"x")
        pool = StreamPool(near)
        waiting = asyncio.create_task(pool.get_stream(timeout=50))
        await asyncio.sleep(0)
        await pool.close_all()
        await blocker.close()
        far_blocker = await take(far)
        assert await far_blocker.read_all() == b"x"
        await far_blocker.close()
        assert await blocker.read_all() == b""
        with pytest.raises(SessionError, match="pool is closed"):
            await waiting
        assert await (await take(far)).read_all() == b""


# -------------------------------------------------------------- not used again


async def test_stream_that_ended_is_never_handed_out(pair: PairOfSessions) -> None:
    async with pair() as (near, far), StreamPool(near, pool_size=1) as pool:

        async def fresh() -> tuple[WebTransportStream, WebTransportStream]:
            """A stream of the pool that was never used, and its other end."""
            stream = await pool.get_stream()
            await stream.write(b"?")
            other = await take(far)
            assert await other.read(1) == b"?"
            await other.write(b"!")
            assert await stream.read(1) == b"!"
            return stream, other

        seen: set[WebTransportStream] = set()
        # While it is idle, the peer ...
        for end in ("finishes", "resets", "stops", "speaks"):
            stream, other = await fresh()
            assert stream not in seen
            seen.add(stream)
            await pool.return_stream(stream)
            quic = stream._quic
            if end == "finishes":
                await other.close()
                await until(lambda q=quic: q.fin_received)  # type: ignore[misc]
            elif end == "resets":
                other.reset(1)
                await until(lambda q=quic: q.is_reset)  # type: ignore[misc]
            elif end == "stops":
                other.stop_sending(1)
                await until(lambda q=quic: q.is_stopped)  # type: ignore[misc]
            else:
                await other.write(b"nobody asked")
                await until(lambda q=quic: q.buffered)  # type: ignore[misc]
        # Its user ...
        for end in ("finishes", "resets", "stops", "leaves bytes", "still reads"):
            stream, other = await fresh()
            assert stream not in seen
            seen.add(stream)
            reader = None
            if end == "finishes":
                await stream.close()
            elif end == "resets":
                stream.reset(1)
            elif end == "stops":
                stream.stop_sending(1)
            elif end == "leaves bytes":
                await other.write(b"response")
                assert await stream.read(1) == b"r"
            else:
                reader = asyncio.create_task(stream.read())
                await asyncio.sleep(0)
            await pool.return_stream(stream)
            assert pool.get_stats()["idle_streams"] == 0
            assert is_unused(pool)
            if reader is not None:
                with pytest.raises(StreamError, match="reading was stopped"):
                    await reader
        stream, _ = await fresh()
        assert stream not in seen


async def test_what_was_written_on_a_dropped_stream_arrives(pair: PairOfSessions) -> None:
    async with pair() as (near, far), StreamPool(near) as pool:
        stream = await pool.get_stream()
        await stream.write_all(b"last words")
        await pool.return_stream(stream)
        assert await (await take(far)).read_all() == b"last words"


async def test_stream_that_ends_frees_its_place_without_being_returned(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far), StreamPool(near, pool_size=1) as pool:
        stream = await pool.get_stream()
        waiting = asyncio.create_task(pool.get_stream(timeout=50))
        await stream.write_all(b"x")
        other = await take(far)
        assert await other.read_all() == b"x"
        await other.write_all(b"y")
        assert await stream.read_all() == b"y"
        assert await waiting is not stream
        await pool.return_stream(stream)  # too late, and harmless


async def test_stream_of_another_pool_is_finished(pair: PairOfSessions) -> None:
    async with pair() as (near, far), StreamPool(near, pool_size=1) as pool:
        foreign = await near.create_bidirectional_stream()
        await foreign.write(b"x")
        await pool.return_stream(foreign)
        assert is_unused(pool)
        assert pool.get_stats()["idle_streams"] == 0
        assert await (await take(far)).read_all() == b"x"
        assert not foreign.is_readable


# ---------------------------------------------------------------------------- end


async def test_end_of_the_session_ends_the_waiting(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        async with StreamPool(near, pool_size=2) as pool:
            idle, _ = [await pool.get_stream() for _ in range(2)]
            waiting = asyncio.create_task(pool.get_stream(timeout=50))
            await pool.return_stream(idle)
            assert await waiting is idle
            waiting = asyncio.create_task(pool.get_stream(timeout=50))
            await asyncio.sleep(0)
            await far.close(code=7)
            with pytest.raises(SessionClosedError) as caught:
                await waiting
            assert caught.value.error_code == 7
            assert is_unused(pool)
            with pytest.raises(SessionClosedError):
                await pool.get_stream()
        with pytest.raises(SessionError, match="pool is closed"):
            await pool.get_stream()
        with pytest.raises(SessionError, match="pool is closed"):
            async with pool:
                pass


async def test_closing_the_pool_ends_the_waiting(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        pool = StreamPool(near, pool_size=1)
        await pool.get_stream()
        waiting = asyncio.create_task(pool.get_stream(timeout=50))
        await asyncio.sleep(0)
        await pool.close_all()
        with pytest.raises(SessionError, match="pool is closed"):
            await waiting
        await pool.close_all()
        assert is_unused(pool)
        with pytest.raises(ConfigurationError, match="pool_size"):
            StreamPool(near, pool_size=0)


async def test_server_side_pool_uses_the_default_timeout(pair: PairOfSessions) -> None:
    async with pair() as (near, far), StreamPool(far) as pool:
        stream = await pool.get_stream()
        await stream.write(b"from the server")
        assert await (await take(near)).read() == b"from the server"


# ------------------------------------------------------------------------- buffer


async def test_buffer_passes_bytes_on() -> None:
    buffer = StreamBuffer()
    await buffer.initialize()
    await buffer.feed_data(data=b"hello ")
    await buffer.feed_data("world")
    assert buffer.size == 11
    assert await buffer.read(size=5) == (b"hello", False)
    assert await buffer.read(size=0) == (b"", False)
    assert await buffer.read() == (b" world", False)
    await buffer.feed_data(data=b"end", eof=True)
    assert not buffer.at_eof
    assert await buffer.read(size=2) == (b"en", False)
    assert await buffer.read(size=2) == (b"d", True)
    assert buffer.at_eof
    assert await buffer.read() == (b"", True)
    with pytest.raises(StreamError, match="end"):
        await buffer.feed_data(data=b"more")


async def test_buffer_is_bounded() -> None:
    buffer = StreamBuffer(max_size=4)
    feeding = asyncio.create_task(buffer.feed_data(data=b"0123456789", eof=True))
    later = asyncio.create_task(buffer.feed_data(data=b"too late"))
    received = []
    while not buffer.at_eof:
        data, end = await buffer.read(size=3)
        assert buffer.size <= 4
        received.append(data)
        assert end == buffer.at_eof
    assert b"".join(received) == b"0123456789"
    await feeding
    with pytest.raises(StreamError):
        await later


async def test_feeders_do_not_mix_their_bytes() -> None:
    buffer = StreamBuffer(max_size=2)
    async with asyncio.TaskGroup() as group:
        for letter in (b"a", b"b", b"c"):
            group.create_task(buffer.feed_data(data=letter * 10))
        received = b""
        while len(received) < 30:
            received += (await buffer.read())[0]
    assert received == b"a" * 10 + b"b" * 10 + b"c" * 10


async def test_buffer_survives_cancellation() -> None:
    buffer = StreamBuffer(max_size=4)
    assert await cancelled_at(buffer.read, 0)
    assert await cancelled_at(lambda: buffer.feed_data(data=b"012345", eof=True), 0)
    assert await buffer.read() == (b"0123", False)
    await buffer.feed_data(data=b"next", eof=True)
    assert await buffer.read() == (b"next", True)


async def test_buffer_waits_and_wakes() -> None:
    buffer = StreamBuffer()
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        await buffer.read(timeout=0.01)
    reading = asyncio.create_task(buffer.read(timeout=50))
    await asyncio.sleep(0)
    await buffer.feed_data(data=b"", eof=False)
    await buffer.feed_data(data=b"", eof=True)
    assert await reading == (b"", True)


def test_bad_size_is_named() -> None:
    with pytest.raises(ConfigurationError, match="max_size"):
        StreamBuffer(max_size=0)


async def test_bad_read_size_is_named() -> None:
    with pytest.raises(ValueError, match="size"):
        await StreamBuffer().read(size=-2)
