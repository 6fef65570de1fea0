"""The dictionaries that methods return have the promised keys, from objects that are in use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport import EventEmitter, WebTransportClient, WebTransportSession
from pywebtransport.client import ClientMonitor
from pywebtransport.connection import ConnectionLoadBalancer, ConnectionManager, ConnectionPool
from pywebtransport.datagram import DatagramMessage, DatagramQueue
from pywebtransport.server import ServerMonitor, WebTransportServer
from pywebtransport.session import SessionManager
from pywebtransport.stream import StreamManager
from tests.support.endpoints import ClientFactory, Served, Serving

from .test_contract import SURFACE, classes

SHAPES = {
    f"{name}.{method}": shape
    for _, name, described in classes()
    for method, shape in described.get("keys", {}).items()
}


class World:
    """A server, a client, a session between them, all of them used a little."""

    def __init__(
        self, served: Served, client: WebTransportClient, session: WebTransportSession
    ) -> None:
        self.served = served
        self.client = client
        self.session = session

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


MAKERS: dict[str, Callable[[World], dict[str, Any] | Awaitable[dict[str, Any]]]] = {
    "ClientMonitor.get_metrics_summary": _client_monitor,
    "ConnectionLoadBalancer.get_load_balancer_stats": _load_balancer,
    "ConnectionManager.get_stats": _connection_manager,
    "ConnectionPool.get_stats": _connection_pool,
    "DatagramQueue.get_stats": _queue,
    "EventEmitter.get_stats": lambda _: EventEmitter().get_stats(),
    "RequestRouter.get_route_stats": lambda world: world.served.app.router.get_route_stats(),
    "ServerMonitor.get_health_status": _server_monitor,
    "SessionManager.get_stats": _session_manager,
    "StreamManager.get_stats": _stream_manager,
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


def test_every_shape_is_checked() -> None:
    assert sorted(MAKERS) == sorted(SHAPES)
    assert SURFACE


def test_missing_keys_are_noticed() -> None:
    shape = parse("{a, b: {c, d}, **more}")
    assert shape == {"a": {}, "b": {"c": {}, "d": {}}}
    assert missing(shape, {"a": 1, "b": {"c": 1}}) == ["b.d"]


@pytest.mark.parametrize("method", sorted(SHAPES))
async def test_returned_dictionary(
    method: str, serving: Serving, client_config: ClientFactory
) -> None:
    async def echo(session: WebTransportSession) -> None:
        while True:
            await session.datagrams.send(await session.datagrams.receive())

    async with serving(echo) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        result = MAKERS[method](World(served, client, session))
        value = await result if inspect.isawaitable(result) else result
        assert missing(parse(SHAPES[method]), value) == []
