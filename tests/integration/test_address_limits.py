"""No client address takes everything: connections, sessions, subscriptions."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.pubsub import Broker, PubSubManager, SubscriptionLimitError
from tests.support.endpoints import ClientFactory, Serving
from tests.support.steps import until


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


async def test_connections_of_an_address(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused before the handshake, told and counted; others and later ones find room."""
    caplog.set_level(logging.INFO, "pywebtransport.server")
    async with (
        serving(host="localhost", max_connections_per_address=2) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        near, far = served.url(host="127.0.0.1"), served.url(host="[::1]")
        first = await client.connect(near)
        await client.connect(near)
        for _ in range(20):
            with pytest.raises(ConnectionError, match="too many connections from this address"):
                await client.connect(near)
        await client.connect(far)
        stats = await served.server.get_server_stats()
        assert stats["connections_accepted"] == 3
        assert stats["connections_limited"] == stats["connections_rejected"] == 20
        issues = "\n".join(await served.server.diagnose_issues())
        assert "20 connections were refused for max_connections_per_address" in issues
        await first.close()
        await until(lambda: len(served.server.connections) == 2)
        await client.connect(near)
    assert 1 <= len(lines(caplog, "too many connections from this address")) < 20


async def test_sessions_of_an_address(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    async with (
        serving(host="localhost", max_sessions_per_address=2) as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        near, far = served.url(host="127.0.0.1"), served.url(host="[::1]")
        first = await client.connect(near)
        await client.connect(near)
        for _ in range(20):
            with pytest.raises(SessionRejectedError) as caught:
                await client.connect(near)
            assert caught.value.status_code == 429
            assert int(caught.value.headers["retry-after"]) > 0
        await client.connect(far)
        stats = await served.server.get_server_stats()
        assert stats["sessions_limited"] == stats["sessions_limited_by_address"] == 20
        issues = "\n".join(await served.server.diagnose_issues())
        assert "20 sessions were refused for max_sessions_per_address" in issues
        await first.close()
        await until(lambda: len(served.server.sessions) == 2)
        await client.connect(near)
        server = served.server
    told = lines(caplog, "max_sessions_per_address=2 is reached")
    assert 1 <= len(told) < 20
    assert len(server._sessions_of) == 0


async def test_a_client_that_moves_takes_nothing_along(
    serving: Serving, client_config: ClientFactory
) -> None:
    """What it has counts where it began, until its end: moving makes no room, and leaks none."""
    async with (
        serving(max_connections_per_address=2, max_sessions_per_address=3) as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        session = await client.connect(served.url())
        connection = session.connection
        assert connection is not None
        (far,) = served.server.connections
        assert far.client_network == "127.0.0.1"
        await connection.migrate(local_host="127.0.0.2")
        await session.datagrams.send(b"from the new address")
        await until(lambda: far.remote_address and far.remote_address[0] == "127.0.0.2")
        assert far.client_network == "127.0.0.1"
        for _ in range(2):
            await client.connect(served.url())
        with pytest.raises(SessionRejectedError, match="429"):
            await client.connect(served.url())
        await connection.close()
        await until(lambda: not served.server.sessions)
        assert len(served.server._sessions_of) == 0
        for _ in range(3):
            await client.connect(served.url())


async def test_subscriptions_of_an_address(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """One address cannot take all patterns, with any number of sessions; another one gets some."""
    broker = Broker(max_subscriptions_per_address=6, max_patterns_per_address=4)
    async with (
        broker,
        serving(broker.serve, host="localhost") as served,
        WebTransportClient(config=client_config()) as client,
    ):
        greedy = [
            PubSubManager(await client.connect(served.url(host="127.0.0.1"))) for _ in range(2)
        ]
        async with greedy[0], greedy[1]:
            for number in range(4):
                await greedy[number % 2].subscribe(f"topic.{number}")
            for number in range(100):
                with pytest.raises(SubscriptionLimitError, match="max_patterns_per_address"):
                    await greedy[number % 2].subscribe(f"more.{number}")
            held = [await greedy[1].subscribe("topic.0"), await greedy[0].subscribe("topic.1")]
            with pytest.raises(SubscriptionLimitError, match="max_subscriptions_per_address"):
                await greedy[0].subscribe("topic.0")
            assert broker.get_stats()["limited"] == 101
            session = await client.connect(served.url(host="[::1]"))
            async with PubSubManager(session) as other:
                await other.subscribe("other.topic")
            for subscription in held:
                await subscription.close()
            await until(lambda: broker.get_stats()["subscriptions"] == 4)
            await greedy[0].subscribe("topic.0")
        await client.close()
        await until(lambda: broker.get_stats()["sessions"] == 0)
        assert len(broker._addresses) == 0
    assert 1 <= len(lines(caplog, "refused a subscription of session")) < 50


async def test_many_subscriptions_at_the_same_time_count(
    serving: Serving, client_config: ClientFactory
) -> None:
    """While an application thinks about one, it counts already."""
    release = asyncio.Event()

    async def authorize(session: WebTransportSession, action: str, topic: str) -> bool:
        await release.wait()
        return topic != "forbidden"

    broker = Broker(authorize=authorize, max_subscriptions_per_address=3)
    async with (
        broker,
        serving(broker.serve) as served,
        WebTransportClient(config=client_config()) as client,
        PubSubManager(await client.connect(served.url())) as manager,
    ):
        asked: list[Any] = [
            asyncio.ensure_future(manager.subscribe(name)) for name in ("forbidden", "a", "b", "c")
        ]
        await until(lambda: any(one.done() for one in asked))
        release.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        refused = [error for error in results if isinstance(error, Exception)]
        assert sorted(type(error).__name__ for error in refused) == [
            "SubscriptionLimitError",
            "TopicForbiddenError",
        ]
        await manager.subscribe("d")  # what was forbidden counts no longer
