"""Graceful ends: GOAWAY, draining, closing with a code, and nothing lost that was acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport import ConnectionState, SessionState, WebTransportClient
from pywebtransport.exceptions import (
    ClientError,
    ConnectionError,
    SessionClosedError,
    SessionRejectedError,
)
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType, SessionCloseInfo
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.payload import payload
from tests.support.steps import round_trip, take_unidirectional, until


async def test_server_drains_then_closes(serving: Serving, client_config: ClientFactory) -> None:
    """Told at once, sessions may finish their work; the server ends when the last one has."""
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        connection = session.connection
        assert connection is not None
        far = served.server.sessions[0]
        draining = asyncio.create_task(session.wait_for(EventType.SESSION_DRAINING))
        await asyncio.sleep(0)
        closing = asyncio.create_task(served.server.close(drain_timeout=1000))
        await draining
        assert session.state is SessionState.DRAINING
        assert not served.server.is_serving
        await until(lambda: connection.state is ConnectionState.DRAINING)
        with pytest.raises(ClientError, match="GOAWAY"):
            await connection.create_session("/too-late")
        await round_trip(session, far, b"work goes on")
        assert not closing.done()
        await session.close(code=6)
        await closing
        assert await far.wait_closed() == SessionCloseInfo(6, "", True)


async def test_sessions_that_do_not_end_in_time_are_closed(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        sessions = [await client.connect(served.url()) for _ in range(3)]
        await served.server.close(drain_timeout=0.05)
        for session in sessions:
            assert await session.wait_closed() == SessionCloseInfo(0, "server shutdown", True)


async def test_closing_without_draining(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        await served.server.close(drain_timeout=0)
        assert (await session.wait_closed()).code == 0
        with pytest.raises(ConnectionError):
            await client.connect(served.url(), timeout=5)
        # Again, and at once, is harmless.
        await asyncio.gather(served.server.close(), served.server.close())
        await served.server.wait_closed()


async def test_requests_during_the_drain_are_refused(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that crosses the GOAWAY, or comes on another connection, is not served."""
    async with (
        serving() as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
        WebTransportClient(config=client_config()) as other,
    ):
        session = await client.connect(served.url())
        closing = asyncio.create_task(served.server.close(drain_timeout=1000))
        await asyncio.sleep(0)
        crossing = asyncio.create_task(client.connect(served.url("/crossing"), timeout=5))
        with pytest.raises((ClientError, ConnectionError, SessionRejectedError)):
            await crossing
        with pytest.raises(ConnectionError):
            await other.connect(served.url(), timeout=5)
        await session.close()
        await client.close()
        await closing
    assert "max_sessions" not in caplog.text


async def test_handlers_are_cancelled_at_the_end_and_may_clean_up(
    serving: Serving, client_config: ClientFactory
) -> None:
    cleaned: list[str] = []

    async def handler(session: WebTransportSession) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(session.path)

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        for number in range(3):
            await client.connect(served.url(f"/{number}"))
        await until(lambda: len(served.server._tasks) == 3)
        await served.server.close(drain_timeout=0)
        assert sorted(cleaned) == ["/0", "/1", "/2"]


@pytest.mark.parametrize("closer", ["client", "server"])
async def test_what_was_acknowledged_can_be_read_after_the_end(
    pair: PairOfSessions, closer: str
) -> None:
    """The other end did not read anything before the session was closed."""
    data = [payload(100_000, number) for number in range(6)]
    async with pair() as (client, server):
        near, far = (client, server) if closer == "client" else (server, client)
        for item in data:
            stream = await near.create_unidirectional_stream()
            await stream.write_all(item)
            await stream.wait_acknowledged()
        await near.close(code=1)
        await far.wait_closed()
        received = [
            await stream.read_all() async for stream in far.incoming_unidirectional_streams()
        ]
        assert received == data


@pytest.mark.parametrize("closer", ["client", "server"])
async def test_closing_waits_for_what_was_finished(pair: PairOfSessions, closer: str) -> None:
    """``close`` right after ``write_all``, with a reader that reads as it goes."""
    data = payload(5 * 1024 * 1024)
    async with pair() as (client, server):
        near, far = (client, server) if closer == "client" else (server, client)
        stream = await near.create_unidirectional_stream()
        reading = asyncio.create_task(read_one(far))
        await stream.write_all(data)
        await near.close(code=2)
        assert await reading == data
        assert (await far.wait_closed()).code == 2


async def read_one(session: WebTransportSession) -> bytes:
    """All of the next unidirectional stream."""
    return await (await take_unidirectional(session)).read_all()


@pytest.mark.loops("virtual")
async def test_closing_does_not_wait_longer_than_its_timeout(pair: PairOfSessions) -> None:
    """The peer never reads: what is not acknowledged is given up."""
    async with pair(client={"close_timeout": 0.05}) as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write(payload(4 * 1024 * 1024), end_stream=True, wait_flush=False)
        await near.close(code=3)
        assert (await far.wait_closed()).code == 3
        incoming = await take_unidirectional(far)
        with pytest.raises(SessionClosedError):
            await incoming.read_all()


async def test_unfinished_streams_are_reset_by_the_close(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"unfinished")
        async for other in far.incoming_bidirectional_streams():
            assert await other.readexactly(10) == b"unfinished"
            break
        await near.close(code=4)
        for end in (stream, other):
            with pytest.raises(SessionClosedError):
                await end.read()
            with pytest.raises(SessionClosedError):
                await end.write(b"x")
            assert end.is_closed


async def test_connection_close_carries_code_and_reason_to_every_session(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far):
        assert near.connection is not None
        assert far.connection is not None
        connection = near.connection
        second = await connection.create_session("/second")
        await second.ready()
        other = next(session for session in far.connection.sessions if session is not far)
        await connection.close(code=55, reason="all of it")
        for session in (far, other):
            assert await session.wait_closed() == SessionCloseInfo(55, "all of it", True)
        assert connection.state is ConnectionState.CLOSED
        await connection.close()


async def test_client_closes_everything_it_opened(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        client = WebTransportClient(config=client_config())
        sessions = [await client.connect(served.url()) for _ in range(3)]
        far = list(served.server.sessions)
        await client.close()
        assert all(session.is_closed for session in sessions)
        for session in far:
            assert await session.wait_closed() == SessionCloseInfo(0, "", True)
        await until(lambda: not served.server.connections)


async def test_server_closed_by_its_own_handler(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def handler(session: WebTransportSession) -> None:
        await served.server.close(drain_timeout=0)

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        await session.wait_closed()
        await served.server.wait_closed()
        assert not served.server.is_serving


async def test_vanished_client_does_not_hold_the_server_up(
    serving: Serving, client_config: ClientFactory
) -> None:
    """The client's process dies: no packet says so."""
    async with (
        serving(close_timeout=0.1) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        session = await client.connect(served.url())
        far = served.server.sessions[0]
        stream = await far.create_unidirectional_stream()
        await stream.write_all(payload(1000))
        assert session.connection is not None
        quic = session.connection._quic
        assert quic is not None
        quic.abandon()
        await served.server.close(drain_timeout=0)
        assert (await far.wait_closed()).code == 0


async def test_waiting_for_an_end_that_is_under_way(
    serving: Serving, client_config: ClientFactory
) -> None:
    """A second call of ``close`` waits for the first."""
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        stream = await session.create_unidirectional_stream()
        await stream.write_all(payload(500_000))
        assert session.connection is not None
        connection = session.connection
        await asyncio.gather(session.close(code=1), session.close(code=2), connection.close(code=3))
        assert session.close_info is not None
        assert session.close_info.code == 1
        assert connection.is_closed
        again = await client.connect(served.url())
        closing = [asyncio.create_task(served.server.close(drain_timeout=0.01)) for _ in range(2)]
        await asyncio.gather(*closing)
        assert (await again.wait_closed()).code == 0
