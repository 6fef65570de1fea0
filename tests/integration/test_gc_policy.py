"""The garbage collector of servers: which have the policy, and what sessions leave behind."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any
from weakref import WeakSet

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.connection import WebTransportConnection
from pywebtransport.server._collector import collector
from pywebtransport.session import WebTransportSession
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.processes import ServerProcess
from tests.support.steps import until

PROGRAM = "tests.support.gc_process"


@pytest.fixture
def frozen_suite() -> Iterator[None]:
    """What the tests have frozen for their own sake is so again afterwards."""
    yield
    gc.collect()
    gc.freeze()


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("how", "fields", "frozen"),
    [
        ("run", {}, True),
        ("run", {"gc_policy": "server"}, True),
        ("run", {"gc_policy": "off"}, False),
        ("run", {"workers": 2}, True),
        ("run", {"workers": 2, "gc_policy": "off"}, False),
        ("run_workers", {"workers": 2}, True),
        ("serve", {}, False),
        ("serve", {"gc_policy": "server"}, True),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else str(value),
)
async def test_who_has_the_policy(
    certs: Certificates,
    client_config: ClientFactory,
    how: str,
    fields: dict[str, Any],
    frozen: bool,
) -> None:
    config = {"bind_host": "127.0.0.1", "bind_port": 0, **certs.server.files, **fields}
    process = ServerProcess("-m", PROGRAM, how, json.dumps(config))
    try:
        async with WebTransportClient(config=client_config()) as client:
            session = await client.connect(f"https://127.0.0.1:{process.port}/")
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"?")
            count = int(await stream.read_all())
        assert (count > 10_000) if frozen else (count == 0)
        if how == "run":
            await asyncio.to_thread(process.stop)
            process.assert_clean_end()
    finally:
        process.kill()


@pytest.mark.loops("asyncio")
@pytest.mark.usefixtures("frozen_suite")
async def test_sessions_that_end_while_they_are_frozen_leave_nothing(
    serving: Serving, client_config: ClientFactory
) -> None:
    """1,000 sessions of both ends with their connections, without the collector's help."""
    sessions: WeakSet[WebTransportSession] = WeakSet()
    connections: WeakSet[WebTransportConnection] = WeakSet()
    count, on_each = 1000, 50

    async def handler(session: WebTransportSession) -> None:
        stream = await anext(aiter(session.incoming_bidirectional_streams()))
        await stream.write_all(await stream.read_all())
        await session.wait_closed()

    async def use(client: WebTransportClient, url: str, count: int) -> list[WebTransportSession]:
        opened = []
        for _ in range(count):
            session = await client.connect(url)
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"x")
            assert await stream.read_all() == b"x"
            opened.append(session)
        return opened

    config = client_config()
    fields = {"gc_policy": "server", "access_log": False, "max_sessions": 2 * count}
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(handler, **fields))
        assert collector.is_active
        clients = [
            await stack.enter_async_context(WebTransportClient(config=config))
            for _ in range(count // on_each)
        ]
        for client in clients:  # whatever is made once for each
            for session in await use(client, served.url(), 1):
                await session.close()
        await until(lambda: not served.server.connections)
        gc.collect()
        gc.disable()
        try:
            gc.freeze()
            before = gc.get_freeze_count()
            opened: list[WebTransportSession] = []
            for start in range(0, len(clients), 5):
                some = clients[start : start + 5]
                for found in await asyncio.gather(
                    *(use(one, served.url(), on_each) for one in some)
                ):
                    opened += found
            assert len(served.server.sessions) == len(opened) == count
            for session in (*opened, *served.server.sessions):
                sessions.add(session)
                assert session.connection is not None
                connections.add(session.connection)
            gc.freeze()
            while_open = gc.get_freeze_count() - before
            assert while_open > 10 * count
            await asyncio.gather(*(session.close() for session in opened))
            opened.clear()
            found.clear()
            del session
            await until(lambda: not (served.server.sessions or served.server.connections))
            await until(lambda: not (sessions or connections))
            assert gc.get_freeze_count() - before < while_open / 100
        finally:
            gc.enable()
    assert not collector.is_active
