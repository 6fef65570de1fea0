"""One message to many: what waits is bounded in bytes, and no turn of the loop serves them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from pywebtransport import ConfigurationError, WebTransportClient
from pywebtransport.events import Event, EventBus, MemoryBackend
from pywebtransport.monitoring import Metrics
from pywebtransport.pubsub import Broker, PubSubManager
from pywebtransport.pubsub._delivery import Delivery
from pywebtransport.pubsub._queue import MessageQueue
from pywebtransport.pubsub._room import Frame
from pywebtransport.rpc import RpcManager
from pywebtransport.server import ServerMonitor
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, Serving
from tests.support.steps import until
from tests.support.turns import Clock, Meter

KIB, MIB = 1024, 2**20


@asynccontextmanager
async def linked(
    serving: Serving, client_config: ClientFactory, sessions: int = 1, **options: Any
) -> AsyncIterator[tuple[Broker, list[WebTransportSession]]]:
    """A broker that is served, and sessions with it."""
    async with (
        Broker(**options) as broker,
        serving(broker.serve) as served,
        WebTransportClient(config=client_config()) as client,
        AsyncExitStack() as stack,
    ):
        connect = partial(client.connect, served.url())
        yield broker, [await stack.enter_async_context(connect()) for _ in range(sessions)]


async def subscribe(session: WebTransportSession, count: int, topic: str = "news") -> RpcManager:
    """Subscriptions of one session that does not read their streams."""
    rpc = RpcManager(session)
    await rpc.start()
    for number in range(count):
        await rpc.call("pubsub.subscribe", number, topic)
    return rpc


def unsent(broker: Broker) -> int:
    """Bytes that the streams of all subscriptions have not sent yet."""
    streams = (
        delivery._stream for client in broker._clients for delivery in client.subscriptions.values()
    )
    return sum(stream.write_buffer_size for stream in streams if stream is not None)


# ------------------------------------------------------------------------ memory


async def test_what_waits_for_one_session_is_bounded_for_all_its_subscriptions(
    serving: Serving, client_config: ClientFactory
) -> None:
    """100 subscriptions, none of which is read, and a megabyte each would be much."""
    async with linked(serving, client_config) as (broker, (session,)):
        rpc = await subscribe(session, 100)
        (client,) = broker._clients
        queues = [delivery.queue for delivery in client.subscriptions.values()]
        most = 0
        while broker.get_stats()["dropped"] < 2000:
            await broker.publish("news", "x" * 50_000)
            waiting = sum(queue.size for queue in queues)
            most = max(most, waiting + unsent(broker))
            await asyncio.sleep(0)
        # Of each subscription one message more, which its task is just writing.
        assert MIB < most <= 4 * MIB + 100 * 50_100
        assert client._room.budget.used <= 4 * MIB + 100 * 50_100
        await rpc.close()
        await session.close()
        await until(lambda: not (broker._clients or broker.get_stats()["subscriptions"]))
        stats = broker.get_stats()
        assert (stats["waiting"], stats["waiting_bytes"], stats["subscriptions"]) == (0, 0, 0)
        assert client._room.budget.used == 0


async def test_one_message_that_waits_for_many_counts_once(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with linked(serving, client_config, 10, max_queue=4) as (broker, sessions):
        managers = [await subscribe(session, 3) for session in sessions]
        queues = [
            delivery.queue
            for client in broker._clients
            for delivery in client.subscriptions.values()
        ]
        while any(len(queue) < 4 for queue in queues):
            await broker.publish("news", "x" * 50_000)
            await asyncio.sleep(0)
        stats = broker.get_stats()
        assert stats["waiting"] == sum(map(len, queues)) == 120
        assert stats["waiting_bytes"] == 4 * len(queues[0]._items[0][0].data)
        for rpc in managers:
            await rpc.close()


async def test_all_sessions_together_have_a_bound(
    serving: Serving, client_config: ClientFactory
) -> None:
    limit = 300 * KIB
    async with linked(serving, client_config, 5, max_total_bytes=limit) as (broker, sessions):
        managers = [
            await subscribe(session, 1, f"topic.{number}")
            for number, session in enumerate(sessions)
        ]
        while broker.get_stats()["dropped"] < 20:
            for number in range(5):
                await broker.publish(f"topic.{number}", "x" * 50_000)
            assert broker.get_stats()["waiting_bytes"] <= limit
        assert broker._memory.peak <= limit
        for rpc in managers:
            await rpc.close()


async def test_what_nobody_takes_is_bounded_at_the_client_too(
    serving: Serving, client_config: ClientFactory
) -> None:
    limit = 300 * KIB
    async with (
        linked(serving, client_config) as (broker, (session,)),
        PubSubManager(session, max_session_bytes=limit) as pubsub,
    ):
        subscriptions = [await pubsub.subscribe("news") for _ in range(10)]
        before = session.memory_budget.used
        while sum(one.dropped for one in subscriptions) < 50:
            await broker.publish("news", "x" * 50_000)
            await asyncio.sleep(0)
            assert pubsub.room.budget.used <= limit
        assert session.memory_budget.used - before >= 250_000
        for one in subscriptions:
            await one.close()
        assert pubsub.room.budget.used == 0
        assert session.memory_budget.used == before


@pytest.mark.parametrize("key", ["max_session_bytes", "max_total_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1"])
async def test_an_impossible_bound_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=key) as caught:
        Broker(**{key: value})
    assert caught.value.config_key == key


def test_a_queue_gives_back_what_it_took() -> None:
    from pywebtransport.pubsub import BackpressurePolicy
    from pywebtransport.pubsub._room import SessionRoom
    from pywebtransport.utils._budget import ByteBudget

    total = ByteBudget("all", 250)
    room = SessionRoom(1000, lambda: None)
    queues: list[MessageQueue[Frame]] = [
        MessageQueue(BackpressurePolicy.DROP_OLDEST, 10, 10_000, room) for _ in range(2)
    ]
    for _ in range(3):
        frame = Frame(bytes(100), total)
        for queue in queues:
            assert queue.push(frame, 100)
    # There is no room for the third one among all; dropping others from one queue makes none.
    assert total.used == 200
    assert [queue.dropped for queue in queues] == [1, 1]
    assert [len(queue) for queue in queues] == [2, 2]
    assert room.budget.used == 400
    first = queues[1].pop()
    queues[1].put_back(first, 100)
    for queue in queues:
        queue.clear()
    assert (total.used, room.budget.used) == (0, 0)


# ------------------------------------------------------------------------ turns


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Each delivery takes 0.1 ms, and nothing else takes time."""
    clock, meter = Clock.installed(monkeypatch), Meter()
    push = Delivery.push

    def note(self: Delivery, frame: Frame) -> None:
        clock.work(0.0001)
        meter.work(0.1)
        push(self, frame)

    monkeypatch.setattr(Delivery, "push", note)
    return meter


async def test_a_publication_to_many_takes_many_turns_and_keeps_the_order(
    serving: Serving, client_config: ClientFactory, meter: Meter
) -> None:
    async with (
        linked(serving, client_config, 2, max_subscriptions=200) as (broker, sessions),
        AsyncExitStack() as stack,
    ):
        subscriptions = []
        for session in sessions:
            pubsub = await stack.enter_async_context(PubSubManager(session))
            subscriptions += [await pubsub.subscribe("news") for _ in range(100)]
        with meter.running():
            # Of publishers that do not wait for each other, too.
            await asyncio.gather(*(broker.publish("news", number) for number in range(5)))
            # When it returns, all have been served.
            assert broker.get_stats()["delivered"] == 1000
        assert sum(meter.turns) > 99
        assert max(meter.turns) < 2 + 2 * 0.8 + 0.1
        for one in subscriptions:
            assert [(await anext(one)).data for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_many_patterns_are_looked_at_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    from pywebtransport.events import _memory as memory

    clock, meter = Clock.installed(monkeypatch), Meter()
    matches = memory.matches

    def note(parts: list[str], channel: str) -> bool:
        clock.work(0.0001)
        meter.work(0.1)
        return matches(parts, channel)

    monkeypatch.setattr(memory, "matches", note)
    heard: list[tuple[int, bytes]] = []
    async with MemoryBackend() as backend:
        for number in range(500):
            await backend.subscribe(
                f"a.*{number % 2}", lambda _, payload, n=number: heard.append((n, payload))
            )
        with meter.running():
            await asyncio.gather(*(backend.publish("a.x1", b"%d" % n) for n in range(3)))
        assert backend.get_stats()["delivered"] == len(heard) == 750
        assert max(meter.turns) < 4
        for number in range(1, 500, 2):
            assert [p for n, p in heard if n == number] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("kind", ["functions", "coroutines"])
async def test_an_event_for_many_handlers_takes_many_turns(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    clock, meter = Clock.installed(monkeypatch), Meter()
    heard: list[tuple[int, int]] = []

    def note(number: int, event: Event) -> None:
        clock.work(0.0001)
        meter.work(0.1)
        heard.append((number, event.data))

    async def note_later(number: int, event: Event) -> None:
        heard.append((number, event.data))
        meter.work(0.01)

    bus = EventBus(MemoryBackend() if kind == "functions" else None)
    async with bus:
        for number in range(300):
            bus.subscribe("x", partial(note if kind == "functions" else note_later, number))
        with meter.running():
            for data in range(3):
                await bus.emit("x", data)
            if kind == "functions":
                assert len(heard) == 900
            await until(lambda: len(heard) == 900)
        assert max(meter.turns) < 4
        for number in range(0, 300, 50):
            assert [data for n, data in heard if n == number] == [0, 1, 2]
        assert bus.get_stats()["queued"] == 0


# ------------------------------------------------------------------------ statistics


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Looking at a connection takes 1 ms, and nothing else takes time."""
    from pywebtransport._core import totals

    clock, meter = Clock.installed(monkeypatch), Meter()
    look = totals.ConnectionTotals._look

    def note(self: Any, connection: Any, seen: Any) -> None:
        clock.work(0.001)
        meter.work()
        look(self, connection, seen)

    monkeypatch.setattr(totals.ConnectionTotals, "_look", note)
    return meter


async def test_statistics_of_many_connections_take_many_turns(
    serving: Serving, client_config: ClientFactory, looks: Meter
) -> None:
    async with (
        serving() as served,
        WebTransportClient(config=client_config()) as client,
        AsyncExitStack() as stack,
    ):
        url = served.url()
        sessions = [await stack.enter_async_context(client.connect(url)) for _ in range(30)]
        await until(lambda: len(served.server.connections) == 30)
        for session in sessions:
            await session.datagrams.send(b"x")
        sums = served.server._figures.sums
        await served.server.get_server_stats()
        looks.turns.clear()
        with looks.running():
            asking = asyncio.create_task(served.server.get_server_stats())
            again = [asyncio.create_task(served.server.get_server_stats()) for _ in range(20)]
            await asyncio.sleep(0)
            # One that ends meanwhile is counted once.
            await sessions[3].close()
            before = sums()
            stats = await asking
            assert stats["active_connections"] == 30 or stats["active_connections"] == 29
            later = [(await one)["traffic"]["datagrams_received"] for one in again]
        # Eight are looked at before the first question.
        assert max(looks.turns) <= 2 * 8
        # 21 that ask together are answered by two rounds; one connection ends, at both ends.
        assert sum(looks.turns) <= 62
        await until(lambda: served.server._figures.collect(served.server.connections)
                    ["datagrams_received"] == 30)  # fmt: skip
        assert stats["traffic"]["datagrams_received"] >= before["datagrams_received"]
        assert later == sorted(later)
        assert stats["traffic"]["streams_opened_remote"] >= 30


async def test_figures_only_grow_while_connections_come_and_go(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        grown = ("datagrams_received", "streams_opened_remote", "stream_bytes_received")
        before = dict.fromkeys(grown, 0)
        for number in range(8):
            session = await client.connect(served.url())
            await session.datagrams.send(b"x")
            connection = next(iter(served.server.connections))
            if number % 2:
                await served.server.get_server_stats()
            await until(lambda c=connection: c.get_stats()["datagrams_received"] == 1)
            await session.close()
            for connection in client.connections:
                await connection.close()
            await until(lambda: not served.server.connections)
            traffic = (await served.server.get_server_stats())["traffic"]
            assert traffic["datagrams_received"] == number + 1
            assert all(traffic[name] >= before[name] for name in grown)
            assert (traffic["streams_alive"], traffic["datagrams_waiting"]) == (0, 0)
            assert traffic["bytes_in_flight"] == 0
            before = traffic
        assert not served.server._figures._seen


async def test_monitor_and_scrape_of_many_connections_take_many_turns(
    serving: Serving, client_config: ClientFactory, looks: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pywebtransport._core import totals

    monkeypatch.setattr(totals, "_AT_ONCE", 4)
    async with (
        serving() as served,
        WebTransportClient(config=client_config()) as client,
        AsyncExitStack() as stack,
    ):
        for _ in range(30):
            await stack.enter_async_context(client.connect(served.url()))
        await until(lambda: len(served.server.connections) == 30)
        metrics = Metrics(served.server)
        monitor = ServerMonitor(served.server)
        with looks.running():
            async with monitor:
                await until(lambda: monitor.get_current_metrics() is not None)
            families = await asyncio.get_running_loop().run_in_executor(None, metrics.collect)
            # On the loop's own thread it begins, and gives what is known.
            assert list(metrics.collect())
            assert monitor.get_health_status()["status"] == "healthy"
            await until(lambda: not len(served.server._figures._rounds))
        assert max(looks.turns) <= 2 * 8
        sample = monitor.get_current_metrics()
        assert sample is not None
        assert sample["rtt"]["median"] > 0
        (rtt,) = [one for one in families if one.name == "webtransport_rtt_seconds"]
        assert max(s.value for s in rtt.samples if s.name.endswith("_bucket")) == 30


async def test_a_scrape_on_the_loop_gives_what_is_known_and_reads_in_the_next_turn(
    serving: Serving, client_config: ClientFactory, looks: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pywebtransport._core import totals

    monkeypatch.setattr(totals, "_AT_ONCE", 1)
    async with (
        serving() as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()),
        client.connect(served.url()),
    ):
        await until(lambda: len(served.server.connections) == 2)
        metrics = Metrics(served.server)
        with looks.running():
            families = {family.name: family for family in metrics.collect()}
            (accepted,) = families["webtransport_sessions_accepted"].samples
            assert accepted.value == 2
            assert not looks._now
            await until(lambda: served.server.round_trip_times())
        assert sum(looks.turns) == 2


async def test_the_subscriptions_of_a_session_end_in_slices(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, meter = Clock.installed(monkeypatch), Meter()
    end = Delivery.end

    def counted(self: Delivery, code: int | None = None) -> None:
        if not self.ended:
            clock.work(0.0002)
            meter.work()
        end(self, code)

    async with linked(serving, client_config) as (broker, (session,)):
        rpc = await subscribe(session, 100)
        (client,) = broker._clients
        monkeypatch.setattr(Delivery, "end", counted)
        with meter.running():
            client.end()
            await until(lambda: not broker.get_stats()["subscriptions"])
        assert sum(meter.turns) == 100
        # As many as are ended before the first look at the clock, a slice, and a last step.
        assert max(meter.turns) <= 8 + 10 + 8
        await rpc.close()
