"""What all connections of a process hold stays below ``max_memory``, and nobody is locked out."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from pywebtransport import (
    ClientError,
    ConnectionError,
    WebTransportClient,
    WebTransportError,
    WebTransportSession,
)
from pywebtransport._core import pressure
from pywebtransport._core.memory import process_figures
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import SessionClosedError
from pywebtransport.h3._capsules import encode_capsule
from pywebtransport.h3._frames import encode_frame
from pywebtransport.stream import WebTransportSendStream, WebTransportStream
from pywebtransport.utils._budget import PROCESS
from tests.support.endpoints import ClientFactory, Served, Serving
from tests.support.steps import echo_bidirectional, far_end, take_unidirectional, until

KIB = 1024
MIB = 1024 * KIB

SMALL: dict[str, Any] = {
    "flow_control_window_size": 64 * KIB,
    "max_read_buffer_size": 64 * KIB,
    "initial_max_data": 4 * MIB,
}
"""A connection may hold 4 MiB unread, 64 KiB of each stream, and begins with twice as much."""
SIZE = 60 * KIB
"""Bytes of a stream that nobody reads."""


@pytest.fixture(autouse=True)
def own_limit() -> Iterator[None]:
    """Each test has a limit of its own."""
    before, limit = PROCESS.used, PROCESS.limit
    gc.collect()
    yield
    PROCESS.limit = limit
    assert PROCESS.used == before


def held() -> int:
    """Bytes that count for the limit."""
    figures = process_figures()
    return figures["used"] + figures["unread"] + figures["out_of_order"]


async def ask(session: WebTransportSession, text: bytes) -> bytes:
    """Have a text echoed."""
    stream = await session.create_bidirectional_stream()
    await stream.write_all(text)
    return await stream.read_all()


def was_closed(session: WebTransportSession) -> bool:
    """Closed by the other end because of what it held."""
    error = session._connection.error
    return error is not None and error.error_code == ErrorCodes.H3_EXCESSIVE_LOAD


class Bed:
    """A server that echoes bidirectional streams and reads no others, and its clients."""

    def __init__(self, served: Served, stack: AsyncExitStack, config: ClientFactory) -> None:
        self.served = served
        self.arrived: list[WebTransportSession] = []
        self.streams: list[WebTransportSendStream] = []
        self._stack = stack
        self._config = config

    async def client(self, host: str = "127.0.0.1", **fields: Any) -> WebTransportSession:
        """One more client, with a connection and a session of its own."""
        opener = WebTransportClient(config=self._config(**fields))
        await self._stack.enter_async_context(opener)
        session = await opener.connect(self.served.url("/x", host=host))
        self._stack.callback(session.abort)
        return session

    async def settle(self, near: WebTransportSession) -> None:
        """Wait for what may be on its way; datagrams need no credit."""
        far = self.far(near)
        for _ in range(10):
            await near.datagrams.send(b"ping")
            await far.datagrams.receive(timeout=20)
            await far.datagrams.send(b"pong")
            await near.datagrams.receive(timeout=20)

    async def fill(self, session: WebTransportSession, streams: int) -> None:
        """Open streams full of bytes, which are sent as far as the server allows."""
        with suppress(WebTransportError):  # it may be closed meanwhile
            for _ in range(streams):
                stream = await session.create_unidirectional_stream()
                self.streams.append(stream)
                await stream.write(bytes(SIZE), wait_flush=False)

    def far(self, near: WebTransportSession) -> WebTransportSession:
        """The server's end of a session."""
        return far_end([one for one in self.arrived if not one.is_closed], near)


@pytest.fixture
def bed(serving: Serving, client_config: ClientFactory) -> Any:
    @asynccontextmanager
    async def make(**fields: Any) -> AsyncIterator[Bed]:
        arrived: list[WebTransportSession] = []

        async def keep(session: WebTransportSession) -> None:
            arrived.append(session)
            await echo_bidirectional(session)

        async with (
            serving(keep, host="localhost", **(SMALL | fields)) as served,
            AsyncExitStack() as stack,
        ):
            made = Bed(served, stack, client_config)
            made.arrived = arrived
            yield made

    return make


async def test_many_connections_together_stay_below_the_limit(bed: Any) -> None:
    """Each fills its credit; whoever is served beside them notices nothing."""
    async with bed() as it:
        quiet = await it.client()
        hostile = [await it.client() for _ in range(24)]
        limit = PROCESS.limit = 2 * MIB
        closed = process_figures()["closed"]
        filling = [asyncio.create_task(it.fill(session, 30)) for session in hostile]
        most = 0
        while not all(task.done() for task in filling):
            await asyncio.sleep(0)
            most = max(most, held())
        for _ in range(5):
            assert await ask(quiet, b"x" * 10_000) == b"x" * 10_000
            most = max(most, held())
        late = await it.client()  # there is room for one more,
        assert await ask(late, b"late") == b"late"
        # All of them together have credit for more than the limit, and use it.
        await until(lambda: process_figures()["closed"] > closed)
        while held() >= limit:  # the next turn but some milliseconds notices
            await it.settle(quiet)
        # Each may use up the credit that it had when the limit was reached.
        assert most <= limit + len(hostile) * 128 * KIB
        await until(lambda: any(map(was_closed, hostile)))
        assert not quiet.is_closed
        assert not late.is_closed


async def test_unread_bytes_leave_room_for_the_next_connection(bed: Any) -> None:
    """Whoever comes first may take half of what is free, and nobody is closed for it."""
    async with bed() as it:
        first, second = await it.client(), await it.client()
        limit = PROCESS.limit = 2 * MIB
        before = held()
        await it.fill(first, 100)
        await until(lambda: held() - before > limit // 2 - 192 * KIB)
        await it.settle(first)
        taken = held() - before
        assert taken <= limit // 2 + 64 * KIB
        await it.fill(second, 100)
        await until(lambda: held() - before > taken + 256 * KIB)
        await it.settle(second)
        assert held() < limit
        assert not first.is_closed
        assert not second.is_closed


async def test_unread_streams_do_not_stop_others_of_their_connection(bed: Any) -> None:
    async with bed() as it:
        session = await it.client()
        before = held()
        await it.fill(session, 40)
        await until(lambda: held() - before >= 40 * SIZE)
        assert await ask(session, b"y" * 100_000) == b"y" * 100_000


async def test_the_address_that_holds_the_most_loses_its_connections_first(bed: Any) -> None:
    """Although the largest connection has another address."""
    async with bed() as it:
        honest = await it.client(host="127.0.0.1")
        hostile = [await it.client(host="[::1]") for _ in range(6)]
        before = held()
        await it.fill(honest, 8)
        for session in hostile:
            await it.fill(session, 6)
        await until(lambda: held() - before >= (8 + 36) * SIZE)
        PROCESS.limit = held() - 8 * SIZE
        assert await ask(honest, b"x") == b"x"
        while held() >= PROCESS.limit:
            await it.settle(honest)
        await until(lambda: any(map(was_closed, hostile)))
        assert 1 <= sum(map(was_closed, hostile)) <= 2
        assert not honest.is_closed


async def test_bytes_of_a_closed_connection_are_freed_although_its_streams_are_kept(
    bed: Any,
) -> None:
    async with bed() as it:
        session, other = await it.client(), await it.client()
        before = held()
        await it.fill(session, 10)
        await until(lambda: held() - before >= 10 * SIZE)
        far = it.far(session)
        streams = [await take_unidirectional(far) for _ in range(10)]
        PROCESS.limit = held() // 2
        while not was_closed(session):
            await it.settle(other)
        assert held() - before <= 64 * KIB
        for stream in streams:
            with pytest.raises(SessionClosedError):
                await stream.read()
        assert not other.is_closed


async def test_datagrams_that_nobody_reads_do_not_lock_others_out(bed: Any) -> None:
    """A new client is never refused while a connection that holds much can be closed."""
    async with bed() as it:
        hostile = await it.client()
        data = encode_frame(0, encode_capsule(0, bytes(10_000)))
        far = it.far(hostile)
        hostile._h3.stream.write(data * 20)
        hostile._connection.flush_nowait()
        await until(lambda: far.datagrams.datagrams_received == 20)
        PROCESS.limit, refused = PROCESS.used, PROCESS.refused
        late = await it.client()
        assert await ask(late, b"late") == b"late"
        await until(lambda: was_closed(hostile))
        assert PROCESS.refused == refused


async def test_datagrams_are_not_refused_for_long(
    bed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two sessions, the one that holds the most makes room for the other."""
    monkeypatch.setattr(pressure, "_PATIENCE", 0.0)
    async with bed() as it:
        hostile, honest = await it.client(), await it.client()
        far = it.far(honest)
        data = encode_frame(0, encode_capsule(0, bytes(10_000)))
        hostile._h3.stream.write(data * 20)
        hostile._connection.flush_nowait()
        await until(lambda: it.far(hostile).datagrams.datagrams_received == 20)
        PROCESS.limit = PROCESS.used + 100
        await honest.datagrams.send(bytes(1000))
        await until(lambda: was_closed(hostile))
        await honest.datagrams.send(b"again")
        assert await far.datagrams.receive(timeout=20) == b"again"


async def test_no_connection_is_closed_for_what_others_hold(bed: Any) -> None:
    """The program itself holds too much: connections that hold little stay, no more come."""
    async with bed() as it:
        session = await it.client()
        await it.fill(session, 2)
        await until(lambda: held() >= 2 * SIZE)
        PROCESS.take_anyway(PROCESS.limit)
        try:
            refused = PROCESS.refused
            with pytest.raises((ConnectionError, ClientError)):
                await it.client()
            assert PROCESS.refused == refused + 1
            assert await ask(session, b"x") == b"x"
        finally:
            PROCESS.give_back(PROCESS.limit)
        await it.client()


async def test_streams_of_an_ended_session_are_freed_with_it(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Those that are complete stay for the application, but not longer than the session."""
    kept: list[WebTransportSession] = []

    async def keep(session: WebTransportSession) -> None:
        if not kept:
            kept.append(session)
        await session.wait_closed()

    before = held()
    async with serving(keep, **SMALL) as served:
        gc.disable()
        try:
            for _ in range(3):
                async with WebTransportClient(config=client_config()) as client:
                    session = await client.connect(served.url("/x"))
                    streams = [await session.create_unidirectional_stream() for _ in range(10)]
                    for stream in streams:
                        await stream.write_all(bytes(SIZE))
                    await asyncio.gather(*(stream.wait_acknowledged() for stream in streams))
            await until(lambda: held() - before == 10 * SIZE)
        finally:
            gc.enable()
        (ended,) = kept
        async for arrived in ended.incoming_unidirectional_streams():
            assert arrived.session is ended
            assert len(await arrived.read_all()) == SIZE
        assert held() == before
        kept.clear()


async def test_a_peer_that_reads_no_answer_makes_the_server_queue_little(
    serving: Serving, client_config: ClientFactory
) -> None:
    """It has the write buffers of many streams filled, which share 16 MiB."""
    arrived: list[WebTransportSession] = []

    async def echo(session: WebTransportSession) -> None:
        arrived.append(session)
        with suppress(WebTransportError):
            await echo_bidirectional(session)

    window = 4 * KIB
    small = client_config(flow_control_window_size=window, max_read_buffer_size=window)
    size, count = 40 * 32 * KIB, 40
    async with (
        serving(echo) as served,
        WebTransportClient(config=small) as client,
    ):
        session = await client.connect(served.url("/x"))
        streams = [await session.create_bidirectional_stream() for _ in range(count)]
        for stream in streams:
            await stream.write(bytes(size), wait_flush=False)
        (far,) = arrived
        # Each writer of the server waits in the end, or has written all there is.
        await until(
            lambda: (
                len(queues := [one.write_buffer_size for one in far.open_streams()]) == count
                and sum(queues) > 15 * MIB
                and all(one._writers for one in far.open_streams())
            )
        )
        assert (
            sum(one.write_buffer_size for one in far.open_streams()) < 16 * MIB + count * 128 * KIB
        )
        assert await asyncio.gather(*map(some, streams)) == [size] * count
        session.abort()


async def some(stream: WebTransportStream) -> int:
    """Read as many bytes as were sent."""
    await stream.close()
    return len(await stream.read_all())
