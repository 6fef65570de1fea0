"""What the library counts and watches goes on when an application silences an object's events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.client import PooledClient, ReconnectingClient
from pywebtransport.connection import ConnectionPool
from pywebtransport.events import EventEmitter
from pywebtransport.rpc import RpcManager
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StreamPool
from pywebtransport.types import EventType, SessionState
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
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
        emitter._watch(EventType.SESSION_CLOSED, heard.append)
    emitter._watch(EventType.SESSION_CLOSED, lambda event: heard.append(None))
    assert emitter.listener_count(EventType.SESSION_CLOSED) == 0
    emitter.on(EventType.SESSION_CLOSED, lambda event: None)
    emitter.remove_all_listeners()
    emitter.off(EventType.SESSION_CLOSED)
    emitter.pause()
    emitter._emit_nowait(EventType.SESSION_CLOSED, {"code": 1})
    assert len(heard) == 2
    emitter._unwatch(EventType.SESSION_CLOSED, heard.append)
    emitter._unwatch(EventType.SESSION_CLOSED, heard.append)
    await emitter.emit(EventType.SESSION_CLOSED)
    assert heard[2:] == [None]
    task = emitter.resume()
    assert task is not None
    await task
    assert len(heard) == 3
