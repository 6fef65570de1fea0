"""Bulk streams do not starve anything else of the same process.

What a small message waits for is measured in bytes that the bulk streams send meanwhile (see
``bulk.py``). The bulk streams always have 16 MiB or more to send, so a message that had to wait
for a buffer, or for a loop that never comes round, would be far beyond the bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from statistics import median
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import take_unidirectional, until

from .bulk import (
    BOUND,
    BUFFER,
    DEEP,
    KIB,
    MIB,
    TURN,
    Bulk,
    bulk,
    echo,
    echoing_datagrams,
    fields_for,
    sent_meanwhile,
)

REPETITIONS = 40
MESSAGE = bytes(64)

Record = Callable[..., None]

DIRECTIONS = pytest.mark.parametrize("direction", ["up", "down", "both"])
COUNTS = pytest.mark.parametrize("count", [1, 10])


@asynccontextmanager
async def bulk_in(
    direction: str, client: WebTransportSession, server: WebTransportSession, count: int = 1
) -> AsyncIterator[list[Bulk]]:
    """Bulk streams in one direction or in both."""
    async with AsyncExitStack() as stack:
        streams = []
        if direction in ("up", "both"):
            streams += await stack.enter_async_context(bulk(client, server, count))
        if direction in ("down", "both"):
            streams += await stack.enter_async_context(bulk(server, client, count))
        yield streams


async def check(
    streams: Sequence[Bulk],
    operation: Callable[[int], Awaitable[object]],
    record: Record,
    *,
    count: int = REPETITIONS,
    bound: int = BOUND,
) -> list[int]:
    """Each operation ends before the bulk streams sent ``bound`` bytes, and they go on.

    Returns:
        What they sent meanwhile.
    """
    moved = await sent_meanwhile(streams, operation, count)
    while not sum(moved):  # a stream may wait for a lost packet, longer than all of them take
        moved += await sent_meanwhile(streams, operation, count)
    record(
        largest=f"{max(moved) / KIB:.0f} KiB",
        mean=f"{sum(moved) / len(moved) / KIB:.0f} KiB",
        bound=f"{bound / KIB:.0f} KiB",
    )
    # The test means nothing unless there was something to wait for, and nobody starves them.
    assert all(stream.stream.write_buffer_size >= BUFFER // 2 - 4 * TURN for stream in streams)
    assert sum(moved) > 0
    assert max(moved) <= bound
    return moved


async def exchange(sender: WebTransportSession, receiver: WebTransportSession, number: int) -> None:
    """A datagram from ``sender`` arrives at ``receiver``; sent in every turn until one does.

    Bulk streams fill the kernel's buffer, so that datagrams may be lost.
    """
    data = number.to_bytes(4, "big")

    async def receive() -> None:
        while await receiver.datagrams.receive() != data:
            continue

    receiving = asyncio.create_task(receive())
    while not receiving.done():
        await sender.datagrams.try_send(data)
        await asyncio.sleep(0)
    await receiving


# ------------------------------------------------------------- the same connection


@DIRECTIONS
@COUNTS
async def test_small_stream_passes_bulk_streams(
    pair: PairOfSessions, direction: str, count: int, record_figures: Record
) -> None:
    async with (
        pair(client=DEEP, server=DEEP) as (client, server),
        bulk_in(direction, client, server, count) as streams,
        echo(client, server) as small,
    ):
        bound = BOUND * (2 if direction == "both" else 1)
        await check(streams, lambda _: small.ping(MESSAGE), record_figures, bound=bound)


@DIRECTIONS
async def test_new_stream_passes_bulk_streams(
    pair: PairOfSessions, direction: str, record_figures: Record
) -> None:
    async def one(number: int) -> None:
        data = number.to_bytes(4, "big")
        stream = await client.create_unidirectional_stream()
        await stream.write_all(data)
        assert await (await take_unidirectional(server)).read_all() == data

    async with (
        pair(client=DEEP, server=DEEP) as (client, server),
        bulk_in(direction, client, server) as streams,
    ):
        bound = BOUND * (2 if direction == "both" else 1)
        await check(streams, one, record_figures, bound=bound)


@DIRECTIONS
@COUNTS
async def test_datagram_passes_bulk_streams(
    pair: PairOfSessions, direction: str, count: int, record_figures: Record
) -> None:
    async with (
        pair(client=DEEP, server=DEEP) as (client, server),
        bulk_in(direction, client, server, count) as streams,
        echoing_datagrams(server),
    ):
        bound = BOUND * (2 if direction == "both" else 1)
        await check(streams, partial(exchange, client, client), record_figures, bound=bound)


# ----------------------------------------------------------------------- priorities


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("order", [0, 1])
async def test_small_stream_of_no_lower_order_passes_bulk_streams(
    pair: PairOfSessions, direction: str, order: int, record_figures: Record
) -> None:
    async with (
        pair(client=DEEP, server=DEEP) as (client, server),
        bulk_in(direction, client, server, 3) as streams,
        echo(*((client, server) if direction == "up" else (server, client))) as small,
    ):
        small.stream.send_order = order
        await check(streams, lambda _: small.ping(MESSAGE), record_figures)


async def test_bulk_of_a_high_order_does_not_hold_up_datagrams(
    pair: PairOfSessions, record_figures: Record
) -> None:
    async with (
        pair(client=DEEP, server=DEEP) as (client, server),
        bulk(client, server) as streams,
    ):
        streams[0].stream.send_order = 1000
        await check(streams, partial(exchange, client, server), record_figures)


async def test_higher_order_goes_first_and_lower_order_goes_on_after_it(
    pair: PairOfSessions,
) -> None:
    async with (
        pair(client=DEEP, server=DEEP) as (client, server),
        bulk(client, server, 2) as (high, low),
    ):
        high.stream.send_order = 1
        before = low.sent
        start = high.sent
        await until(lambda: high.sent > start + 4 * MIB)
        # What was in a packet already when the order changed, and no more.
        assert low.sent - before <= TURN
        high.stream.send_order = -1
        start = low.sent
        await until(lambda: low.sent > start + 4 * MIB)


async def test_equal_bulk_streams_share_evenly(pair: PairOfSessions) -> None:
    async with (
        pair(client=DEEP, server=DEEP) as (client, server),
        bulk(client, server, 4) as streams,
    ):
        before = [stream.sent for stream in streams]
        await until(lambda: streams[0].sent - before[0] > 4 * MIB)
        shares = [stream.sent - start for stream, start in zip(streams, before, strict=True)]
        assert max(shares) - min(shares) <= TURN


# ---------------------------------------------------------------- slow applications


@pytest.mark.parametrize("direction", ["up", "down"])
@COUNTS
async def test_bulk_that_nobody_reads_does_not_hold_up_a_small_stream(
    pair: PairOfSessions, direction: str, count: int
) -> None:
    """Default buffers: once they are full the bulk streams stand, and the small one does not."""
    async with pair() as (client, server):
        near, far = (client, server) if direction == "up" else (server, client)
        sending = [await near.create_unidirectional_stream() for _ in range(count)]
        writing = [asyncio.create_task(stream.write_all(bytes(4 * MIB))) for stream in sending]
        receiving = [await take_unidirectional(far) for _ in sending]
        async with echo(client, server) as small:
            for _ in range(REPETITIONS):
                before = sum(stream._quic.buffered for stream in receiving)
                await small.ping(MESSAGE)
                moved = sum(stream._quic.buffered for stream in receiving) - before
                assert moved <= count * MIB
            assert not any(task.done() and task.exception() for task in writing)
        received = await asyncio.gather(*(stream.read_all() for stream in receiving))
        assert [len(data) for data in received] == [4 * MIB] * count
        await asyncio.gather(*writing)


async def test_slow_reader_of_bulk_does_not_hold_up_a_small_stream(
    pair: PairOfSessions, record_figures: Record
) -> None:
    """The application reads 4 KiB of the bulk stream per message of the small one."""
    async with pair() as (near, far), echo(near, far) as small:
        stream = await near.create_unidirectional_stream()
        writing = asyncio.create_task(stream.write_all(bytes(4 * MIB)))
        bulky = await take_unidirectional(far)
        read = largest = 0
        while data := await bulky.read(4 * KIB):
            read += len(data)
            ahead = bulky._quic.buffered
            if read <= MIB:
                await small.ping(MESSAGE)
                largest = max(largest, bulky._quic.buffered - ahead)
        record_figures(largest=f"{largest / KIB:.0f} KiB", bound="1024 KiB")
        assert largest <= MIB
        assert read == 4 * MIB
        await writing


# -------------------------------------------------------------- another connection


@asynccontextmanager
async def connected(
    serving: Serving, client_config: ClientFactory, count: int, fields: Mapping[str, Any]
) -> AsyncIterator[
    tuple[
        list[tuple[WebTransportSession, WebTransportSession]],
        Callable[[str], Awaitable[WebTransportSession]],
    ]
]:
    """Both ends of ``count`` sessions, each on a connection and a client of its own.

    Args:
        serving: The fixture.
        client_config: The fixture.
        count: How many.
        fields: Of the configurations of both ends.

    Yields:
        The sessions, and a function that opens one more on a given path.
    """
    arrived: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    async def accepted(session: WebTransportSession) -> None:
        arrived.put_nowait(session)

    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(accepted, access_log=False, **fields))

        async def connect(path: str) -> WebTransportSession:
            client = WebTransportClient(config=client_config(**fields))
            await stack.enter_async_context(client)
            return await client.connect(served.url(path))

        sessions = []
        for number in range(count):
            near = await connect(f"/{number}")
            sessions.append((near, await arrived.get()))
        yield sessions, connect


@pytest.mark.parametrize("direction", ["up", "down"])
@COUNTS
async def test_bulk_connections_do_not_hold_up_another_connection(
    serving: Serving,
    client_config: ClientFactory,
    direction: str,
    count: int,
    record_figures: Record,
) -> None:
    async with (
        connected(serving, client_config, count + 1, fields_for(direction, count)) as (sessions, _),
        AsyncExitStack() as stack,
    ):
        (near, far), *others = sessions
        streams: list[Bulk] = []
        for client, server in others:
            streams += await stack.enter_async_context(bulk_in(direction, client, server))
        small = await stack.enter_async_context(echo(near, far))
        # Each connection has its turn; the kernel's buffer of the server is shared by all.
        bound = BOUND + count * 8 * TURN
        await check(streams, lambda _: small.ping(MESSAGE), record_figures, bound=bound)


async def test_connections_share_the_endpoint_evenly(
    serving: Serving, client_config: ClientFactory, record_figures: Record
) -> None:
    """While the server sends 16 MiB to one of four clients, it sends half of it to each other.

    The other way round congestion control decides: the four would share the server's socket. So
    does BBR here in the first tenth of a second, until it has found the share of each.
    """
    fields = {**DEEP, "congestion_control_algorithm": "cubic"}
    async with (
        connected(serving, client_config, 4, fields) as (sessions, _),
        AsyncExitStack() as stack,
    ):
        streams: list[Bulk] = []
        for client, server in sessions:
            streams += await stack.enter_async_context(bulk(server, client))
        before = [stream.received for stream in streams]
        shares: list[int] = []

        def done() -> bool:
            shares[:] = [
                stream.received - start for stream, start in zip(streams, before, strict=True)
            ]
            return max(shares) >= 16 * MIB

        await until(done)
        record_figures(shares=" ".join(f"{share / MIB:.1f}" for share in shares), unit="MiB")
        assert min(shares) >= max(shares) // 2


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_bulk_does_not_hold_up_new_connections(
    serving: Serving, client_config: ClientFactory, direction: str, record_figures: Record
) -> None:
    """A handshake and the session on it take a few round trips, each within its bound.

    One of them may wait for a timer of the protocol as well, such as that of a delayed
    acknowledgement (25 ms, RFC 9000 section 13.2.1), in which the bulk stream sends more.
    """
    fields = fields_for(direction, 1)
    async with connected(serving, client_config, 1, fields) as (sessions, connect):
        ((client, server),) = sessions

        async def one(number: int) -> None:
            assert (await connect(f"/new/{number}")).is_ready

        async with bulk_in(direction, client, server) as streams:
            moved = await check(streams, one, record_figures, count=10, bound=16 * BOUND)
            assert median(moved) <= 2 * BOUND


async def test_taking_many_streams_leaves_turns_to_others(pair: PairOfSessions) -> None:
    """Streams that wait already are taken a few in a turn: each is likely to start a task."""
    async with pair() as (client, server):
        count = 100
        for _ in range(count):
            stream = await client.create_unidirectional_stream()
            await stream.write_all(b"x")
        await until(lambda: len(server._incoming_uni or ()) == count)
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        taken: dict[int, int] = {}
        async for _ in server.incoming_unidirectional_streams():
            taken[turns] = taken.get(turns, 0) + 1
            if sum(taken.values()) == count:
                break
        other.cancel()
        assert max(taken.values()) <= 16
