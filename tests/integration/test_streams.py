"""Streams: transfers, every way to read and write, resets and stops with codes."""

from __future__ import annotations

import array
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pywebtransport import (
    StreamDirection,
    StreamState,
)
from pywebtransport.exceptions import (
    ConfigurationError,
    SessionClosedError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
    TimeoutError,
)
from pywebtransport.stream import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.stream.utils import copy_stream_data, echo_stream
from tests.support.endpoints import PairOfSessions
from tests.support.payload import payload
from tests.support.steps import echo_bidirectional, take, take_unidirectional, until

OPENERS = pytest.mark.parametrize("opener", ["client", "server"])
DIALECTS = pytest.mark.parametrize("dialect", [2, 7, 14, 16])
# The first, the last, and those on both sides of a code that HTTP/3 reserves.
CODES = [0, 1, 29, 30, 31, 255, 256, 2**31, 2**32 - 1]


@asynccontextmanager
async def both_ends(
    pair: PairOfSessions, **fields: object
) -> AsyncIterator[tuple[WebTransportStream, WebTransportStream]]:
    """Both ends of one bidirectional stream; the first byte was already read."""
    async with pair(**fields) as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"!")
        other = await take(far)
        assert await other.readexactly(1) == b"!"
        yield stream, other


@asynccontextmanager
async def one_way(
    pair: PairOfSessions, **fields: object
) -> AsyncIterator[tuple[WebTransportSendStream, WebTransportReceiveStream]]:
    """Both ends of one unidirectional stream of the client; the first byte was already read."""
    async with pair(**fields) as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write(b"!")
        other = await take_unidirectional(far)
        assert await other.readexactly(1) == b"!"
        yield stream, other


# -------------------------------------------------------------------- transfers


@OPENERS
@pytest.mark.parametrize("size", [0, 1, 1199, 65536, 4 * 1024 * 1024 + 3])
async def test_bidirectional_echo_is_byte_exact(
    pair: PairOfSessions, opener: str, size: int
) -> None:
    data = payload(size)
    async with pair() as (client, server):
        near, far = (client, server) if opener == "client" else (server, client)
        echoing = asyncio.create_task(echo_bidirectional(far))
        stream = await near.create_bidirectional_stream()
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.write_all(data))
            received = group.create_task(stream.read_all())
        assert received.result() == data
        await near.close()
        await echoing


@OPENERS
@pytest.mark.parametrize("size", [0, 1, 4 * 1024 * 1024 + 3])
async def test_unidirectional_transfer_is_byte_exact(
    pair: PairOfSessions, opener: str, size: int
) -> None:
    data = payload(size)
    async with pair() as (client, server):
        near, far = (client, server) if opener == "client" else (server, client)
        stream = await near.create_unidirectional_stream()
        writing = asyncio.create_task(stream.write_all(data))
        other = await take_unidirectional(far)
        assert await other.read_all() == data
        assert other.at_eof()
        await writing
        await stream.wait_acknowledged()


@DIALECTS
async def test_every_dialect_carries_both_kinds_of_streams(
    pair: PairOfSessions, dialect: int
) -> None:
    async with pair(client={"dialects": [dialect]}) as (near, far):
        assert near.connection is not None
        assert far.connection is not None
        assert near.connection.dialect == far.connection.dialect == dialect
        for session, other in ((near, far), (far, near)):
            bidi = await session.create_bidirectional_stream()
            await bidi.write_all(b"question")
            incoming = await take(other)
            assert await incoming.read_all() == b"question"
            await incoming.write_all(b"answer")
            assert await bidi.read_all() == b"answer"
            uni = await session.create_unidirectional_stream()
            await uni.write_all(b"statement")
            assert await (await take_unidirectional(other)).read_all() == b"statement"
        await far.close(code=300, reason="done")
        assert (await near.wait_closed()).code == 300


async def test_200_concurrent_streams(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        echoing = asyncio.create_task(echo_bidirectional(far))

        async def exchange(number: int) -> None:
            data = payload(10_000, number)
            stream = await near.create_bidirectional_stream()
            await stream.write_all(data)
            assert await stream.read_all() == data

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(exchange(number))
        await near.close()
        await echoing


async def test_more_streams_than_the_limit_one_after_the_other(pair: PairOfSessions) -> None:
    limits = {"initial_max_streams_bidi": 2, "initial_max_streams_uni": 3}
    async with pair(server=limits, client=limits) as (near, far):
        echoing = asyncio.create_task(echo_bidirectional(far))
        for number in range(25):
            stream = await near.create_bidirectional_stream()
            await stream.write_all(bytes([number]))
            assert await stream.read_all() == bytes([number])
            uni = await near.create_unidirectional_stream()
            await uni.write_all(bytes([number]))
            assert await (await take_unidirectional(far)).read_all() == bytes([number])
        await near.close()
        await echoing


# ---------------------------------------------------------------------- reading


async def test_ways_to_read(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        await stream.write_all(b"exact line one\nline two\r\nuntil|rest of it" + b"z" * 10)
        assert await other.read(0) == b""
        assert await other.readexactly(0) == b""
        assert await other.readexactly(6) == b"exact "
        assert await other.readline() == b"line one\n"
        assert await other.readuntil(b"\r\n") == b"line two\r\n"
        assert await other.readuntil(b"|") == b"until|"
        assert await other.read(4) == b"rest"
        buffer = bytearray(3)
        assert await other.readinto(buffer) == 3
        assert buffer == b" of"
        assert await other.readinto(memoryview(bytearray(0))) == 0
        assert await other.readline() == b" it" + b"z" * 10
        assert await other.readline() == b""
        assert await other.read() == b""
        assert await other.readinto(bytearray(5)) == 0
        assert await other.read_all() == b""
        assert other.at_eof()
        assert not other.is_readable


async def test_readinto_waits_for_data_and_fills_what_there_is(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        numbers = array.array("H", [0] * 8)
        reading = asyncio.create_task(other.readinto(memoryview(numbers)))
        await asyncio.sleep(0)
        await stream.write(array.array("H", range(8)).tobytes())
        count = await reading
        assert numbers.tobytes()[:count] == array.array("H", range(8)).tobytes()[:count]
        with pytest.raises(ValueError, match="read-only"):
            await other.readinto(memoryview(b"constant"))  # type: ignore[arg-type]


async def test_iteration_ends_at_the_end_of_the_stream(pair: PairOfSessions) -> None:
    data = payload(300_000)
    async with pair() as (near, far):
        for way in ("stream", "read_iter"):
            stream = await near.create_unidirectional_stream()
            writing = asyncio.create_task(stream.write_all(data))
            other = await take_unidirectional(far)
            pieces = [
                piece async for piece in (other if way == "stream" else other.read_iter(1000))
            ]
            assert b"".join(pieces) == data
            assert max(map(len, pieces)) <= (65536 if way == "stream" else 1000)
            await writing


async def test_read_minus_one_and_read_all_read_to_the_end(pair: PairOfSessions) -> None:
    data = payload(200_000)
    async with pair() as (near, far):
        for size in (-1, None):
            stream = await near.create_unidirectional_stream()
            await stream.write_all(data)
            other = await take_unidirectional(far)
            got = await (other.read_all() if size is None else other.read(size))
            assert got == data


async def test_read_all_keeps_what_it_read_when_the_stream_is_too_long(
    pair: PairOfSessions,
) -> None:
    data = payload(5000)
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write_all(data)
        other = await take_unidirectional(far)
        with pytest.raises(StreamError, match="longer than max_size=4999") as caught:
            await other.read_all(max_size=4999)
        assert caught.value.details["max_size"] == 4999
        assert await other.read_all(max_size=5000) == data


async def test_a_stream_that_ends_too_soon_tells_what_came(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        for _ in range(2):
            await (await near.create_unidirectional_stream()).write_all(b"short")
        first, second = await take_unidirectional(far), await take_unidirectional(far)
        with pytest.raises(StreamError, match="after 5 of 6 bytes") as caught:
            await first.readexactly(6)
        assert caught.value.details == {"partial": b"short", "expected": 6}
        with pytest.raises(StreamError, match="before the separator") as caught:
            await second.readuntil(b"\0")
        assert caught.value.details["partial"] == b"short"


async def test_readuntil_is_bounded_by_the_read_buffer(pair: PairOfSessions) -> None:
    async with pair(server={"max_read_buffer_size": 4096}) as (near, far):
        stream = await near.create_unidirectional_stream()
        writing = asyncio.create_task(stream.write_all(b"x" * 20_000 + b"\n"))
        other = await take_unidirectional(far)
        with pytest.raises(StreamError, match="flow_control_window_size=4096"):
            await other.readuntil()
        assert len(await other.read_all()) == 20_001
        await writing


async def test_separator_across_packets_is_found(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        for piece in (b"before", b"\r", b"\n\r", b"\nafter"):
            await stream.write(piece)
            await stream.flush()
        await stream.close()
        assert await other.readuntil(b"\r\n\r\n") == b"before\r\n\r\n"
        assert await other.read_all() == b"after"


async def test_bad_arguments_of_reads_are_refused(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        with pytest.raises(ValueError, match="n must be >= 0, got -1"):
            await other.readexactly(-1)
        with pytest.raises(ValueError, match="separator"):
            await other.readuntil(b"")
        with pytest.raises(ValueError, match="max_size"):
            await other.read_all(max_size=-5)
        with pytest.raises(ValueError, match="chunk_size"):
            await anext(other.read_iter(0))
        with pytest.raises(ValueError, match="chunk_size"):
            await stream.write_all(b"", chunk_size=0)
        with pytest.raises(ValueError, match="send_order"):
            stream.send_order = 2**62


async def test_only_one_coroutine_reads_at_a_time(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        reading = asyncio.create_task(other.read())
        await asyncio.sleep(0)
        with pytest.raises(StreamError, match="another coroutine"):
            await other.read()
        await stream.write(b"for the first")
        assert await reading == b"for the first"


async def test_read_timeout_leaves_the_stream_usable(pair: PairOfSessions) -> None:
    async with one_way(pair, server={"read_timeout": 0.02}) as (stream, other):
        for attempt in (other.read, lambda: other.readexactly(3), other.readuntil):
            with pytest.raises(TimeoutError, match=r"read_timeout=0\.02") as caught:
                await attempt()
            assert caught.value.timeout_duration == 0.02
        await stream.write(b"ab")
        with pytest.raises(TimeoutError):
            await other.readexactly(3)
        await stream.write_all(b"c")
        assert await other.read_all() == b"abc"


# ---------------------------------------------------------------------- writing


async def test_every_kind_of_data_can_be_written(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        mutable = bytearray(b"bytearray;")
        await stream.write(b"bytes;")
        await stream.write(mutable)
        mutable[:] = b"overwritten!"
        await stream.write(memoryview(b"..memoryview;")[2:])
        await stream.write("täxt;")
        await stream.write(memoryview(array.array("I", [1])))
        await stream.writelines([b"l1;", "l2;", bytearray(b"l3;")])
        await stream.write(b"")
        await stream.write(b"end", end_stream=True)
        expected = b"bytes;bytearray;memoryview;" + "täxt;".encode()
        expected += array.array("I", [1]).tobytes() + b"l1;l2;l3;end"
        assert await other.read_all() == expected
        assert stream.stats.bytes_sent == len(expected) + 1
        assert other.stats.bytes_received == len(expected) + 1


async def test_large_mutable_buffers_are_copied_before_write_returns(
    pair: PairOfSessions,
) -> None:
    data = payload(3 * 1024 * 1024)
    async with one_way(pair) as (stream, other):
        buffer = bytearray(data)

        async def write() -> None:
            await stream.write(buffer)
            buffer[:] = bytes(len(buffer))
            await stream.close()

        writing = asyncio.create_task(write())
        assert await other.read_all() == data
        await writing


async def test_write_without_waiting_queues_any_amount(pair: PairOfSessions) -> None:
    data = payload(8 * 1024 * 1024)
    async with one_way(pair) as (stream, other):
        await stream.write(data, wait_flush=False)
        assert stream.write_buffer_size > 4 * 1024 * 1024
        await stream.close()
        assert await other.read_all() == data
        assert stream.write_buffer_size == 0


async def test_flush_returns_when_little_is_left(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        reading = asyncio.create_task(other.read_all())
        await stream.write(payload(4 * 1024 * 1024), wait_flush=False)
        await stream.flush()
        assert stream.write_buffer_size <= 64 * 1024
        await stream.close()
        assert len(await reading) == 4 * 1024 * 1024


async def test_writing_after_the_end_says_so(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        assert stream.is_writable
        assert not stream.is_closing()
        await stream.close()
        await stream.close()
        assert not stream.is_writable
        assert stream.is_closing()
        for data in (b"x", bytearray(b"x")):
            with pytest.raises(StreamError, match="finished"):
                await stream.write(data)
        assert await other.read_all() == b""


async def test_acknowledgement_can_be_awaited(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        with pytest.raises(StreamError, match="not finished"):
            await stream.wait_acknowledged()
        await stream.write_all(payload(100_000))
        await asyncio.gather(stream.wait_acknowledged(), stream.wait_acknowledged())
        await stream.wait_acknowledged()
        assert len(await other.read_all()) == 100_000


async def test_write_timeout_says_that_the_peer_does_not_read(pair: PairOfSessions) -> None:
    async with one_way(pair, client={"write_timeout": 0.05}) as (stream, other):
        data = payload(4 * 1024 * 1024)
        with pytest.raises(TimeoutError, match=r"write_timeout=0\.05"):
            await stream.write(data)
        assert stream.stats.flow_control_errors == 1
        await stream.close()
        assert await other.read_all() == data


async def test_higher_send_order_goes_first(pair: PairOfSessions) -> None:
    size = 900_000
    async with pair() as (near, far):
        low = await near.create_unidirectional_stream(send_order=-1)
        high = await near.create_bidirectional_stream(send_order=5)
        assert (low.send_order, high.send_order) == (-1, 5)
        await low.write(b"l" * size, end_stream=True, wait_flush=False)
        await high.write(b"h" * size, end_stream=True, wait_flush=False)
        order = []

        async def read(name: str, stream: WebTransportReceiveStream) -> None:
            assert len(await stream.read_all()) == size
            order.append(name)

        async with asyncio.TaskGroup() as group:
            incoming = far.incoming_streams()
            for _ in range(2):
                stream = await anext(incoming)
                name = "high" if isinstance(stream, WebTransportStream) else "low"
                group.create_task(read(name, stream))
        assert order == ["high", "low"]


async def test_send_order_can_change_while_data_waits(pair: PairOfSessions) -> None:
    size = 900_000
    async with pair() as (near, far):
        first = await near.create_unidirectional_stream()
        second = await near.create_unidirectional_stream()
        await first.write(b"1" * size, end_stream=True, wait_flush=False)
        await second.write(b"2" * size, end_stream=True, wait_flush=False)
        second.send_order = 1
        order = []

        async def read(stream: WebTransportReceiveStream) -> None:
            order.append((await stream.read_all())[:1])

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(read(await take_unidirectional(far)))
        assert order == [b"2", b"1"]


# --------------------------------------------------------------- resets and stops


@OPENERS
@pytest.mark.parametrize("code", CODES)
async def test_reset_and_stop_carry_codes_both_ways(
    pair: PairOfSessions, opener: str, code: int
) -> None:
    async with pair() as (client, server):
        near, far = (client, server) if opener == "client" else (server, client)
        stream = await near.create_bidirectional_stream()
        await stream.write(b"!")
        other = await take(far)
        assert await other.readexactly(1) == b"!"
        await stream.reset(code)
        with pytest.raises(StreamResetError) as reset:
            await other.read()
        assert reset.value.error_code == code
        assert reset.value.remote
        stream.stop_sending(code)
        await until(lambda: not other.is_writable)
        with pytest.raises(StreamStoppedError) as stopped:
            await other.write(b"x")
        assert stopped.value.error_code == code
        for error in (reset.value, stopped.value):
            assert error.stream_id == other.stream_id
            assert f"with code {code}" in str(error)


async def test_draft_02_codes_have_all_their_bits(pair: PairOfSessions) -> None:
    async with both_ends(pair, client={"dialects": [2]}) as (stream, other):
        stream.reset(70_000)
        with pytest.raises(StreamResetError) as caught:
            await other.read()
        assert caught.value.error_code == 70_000


async def test_unmappable_code_is_none(pair: PairOfSessions) -> None:
    async with both_ends(pair) as (stream, other):
        stream._quic.reset(0x10C)
        with pytest.raises(StreamResetError, match="without an application code") as caught:
            await other.read()
        assert caught.value.error_code is None
        assert caught.value.details["code"] == 0x10C


@pytest.mark.parametrize("code", [-1, 2**32])
async def test_stream_code_out_of_range_is_refused(pair: PairOfSessions, code: int) -> None:
    async with both_ends(pair) as (stream, other):
        for verb in (stream.reset, stream.stop_sending):
            with pytest.raises(StreamError, match=str(code)):
                verb(code)
        await stream.write_all(b"unharmed")
        assert await other.read_all() == b"unharmed"


async def test_waiting_reader_hears_the_reset_and_later_reads_too(pair: PairOfSessions) -> None:
    async with both_ends(pair) as (stream, other):
        reading = asyncio.create_task(other.readexactly(10))
        await asyncio.sleep(0)
        await stream.abort(9)
        attempts = [
            lambda: reading,
            other.read,
            other.read_all,
            lambda: other.readinto(bytearray(1)),
        ]
        for attempt in attempts:
            with pytest.raises(StreamResetError) as caught:
                await attempt()
            assert caught.value.error_code == 9
        assert not other.is_readable
        assert other.state is StreamState.RESET_RECEIVED


async def test_waiting_writer_hears_the_stop(pair: PairOfSessions) -> None:
    async with both_ends(pair) as (stream, other):
        writing = asyncio.create_task(stream.write(payload(8 * 1024 * 1024)))
        await until(lambda: other._quic.buffered > 0)
        await other.stop_sending(8)
        with pytest.raises(StreamStoppedError) as caught:
            await writing
        assert caught.value.error_code == 8
        for attempt in (stream.flush, stream.wait_acknowledged, lambda: stream.write_all(b"")):
            with pytest.raises(StreamError):
                await attempt()
        assert stream.stats.write_errors >= 1


async def test_who_waits_for_acknowledgement_hears_the_end_in_the_applications_terms(
    pair: PairOfSessions,
) -> None:
    async with both_ends(pair) as (stream, other):
        await stream.write(payload(8 * 1024 * 1024), end_stream=True, wait_flush=False)
        waiting = asyncio.create_task(stream.wait_acknowledged())
        await until(lambda: other._quic.buffered > 0)
        other.stop_sending(8)
        with pytest.raises(StreamStoppedError, match=r"with code 8$") as caught:
            await waiting
        assert caught.value.error_code == 8
        with pytest.raises(StreamStoppedError, match=r"with code 8$"):
            await stream.wait_acknowledged()
    async with both_ends(pair) as (stream, other):
        stream.reset(3)
        with pytest.raises(StreamError, match="was reset by this end"):
            await stream.wait_acknowledged()
    async with both_ends(pair) as (stream, other):
        await stream.session.close(code=4)
        with pytest.raises(SessionClosedError, match="with code 4"):
            await stream.wait_acknowledged()


async def test_reading_after_stopping_says_so(pair: PairOfSessions) -> None:
    async with both_ends(pair) as (stream, other):
        reading = asyncio.create_task(other.read())
        await asyncio.sleep(0)
        other.stop_sending(1)
        other.stop_sending(2)
        with pytest.raises(StreamError, match="was stopped"):
            await reading
        with pytest.raises(StreamError, match="was stopped"):
            await other.read()
        await until(lambda: not stream.is_writable)
        await other.write_all(b"the other half works")
        assert await stream.read_all() == b"the other half works"


async def test_writing_after_the_own_reset_says_so(pair: PairOfSessions) -> None:
    async with both_ends(pair) as (stream, other):
        stream.reset(3)
        stream.reset(4)
        assert stream.state is StreamState.RESET_SENT
        with pytest.raises(StreamError, match="reset"):
            await stream.write(b"x")
        with pytest.raises(StreamError):
            await stream.wait_acknowledged()
        await stream.close()
        with pytest.raises(StreamResetError) as caught:
            await other.read()
        assert caught.value.error_code == 3


async def test_reset_before_any_byte_still_opens_the_stream(pair: PairOfSessions) -> None:
    """The header of the stream is delivered although its sender gave up at once."""
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        stream.reset(11)
        other = await take_unidirectional(far)
        with pytest.raises(StreamResetError) as caught:
            await other.read()
        assert caught.value.error_code == 11


async def test_reset_drops_a_large_queue_and_the_peer_is_not_blocked(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far):
        for number in range(5):
            stream = await near.create_unidirectional_stream()
            await stream.write(payload(8 * 1024 * 1024), wait_flush=False)
            other = await take_unidirectional(far)
            stream.reset(number)
            with pytest.raises(StreamResetError) as caught:
                await other.read_all()
            assert caught.value.error_code == number
        stream = await near.create_unidirectional_stream()
        await stream.write_all(b"fine")
        assert await (await take_unidirectional(far)).read_all() == b"fine"


async def test_leaving_the_block_finishes_or_aborts(pair: PairOfSessions) -> None:
    async with pair() as (near, far):

        async def fail_in(stream: WebTransportStream | WebTransportSendStream) -> None:
            async with stream:
                await stream.write(b"?")
                raise LookupError

        async with await near.create_bidirectional_stream() as stream:
            await stream.write(b"question")
            other = await take(far)
        assert await other.read_all() == b"question"
        await until(lambda: not other.is_writable)

        with pytest.raises(LookupError):
            await fail_in(await near.create_bidirectional_stream())
        with pytest.raises(StreamResetError):
            await (await take(far)).read_all()

        async with await near.create_unidirectional_stream() as sending:
            await sending.write(b"text")
        assert await (await take_unidirectional(far)).read_all() == b"text"

        with pytest.raises(LookupError):
            await fail_in(await near.create_unidirectional_stream())
        with pytest.raises(StreamResetError):
            await (await take_unidirectional(far)).read_all()


async def test_leaving_the_block_of_a_received_stream_stops_it(pair: PairOfSessions) -> None:
    async with pair() as (near, far):

        async def fail_in(stream: WebTransportReceiveStream) -> None:
            async with stream:
                raise LookupError

        first = await near.create_unidirectional_stream()
        await first.write(b"text")
        async with await take_unidirectional(far) as receiving:
            assert await receiving.read(1) == b"t"
        await until(lambda: not first.is_writable)
        second = await near.create_unidirectional_stream()
        await second.write(b"?")
        with pytest.raises(LookupError):
            await fail_in(await take_unidirectional(far))
        await until(lambda: not second.is_writable)


async def test_states_follow_the_halves(pair: PairOfSessions) -> None:
    async with both_ends(pair) as (stream, other):
        await stream.initialize()
        assert stream.state is other.state is StreamState.OPEN
        assert stream.direction is StreamDirection.BIDIRECTIONAL
        await stream.close()
        assert stream.state is StreamState.HALF_CLOSED_LOCAL
        assert await other.read() == b""
        assert other.state is StreamState.HALF_CLOSED_REMOTE
        await other.close()
        assert other.state is StreamState.CLOSED
        assert await stream.read() == b""
        await until(lambda: stream.is_closed and other.is_closed)
        assert stream.state is StreamState.CLOSED
        assert stream.stats.closed_at is not None
        assert f"id={stream.stream_id}" in repr(stream)


async def test_unidirectional_streams_have_one_direction(pair: PairOfSessions) -> None:
    async with one_way(pair) as (stream, other):
        await stream.initialize()
        await other.initialize()
        assert stream.direction is StreamDirection.SEND_ONLY
        assert other.direction is StreamDirection.RECEIVE_ONLY
        assert not hasattr(stream, "read")
        assert not hasattr(other, "write")
        assert stream.state is other.state is StreamState.OPEN
        await stream.close()
        assert stream.state is StreamState.CLOSED
        assert await other.read_all() == b""
        assert other.state is StreamState.CLOSED
        await other.close()
        await other.abort(3)


# ----------------------------------------------------------------------- helpers


async def test_copying_streams_and_echo(pair: PairOfSessions) -> None:
    data = payload(1_000_000)
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        writing = asyncio.create_task(stream.write_all(data))
        echoing = asyncio.create_task(echo_stream(stream=await take(far)))
        assert await stream.read_all() == data
        await asyncio.gather(writing, echoing)

        source = await near.create_unidirectional_stream()
        await source.write(b"!")
        target = await far.create_unidirectional_stream()
        copying = asyncio.create_task(
            copy_stream_data(source=await take_unidirectional(far), destination=target)
        )
        await source.write_all(b"copied")
        assert await (await take_unidirectional(near)).read_all() == b"!copied"
        assert await copying == 7


@pytest.mark.parametrize("chunk_size", [0, -1])
async def test_copying_in_pieces_of_nothing_is_refused(
    pair: PairOfSessions, chunk_size: int
) -> None:
    """It would end at once, and the copy would look complete."""
    async with pair() as (near, far):
        source = await near.create_unidirectional_stream()
        await source.write_all(b"copied")
        arrived = await take_unidirectional(far)
        target = await far.create_unidirectional_stream()
        with pytest.raises(ConfigurationError, match="chunk_size"):
            await copy_stream_data(source=arrived, destination=target, chunk_size=chunk_size)
        assert await copy_stream_data(source=arrived, destination=target) == 6


async def test_copying_aborts_the_other_side_when_one_fails(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        source = await near.create_unidirectional_stream()
        await source.write(b"!")
        target = await far.create_unidirectional_stream()
        copying = asyncio.create_task(
            copy_stream_data(source=await take_unidirectional(far), destination=target)
        )
        copied = await take_unidirectional(near)
        assert await copied.readexactly(1) == b"!"
        source.reset(5)
        with pytest.raises(StreamResetError):
            await copying
        with pytest.raises(StreamResetError):
            await copied.read()


async def test_figures_of_a_stream_are_measured(pair: PairOfSessions) -> None:
    async with both_ends(pair) as (stream, other):
        reading = asyncio.create_task(other.read())
        await asyncio.sleep(0)
        await stream.write(b"12345")
        assert await reading == b"12345"
        stats = other.stats
        assert stats.reads_count == 2
        assert stats.bytes_received == 6
        assert 0 < stats.max_read_time <= stats.total_read_time
        assert stats.avg_read_time == stats.total_read_time / 2
        assert stream.stats.writes_count == 2
        assert stream.stats.avg_write_time == stream.stats.total_write_time / 2
        assert stream.stats.to_dict()["bytes_sent"] == 6
        state = other.debug_state()
        assert state["stream"]["id"] == other.stream_id
        assert state["buffers"] == {"received": 0, "queued": 0, "unacknowledged": 0}
        assert await other.diagnose_issues() == []
        assert len(await other.diagnose_issues(latency_threshold=-1.0)) == 2
        stream.reset(1)
        with pytest.raises(StreamResetError):
            await other.read()
        assert any("failed" in issue for issue in await other.diagnose_issues())


async def test_monitoring_a_stream_logs_and_ends_with_it(
    pair: PairOfSessions, caplog: pytest.LogCaptureFixture
) -> None:
    async with both_ends(pair) as (stream, other):
        stream.reset(1)
        with pytest.raises(StreamResetError):
            await other.read()
        watching = asyncio.create_task(other.monitor_health(check_interval=0.001))
        await until(lambda: caplog.records)
        other.reset(1)
        await watching
    assert any("operations failed" in record.getMessage() for record in caplog.records)


async def test_constructor_gives_the_one_object_of_a_stream(pair: PairOfSessions) -> None:
    async with both_ends(pair) as (stream, _):
        number, session = stream.stream_id, stream.session
        assert WebTransportStream(stream_id=number, session=session) is stream
        with pytest.raises(StreamError, match=f"no open WebTransportSendStream {number}") as caught:
            WebTransportSendStream(stream_id=number, session=session)
        assert caught.value.stream_id == number
        with pytest.raises(StreamError, match="no open WebTransportStream 4000"):
            WebTransportStream(stream_id=4000, session=session)
