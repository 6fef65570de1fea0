"""The end of a server: when clients are told, who may still connect, and what is not waited for.

Where nobody is waited for, the limits that would end the wait are far beyond that of a test.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.client import ReconnectingClient
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.server import WebTransportServer
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType, SessionCloseInfo
from tests.support.endpoints import ClientFactory, Serving
from tests.support.steps import round_trip, until

LONG = 1000.0


def vanish(session: WebTransportSession) -> None:
    """This end is gone, without a word."""
    assert session.connection is not None
    assert session.connection._endpoint is not None
    session.connection._endpoint.close()


def half_open(server: WebTransportServer) -> int:
    assert server._endpoint is not None
    return server._endpoint.quic.stats()["half_open"]


@pytest.mark.loops("virtual")
@pytest.mark.parametrize("drain_timeout", [0.0, LONG])
async def test_server_does_not_wait_for_a_client_that_vanished(
    serving: Serving, client_config: ClientFactory, drain_timeout: float
) -> None:
    async with (
        serving(close_timeout=LONG) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        vanish(await client.connect(served.url()))
        await served.server.close(drain_timeout=drain_timeout)


async def test_client_does_not_wait_for_a_server_that_vanished(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        client = WebTransportClient(config=client_config(close_timeout=LONG))
        session = await client.connect(served.url())
        assert served.server._endpoint is not None
        served.server._endpoint.close()
        await session.close()
        await client.close()


async def test_unfinished_streams_of_a_client_that_vanished_hold_nobody(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(close_timeout=LONG) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        session = await client.connect(served.url())
        far = served.server.sessions[0]
        vanish(session)
        stream = await far.create_unidirectional_stream()
        await stream.write_all(bytes(1000))
        await served.server.close(drain_timeout=0)


@pytest.mark.loops("virtual")
async def test_server_waits_for_those_who_are_there(
    serving: Serving, client_config: ClientFactory
) -> None:
    """However many are not."""
    async with (
        serving(close_timeout=LONG) as served,
        WebTransportClient(config=client_config()) as gone,
        WebTransportClient(config=client_config(connection_keepalive_timeout=0.2)) as client,
    ):
        for _ in range(3):
            lost = await gone.connect(served.url())
        session = await client.connect(served.url("/here"))
        far = next(item for item in served.server.sessions if item.path == "/here")
        vanish(lost)
        closing = asyncio.create_task(served.server.close(drain_timeout=LONG))
        # Long enough to give those up that answer nothing: that is what is tested here.
        await asyncio.sleep(2.5)
        await round_trip(session, far, b"still here")
        assert not closing.done()
        await session.close()
        await closing


async def test_clients_are_told_over_the_time_that_is_given(
    serving: Serving, client_config: ClientFactory
) -> None:
    """And closed over the same time: each has its own ``drain_timeout``."""
    loop = asyncio.get_running_loop()
    told: list[float] = []
    closed: list[float] = []

    async def watch(session: WebTransportSession) -> None:
        await session.wait_for(EventType.SESSION_DRAINING)
        told.append(loop.time())
        assert await session.wait_closed() == SessionCloseInfo(0, "server shutdown", True)
        closed.append(loop.time())

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        sessions = [await client.connect(served.url()) for _ in range(5)]
        # Those that have just come would be told when they have had time to ask for a session.
        tasks = [asyncio.create_task(watch(session)) for session in sessions]
        await asyncio.sleep(0)
        start = loop.time()
        await served.server.close(drain_timeout=0.3, spread=1.0)
        await asyncio.gather(*tasks)
    # One in each fifth of the time, not before: a slow machine only makes it later.
    for number, moment in enumerate(told):
        assert moment - start >= 0.2 * number - 0.01
    for number, moment in enumerate(closed):
        assert moment - start >= 0.2 * number + 0.3 - 0.01


async def test_batches_of_many_clients(serving: Serving, client_config: ClientFactory) -> None:
    """More than are told in one turn."""
    config = client_config(max_connections=400)
    async with serving() as served, WebTransportClient(config=config) as client:
        sessions: list[WebTransportSession] = []
        for _ in range(5):
            sessions += await asyncio.gather(*(client.connect(served.url()) for _ in range(50)))
        await served.server.close(drain_timeout=0.1, spread=0.1)
        for session in sessions:
            assert await session.wait_closed() == SessionCloseInfo(0, "server shutdown", True)


async def test_client_that_has_just_come_gets_its_session(
    serving: Serving, client_config: ClientFactory
) -> None:
    """It completed its handshake before it could hear that the server closes."""
    async with serving() as served:
        connection = WebTransportConnection(config=client_config())
        await connection.establish(served.host, served.port)
        async with WebTransportClient(config=client_config()) as client:
            other = await client.connect(served.url("/other"))
            closing = asyncio.create_task(served.server.close(drain_timeout=LONG))
            await other.wait_for(EventType.SESSION_DRAINING)
            session = await connection.create_session("/")
            await session.ready()
            await until(lambda: session.state == "draining")
            far = next(item for item in served.server.sessions if item.path == "/")
            await round_trip(session, far, b"served all the same")
            await session.close()
            await other.close()
            await closing
        await connection.close()


async def test_client_whose_handshake_is_under_way_gets_its_session(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        connecting = asyncio.create_task(client.connect(served.url()))  # type: ignore[arg-type]
        # Each turn counts: the handshake has only a few.
        while not half_open(served.server):  # noqa: ASYNC110 # no event tells of it
            await asyncio.sleep(0)
        closing = asyncio.create_task(served.server.close(drain_timeout=LONG))
        session = await connecting
        await until(lambda: session.state == "draining")
        await session.close()
        await closing


async def test_client_that_asks_for_nothing_is_not_waited_for(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        connection = WebTransportConnection(config=client_config())
        await connection.establish(served.host, served.port)
        await served.server.close(drain_timeout=LONG)
        await connection.wait_closed()


async def test_clients_move_as_soon_as_their_session_drains(
    serving: Serving, client_config: ClientFactory
) -> None:
    """The old session ends by itself."""
    async with serving() as served:
        far: list[WebTransportSession] = []
        config = client_config(retry_delay=0.01)
        async with ReconnectingClient(served.url(), config=config) as client:
            old = await client.get_session()
            assert old is not None
            far.append(served.server.sessions[0])
            moved = asyncio.create_task(client.wait_for(EventType.SESSION_DRAINING))
            await asyncio.sleep(0)
            # As a server that drains tells it, one connection of many.
            far[0]._connection._driver.layer.send_goaway()  # type: ignore[union-attr]
            await moved
            new = await client.get_session()
            assert new is not None
            assert new is not old
            assert new.connection is not old.connection
            await round_trip(old, far[0], b"the last of the old one")
            await old.close()


@pytest.mark.parametrize("name", ["drain_timeout", "spread"])
@pytest.mark.parametrize("value", [-1, float("nan"), "soon", True.__class__])
async def test_wrong_times_are_refused_before_anything_closes(
    serving: Serving, client_config: ClientFactory, name: str, value: Any
) -> None:
    async with serving() as served:
        for close in (served.server.close, served.app.shutdown):
            with pytest.raises(ConfigurationError, match=name) as caught:
                await close(**{name: value})
            assert caught.value.config_key == name
        assert served.server.is_serving
