"""Monitor, throughput measurement and heartbeats of datagram transports, on real sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pywebtransport.datagram import DatagramMonitor
from pywebtransport.datagram.utils import (
    create_heartbeat_datagram,
    datagram_throughput_test,
    is_heartbeat_datagram,
)
from pywebtransport.exceptions import (
    ConfigurationError,
    DatagramError,
    DatagramTooLargeError,
    SessionClosedError,
    WebTransportError,
)
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.support.endpoints import PairOfSessions
from tests.support.steps import cancelled_at, until

pytestmark = pytest.mark.loops("virtual")


@asynccontextmanager
async def echoing(session: WebTransportSession) -> AsyncIterator[None]:
    """Its datagrams come back while the block runs."""

    async def echo() -> None:
        try:
            while True:
                await session.datagrams.send_multiple(await session.datagrams.receive_many())
        except WebTransportError:
            return

    task = asyncio.create_task(echo())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


# ---------------------------------------------------------------------- monitor


async def test_samples_are_the_real_counters(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        monitor = DatagramMonitor.create(
            datagram_transport=near.datagrams, monitoring_interval=0.001
        )
        assert not monitor.is_monitoring
        async with monitor:
            assert monitor.is_monitoring
            await near.datagrams.send_multiple([b"x"] * 10)
            await far.datagrams.send_multiple([b"yy"] * 3)
            for _ in range(10):
                await far.datagrams.receive()
            await until(lambda: near.datagrams.stats["datagrams_acknowledged"] == 10)
            await until(lambda: near.datagrams.get_receive_buffer_size() == 3)
            count = len(monitor.get_samples())
            await until(lambda: len(monitor.get_samples()) > count)
            sample = monitor.get_samples(limit=1)[0]
        assert not monitor.is_monitoring
        stats = near.datagrams.stats
        assert sample["counters"] == {name: stats[name] for name in sample["counters"]}
        assert sample["counters"]["datagrams_sent"] == 10
        assert sample["counters"]["datagrams_received"] == 3
        assert sample["incoming_queue_size"] == 3
        assert sample["outgoing_queue_size"] == 0
        assert sample["outgoing_queue_limit"] == 4096
        assert sample["rtt"] > 0
        assert sample["send_success_rate"] == sample["delivery_rate"] == 1.0
        assert monitor.get_samples(limit=0) == []
        with pytest.raises(ConfigurationError, match="limit"):
            monitor.get_samples(limit=-1)


async def test_a_full_queue_alerts_once_until_it_was_good(
    pair: PairOfSessions, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(client={"datagram_queue_size": 10}) as (near, _):
        transport = near.datagrams
        monitor = DatagramMonitor(transport, monitoring_interval=1000)
        take = monitor.take_sample  # what the timer calls

        async def fill(count: int) -> None:
            await transport.clear_send_buffer()
            for _ in range(count):
                assert await transport.try_send(b"x")
            take()

        with caplog.at_level(logging.WARNING, "pywebtransport.datagram.monitor"):
            for count, alerts in ((9, 0), (10, 1), (9, 1), (10, 1), (8, 1), (10, 2)):
                await fill(count)
                names = [alert["name"] for alert in monitor.get_alerts()]
                assert names.count("high_queue_size") == alerts, count
        found = [a for a in monitor.get_alerts() if a["name"] == "high_queue_size"]
        assert found[0]["message"] == "10 of at most 10 datagrams wait to be sent"
        assert found[0]["message"] in caplog.text
        assert found[0]["timestamp"] <= found[1]["timestamp"]


async def test_drops_alert_by_the_rate_since_the_last_sample(pair: PairOfSessions) -> None:
    async with pair(client={"datagram_queue_size": 4}) as (near, _):
        transport = near.datagrams
        monitor = DatagramMonitor(transport, monitoring_interval=1000, alerts_maxlen=1)

        async def drop(sent: int, dropped: int) -> float:
            """So many of each between two samples."""
            wanted = transport.datagrams_sent + sent
            for _ in range(dropped):
                assert await transport.try_send(b"x")
            assert await transport.clear_send_buffer() == dropped
            for _ in range(sent):
                await transport.send(b"y")
            assert transport.datagrams_sent == wanted
            await until(lambda: not transport.get_send_buffer_size())
            rate = monitor.take_sample()["send_success_rate"]
            assert isinstance(rate, float)
            return rate

        def alerts() -> list[str]:
            return [alert["message"] for alert in monitor.get_alerts()]

        assert await drop(4, 0) == 1.0
        assert alerts() == []
        assert await drop(1, 3) == 0.25
        assert alerts() == ["25.0% of the datagrams were sent"]
        assert await drop(4, 1) == 0.8  # over the threshold, but not by a tenth of the rest
        assert await drop(0, 1) == 0.0
        assert alerts() == ["25.0% of the datagrams were sent"]
        assert await drop(4, 0) == 1.0
        assert await drop(0, 1) == 0.0
        assert alerts() == ["0.0% of the datagrams were sent"]


async def test_trends_of_a_growing_wait(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        transport = near.datagrams
        monitor = DatagramMonitor(
            transport, monitoring_interval=1000, trend_analysis_window=4, samples_maxlen=4
        )
        stats = transport.refresh_stats()
        for waited in (0.01, 0.01, 0.02, 0.04):
            await transport.send(b"x")
            stats.total_send_time += waited
            assert monitor.get_trend("avg_send_time") == "stable"
            monitor.take_sample()
        assert monitor.get_trend("avg_send_time") == "increasing"
        names = [alert["name"] for alert in monitor.get_alerts()]
        assert names.count("increasing_send_time") == 1
        for _ in range(4):
            monitor.take_sample()
        assert monitor.get_trend("avg_send_time") == "stable"
        monitor.get_samples()[0]["avg_send_time"] = 1.0
        assert monitor.get_trend("avg_send_time") == "decreasing"
        assert len(monitor.get_samples()) == 4


async def test_a_monitor_ends_with_its_transport(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        async with DatagramMonitor(near.datagrams, monitoring_interval=1000) as monitor:
            async with monitor:
                assert monitor.is_monitoring
            assert not monitor.is_monitoring
            async with monitor:
                await near.close()
                assert not monitor.is_monitoring
        async with monitor:
            assert not monitor.is_monitoring
        assert len(monitor.get_samples()) == 2
        await monitor.close()


@pytest.mark.parametrize(
    "arguments",
    [
        {"monitoring_interval": 0},
        {"samples_maxlen": 0},
        {"alerts_maxlen": 0},
        {"trend_analysis_window": 1},
        {"queue_size_threshold": 1.1},
        {"success_rate_threshold": -0.1},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
async def test_bad_arguments_of_a_monitor_are_refused(
    pair: PairOfSessions, arguments: dict[str, float]
) -> None:
    async with pair() as (near, _):
        with pytest.raises(ConfigurationError, match=next(iter(arguments))):
            DatagramMonitor(near.datagrams, **arguments)  # type: ignore[arg-type]


# ------------------------------------------------------------------- throughput


@pytest.mark.loops("asyncio", "uvloop")  # it works without a pause: time has to pass
async def test_throughput_with_an_echo(pair: PairOfSessions) -> None:
    async with pair() as (near, far), echoing(far):
        result = await datagram_throughput_test(
            datagram_transport=near.datagrams, duration=0.05, datagram_size=100
        )
        assert result["duration"] >= 0.05
        assert result["datagrams_sent"] == near.datagrams.datagrams_sent > 0
        assert result["bytes_sent"] == 100 * result["datagrams_sent"]
        assert result["errors"] == 0
        assert result["datagrams_received"] + result["echo_lost"] == result["datagrams_sent"]
        assert result["datagrams_received"] > 0
        rtt = result["rtt"]
        assert 0 < rtt["min"] <= rtt["p50"] <= rtt["p90"] <= rtt["p99"] <= rtt["max"]
        assert result["throughput_dps"] == result["datagrams_sent"] / result["duration"]
        assert result["throughput_bps"] == pytest.approx(result["throughput_dps"] * 800)


@pytest.mark.loops("asyncio", "uvloop")  # it works without a pause: time has to pass
@pytest.mark.parametrize("size", [1, 16, 1000])
async def test_throughput_without_an_echo(pair: PairOfSessions, size: int) -> None:
    async with pair() as (near, far):
        # What arrives meanwhile and is no echo is not counted.
        await far.datagrams.send(b"something else, which is long enough")
        result = await datagram_throughput_test(near.datagrams, duration=0.02, datagram_size=size)
        assert result["datagrams_sent"] > 0
        assert result["datagrams_received"] == 0
        assert result["echo_lost"] is result["rtt"] is None
        assert (
            result["datagrams_acknowledged"] + result["datagrams_lost"] <= result["datagrams_sent"]
        )


async def test_throughput_of_a_session_that_ends(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        measuring = asyncio.create_task(datagram_throughput_test(near.datagrams, duration=1000))
        await until(lambda: far.datagrams.datagrams_received > 10)
        await far.close()
        result = await measuring
        assert result["errors"] == 1
        assert result["duration"] < 1000
        assert result["error_rate"] > 0
        with pytest.raises(SessionClosedError):
            await datagram_throughput_test(near.datagrams)


async def test_throughput_can_be_cancelled(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        assert await cancelled_at(lambda: datagram_throughput_test(near.datagrams), 1)
        await near.datagrams.clear_send_buffer()
        await far.datagrams.clear_receive_buffer()


async def test_bad_arguments_of_the_measurement_are_refused(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        with pytest.raises(DatagramTooLargeError) as caught:
            await datagram_throughput_test(near.datagrams, datagram_size=100_000)
        assert caught.value.max_size == near.max_datagram_size
        with pytest.raises(DatagramError, match="duration must be > 0 seconds, got 0"):
            await datagram_throughput_test(near.datagrams, duration=0)
        with pytest.raises(DatagramError, match="datagram_size must be >= 1, got 0"):
            await datagram_throughput_test(near.datagrams, datagram_size=0)


# ------------------------------------------------------------ heartbeats, sending


async def test_heartbeats_are_datagrams_for_the_peer(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        task = near.datagrams.start_heartbeat(interval=1000)
        assert is_heartbeat_datagram(data=await far.datagrams.receive())
        task.cancel()
        await asyncio.wait({task})
        assert near.datagrams._heartbeats == set()
        assert len(create_heartbeat_datagram()) == 18


async def test_a_heartbeat_that_cannot_be_sent_is_counted_and_the_next_one_tries(
    pair: PairOfSessions,
) -> None:
    async with pair(server={"max_datagram_size": 12}) as (near, _):
        assert near.max_datagram_size < 18
        task = near.datagrams.start_heartbeat(interval=0.001)
        await until(lambda: near.datagrams.stats["send_failures"] >= 2)
        await near.close()
        await asyncio.wait({task})
        assert task.cancelled() or task.exception() is None


async def test_a_heartbeat_ends_with_a_session_that_is_closing(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        task = near.datagrams.start_heartbeat(interval=0.0001)
        closing = asyncio.create_task(near.close())
        await asyncio.wait({task, closing})
        assert task.cancelled() or task.exception() is None


async def test_several_datagrams_are_a_sequence_of_them(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        as_bytes: list[bytes] = [b"a", b"b"]
        assert await near.datagrams.send_multiple(datagrams=as_bytes, priority=1) == 2
        assert await near.datagrams.send_multiple(("c", bytearray(b"d"))) == 2
        assert await near.datagrams.send_multiple([]) == 0
        assert [await far.datagrams.receive() for _ in range(4)] == [b"a", b"b", b"c", b"d"]
        for one in (b"one", "one", bytearray(b"one")):
            with pytest.raises(DatagramError, match="must be a sequence of datagrams, got one"):
                await near.datagrams.send_multiple(one)  # type: ignore[arg-type]


async def test_a_failed_send_is_an_event(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        failed = asyncio.create_task(near.datagrams.wait_for(EventType.DATAGRAM_ERROR))
        await asyncio.sleep(0)
        with pytest.raises(DatagramTooLargeError):
            await near.datagrams.send(bytes(100_000))
        assert isinstance((await failed).data["error"], DatagramTooLargeError)
