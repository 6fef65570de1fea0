"""Limits on open streams: which limit applies, which calls wait, and which fail at once."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import (
    ConfigurationError,
    StreamError,
    StreamLimitError,
    TimeoutError,
)
from pywebtransport.server import echo_handler
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import take, take_unidirectional


async def test_opening_waits_for_the_peers_limit(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_bidi": 2, "initial_max_streams_uni": 2}) as (
        near,
        far,
    ):
        held = [await near.create_bidirectional_stream() for _ in range(2)]
        for create in (near.create_bidirectional_stream, near.create_unidirectional_stream):
            if create == near.create_unidirectional_stream:
                held_uni = [await create() for _ in range(2)]
            with pytest.raises(TimeoutError, match=r"0\.02 s") as caught:
                await create(timeout=0.02)
            assert caught.value.timeout_duration == 0.02
        waiting = asyncio.create_task(near.create_bidirectional_stream())
        waiting_uni = asyncio.create_task(near.create_unidirectional_stream())
        await held[0].write_all(b"done")
        other = await take(far)
        assert await other.read_all() == b"done"
        await other.close()
        assert await held[0].read_all() == b""
        assert (await waiting).is_writable
        await held_uni[0].write_all(b"done")
        assert await (await take_unidirectional(far)).read_all() == b"done"
        assert (await waiting_uni).is_writable


async def test_own_limit_on_open_streams(pair: PairOfSessions) -> None:
    async with pair(client={"max_streams": 3}) as (near, far):
        held = [await near.create_unidirectional_stream() for _ in range(3)]
        # At once, unless a timeout is asked for: only this end itself can make room.
        with pytest.raises(
            StreamLimitError, match=r"stream limit.*local limit max_streams=3"
        ) as own:
            await near.create_unidirectional_stream()
        assert own.value.timeout_duration is None
        with pytest.raises(TimeoutError, match="local limit max_streams=3"):
            await near.create_unidirectional_stream(timeout=0.02)
        waiting = [
            asyncio.create_task(near.create_unidirectional_stream(timeout=20)) for _ in range(2)
        ]
        for stream in held[:2]:
            await stream.write_all(b"")
            assert await (await take_unidirectional(far)).read_all() == b""
        await asyncio.gather(*waiting)


async def test_sessions_that_share_a_connection_have_a_limit_each(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(max_streams=2, allow_pooling=True, stream_creation_timeout=0.02)
    async with serving(echo_handler) as served, WebTransportClient(config=config) as client:
        sessions = [await client.connect(served.url()) for _ in range(2)]
        assert sessions[0].connection is sessions[1].connection
        for session in sessions:
            for _ in range(2):
                await session.create_bidirectional_stream()
            with pytest.raises(TimeoutError, match="local limit max_streams=2"):
                await session.create_bidirectional_stream()


async def test_a_session_takes_a_limit_of_its_own(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(echo_handler) as served:
        connection = await WebTransportConnection.create_client(
            config=client_config(), host=served.host, port=served.port
        )
        async with connection:
            session_id = await connection.wait_for_ready_session()
            with pytest.raises(ConfigurationError, match="max_streams"):
                WebTransportSession(connection, session_id=session_id, max_streams=0)
            session = WebTransportSession(connection, session_id=session_id, max_streams=1)
            stream = await session.create_bidirectional_stream()
            with pytest.raises(TimeoutError, match="local limit max_streams=1"):
                await session.create_unidirectional_stream(timeout=0.02)
            waiting = asyncio.create_task(session.create_bidirectional_stream(timeout=20))
            await stream.write_all(b"done")
            assert await stream.read_all() == b"done"
            assert (await waiting).is_writable


async def test_the_limit_of_a_server_is_one_for_all_sessions_of_a_connection(
    serving: Serving, client_config: ClientFactory
) -> None:
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    async def keep(session: WebTransportSession) -> None:
        sessions.put_nowait(session)

    async with (
        serving(keep, max_streams_per_connection=2) as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        for _ in range(2):
            await client.connect(served.url())
        first, second = await sessions.get(), await sessions.get()
        await first.create_unidirectional_stream()
        await second.create_unidirectional_stream()
        for session in (first, second):
            with pytest.raises(TimeoutError, match="local limit max_streams_per_connection=2"):
                await session.create_unidirectional_stream(timeout=0.02)


async def test_the_limit_of_the_peer_is_named_as_the_cause(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_uni": 1}) as (near, _):
        await near.create_unidirectional_stream()
        with pytest.raises(TimeoutError, match="the peer allows no more unidirectional"):
            await near.create_unidirectional_stream(timeout=0.02)
        near._config.stream_creation_timeout = 0.02
        with pytest.raises(StreamError, match=r"stream limit.*the peer .* within 0\.02 s"):
            await near.create_unidirectional_stream()


async def test_waiting_openers_are_served_in_turn(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_uni": 1}) as (near, far):
        order: list[int] = []

        async def use(number: int) -> None:
            stream = await near.create_unidirectional_stream()
            order.append(number)
            await stream.write_all(bytes([number]))

        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(use(number))
            for number in range(6):
                assert await (await take_unidirectional(far)).read_all() == bytes([number])
        assert order == list(range(6))
