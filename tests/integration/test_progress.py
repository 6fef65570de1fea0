"""What one end learns of the other without an answer: acknowledgements, stops, draining."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import SessionState, WebTransportClient
from pywebtransport.exceptions import (
    ConfigurationError,
    SessionClosedError,
    StreamError,
    StreamStoppedError,
)
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.payload import payload
from tests.support.steps import take, take_unidirectional, until

MIB = 1024 * 1024


# -------------------------------------------------------------- acknowledgements


async def test_bytes_acknowledged_follow_what_the_peer_takes(pair: PairOfSessions) -> None:
    size = 4 * MIB
    async with pair(server={"max_read_buffer_size": 64 * 1024}) as (near, far):
        stream = await near.create_unidirectional_stream()
        assert stream.bytes_acknowledged == 0
        await stream.write(b"!")
        other = await take_unidirectional(far)
        # The header of the stream, which is acknowledged with it, does not count.
        await until(lambda: stream.bytes_acknowledged == 1)
        await stream.write(payload(size), wait_flush=False)
        assert stream.bytes_acknowledged == 1
        # The peer does not read, so its credit is what can be acknowledged.
        await until(lambda: stream.bytes_acknowledged != 1)
        seen = []
        await stream.close()
        while await other.read(64 * 1024):
            assert stream.bytes_acknowledged is not None
            seen.append(stream.bytes_acknowledged)
        await stream.wait_acknowledged()
        assert seen == sorted(seen)
        assert 1 < seen[0] < size
        assert stream.bytes_acknowledged == stream.bytes_sent == size + 1
        assert other.bytes_read == size + 1


async def test_bytes_acknowledged_of_an_answer(pair: PairOfSessions) -> None:
    """The accepting end of a stream sends no header of its own."""
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write_all(b"question")
        other = await take(far)
        assert await other.read_all() == b"question"
        assert other.bytes_acknowledged == 0
        await other.write_all(b"answer")
        await other.wait_acknowledged()
        assert other.bytes_acknowledged == len(b"answer")
        await until(lambda: stream.bytes_acknowledged == len(b"question"))


async def test_bytes_acknowledged_of_a_stream_that_was_given_up_are_unknown(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far):
        stopped = await near.create_unidirectional_stream()
        await stopped.write(b"x")
        (await take_unidirectional(far)).stop_sending(3)
        await stopped.wait_stopped()
        assert stopped.bytes_acknowledged is None
        reset = await near.create_unidirectional_stream()
        await reset.write(b"x")
        reset.reset(3)
        assert reset.bytes_acknowledged is None


# ------------------------------------------------------------------------- stops


@pytest.mark.parametrize("code", [0, 29, 30, 2**32 - 1])
async def test_wait_stopped_gives_the_code_of_the_peer(pair: PairOfSessions, code: int) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write(b"!")
        waiting = [asyncio.create_task(stream.wait_stopped()) for _ in range(2)]
        other = await take_unidirectional(far)
        assert not stream.is_stopped
        other.stop_sending(code)
        assert await asyncio.gather(*waiting) == [code, code]
        assert stream.is_stopped
        assert await stream.wait_stopped() == code
        with pytest.raises(StreamStoppedError):
            await stream.write(b"more")


async def test_wait_stopped_ends_when_all_was_acknowledged_or_reset(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        finished = await near.create_unidirectional_stream()
        await finished.write_all(b"all there is")
        waiting = asyncio.create_task(finished.wait_stopped())
        await finished.wait_acknowledged()
        assert await waiting is None
        reset = await near.create_unidirectional_stream()
        waiting = asyncio.create_task(reset.wait_stopped())
        await asyncio.sleep(0)
        reset.reset(5)
        assert await waiting is None
        assert not finished.is_stopped
        assert not reset.is_stopped


async def test_the_end_of_the_session_ends_wait_stopped(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"!")
        waiting = asyncio.create_task(stream.wait_stopped())
        await take(far)
        await near.close(code=7, reason="enough")
        with pytest.raises(SessionClosedError) as caught:
            await waiting
        assert caught.value.code == 7
        with pytest.raises(SessionClosedError):
            await stream.wait_stopped()


async def test_wait_stopped_can_be_cancelled_beside_others(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write(b"!")
        heard: list[str] = []
        stream.add_stop_callback(lambda: heard.append("stopped"))
        first, second = (asyncio.create_task(stream.wait_stopped()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        # What is left still hears of it; a wait for the acknowledgement too.
        await stream.close()
        acknowledged = asyncio.create_task(stream.wait_acknowledged())
        await asyncio.sleep(0)
        assert heard == []
        (await take_unidirectional(far)).stop_sending(9)
        ends = await asyncio.gather(second, acknowledged, return_exceptions=True)
        # The FIN may have been acknowledged before the peer's application stopped.
        assert ends[0] in (9, None)
        assert ends[1] is None or isinstance(ends[1], StreamStoppedError)
        assert heard == ["stopped"]


async def test_stop_callbacks_are_called_once_and_can_be_taken_back(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        heard: list[str] = []

        def told(name: str) -> Callable[[], object]:
            return lambda: heard.append(name)

        first, second, late = told("first"), told("second"), told("late")
        stream = await near.create_unidirectional_stream()
        await stream.write(b"!")
        for callback in (first, second, first):
            stream.add_stop_callback(callback)
        stream.remove_stop_callback(second)
        stream.remove_stop_callback(late)
        (await take_unidirectional(far)).stop_sending(1)
        await until(lambda: heard)
        assert heard == ["first"]
        stream.add_stop_callback(late)  # it is so already
        assert heard == ["first", "late"]


async def test_callbacks_taken_back_leave_no_waiter(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        stream = await near.create_unidirectional_stream()
        heard: list[int] = []
        callback = lambda: heard.append(1)  # noqa: E731 - the same object twice
        stream.add_stop_callback(callback)
        stream.remove_stop_callback(callback)
        await stream.write_all(b"data")
        await stream.wait_acknowledged()
        assert heard == []


# ------------------------------------------------------------- writing by turns


async def test_try_write_takes_what_fits_below_the_low_water_mark(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        assert stream.try_write("text ")
        assert stream.try_write(bytearray(b"buffer "))
        await stream.write(payload(8 * MIB), wait_flush=False)
        assert stream.write_buffer_size > near.write_low_water
        sent = stream.bytes_sent
        assert not stream.try_write(b"too much")
        assert stream.bytes_sent == sent
        with pytest.raises(ConfigurationError, match="data"):
            stream.try_write(5)  # type: ignore[arg-type]
        reading = asyncio.create_task((await take_unidirectional(far)).read_all())
        await stream.flush()
        assert stream.try_write(b"end")
        stream.finish()
        stream.finish()
        assert await reading == b"text buffer " + payload(8 * MIB) + b"end"
        with pytest.raises(StreamError):
            stream.try_write(b"after the end")


async def test_a_stream_is_reusable_between_a_question_and_the_next(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        assert stream.is_reusable
        await stream.write(b"question")
        other = await take(far)
        await other.write(b"answer")
        await until(lambda: not stream.is_reusable)  # the answer is there, and unread
        assert await stream.readexactly(6) == b"answer"
        assert stream.is_reusable
        reading = asyncio.create_task(stream.read())
        await until(lambda: not stream.is_reusable)
        await other.close()
        assert await reading == b""
        assert not stream.is_reusable


# ---------------------------------------------------------------------- draining


@pytest.mark.parametrize("dialect", [7, 14, 16])
async def test_wait_draining_hears_the_capsule(pair: PairOfSessions, dialect: int) -> None:
    fields: dict[str, Any] = {"dialects": [dialect]}
    async with pair(client=fields, server=fields) as (near, far):
        assert near.dialect == far.dialect == dialect
        waiting = [asyncio.create_task(near.wait_draining()) for _ in range(2)]
        await asyncio.sleep(0)
        far.drain()
        assert await asyncio.gather(*waiting) == [True, True]
        assert near.state is SessionState.DRAINING
        assert await near.wait_draining()
        # The session works until somebody closes it.
        stream = await near.create_unidirectional_stream()
        await stream.write_all(b"one more")
        assert await (await take_unidirectional(far)).read_all() == b"one more"
        # The end that drains has not been asked to.
        own = asyncio.create_task(far.wait_draining())
        await near.close()
        assert await own is False
        assert await near.wait_draining() is False


async def test_wait_draining_hears_goaway(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        waiting = asyncio.create_task(session.wait_draining())
        closing = asyncio.create_task(served.server.close(drain_timeout=30))
        assert await waiting
        await session.close()
        await closing


async def test_wait_draining_can_be_cancelled(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        first, second = (asyncio.create_task(near.wait_draining()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        far.drain()
        assert await second


# ------------------------------------------------------------- how it came to an end


async def test_error_and_ready_at_tell_what_became_of_a_session(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        assert near.error is None
        assert near.ready_at is not None
        assert far.ready_at is not None
        assert far.connection is not None
        network = far.connection.client_network
        assert far.client_network == network != ""
        assert near.client_network == ""
        await near.close(code=3)
        await far.wait_closed()
        assert near.error is far.error is None
        # Both are known when the session is over.
        assert far.connection is None
        assert far.client_network == network
        assert near.dialect is not None
        assert near.ready_at is not None
