"""The library still counts and watches when an application silences the events of an object."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from prometheus_client import generate_latest

from pywebtransport import ServerApp, WebTransportClient
from pywebtransport.client import ClientMonitor, PooledClient, ReconnectingClient
from pywebtransport.connection import ConnectionLoadBalancer, ConnectionManager, ConnectionPool
from pywebtransport.datagram import DatagramBroadcaster
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import StreamResetError
from pywebtransport.monitoring import Metrics
from pywebtransport.rpc import RpcManager
from pywebtransport.server import ServerMonitor, create_logging_middleware
from pywebtransport.session import SessionManager, WebTransportSession
from pywebtransport.stream import StreamManager, StreamPool
from pywebtransport.types import EventType, SessionState
from tests.support.endpoints import ClientFactory, PairOfSessions, ServerFactory, Serving
from tests.support.steps import until


def deafen(emitter: EventEmitter) -> None:
    emitter.remove_all_listeners()


def quieten(emitter: EventEmitter) -> None:
    emitter.pause()


SILENCE = pytest.mark.parametrize("silence", [deafen, quieten])
Silence = Callable[[EventEmitter], None]


@SILENCE
async def test_sessions_that_end_make_room_on_the_server(
    serving: Serving, client_config: ClientFactory, silence: Silence
) -> None:
    async with serving(max_sessions=1) as served:
        for _ in range(3):
            async with WebTransportClient(config=client_config()) as client:
                await client.connect(served.url())
                silence(served.server.sessions[0])
            await until(lambda: not served.server.sessions)


@SILENCE
async def test_reconnecting(
    serving: Serving, client_config: ClientFactory, silence: Silence
) -> None:
    config = client_config(retry_delay=0.01, max_retry_delay=0.02)
    async with serving() as served, ReconnectingClient(served.url(), config=config) as client:
        first = await client.get_session(wait_timeout=None)
        assert first is not None
        silence(first)
        await served.server.sessions[0].close(close_connection=False)
        await first.wait_closed()
        second = await client.get_session(wait_timeout=None)
        assert second is not None
        assert second is not first
        silence(second)
        served.server.sessions[0].drain()
        await until(lambda: second.state is not SessionState.CONNECTED)
        third = await client.get_session(wait_timeout=None)
        assert third is not None
        assert third is not second


@SILENCE
async def test_pooled_sessions_and_connections(
    serving: Serving, client_config: ClientFactory, silence: Silence
) -> None:
    async with serving() as served:
        async with PooledClient(config=client_config(), pool_size=1) as sessions:
            for _ in range(2):
                session = await sessions.get_session(served.url())
                silence(session)
                await session.close()
            assert sessions.get_stats()["active_sessions"] == 0
        config = client_config()
        async with ConnectionPool(max_size=1) as connections:
            for _ in range(2):
                connection = await connections.get_connection(
                    config=config, host="127.0.0.1", port=served.port
                )
                silence(connection)
                await connection.close()
            assert connections.get_stats()["total_active_connections"] == 0


@SILENCE
async def test_pooled_streams_and_remote_calls(pair: PairOfSessions, silence: Silence) -> None:
    async with pair() as (near, far):
        pool = StreamPool(near, pool_size=1)
        for _ in range(2):
            stream = await pool.get_stream(timeout=5)
            silence(stream)
            await stream.abort(1)
        running, ended = asyncio.Event(), asyncio.Event()

        async def method() -> None:
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with RpcManager(far) as callee, RpcManager(near) as caller:
            callee.register(method, name="method")
            await caller.notify("method")
            await running.wait()
            silence(far)
            await near.close()
            await ended.wait()


async def silence_all() -> int:
    """Take every listener of every emitter in this process, in all ways there are."""
    emitters = [one for one in gc.get_objects() if isinstance(one, EventEmitter)]
    for emitter in emitters:
        for event_type in EventType:
            emitter.off(event_type)
            emitter.remove_all_listeners(event_type)
        emitter.off_any()
        emitter.remove_all_listeners()
        emitter.set_max_listeners(1)
        emitter.clear_history()
    return len(emitters)


async def echo(session: WebTransportSession) -> None:
    async for stream in session.incoming_bidirectional_streams():
        with contextlib.suppress(StreamResetError):
            await stream.write_all(await stream.read_all())


async def ask(session: WebTransportSession) -> None:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(b"x")
    assert await stream.read_all() == b"x"


async def test_bookkeeping_needs_no_listener_of_anything(
    serving: Serving,
    server_config: ServerFactory,
    client_config: ClientFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Pools, managers, balancers, statistics, monitors, middleware: all listeners are gone."""
    caplog.set_level(logging.INFO, logger="pywebtransport.sessions")
    app = ServerApp(config=server_config(access_log=False))
    app.add_middleware(create_logging_middleware())
    app.route("/")(echo)
    config = client_config(retry_delay=0.01, max_retry_delay=0.02)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        served = await enter(serving(app))
        server = served.server
        client = await enter(WebTransportClient(config=config))
        metrics = Metrics(server, client)
        pooled = await enter(PooledClient(config=config, pool_size=2))
        connections = await enter(ConnectionPool(max_size=2))
        balancer = await enter(ConnectionLoadBalancer([("127.0.0.1", served.port)]))
        by_id = await enter(ConnectionManager())
        reconnecting = await enter(ReconnectingClient(served.url(), config=config))
        watch = await enter(ServerMonitor(server))
        watched = await enter(ClientMonitor(client))

        session = await client.connect(served.url())
        streams = StreamManager(session)
        pool = StreamPool(session, pool_size=2)
        sessions = SessionManager()
        await sessions.add_session(session)
        broadcaster = DatagramBroadcaster()
        await broadcaster.add_transport(session.datagrams)
        assert session.connection is not None
        await by_id.add_connection(session.connection)
        lent = await pooled.get_session(served.url())
        connection = await connections.get_connection(
            config=config, host="127.0.0.1", port=served.port
        )
        balanced = await balancer.get_connection(config=config)
        first = await reconnecting.get_session(wait_timeout=None)
        assert first is not None
        one = await streams.create_bidirectional_stream()
        other = await pool.get_stream(timeout=5)
        assert len(server.sessions) >= 3

        assert await silence_all() > 10

        await one.abort(1)
        await other.abort(1)
        await until(lambda: one.is_closed)
        assert (await streams.get_stats())["total_closed"] == 1
        await ask(session)
        for _ in range(2):  # both places are free
            assert await pool.get_stream(timeout=5) is not other
        await first.close(close_connection=False)
        again = await reconnecting.get_session(wait_timeout=None)
        assert again is not None
        assert again is not first
        await lent.close()
        await connection.close()
        await balanced.close()
        assert pooled.get_stats()["active_sessions"] == 0
        assert connections.get_stats()["total_active_connections"] == 0
        assert not any(one["connected"] for one in (await balancer.get_target_stats()).values())
        await session.close()
        assert sessions.get_session_count() == 0
        assert (await by_id.get_stats())["active"] == 0
        assert await broadcaster.get_transport_count() == 0
        await until(lambda: len(server.sessions) == 1)
        stats = await server.get_server_stats()
        assert stats["active_sessions"] == 1
        assert stats["sessions_accepted"] >= 4
        assert client.stats["connections"]["successful"] == 1
        assert watch.take_sample()["stats"]["active_sessions"] == 1
        assert watched.take_sample()["stats"]["active_sessions"] == 0
        scraped = generate_latest(metrics.registry)
        assert b'webtransport_sessions{side="server"} 1.0' in scraped
        ends = [text for text in caplog.messages if " ended " in text]
        assert len(ends) >= 2


async def test_a_limit_of_listeners_is_that_of_the_application(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def handler(session: WebTransportSession) -> None:
        session.set_max_listeners(1)
        session.on(EventType.SESSION_CLOSED, lambda event: None)

    async with serving(handler) as served, PooledClient(config=client_config()) as pool:
        session = await pool.get_session(served.url())
        session.set_max_listeners(1)
        session.on(EventType.SESSION_CLOSED, lambda event: None)
        StreamPool(session)
        assert session.listener_count(EventType.SESSION_CLOSED) == 1


async def test_the_library_hears_whatever_the_application_does() -> None:
    """What it watches is out of reach of callers, and no part of what they see."""
    emitter = EventEmitter(max_listeners=1)
    heard: list[Any] = []
    for _ in range(2):
        emitter.add_watcher(EventType.SESSION_CLOSED, heard.append)
    emitter.add_watcher(EventType.SESSION_CLOSED, lambda event: heard.append(None))
    assert emitter.listener_count(EventType.SESSION_CLOSED) == 0
    emitter.on(EventType.SESSION_CLOSED, lambda event: None)
    emitter.remove_all_listeners()
    emitter.off(EventType.SESSION_CLOSED)
    emitter.pause()
    emitter._emit_nowait(EventType.SESSION_CLOSED, {"code": 1})
    assert len(heard) == 2
    emitter.remove_watcher(EventType.SESSION_CLOSED, heard.append)
    emitter.remove_watcher(EventType.SESSION_CLOSED, heard.append)
    await emitter.emit(EventType.SESSION_CLOSED)
    assert heard[2:] == [None]
    task = emitter.resume()
    assert task is not None
    await task
    assert len(heard) == 3
