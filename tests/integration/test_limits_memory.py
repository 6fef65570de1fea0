"""Backpressure and limits in numbers: memory stays where it was, and every datagram is accounted.

Each figure is measured after a warm-up of the same kind, with both ends in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.memory import Memory
from tests.support.payload import payload
from tests.support.steps import echo_bidirectional, round_trip, take_unidirectional, until

MIB = 1024 * 1024
MAX_GROWTH = 0.05

# Measured once: the figures do not depend on the loop, and the runs are long.
pytestmark = [pytest.mark.loops("asyncio"), pytest.mark.limit(180)]


async def growth_of(
    work: Callable[[int], Awaitable[None]], *, warm_up: int, count: int
) -> dict[str, float]:
    """Growth of memory by ``work(count)`` after ``work(warm_up)``, as fractions."""
    await work(warm_up)
    before = Memory.now()
    await work(count)
    growth = Memory.now().growth(before)
    return {name: round(value, 5) for name, value in growth.items()}


async def test_10000_streams_on_one_session_leave_no_memory_behind(
    pair: PairOfSessions, record_figures: Callable[..., None]
) -> None:
    async with pair() as (near, far):
        echoing = asyncio.create_task(echo_bidirectional(far))

        async def one(number: int) -> None:
            data = number.to_bytes(4, "big") * 25
            if number % 2:
                stream = await near.create_bidirectional_stream()
                await stream.write_all(data)
                assert await stream.read_all() == data
            else:
                sending = await near.create_unidirectional_stream()
                await sending.write_all(data)

        async def consume() -> None:
            async for stream in far.incoming_unidirectional_streams():
                await stream.read_all()

        consuming = asyncio.create_task(consume())

        async def work(count: int) -> None:
            for start in range(0, count, 50):
                await asyncio.gather(*(one(number) for number in range(start, start + 50)))
            await until(lambda: not near._streams and not far._streams)

        growth = await growth_of(work, warm_up=2000, count=10_000)
        record_figures(**growth)
        assert max(growth.values()) < MAX_GROWTH, growth
        await near.close()
        await asyncio.gather(echoing, consuming)


async def test_2000_sessions_leave_no_memory_behind(
    serving: Serving,
    client_config: ClientFactory,
    record_figures: Callable[..., None],
) -> None:
    async def handler(session: WebTransportSession) -> None:
        async for stream in session.incoming_unidirectional_streams():
            await session.datagrams.send(await stream.read_all())

    config = client_config(allow_pooling=True)
    async with (
        serving(handler, access_log=False) as served,
        WebTransportClient(config=config) as client,
    ):

        async def one(number: int) -> None:
            async with client.connect(served.url(f"/{number % 10}")) as session:
                stream = await session.create_unidirectional_stream()
                await stream.write_all(b"hello")
                assert await session.datagrams.receive() == b"hello"

        async def work(count: int) -> None:
            for start in range(0, count, 10):
                await asyncio.gather(*(one(number) for number in range(start, start + 10)))
            await until(lambda: not served.server.sessions)

        growth = await growth_of(work, warm_up=500, count=2000)
        record_figures(**growth)
        assert max(growth.values()) < MAX_GROWTH, growth


async def test_200_connections_leave_no_memory_behind(
    serving: Serving,
    client_config: ClientFactory,
    record_figures: Callable[..., None],
) -> None:
    async with (
        serving(access_log=False) as served,
        WebTransportClient(config=client_config()) as client,
    ):

        async def work(count: int) -> None:
            for _ in range(count):
                async with client.connect(served.url()):
                    pass
            await until(lambda: not served.server.connections)

        growth = await growth_of(work, warm_up=100, count=200)
        record_figures(**growth)
        assert max(growth.values()) < MAX_GROWTH, growth


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_stopped_reader_stops_memory(
    pair: PairOfSessions, direction: str, record_figures: Callable[..., None]
) -> None:
    """Once the writer is blocked, nothing grows, whatever else the session does meanwhile."""
    async with pair() as (client, server):
        near, far = (client, server) if direction == "up" else (server, client)
        stream = await near.create_unidirectional_stream()
        data = payload(16 * 1024)
        accepted = 0

        async def write() -> None:
            nonlocal accepted
            while accepted < 64 * MIB:
                accepted += len(data)
                await stream.write(data)
            await stream.close()

        writing = asyncio.create_task(write())
        other = await take_unidirectional(far)
        quiet = 0
        while quiet < 10:
            before = accepted
            await round_trip(near, far, b"ping")
            quiet = quiet + 1 if accepted == before else 0
        assert MIB < accepted <= 2 * MIB + 2 * len(data)

        async def work(count: int) -> None:
            for _ in range(count):
                await round_trip(near, far, b"ping")

        growth = await growth_of(work, warm_up=200, count=500)
        record_figures(**growth)
        assert accepted <= 2 * MIB + 2 * len(data)
        assert not writing.done()
        assert other._quic.buffered <= MIB
        assert max(growth.values()) < MAX_GROWTH, growth
        writing.cancel()
        await asyncio.wait({writing})


async def test_100000_datagrams_are_delivered_or_counted(
    pair: PairOfSessions, record_figures: Callable[..., None]
) -> None:
    total = 100_000
    async with pair() as (near, far):
        received = 0

        async def receive() -> None:
            nonlocal received
            while True:
                received += len(await far.datagrams.receive_many(1000))

        receiving = asyncio.create_task(receive())
        data = bytes(200)
        for _ in range(total):
            await near.datagrams.send(data)
        # Every one is acknowledged or lost in the end, and what arrived was handed over or dropped.
        settled = ("datagrams_acknowledged", "datagrams_lost", "datagrams_expired", "send_drops")
        await until(lambda: sum(near.datagrams.stats[name] for name in settled) >= total)
        await round_trip(near, far, b"behind them all")
        receiving.cancel()
        await asyncio.wait({receiving})
        here, there = near.datagrams.stats, far.datagrams.stats
        record_figures(
            **{name: here[name] for name in ("datagrams_sent", *settled)},
            received=received,
            receive_drops=there["receive_drops"],
        )
        assert sum(here[name] for name in settled) == total
        sent = here["datagrams_sent"]
        assert sent == total - here["datagrams_expired"] - here["send_drops"]
        assert sent == here["datagrams_acknowledged"] + here["datagrams_lost"]
        # An acknowledged datagram arrived; one thought lost may have arrived late.
        arrived = there["datagrams_received"]
        assert here["datagrams_acknowledged"] <= arrived <= sent
        assert (
            received + there["receive_drops"] + far.datagrams.get_receive_buffer_size() == arrived
        )


async def test_datagrams_at_full_speed_without_waiting_are_counted(pair: PairOfSessions) -> None:
    total = 100_000
    async with pair() as (near, far):
        accepted = 0
        for number in range(total):
            accepted += await near.datagrams.try_send(number.to_bytes(4, "big"))
            if number % 500 == 0:
                await asyncio.sleep(0)
        settled = ("datagrams_acknowledged", "datagrams_lost", "datagrams_expired")
        await until(lambda: sum(near.datagrams.stats[name] for name in settled) >= accepted)
        stats = near.datagrams.stats
        assert accepted + stats["send_drops"] == total
        assert stats["datagrams_sent"] == accepted
        await round_trip(near, far, b"behind them all")
        there = far.datagrams.stats
        kept = far.datagrams.get_receive_buffer_size()
        assert there["datagrams_received"] == kept + there["receive_drops"]
        assert kept <= far.datagrams.get_queue_stats()["incoming"]["max_size"] <= 4096
