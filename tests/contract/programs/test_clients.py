"""Clients: pooled, several, reconnecting, with a history, measured and watched."""

from __future__ import annotations

import json

import pytest

from pywebtransport import ClientError, ServerApp, WebTransportClient, WebTransportSession
from pywebtransport.client import (
    ClientMonitor,
    ClientPool,
    ClientStats,
    PooledClient,
    ReconnectingClient,
    WebTransportBrowser,
    benchmark_client_performance,
    test_client_connectivity,
)
from pywebtransport.server import echo_handler
from tests.support.endpoints import ClientFactory, ServerFactory, Serving


async def ask(session: WebTransportSession | None, text: bytes) -> bytes:
    assert session is not None
    stream = await session.create_bidirectional_stream()
    await stream.write_all(data=text)
    return await stream.read_all()


async def test_sessions_that_are_used_again(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving(echo_handler) as served,
        PooledClient.create(config=client_config(), pool_size=2, cleanup_interval=60.0) as pool,
    ):
        session = await pool.get_session(url=served.url("/a"))
        assert await ask(session, b"one") == b"one"
        await pool.return_session(session=session)
        again = await pool.get_session(url=served.url("/a"))
        assert again is session
        other = await pool.get_session(url=served.url("/b"))
        assert other is not session
        await pool.return_session(session=again)
        await pool.return_session(session=other)
        await pool.close()
        assert session.is_closed


async def test_several_clients(serving: Serving, client_config: ClientFactory) -> None:
    async with serving(echo_handler) as served:
        async with ClientPool.create(num_clients=3, base_config=client_config()) as pool:
            assert pool.get_client_count() == 3
            sessions = await pool.connect_all(url=served.url())
            answers = [await ask(session, b"%d" % n) for n, session in enumerate(sessions)]
            assert answers == [b"0", b"1", b"2"]
            client = await pool.get_client()
            assert client.stats["connections"]["successful"] == 1
        async with ClientPool(configs=[client_config(), client_config()]) as pool:
            assert pool.get_client_count() == 2
            await pool.close_all()
            with pytest.raises(ClientError):
                await pool.get_client()


async def test_reconnecting(serving: Serving, client_config: ClientFactory) -> None:
    async def greet(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(data=b"hello")

    config = client_config(auto_reconnect=True, retry_delay=0.01, max_retry_delay=0.02)
    async with serving(greet) as served:
        client = WebTransportClient.create(url=served.url(), config=config)
        assert isinstance(client, ReconnectingClient)
        assert not client.is_connected
        async with client:
            first = await client.get_session(wait_timeout=20.0)
            assert first is not None
            assert client.is_connected
            greeting = await anext(aiter(first.incoming_streams()))
            assert await greeting.read_all() == b"hello"
            (far,) = served.server.sessions
            await far.close(code=1, reason="restart")
            await first.wait_closed()
            second = await client.get_session(wait_timeout=20.0)
            assert second is not None
            assert second is not first
            await client.close()
        plain = WebTransportClient.create(url=served.url(), config=client_config())
        assert isinstance(plain, WebTransportClient)
        async with plain, await plain.connect(url=served.url()) as session:
            assert session.is_ready
        started = ReconnectingClient.create(url=served.url(), config=config)
        async with started:
            assert await started.get_session(wait_timeout=20.0) is not None


async def test_navigation(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving(echo_handler) as served,
        WebTransportBrowser.create(config=client_config()) as browser,
    ):
        assert browser.current_session is None
        await browser.navigate(url=served.url("/one"))
        session = await browser.navigate(url=served.url("/two"))
        assert browser.current_session is session
        assert await browser.get_history() == [served.url("/one"), served.url("/two")]
        back = await browser.back()
        assert back is not None
        assert back.path == "/one"
        assert session.is_closed
        assert await browser.back() is None
        forward = await browser.forward()
        assert forward is not None
        assert forward.path == "/two"
        assert await browser.forward() is None
        fresh = await browser.refresh()
        assert fresh is not None
        assert fresh is not forward
        assert await ask(fresh, b"x") == b"x"
        await browser.close()
        assert browser.current_session is None


async def test_measurements(serving: Serving, client_config: ClientFactory) -> None:
    async with serving(echo_handler) as served:
        config = client_config()
        result = await test_client_connectivity(url=served.url(), config=config, timeout=20.0)
        assert result["success"] is True
        result = await benchmark_client_performance(
            url=served.url(), config=config, num_requests=4, concurrent_requests=2
        )
        assert (result["successful_requests"], result["failed_requests"]) == (4, 0)


async def test_a_client_and_its_monitor(
    server_config: ServerFactory, serving: Serving, client_config: ClientFactory
) -> None:
    app = ServerApp(config=server_config())
    seen: list[str] = []

    @app.route(path="/x")
    async def note(session: WebTransportSession) -> None:
        seen.append(session.headers["x-token"])

    async with serving(app) as served, WebTransportClient(config=client_config()) as client:
        client.set_default_headers(headers={"x-token": "t"})
        assert client.config.max_connections > 0
        async with ClientMonitor.create(client=client, monitoring_interval=60.0) as monitor:
            assert monitor.is_monitoring
            session = await client.connect(url=served.url("/x"), headers={"x-more": "m"})
            await session.close()
            with pytest.raises(ClientError) as caught:
                await client.connect(url=served.url("/nowhere"))
            assert caught.value.details["status_code"] in (404, 405)
            assert caught.value.target_url == served.url("/nowhere")
            assert monitor.get_metrics_summary()["is_monitoring"] is True
        assert not monitor.is_monitoring
        assert seen == ["t"]
        assert client.stats["connections"]["failed"] == 1
        assert client.debug_state()["client"]["default_headers"] == {"x-token": "t"}
        assert client.diagnose_issues() == []
        assert not client.is_closed
    assert client.is_closed
    assert client.diagnose_issues() == ["the client is closed"]


def test_figures_are_computed() -> None:
    stats = ClientStats(
        connections_attempted=4,
        connections_successful=2,
        connections_failed=2,
        total_connect_time=3.0,
    )
    assert stats.avg_connect_time == 1.5
    assert stats.success_rate == 0.5
    assert stats.to_dict()["connections"] == {
        "attempted": 4,
        "successful": 2,
        "failed": 2,
        "success_rate": 0.5,
        "lost": 0,
        "addresses_failed": 0,
        "requests_retried": 0,
    }
    assert stats.to_dict()["performance"]["avg_connect_time"] == 1.5
    before_any = ClientStats().to_dict()
    assert before_any["performance"]["min_connect_time"] == 0.0
    assert json.loads(json.dumps(before_any, allow_nan=False)) == before_any
