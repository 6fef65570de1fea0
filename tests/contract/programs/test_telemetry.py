"""Telemetry over datagrams: priorities, lifetimes, heartbeats, figures."""

from __future__ import annotations

import asyncio
import json

import pytest

from pywebtransport import (
    DatagramError,
    DatagramReliabilityLayer,
    TimeoutError,
    WebTransportDatagramTransport,
)
from pywebtransport.datagram import (
    DatagramBroadcaster,
    DatagramMessage,
    DatagramMonitor,
    DatagramQueue,
    DatagramStats,
)
from pywebtransport.datagram.utils import (
    create_heartbeat_datagram,
    datagram_throughput_test,
    is_heartbeat_datagram,
)
from tests.support.endpoints import PairOfSessions
from tests.support.steps import until


async def test_samples_arrive_with_their_figures(pair: PairOfSessions) -> None:
    async with pair() as (client, server):
        sensor: WebTransportDatagramTransport = await client.datagrams
        collector = server.datagrams
        async with sensor:
            await sensor.initialize()
            assert sensor.is_writable
            assert sensor.is_readable
            assert sensor.session is client
            assert sensor.session_id == client.session_id
            await sensor.send(data=b"21.5", priority=2, ttl=20.0)
            assert await collector.receive(timeout=20.0) == b"21.5"
            await sensor.send_json(data={"sensor": 7, "value": 1.25}, priority=1)
            assert await collector.receive_json(timeout=20.0) == {"sensor": 7, "value": 1.25}
            assert await sensor.send_multiple(datagrams=[b"a", "b", b"c"], ttl=20.0) == 3
            found: list[bytes] = []
            while len(found) < 3:
                found += await collector.receive_multiple(max_count=10, timeout=20.0)
            assert found == [b"a", b"b", b"c"]
            assert await sensor.try_send(data=b"now")
            envelope = await collector.receive_with_metadata(timeout=20.0)
            assert envelope["data"] == b"now"
            assert envelope["metadata"]["size"] == 3
            assert await collector.try_receive() is None
            with pytest.raises(TimeoutError):
                await collector.receive(timeout=0.01)
            with pytest.raises(DatagramError) as caught:
                await sensor.send(data=bytes(sensor.max_datagram_size + 1))
            assert caught.value.max_size == sensor.max_datagram_size
            assert (sensor.datagrams_sent, collector.datagrams_received) == (6, 6)
            assert sensor.bytes_sent == collector.bytes_received > 6
            assert sensor.send_sequence == collector.receive_sequence == 6
            assert sensor.stats["datagrams_sent"] == 6
            assert sensor.debug_state()["sequences"]["send_sequence"] == 6
            assert isinstance(await sensor.diagnose_issues(), list)
        assert sensor.is_closed
        assert not sensor.is_writable


async def test_queues_can_be_seen_and_emptied(pair: PairOfSessions) -> None:
    async with pair() as (client, server):
        sensor, collector = client.datagrams, server.datagrams
        assert sensor.outgoing_high_water_mark > 0
        assert sensor.outgoing_max_age is None or sensor.outgoing_max_age > 0
        assert sensor.incoming_max_age is None or sensor.incoming_max_age > 0
        assert set(sensor.get_queue_stats()) == {"outgoing", "incoming"}
        assert sensor.get_send_buffer_size() == 0
        assert await sensor.clear_send_buffer() == 0
        await sensor.send_multiple(datagrams=[b"1", b"2", b"3"])
        await until(lambda: collector.get_receive_buffer_size() == 3)
        assert await collector.clear_receive_buffer() == 3
        assert collector.get_receive_buffer_size() == 0
        await sensor.close()
        with pytest.raises(DatagramError):
            await sensor.send(data=b"late")


async def test_heartbeats(pair: PairOfSessions) -> None:
    async with pair() as (client, server):
        task = client.datagrams.start_heartbeat(interval=0.001)
        assert isinstance(task, asyncio.Task)
        beat = await server.datagrams.receive(timeout=20.0)
        assert is_heartbeat_datagram(data=beat)
        assert is_heartbeat_datagram(data=create_heartbeat_datagram())
        assert not is_heartbeat_datagram(data=b"21.5")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_throughput(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        result = await datagram_throughput_test(
            datagram_transport=client.datagrams, duration=0.05, datagram_size=200
        )
        assert result["datagrams_sent"] >= 1
        assert result["throughput_dps"] > 0


async def test_reliable_readings(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        DatagramReliabilityLayer.create(
            datagram_transport=client.datagrams, ack_timeout=1.0, max_retries=3
        ) as near,
        DatagramReliabilityLayer(server.datagrams, ack_timeout=1.0) as far,
    ):
        await near.send(data=b"counts")
        assert await far.receive(timeout=20.0) == b"counts"
        await far.send(data="noted")
        assert await near.receive() == b"noted"
        await near.close()


async def test_broadcast_reaches_all(pair: PairOfSessions) -> None:
    async with (
        pair() as (ann, ann_server),
        pair() as (bob, bob_server),
        DatagramBroadcaster.create() as broadcaster,
    ):
        for session in (ann_server, bob_server):
            await broadcaster.add_transport(transport=session.datagrams)
        assert await broadcaster.get_transport_count() == 2
        assert await broadcaster.broadcast(data=b"tick", priority=1, ttl=20.0) == 2
        for session in (ann, bob):
            assert await session.datagrams.receive(timeout=20.0) == b"tick"
        await broadcaster.remove_transport(transport=bob_server.datagrams)
        assert await broadcaster.broadcast(data=b"tock") == 1


async def test_monitor_takes_samples(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        async with DatagramMonitor.create(
            datagram_transport=client.datagrams, monitoring_interval=0.001
        ) as monitor:
            assert monitor.is_monitoring
            await client.datagrams.send(data=b"x")
            await until(lambda: len(monitor.get_samples()) >= 2)
            assert len(monitor.get_samples(limit=1)) == 1
            assert monitor.get_alerts() == []
        assert not monitor.is_monitoring


async def test_queue_of_messages() -> None:
    queue = DatagramQueue(max_size=2, max_age=60.0)
    await queue.initialize()
    assert queue.empty()
    assert await queue.put(datagram=DatagramMessage(data=b"low", priority=0))
    assert await queue.put_nowait(datagram=DatagramMessage(data=b"high", priority=2, ttl=60.0))
    assert queue.qsize() == 2
    assert queue.get_stats()["priority_2"] == 1
    first = await queue.get(timeout=1.0)
    assert first.data == b"high"
    assert first.size == 4
    assert not first.is_expired
    assert first.age >= 0
    assert first.to_dict()["priority"] == 2
    last = await queue.get_nowait()
    assert last is not None
    assert last.data == b"low"
    assert await queue.get_nowait() is None
    await queue.put(datagram=DatagramMessage(data=b"x"))
    await queue.clear()
    assert queue.empty()
    await queue.close()


def test_figures_are_computed() -> None:
    stats = DatagramStats(
        session_id="s",
        created_at=0.0,
        datagrams_sent=8,
        send_failures=2,
        datagrams_received=4,
        receive_drops=1,
        total_datagram_size=120,
        total_send_time=4.0,
        total_receive_time=2.0,
    )
    assert stats.avg_datagram_size == 10
    assert stats.avg_send_time == 0.5
    assert stats.avg_receive_time == 0.5
    assert stats.send_success_rate == 0.8
    assert stats.receive_success_rate == 0.8
    assert json.dumps(stats.to_dict()["datagrams_sent"]) == "8"
