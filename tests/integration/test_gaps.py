"""A bus that loses messages, or cannot connect, says so: to subscribers, callers and the log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.events import Event, EventBus, MemoryBackend, RedisBackend
from pywebtransport.exceptions import (
    AuthenticationError,
    ConfigurationError,
    ConnectionError,
    SerializationError,
    WebTransportError,
)
from pywebtransport.pubsub import Broker, PubSubError, PubSubManager, Subscription
from tests.integration.test_redis_backend import QUICK, locked_server
from tests.support.endpoints import ClientFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.redis_server import RedisServer
from tests.support.steps import until

__all__ = ["locked_server"]


async def test_subscribers_of_a_bus_hear_of_gaps(redis_server: RedisServer) -> None:
    async with EventBus(RedisBackend(redis_server.url, **QUICK)) as bus:
        heard: asyncio.Queue[Any] = asyncio.Queue()
        others: list[Event] = []
        bus.subscribe(EventBus.GAP, lambda event: heard.put_nowait(event.data))
        bus.subscribe("news", others.append)
        redis_server.restart()
        assert await heard.get() == {"connected": False, "seconds": None}
        back = await heard.get()
        assert back["connected"] is True
        assert back["seconds"] > 0
        await bus.emit("news", 1)
        await until(lambda: bool(others))


async def test_subscribers_of_a_broker_hear_of_gaps(
    redis_server: RedisServer,
    serving: Serving,
    client_config: ClientFactory,
    expected_logs: ExpectedLogs,
) -> None:
    expected_logs("on_gap of the subscription to 'a' raised CancelledError")
    backend = RedisBackend(redis_server.url, **QUICK)
    async with (
        Broker(backend) as broker,
        serving(broker.serve) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as session,
        PubSubManager(session) as pubsub,
    ):
        told: list[Subscription] = []

        def tell(subscription: Subscription) -> None:
            told.append(subscription)
            raise asyncio.CancelledError  # a mistake of the application ends nothing

        asked = await pubsub.subscribe("a", on_gap=tell)
        silent = await pubsub.subscribe("a")
        redis_server.restart()
        await until(lambda: bool(told))
        assert told == [asked]
        assert (asked.gaps, silent.gaps) == (1, 0)
        await pubsub.publish("a", "after")
        assert (await anext(asked)).data == (await anext(silent)).data == "after"
        for hook in (5, asyncio.sleep):
            with pytest.raises(ConfigurationError, match="on_gap"):
                pubsub.subscribe("a", on_gap=hook)  # type: ignore[arg-type]
    assert backend._servers[0]._gap_listeners == []


async def test_listeners_of_gaps_that_fail_harm_nobody(
    redis_server: RedisServer, expected_logs: ExpectedLogs
) -> None:
    expected_logs("listener of gaps .*broken.* raised CancelledError")
    expected_logs("listener of gaps .*broken.* raised CancelledError")
    async with RedisBackend(redis_server.url, **QUICK) as backend:
        heard: list[float | None] = []

        def broken(seconds: float | None) -> None:
            raise asyncio.CancelledError

        backend.watch_gaps(broken)
        stop = backend.watch_gaps(heard.append)
        redis_server.restart()
        await until(lambda: len(heard) == 2)
        assert heard[0] is None
        stop()
        stop()
        assert backend.get_stats()["errors"] == 2


# ----------------------------------------------------------------------- not let in


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_wrong_password_is_told_to_the_caller_and_to_the_log(
    locked_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = locked_server.url_for(password="wrong")
    for start in (RedisBackend(url).start, EventBus(RedisBackend(url)).start):
        caplog.clear()
        with pytest.raises(AuthenticationError, match="cannot be used"):
            await start()
        (line,) = warnings(caplog)
        assert "Redis refuses to let this process in" in line
        assert "wrong" not in line.replace("wrong number", "")


async def test_a_server_that_is_not_there_is_told_too(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.stop()
    backend = RedisBackend(redis_server.url)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await backend.start()
    # Each caller has its error; the log has one line a minute.
    (line,) = warnings(caplog)
    assert "Redis cannot be reached" in line
    assert isinstance(backend.last_error, ConnectionError)
    redis_server.start()
    await backend.start()
    await backend.close()


async def test_a_password_that_changed_is_told_while_it_tries_again(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    changed = RedisServer()
    try:
        async with RedisBackend(changed.url, **QUICK) as backend:
            port = changed.port
            changed.close()
            locked = RedisServer("--requirepass", "new")
            locked.stop()
            locked.port, locked.password = port, "new"
            locked.start()
            try:
                await until(lambda: backend.get_stats()["failed_attempts"] > 5)
                await until(lambda: isinstance(backend.last_error, AuthenticationError))
                told = warnings(caplog)
                assert sum("refuses to let this process in" in line for line in told) == 1
                with pytest.raises(ConnectionError, match="not connected"):
                    await backend.publish("a", b"")
            finally:
                locked.close()
    finally:
        changed.close()


class Refusing(MemoryBackend):
    """A server that does not let everybody do everything."""

    async def publish(self, channel: str, payload: bytes) -> None:
        raise AuthenticationError("no permission")

    async def subscribe(self, pattern: str, deliver: Any) -> str:
        raise AuthenticationError("no permission")


async def test_a_refusal_of_the_bus_is_no_limit(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Broker(Refusing()) as broker,
        serving(broker.serve) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as session,
        PubSubManager(session) as pubsub,
    ):
        for operation in (pubsub.subscribe("a")._subscribe, lambda: pubsub.publish("a", 1)):
            with pytest.raises(PubSubError, match="not available") as caught:
                await operation()
            assert type(caught.value) is PubSubError
    assert sum("no permission" in line for line in warnings(caplog)) == 2


# ------------------------------------------------------------------ wrong arguments


@pytest.mark.parametrize(
    "options",
    [
        {"url": 5},
        {"url": "http://x"},
        {"prefix": 5},
        {"prefix": None},
        {"prefix": 0},
        {"prefix": "x" * 2000},
        {"timeout": "5"},
        {"timeout": True},
        {"timeout": float("nan")},
        {"reconnect_delay": 0},
        {"max_reconnect_delay": float("inf")},
        {"ping_interval": -1},
        {"max_payload_size": 1.5},
        {"max_subscriptions": "5"},
        {"on_gap": 5},
    ],
    ids=str,
)
def test_wrong_options_of_the_backend(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RedisBackend(**options)


@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest.mark.loops("asyncio")
async def test_wrong_arguments_of_backends(redis_server: RedisServer, kind: str) -> None:
    backend: Any = MemoryBackend() if kind == "memory" else RedisBackend(redis_server.url)
    async with backend:
        for channel in (5, None, "", b"a", "x" * 2000, "\ud800"):
            with pytest.raises(ConfigurationError, match="channel"):
                await backend.publish(channel, b"")
            with pytest.raises(ConfigurationError, match="pattern"):
                await backend.subscribe(channel, print)
        for payload in (5, None, "text", ["a"]):
            with pytest.raises(ConfigurationError, match="payload"):
                await backend.publish("a", payload)
        with pytest.raises(SerializationError):
            await backend.publish("a", bytes(2**20 + 1))
        with pytest.raises(ConfigurationError, match="deliver"):
            await backend.subscribe("a", 5)
        with pytest.raises(ConfigurationError, match="subscription_id"):
            await backend.unsubscribe([])
        assert backend.get_stats()["subscriptions"] == 0


@pytest.mark.loops("asyncio")
async def test_wrong_arguments_of_the_bus() -> None:
    for options in (
        {"backend": 5},
        {"backend": MemoryBackend},
        {"serializer": 5},
        {"channel_prefix": ""},
        {"max_queue_size": 0},
        {"max_subscriptions": "5"},
    ):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            EventBus(**options)  # type: ignore[arg-type]
    async with EventBus() as bus:
        for handler in (5, None, "x"):
            with pytest.raises(WebTransportError):
                bus.subscribe("a", handler)  # type: ignore[arg-type]
        for event_type in (5, None, ["a"]):
            with pytest.raises(ConfigurationError):
                bus.subscribe(event_type, print)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError):
                await bus.emit(event_type)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            await bus.publish("a")  # type: ignore[arg-type]
        assert bus.get_subscription_count() == 0
