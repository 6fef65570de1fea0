"""The monitors of servers and clients: measured samples, health, alerts that come once."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import AsyncExitStack

import pytest

from pywebtransport import ConfigurationError, WebTransportClient, WebTransportSession
from pywebtransport.client import ClientMonitor
from pywebtransport.exceptions import UnreachableError
from pywebtransport.server import ServerMonitor
from pywebtransport.utils.sampling import Sampler
from tests.support.endpoints import ClientFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until


async def echo_datagrams(session: WebTransportSession) -> None:
    while True:
        await session.datagrams.send(await session.datagrams.receive())


async def test_samples_of_a_server_are_measured(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_datagrams) as served,
        WebTransportClient(config=client_config()) as client,
        ServerMonitor(served.server) as monitor,
    ):
        assert monitor.is_monitoring
        first = monitor.get_current_metrics()
        assert first is not None
        assert first["stats"]["active_sessions"] == 0
        assert first["rtt"] == {"min": None, "median": None, "p95": None, "max": None}
        assert set(first["rates"].values()) == {0.0}
        session = await client.connect(served.url())
        for number in range(5):
            await session.datagrams.send(bytes([number]))
            assert await session.datagrams.receive(timeout=20) == bytes([number])
        second = monitor.take_sample()
        assert second["stats"]["active_sessions"] == second["stats"]["active_connections"] == 1
        counters = second["counters"]
        assert counters["datagrams_sent"] == counters["datagrams_received"] == 5
        assert counters["sessions_accepted"] == counters["connections_accepted"] == 1
        assert counters["bytes_received"] > 1200  # the client's Initial is padded to that
        assert 0 < second["rtt"]["min"] == second["rtt"]["max"] < 20
        assert second["rates"]["datagrams_sent"] > 0
        assert monitor.get_metrics_history() == [first, second]
        assert monitor.get_metrics_history(limit=1) == [second]
        assert monitor.get_metrics_history(limit=0) == []
        # What a connection did stays counted when it is gone.
        await session.close()
        await until(lambda: not served.server.connections)
        third = monitor.take_sample()
        assert third["stats"]["active_connections"] == 0
        assert third["counters"]["datagrams_received"] == 5
        assert third["rtt"]["median"] is None
        monitor.clear_history()
        assert monitor.get_current_metrics() is None
        assert monitor.get_metrics_history() == []
    assert not monitor.is_monitoring


async def test_unread_datagrams_are_counted(serving: Serving, client_config: ClientFactory) -> None:
    """Those of sessions that live and of sessions that are over."""
    sessions: list[WebTransportSession] = []

    async def handler(session: WebTransportSession) -> None:
        sessions.append(session)
        session.datagrams  # noqa: B018  made when first used

    fields = {"datagram_queue_size": 2}
    async with (
        serving(handler, **fields) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        session = await client.connect(served.url())
        await until(lambda: bool(sessions))
        for _ in range(5):
            await session.datagrams.send(b"x")
        await until(lambda: sessions[0].datagrams.stats["receive_drops"] == 3)
        traffic = (await served.server.get_server_stats())["traffic"]
        assert traffic["datagrams_unread"] == 3
        assert traffic["datagrams_waiting"] == 2
        await session.close()
        await until(lambda: not served.server.connections)
        traffic = (await served.server.get_server_stats())["traffic"]
        assert (traffic["datagrams_unread"], traffic["datagrams_waiting"]) == (3, 0)


async def test_health_of_a_server(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of /bad raised")

    async def bad(session: WebTransportSession) -> None:
        raise RuntimeError("on purpose")

    async def good(session: WebTransportSession) -> None:
        """Leaves the session to the client."""

    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(
            serving({"/bad": bad, "/good": good}, max_sessions=2)
        )
        client = await stack.enter_async_context(WebTransportClient(config=client_config()))
        monitor = await stack.enter_async_context(ServerMonitor.create(server=served.server))
        assert monitor.get_health_status()["status"] == "healthy"
        broken = await client.connect(served.url("/bad"))
        assert (await broken.wait_closed()).code == 1
        status = monitor.get_health_status()
        assert status == {"status": "degraded", "reason": "1 session handlers raised"}
        assert monitor.get_alerts() == []  # an alert needs a sample
        monitor.take_sample()
        monitor.take_sample()  # nothing raised since
        assert [alert["name"] for alert in monitor.get_alerts()] == ["handler_errors"]
        await until(lambda: not served.server.sessions)
        first = await client.connect(served.url("/good"))
        second = await client.connect(served.url("/good"))
        assert monitor.get_health_status()["reason"] == "2 of max_sessions=2 are in use"
        # One alert as long as it lasts, and another when it comes back.
        monitor.take_sample()
        monitor.take_sample()
        await second.close()
        await until(lambda: len(served.server.sessions) == 1)
        monitor.take_sample()
        second = await client.connect(served.url("/good"))
        monitor.take_sample()
        names = [alert["name"] for alert in monitor.get_alerts()]
        assert names == ["handler_errors", "max_sessions", "max_sessions"]
        assert monitor.get_alerts(limit=1)[0]["message"] == "2 of max_sessions=2 are in use"
        await asyncio.gather(first.close(), second.close())
        await served.server.close(drain_timeout=0)
        assert monitor.get_health_status() == {
            "status": "unhealthy",
            "reason": "the server does not accept sessions",
        }
        assert set(monitor.take_sample()["rates"].values()) == {0.0}


async def test_rates_do_not_follow_the_time_of_day(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        serving(None) as served,
        WebTransportClient(config=client_config()) as client,
        ServerMonitor(served.server) as monitor,
    ):
        await client.connect(served.url())
        earlier = time.time() - 86400
        monkeypatch.setattr(time, "time", lambda: earlier)
        assert monitor.take_sample()["rates"]["sessions_accepted"] > 0


async def test_failed_handshakes_are_noticed(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Clients that do not trust the certificate give the handshake up."""
    async with (
        serving(None) as served,
        WebTransportClient(config=client_config(ca_certs=None)) as client,
        ServerMonitor(served.server) as monitor,
    ):
        attempts = [client.connect(served.url()) for _ in range(10)]
        for outcome in await asyncio.gather(*attempts, return_exceptions=True):
            assert isinstance(outcome, Exception)
        engine = served.server.measure
        await until(lambda: engine()["engine"]["handshake_failed"] == 10)
        monitor.take_sample()
        assert [alert["name"] for alert in monitor.get_alerts()] == ["handshakes_failed"]
        assert monitor.get_alerts()[0]["message"] == "10 of 10 handshakes failed"


async def test_samples_of_a_client_are_measured(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_datagrams) as served,
        WebTransportClient(config=client_config()) as client,
        ClientMonitor(client) as monitor,
    ):
        assert monitor.get_metrics_summary()["is_monitoring"] is True
        session = await client.connect(served.url())
        await session.datagrams.send(b"x")
        await session.datagrams.receive(timeout=20)
        sample = monitor.take_sample()
        assert monitor.get_metrics_summary() == {
            "latest_metrics": sample,
            "recent_alerts": [],
            "is_monitoring": True,
        }
        assert sample["stats"]["connections"]["successful"] == 1
        assert sample["stats"]["active_sessions"] == 1
        assert sample["counters"]["datagrams_sent"] == 1
        assert sample["rtt"]["median"] > 0
        await session.close()
        assert monitor.take_sample()["counters"]["datagrams_received"] == 1
    summary = monitor.get_metrics_summary()
    assert summary["is_monitoring"] is False


async def test_closing_a_client_forgets_no_counts(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(echo_datagrams) as served:
        async with WebTransportClient(config=client_config()) as client:
            session = await client.connect(served.url())
            await session.datagrams.send(b"x")
            await session.datagrams.receive(timeout=20)
            before = client.measure()["traffic"]
        after = client.measure()["traffic"]
        assert client.connections == ()
        assert after["datagrams_received"] == before["datagrams_received"] == 1
        assert after["streams_opened_local"] == before["streams_opened_local"] > 0


async def test_alerts_of_a_client(
    client_config: ClientFactory, caplog: pytest.LogCaptureFixture, serving: Serving
) -> None:
    async with serving(None) as served:
        url = served.url()
    caplog.set_level(logging.WARNING, "pywebtransport.client.monitor")
    monitor_of: ClientMonitor
    async with (
        WebTransportClient(config=client_config()) as client,
        ClientMonitor.create(client=client) as monitor,
    ):
        monitor_of = monitor
        for _ in range(5):
            with pytest.raises(UnreachableError):
                await client.connect(url)
        monitor.take_sample()
        await client.close()
        monitor.take_sample()
        client._stats.record(12.0)
        monitor.take_sample()
    alerts = monitor_of.get_metrics_summary()["recent_alerts"]
    assert [alert["message"] for alert in alerts] == [
        "5 of 5 attempts to connect failed",
        "the client is closed",
        "connecting took 12.0 s on average",
    ]
    assert [record.message for record in caplog.records] == [alert["message"] for alert in alerts]


async def test_a_late_event_loop_is_an_alert(
    client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pywebtransport.client.monitor")
    async with (
        WebTransportClient(config=client_config()) as client,
        ClientMonitor(client, monitoring_interval=0.001) as monitor,
    ):
        time.sleep(1.1)  # noqa: ASYNC251  what a monitor is there to notice
        await until(lambda: monitor.get_metrics_summary()["recent_alerts"])
    (alert,) = monitor.get_metrics_summary()["recent_alerts"]
    late = re.fullmatch(r"the event loop was (.+) s late", alert["message"])
    assert late is not None
    assert float(late[1]) >= 1.1
    assert [record.message for record in caplog.records] == [alert["message"]]


@pytest.mark.parametrize("interval", [0, -1.0, float("nan")])
async def test_intervals_are_above_zero(interval: float, client_config: ClientFactory) -> None:
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(ConfigurationError, match="monitoring_interval"):
            ClientMonitor(client, monitoring_interval=interval)


async def test_limits_are_not_negative(serving: Serving) -> None:
    async with serving(None) as served:
        monitor = ServerMonitor(served.server)
        with pytest.raises(ConfigurationError, match="limit"):
            monitor.get_alerts(limit=-1)


async def test_the_timer_takes_samples_and_says_how_late_it_was() -> None:
    arrived = asyncio.Event()
    count = 0

    def take() -> dict[str, dict[str, int]]:
        nonlocal count
        count += 1
        if count == 3:
            arrived.set()
        return {"counters": {"taken": count}}

    sampler = Sampler(
        take,
        lambda sample, previous: {},
        interval=0.001,
        logger=logging.getLogger("tests"),
        max_samples=2,
    )
    sampler.start()
    sampler.start()
    await arrived.wait()
    sampler.stop()
    sampler.stop()
    assert not sampler.is_running
    assert [sample["counters"]["taken"] for sample in sampler.samples] == [2, 3]
    assert all(sample["loop_delay"] >= 0 for sample in sampler.samples)
    assert sampler.latest is sampler.samples[-1]


async def test_a_sample_that_raises_does_not_end_the_series() -> None:
    loop = asyncio.get_running_loop()
    reported: list[str] = []
    loop.set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
    again = asyncio.Event()
    count = 0

    def take() -> dict[str, dict[str, int]]:
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("once")
        if count == 3:
            again.set()
        return {"counters": {}}

    sampler = Sampler(
        take, lambda sample, previous: {}, interval=0.001, logger=logging.getLogger("tests")
    )
    sampler.start()
    await again.wait()
    sampler.stop()
    loop.set_exception_handler(None)
    assert reported == ["once"]
    assert len(sampler.samples) == 2
