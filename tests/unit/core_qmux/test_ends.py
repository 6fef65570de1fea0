"""Ends that nobody asked for: cancellation, silence, lost peers, memory, and what stays behind."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from pywebtransport import WebTransportSession
from pywebtransport.exceptions import (
    IdleTimeoutError,
    SessionClosedError,
    StreamError,
    WebTransportError,
)
from pywebtransport.types import ConnectionState
from tests.support.steps import cancelled_at

from .bed import Bed

pytestmark = pytest.mark.loops("virtual")


async def stay(session: WebTransportSession) -> None:
    await session.accept()
    await session.wait_closed()


async def test_silence_ends_the_connection() -> None:
    async with Bed(stay, {"connection_idle_timeout": 5, "keep_alive": False}) as bed:
        connection, link = await bed.dial(connection_idle_timeout=5, keep_alive=False)
        session = await connection.create_session("/")
        await session.ready()
        link.peer = None  # nothing arrives any more
        info = await session.wait_closed()
        assert info.code is None
        assert isinstance(connection.error, IdleTimeoutError)
        assert connection.state is ConnectionState.FAILED
        await bed.connections[0].wait_closed()


async def test_pings_keep_a_connection_open() -> None:
    async with Bed(stay, {"connection_idle_timeout": 5, "keep_alive": False}) as bed:
        connection, _ = await bed.dial(connection_idle_timeout=5, keep_alive=True)
        session = await connection.create_session("/")
        await session.ready()
        await asyncio.sleep(20)
        assert session.is_ready
        await connection.close()


async def test_a_peer_that_sends_no_parameters_is_given_up() -> None:
    async with Bed(stay, {"handshake_timeout": 3}) as bed:
        connection, link = await bed.dial()
        session = await connection.create_session("/")
        link.is_stuck = True
        await session.ready()  # ours have arrived
        with pytest.raises(SessionClosedError):
            await bed.sessions[0].create_bidirectional_stream(timeout=10)
        info = await bed.sessions[0].wait_closed()
        assert info.code is None
        link.unblock()
        await connection.close()


@pytest.mark.parametrize("where", range(12))
async def test_cancellation_at_any_await_leaves_nothing(where: int) -> None:
    async def use(bed: Bed) -> None:
        connection, _ = await bed.dial()
        try:
            session = await connection.create_session("/")
            await session.ready()
            stream = await session.create_bidirectional_stream()
            await stream.write(bytes(300_000), end_stream=True)
            await stream.read_all()
            await session.datagrams.send(b"x")
            await session.datagrams.receive()
            await session.close(code=1)
        finally:
            await connection.close()

    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        async for stream in session.incoming_bidirectional_streams():
            await stream.write((await stream.read_all())[:10], end_stream=True)
            await session.datagrams.send(await session.datagrams.receive())

    async with Bed(handler) as bed:
        with suppress(SessionClosedError):
            await cancelled_at(lambda: use(bed), where)
        for connection in bed.connections:
            await connection.wait_closed()
        bed.failures = [e for e in bed.failures if not isinstance(e, WebTransportError)]


async def test_a_connection_that_is_lost_fails_what_waits() -> None:
    async with Bed(stay) as bed:
        connection, link = await bed.dial()
        session = await connection.create_session("/")
        await session.ready()
        stream = await session.create_bidirectional_stream()
        await stream.write(b"x")
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(stream.read()),
            asyncio.ensure_future(session.datagrams.receive()),
            asyncio.ensure_future(session.wait_draining()),
        ]
        await asyncio.sleep(0)
        link.cut(OSError("broken pipe"))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], SessionClosedError | StreamError)
        assert isinstance(results[1], SessionClosedError)
        assert results[2] is False
        await connection.wait_closed()


async def test_messages_beyond_the_memory_of_a_session_are_refused() -> None:
    limits = {"max_session_memory": 64 * 1024, "max_connection_memory": 128 * 1024}
    async with Bed(stay, limits) as bed, bed.session() as session:
        for _ in range(40):
            await session.datagrams.send(bytes(8000))
        await asyncio.sleep(0.1)
        (far,) = bed.sessions
        assert far.memory_budget.used <= 64 * 1024
        assert far.datagrams.stats["receive_drops"] > 0
        assert far.is_ready


@pytest.mark.parametrize("who", ["client", "server", "lost"])
async def test_nothing_is_left_for_the_garbage_collector(who: str) -> None:
    async def once() -> list[weakref.ref[Any]]:
        async with Bed(stay) as bed:
            connection, link = await bed.dial()
            session = await connection.create_session("/")
            await session.ready()
            stream = await session.create_bidirectional_stream()
            await stream.write(b"x", end_stream=True)
            far, far_session = bed.connections[0], bed.sessions[0]

            async def lose() -> None:
                link.cut()

            ends: dict[str, Callable[[], Awaitable[object]]] = {
                "client": lambda: session.close(code=1),
                "server": lambda: far_session.close(code=1),
                "lost": lose,
            }
            await ends[who]()
            for one in (connection, far):
                await one.wait_closed()
            objects: list[object] = [connection, far, session, far_session, stream]
            objects += [connection._quic, far._quic, connection.layer, far.layer, link, link.far]
            return [weakref.ref(one) for one in objects if hasattr(type(one), "__weakref__")]

    gc.collect()
    gc.disable()
    try:
        references = await once()
        await asyncio.sleep(0)
        left = [found for one in references if (found := one()) is not None]
        assert left == []
    finally:
        gc.enable()
