"""The dictionaries that methods return have the promised keys, from objects that are in use.

``dictionaries.toml`` has the promise, and ``surface.toml`` the shapes that stand beside methods.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import math
import re
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import (
    ConfigurationError,
    Event,
    EventEmitter,
    EventType,
    SessionError,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.client import ClientMonitor, ClientStats
from pywebtransport.connection import ConnectionLoadBalancer, ConnectionManager, ConnectionPool
from pywebtransport.datagram import DatagramMessage, DatagramQueue, DatagramStats
from pywebtransport.server import ServerMonitor, WebTransportServer
from pywebtransport.session import SessionManager, SessionStats
from pywebtransport.stream import StreamManager
from tests.support.endpoints import ClientFactory, Served, Serving
from tests.support.steps import echo_bidirectional

from .test_contract import SURFACE, classes

DICTIONARIES: dict[str, str] = tomllib.loads(
    (Path(__file__).parent / "dictionaries.toml").read_text()
)
SHAPES = {
    f"{name}.{method}": shape
    for _, name, described in classes()
    for method, shape in described.get("keys", {}).items()
} | DICTIONARIES
# What values are; the others are numbers, or dictionaries and lists of such.
TEXTS = frozenset(
    [
        "session_id",
        "state",
        "path",
        "type",
        "message",
        "direction",
        "reason",
        "status",
        "checksum",
        "source",
    ]
)
FLAGS = frozenset(
    [
        "closed",
        "serving",
        "paused",
        "is_readable",
        "is_writable",
        "is_closed",
        "is_expired",
        "is_monitoring",
        "semaphore_locked",
        "has_default_handler",
    ]
)
CONTAINERS = frozenset(
    [
        "default_headers",
        "config",
        "statistics",
        "queues",
        "aggregated_stats",
        "headers",
        "states",
        "directions",
        "details",
        "connections",
        "sessions",
        "streams",
        "remote_address",
        "local_address",
        "data",
        "latest_metrics",
        "recent_alerts",
        "outgoing",
        "incoming",
        "datagrams",
        "event_types",
        "metadata",
    ]
)
# Unknown until something happened, or not set.
OPTIONAL = frozenset(
    [
        "checksum",
        "sequence",
        "ttl",
        "closed_at",
        "ready_at",
        "outgoing_max_age",
        "incoming_max_age",
        "error_code",
        "source",
        "last_activity",
        "latest_metrics",
    ]
)


class World:
    """A server, a client, a session between them, all of them used a little."""

    def __init__(
        self, served: Served, client: WebTransportClient, session: WebTransportSession
    ) -> None:
        self.served = served
        self.client = client
        self.session = session
        self.streams: list[object] = []  # a stream belongs to whoever holds it

    @property
    def server(self) -> WebTransportServer:
        return self.served.server


async def _load_balancer(world: World) -> dict[str, Any]:
    target = (world.served.host, world.served.port)
    async with ConnectionLoadBalancer.create(targets=[target]) as balancer:
        await balancer.get_connection(config=world.client.config)
        return await balancer.get_load_balancer_stats()


async def _connection_manager(world: World) -> dict[str, Any]:
    async with ConnectionManager.create() as manager:
        assert world.session.connection is not None
        await manager.add_connection(connection=world.session.connection)
        return await manager.get_stats()


async def _connection_pool(world: World) -> dict[str, Any]:
    async with ConnectionPool() as pool:
        connection = await pool.get_connection(
            config=world.client.config, host=world.served.host, port=world.served.port
        )
        await pool.return_connection(connection=connection)
        return pool.get_stats()


async def _session_manager(world: World) -> dict[str, Any]:
    async with SessionManager.create() as manager:
        await manager.add_session(session=world.session)
        return await manager.get_stats()


async def _stream_manager(world: World) -> dict[str, Any]:
    async with StreamManager.create(session=world.session) as manager:
        await manager.create_bidirectional_stream()
        return await manager.get_stats()


async def _queue(world: World) -> dict[str, int]:
    queue = DatagramQueue()
    await queue.initialize()
    await queue.put(datagram=DatagramMessage(data=b"x"))
    stats = queue.get_stats()
    await queue.close()
    return stats


async def _with_metadata(world: World) -> dict[str, Any]:
    await world.session.datagrams.send(data=b"one")
    return await world.session.datagrams.receive_with_metadata(timeout=10)


async def _client_monitor(world: World) -> dict[str, Any]:
    async with ClientMonitor.create(client=world.client) as monitor:
        return monitor.get_metrics_summary()


async def _server_monitor(world: World) -> dict[str, Any]:
    async with ServerMonitor.create(server=world.server) as monitor:
        return monitor.get_health_status()


async def _streams(world: World) -> dict[str, Any]:
    """One stream of each class, used a little."""
    both = await world.session.create_bidirectional_stream()
    await both.write_all(b"x")
    assert await both.read_all() == b"x"
    sending = await world.session.create_unidirectional_stream()
    await sending.write(b"x")
    far = world.server.sessions[0]
    theirs = await far.create_unidirectional_stream()
    await theirs.write(b"x")
    receiving = await anext(aiter(world.session.incoming_unidirectional_streams()))
    await receiving.read()
    world.streams += [both, sending, theirs, receiving]
    return {"": both, "Send": sending, "Receive": receiving}


def _of_stream(kind: str, method: str) -> Callable[[World], Awaitable[dict[str, Any]]]:
    async def call(world: World) -> dict[str, Any]:
        value: dict[str, Any] = getattr((await _streams(world))[kind], method)()
        return value

    return call


async def _datagrams(world: World) -> dict[str, Any]:
    datagrams = world.session.datagrams
    await datagrams.send(b"one")
    assert await datagrams.receive(timeout=10) == b"one"
    return datagrams.stats


async def _error(world: World) -> dict[str, Any]:
    with pytest.raises(ConfigurationError) as caught:
        world.client.config.update(max_connections=-1)
    return caught.value.to_dict()


MAKERS: dict[str, Callable[[World], dict[str, Any] | Awaitable[dict[str, Any]]]] = {
    "ClientMonitor.get_metrics_summary": _client_monitor,
    "ClientStats.to_dict": lambda world: world.client._stats.to_dict(),
    "ConnectionLoadBalancer.get_load_balancer_stats": _load_balancer,
    "ConnectionManager.get_stats": _connection_manager,
    "ConnectionPool.get_stats": _connection_pool,
    "DatagramMessage.to_dict": lambda _: DatagramMessage(data=b"x", priority=1, ttl=5).to_dict(),
    "DatagramQueue.get_stats": _queue,
    "DatagramStats.to_dict": _datagrams,
    "Event.to_dict": lambda _: Event(type=EventType.SESSION_READY, data={"a": 1}).to_dict(),
    "EventEmitter.get_stats": lambda _: EventEmitter().get_stats(),
    "RequestRouter.get_route_stats": lambda world: world.served.app.router.get_route_stats(),
    "ServerMonitor.get_health_status": _server_monitor,
    "SessionManager.get_stats": _session_manager,
    "SessionStats.to_dict": lambda world: world.session.get_session_stats(),
    "StreamManager.get_stats": _stream_manager,
    "WebTransportClient.stats": lambda world: world.client.stats,
    "WebTransportError.to_dict": _error,
    **{
        f"WebTransport{kind}Stream.{method}": _of_stream(kind, method)
        for kind in ("", "Send", "Receive")
        for method in ("debug_state", "get_summary")
    },
    "WebTransportDatagramTransport.stats": _datagrams,
    "WebTransportSession.get_session_stats": lambda world: world.session.get_session_stats(),
    "WebTransportClient.debug_state": lambda world: world.client.debug_state(),
    "WebTransportConnection.get_summary": (lambda world: world.server.connections[0].get_summary()),
    "WebTransportDatagramTransport.debug_state": (
        lambda world: world.session.datagrams.debug_state()
    ),
    "WebTransportDatagramTransport.get_queue_stats": (
        lambda world: world.session.datagrams.get_queue_stats()
    ),
    "WebTransportDatagramTransport.receive_with_metadata": _with_metadata,
    "WebTransportServer.debug_state": lambda world: world.server.debug_state(),
    "WebTransportSession.debug_state": lambda world: world.session.debug_state(),
    "WebTransportSession.get_summary": lambda world: world.session.get_summary(),
}


def parse(shape: str) -> dict[str, Any]:
    """``{a, b: {c}, **more}`` as ``{"a": {}, "b": {"c": {}}}``."""
    tokens = re.findall(r"\*\*[\w.()]+|\w+|[{}:,]", shape)
    position = 0

    def table() -> dict[str, Any]:
        nonlocal position
        found: dict[str, Any] = {}
        position += 1
        while tokens[position] != "}":
            token = tokens[position]
            position += 1
            if token == "," or token.startswith("**"):
                continue
            found[token] = {}
            if tokens[position] == ":":
                position += 1
                found[token] = table()
        position += 1
        return found

    return table()


def missing(shape: dict[str, Any], value: Any, where: str = "") -> list[str]:
    """Keys of the shape that a dictionary lacks."""
    found = []
    for key, inner in shape.items():
        if not isinstance(value, dict) or key not in value:
            found.append(where + key)
        elif inner:
            found += missing(inner, value[key], f"{where}{key}.")
    return found


def leaves(value: Any, shape: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
    """The promised keys and their values, at any depth; all of them for a promise of nothing."""
    for key, inner in value.items():
        if shape is None or key in shape:
            yield key, inner
            below = shape[key] if shape else None
            if isinstance(inner, dict) and below:
                yield from leaves(inner, below)


def oddities(value: dict[str, Any], shape: dict[str, Any]) -> list[str]:
    """Values of the promised keys that are of another type than they should be."""
    found = []
    for key, item in leaves(value, shape):
        if item is None:
            fits = key in OPTIONAL
        elif key == "id":  # of a stream: a number
            fits = isinstance(item, str | int) and not isinstance(item, bool)
        elif key in TEXTS:
            fits = isinstance(item, str)
        elif key in FLAGS:
            fits = isinstance(item, bool)
        elif key in CONTAINERS or isinstance(item, dict):
            fits = isinstance(item, dict | list | tuple | bytes | int)
        else:
            fits = isinstance(item, int | float) and not isinstance(item, bool)
            fits = fits and math.isfinite(item) and item >= 0
        if not fits:
            found.append(f"{key} = {item!r}")
    return found


def strict(value: Any) -> str:
    """As JSON, without the numbers that it does not have."""
    return json.dumps(value, allow_nan=False)


async def _quiet_echo(session: WebTransportSession) -> None:
    """Until the session ends."""
    streams = asyncio.ensure_future(echo_bidirectional(session))
    with contextlib.suppress(SessionError):
        while True:
            await session.datagrams.send(await session.datagrams.receive())
    await streams


def test_every_shape_is_checked() -> None:
    assert sorted(MAKERS) == sorted(SHAPES)
    assert SURFACE


def test_missing_keys_are_noticed() -> None:
    shape = parse("{a, b: {c, d}, **more}")
    assert shape == {"a": {}, "b": {"c": {}, "d": {}}}
    assert missing(shape, {"a": 1, "b": {"c": 1}}) == ["b.d"]
    assert oddities({"a": True, "b": {"c": "1", "d": math.inf}, "x": 0}, shape) == [
        "a = True",
        "c = '1'",
        "d = inf",
    ]


@pytest.mark.parametrize("method", sorted(SHAPES))
async def test_returned_dictionary(
    method: str, serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(_quiet_echo) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        world = World(served, client, session)
        result = MAKERS[method](world)
        value = await result if inspect.isawaitable(result) else result
        shape = parse(SHAPES[method])
        assert missing(shape, value) == []
        assert oddities(value, shape) == []
        strict({key: item for key, item in value.items() if not isinstance(item, bytes)})


@pytest.mark.parametrize(
    "stats",
    [
        ClientStats(),
        DatagramStats(session_id="s", created_at=1.0),
        SessionStats(session_id="s", created_at=1.0),
    ],
    ids=lambda stats: type(stats).__name__,
)
def test_statistics_before_anything_happened(stats: Any) -> None:
    value = stats.to_dict()
    assert oddities(value, parse(SHAPES[f"{type(stats).__name__}.to_dict"])) == []
    strict(value)


async def test_same_statistics_everywhere(serving: Serving, client_config: ClientFactory) -> None:
    """``.stats``, ``get_session_stats()`` and debug states are what ``to_dict()`` gives."""
    async with serving(_quiet_echo) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        world = World(served, client, session)
        await _datagrams(world)
        stats = (await _streams(world))[""].stats
        for first, second in (
            (client.stats, client._stats.to_dict()),
            (client.debug_state()["statistics"], client.stats),
            (session.datagrams.stats, session.datagrams.refresh_stats().to_dict()),
            (session.datagrams.debug_state()["statistics"], session.datagrams.stats),
            (await session.get_session_stats(), session._stats.to_dict()),
            ((await session.debug_state())["statistics"], await session.get_session_stats()),
            (stats.to_dict(), stats.to_dict()),
        ):
            assert first.keys() == second.keys()
            moving = {"uptime"}  # the clock goes on between the two looks
            assert {k: v for k, v in first.items() if k not in moving} == {
                k: v for k, v in second.items() if k not in moving
            }
        summary = await session.get_summary()
        figures = await session.get_session_stats()
        assert summary["streams"]["total_created"] == figures["streams_created"] == 3
        assert summary["data"]["datagrams_sent"] == figures["datagrams_sent"] == 1
        assert summary["data"]["datagrams_received"] == figures["datagrams_received"] == 1
