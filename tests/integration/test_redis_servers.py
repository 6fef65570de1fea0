"""The backend on several real Redis servers that know nothing of each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from pywebtransport.events import RedisBackend
from pywebtransport.events._redis import server_of_channel
from pywebtransport.exceptions import ConfigurationError, ConnectionError
from tests.integration.test_redis_backend import Gaps, Messages, each_await
from tests.support.redis_server import RedisServer
from tests.support.steps import cancelled_at, until


@pytest.fixture(scope="module")
def servers() -> Iterator[list[RedisServer]]:
    """Three servers that know nothing of each other."""
    found: list[RedisServer] = []
    try:
        for _ in range(3):
            found.append(RedisServer())
        yield found
    finally:
        for server in found:
            server.close()


def on_all(servers: list[RedisServer], **options: Any) -> RedisBackend:
    return RedisBackend(urls=[server.url for server in servers], **options)


def channel_at(index: int, count: int = 3) -> str:
    """Return a channel of one of the servers."""
    return next(
        name for name in map("room.{}".format, itertools.count())
        if server_of_channel(name, count) == index
    )  # fmt: skip


async def test_channels_are_spread_over_several_servers(servers: list[RedisServer]) -> None:
    async with on_all(servers) as one, on_all(servers) as two:
        exact: Messages = []
        every: Messages = []
        for index in range(3):
            await one.subscribe(channel_at(index), lambda *message: exact.append(message))
        pattern = await two.subscribe("room.*", lambda *message: every.append(message))
        for index, server in enumerate(servers):
            name = f"pywebtransport:{channel_at(index)}"
            assert server.command("PUBSUB", "CHANNELS", "*room*") == [name.encode()]
            assert server.command("PUBSUB", "NUMPAT") == 1
            await two.publish(channel_at(index), b"%d" % index)
        await until(lambda: len(exact) == len(every) == 3)
        wanted = [(channel_at(index), b"%d" % index) for index in range(3)]
        assert sorted(exact) == sorted(every) == sorted(wanted)
        stats = two.get_stats()
        assert (stats["subscriptions"], stats["published"], stats["connected"]) == (1, 3, True)
        assert [each["published"] for each in two.get_server_stats()] == [1, 1, 1]
        await two.unsubscribe(pattern)
        assert [server.command("PUBSUB", "NUMPAT") for server in servers] == [0, 0, 0]


async def test_a_lost_server_takes_only_its_channels(servers: list[RedisServer]) -> None:
    gaps = Gaps()
    async with on_all(servers, **gaps.options) as backend:
        told: list[float | None] = []
        stop = backend.watch_gaps(told.append)
        heard: Messages = []
        await backend.subscribe("room.*", lambda *message: heard.append(message))
        servers[1].stop()
        try:
            await until(lambda: not backend.get_stats()["connected"])
            assert told == [None]
            assert isinstance(backend.last_error, ConnectionError)
            with pytest.raises(ConnectionError, match="not connected to Redis now"):
                await backend.publish(channel_at(1), b"lost")
            with pytest.raises(ConnectionError, match="not connected to Redis now"):
                await backend.subscribe("other.*", lambda *message: None)
            await backend.publish(channel_at(0), b"0")
            await backend.publish(channel_at(2), b"2")
            await until(lambda: len(heard) == 2)
        finally:
            servers[1].start()
        seconds = await gaps.next()
        assert told == [None, seconds]
        assert backend.last_error is None
        assert backend.get_stats()["subscriptions"] == 1  # the refused one is nowhere
        assert [server.command("PUBSUB", "NUMPAT") for server in servers] == [1, 1, 1]
        await backend.publish(channel_at(1), b"1")
        await until(lambda: heard[-1] == (channel_at(1), b"1"))
        stop()


async def test_all_servers_are_needed_at_the_start(servers: list[RedisServer]) -> None:
    backend = on_all(servers)
    servers[2].stop()
    try:
        with pytest.raises(ConnectionError, match="cannot be used"):
            await backend.start()
        assert not any(each["connected"] for each in backend.get_server_stats())
    finally:
        servers[2].start()
    await backend.start()
    await backend.close()
    await backend.start()  # again
    await backend.close()


async def test_cancelled_work_with_several_servers(servers: list[RedisServer]) -> None:
    async def attempt(index: int) -> bool:
        async def work() -> None:
            async with on_all(servers) as backend:
                found = await backend.subscribe("room.*", lambda *message: None)
                await backend.unsubscribe(found)

        reached = await cancelled_at(work, index)
        for server in servers:
            await until(lambda one=server: b"sub=1" not in clients(one))  # type: ignore[misc]
            assert server.command("PUBSUB", "NUMPAT") == 0
        return reached

    await each_await(attempt)


def clients(server: RedisServer) -> bytes:
    return repr(server.command("CLIENT", "LIST")).encode()


def test_another_server_takes_its_share_and_moves_nothing_else() -> None:
    names = [f"room.{number}" for number in range(3000)]
    for count in range(1, 6):
        before = [server_of_channel(name, count) for name in names]
        after = [server_of_channel(name, count + 1) for name in names]
        moved = [new for old, new in zip(before, after, strict=True) if old != new]
        assert set(moved) == {count}
        share = len(names) / (count + 1)
        assert 0.8 * share < len(moved) < 1.2 * share


@pytest.mark.parametrize(
    "options",
    [
        {"urls": []},
        {"urls": "redis://localhost"},
        {"urls": ["redis://localhost", 1]},
        {"urls": ["redis://localhost"] * 2},
        {"urls": [f"redis://localhost:{number}" for number in range(1, 66)]},
        {"urls": ["redis://localhost"], "url": "redis://other"},
        {"urls": ["redis://localhost", "http://localhost"]},
    ],
)
def test_lists_of_servers_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"urls? = "):
        RedisBackend(**options)
