"""Requests and answers over streams, pooled, counted, with errors as codes."""

from __future__ import annotations

import asyncio
import json

import pytest

from pywebtransport import (
    SessionState,
    StreamDirection,
    StreamError,
    StreamState,
    TimeoutError,
    WebTransportClient,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.constants import ErrorCodes
from pywebtransport.session import SessionManager, SessionStats
from pywebtransport.stream import StreamManager, StreamPool, StreamStats
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until


async def answer(stream: WebTransportStream) -> None:
    """One line of JSON for each line of JSON."""
    while line := await stream.readline():
        request = json.loads(line)
        if request["do"] == "fail":
            await stream.abort(code=ErrorCodes.APP_INVALID_REQUEST)
            return
        result = sum(request["numbers"])
        await stream.write(data=json.dumps({"result": result}) + "\n", wait_flush=True)
        if request["do"] == "last":
            break
    await stream.close()


async def service(session: WebTransportSession) -> None:
    async with asyncio.TaskGroup() as tasks:
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportStream):
                tasks.create_task(answer(stream))


async def ask(stream: WebTransportStream, do: str, *numbers: int) -> int:
    await stream.write(data=json.dumps({"do": do, "numbers": numbers}) + "\n")
    return int(json.loads(await stream.readline())["result"])


async def test_a_stream_for_each_request(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving({"/sum": service}) as served,
        WebTransportClient(config=client_config(read_timeout=20.0)) as client,
        await client.connect(url=served.url("/sum")) as session,
    ):
        await session.ready(timeout=20.0)
        assert session.is_ready
        assert session.state is SessionState.CONNECTED
        assert session.path == "/sum"
        async with await session.create_bidirectional_stream(timeout=20.0) as stream:
            await stream.initialize()
            assert stream.state is StreamState.OPEN
            assert stream.direction is StreamDirection.BIDIRECTIONAL
            assert stream.is_readable
            assert stream.is_writable
            assert await ask(stream, "add", 1, 2, 3) == 6
            assert await stream.diagnose_issues(latency_threshold=60.0) == []
            assert await ask(stream, "last", 7) == 7
            assert await stream.read_all() == b""
        with pytest.raises(StreamError):
            await stream.write(data=b"after the end")
        broken = await session.create_bidirectional_stream()
        with pytest.raises(StreamError) as caught:
            await ask(broken, "fail")
        assert caught.value.error_code == ErrorCodes.APP_INVALID_REQUEST
        assert caught.value.stream_id == broken.stream_id
        summary = await session.get_summary()
        assert summary["streams"]["bidirectional"] == 2
        assert summary["session_id"] == session.session_id
        assert (await session.get_session_stats())["streams_created"] == 2
        assert (await session.debug_state())["session"]["path"] == "/sum"
        assert isinstance(await session.diagnose_issues(), list)


async def test_a_client_that_leaves_is_no_error_of_the_service(
    serving: Serving, client_config: ClientFactory
) -> None:
    """The tasks of the handler fail with their session: nothing is logged as an error."""
    async with (
        serving({"/sum": service}) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        session = await client.connect(url=served.url("/sum"))
        for _ in range(2):
            assert await ask(await session.create_bidirectional_stream(), "add", 1) == 1
        await session.close(code=5, reason="enough")
        await until(lambda: not served.server.sessions)
    stats = await served.server.get_server_stats()
    assert stats["handler_errors"] == 0


async def test_other_errors_of_its_tasks_are_logged(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of /sum raised ExceptionGroup")
    async with (
        serving({"/sum": service}) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        session = await client.connect(url=served.url("/sum"))
        stream = await session.create_bidirectional_stream()
        await stream.write(data="this is no JSON\n")
        info = await session.wait_closed()
        assert (info.code, info.remote) == (1, True)


async def test_streams_from_a_pool(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving({"/sum": service}) as served,
        WebTransportClient(config=client_config()) as client,
        await client.connect(url=served.url("/sum")) as session,
        StreamPool.create(session=session, pool_size=2) as pool,
    ):
        first = await pool.get_stream(timeout=20.0)
        second = await pool.get_stream()
        answers = await asyncio.gather(ask(first, "add", 1, 2), ask(second, "add", 3))
        assert sum(answers) == 6
        with pytest.raises((TimeoutError, StreamError)):
            await pool.get_stream(timeout=0.01)
        await pool.return_stream(stream=first)
        third = await pool.get_stream()
        assert third is first
        assert await ask(third, "add", 40, 2) == 42
        await pool.return_stream(stream=third)
        await pool.return_stream(stream=second)
        await pool.close_all()
    async with StreamManager.create(session=session, max_streams=4) as manager:
        with pytest.raises(Exception, match="closed"):
            await manager.create_bidirectional_stream()


async def test_a_manager_knows_its_streams(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving({"/sum": service}) as served,
        WebTransportClient(config=client_config()) as client,
        await client.connect(url=served.url("/sum")) as session,
        StreamManager.create(session=session, max_streams=3) as manager,
    ):
        first = await manager.create_bidirectional_stream()
        one_way = await manager.create_unidirectional_stream()
        own = await session.create_bidirectional_stream()
        await manager.add_stream(stream=own)
        assert [stream async for stream in manager] == [first, one_way, own]
        assert await manager.get_all_streams() == [first, one_way, own]
        assert await manager.get_stream(stream_id=own.stream_id) is own
        stats = await manager.get_stats()
        assert (stats["active_streams"], stats["max_streams"]) == (3, 3)
        assert await manager.remove_stream(stream_id=own.stream_id) is own
        assert await manager.remove_stream(stream_id=own.stream_id) is None
        assert await ask(own, "add", 5) == 5
        assert await manager.cleanup_closed_streams() == 0
        await manager.close_all_streams()
        assert not first.is_writable
        await manager.shutdown()
        assert session.stream_manager is not None


async def test_statistics_of_streams_and_sessions(pair: PairOfSessions) -> None:
    async with pair() as (client, server):
        stream = await client.create_bidirectional_stream()
        await stream.write_all(data=b"x" * 1000, chunk_size=100)
        far = await anext(aiter(server.incoming_streams()))
        chunks = [chunk async for chunk in far.read_iter(chunk_size=400)]
        assert b"".join(chunks) == b"x" * 1000
        assert max(map(len, chunks)) <= 400
        sent, received = stream.stats, far.stats
        assert isinstance(sent, StreamStats)
        assert (sent.bytes_sent, received.bytes_received) == (1000, 1000)
        assert sent.avg_write_time >= 0 <= received.avg_read_time
        assert sent.uptime >= 0
        assert sent.to_dict()["bytes_sent"] == 1000
        stats = SessionStats(
            session_id=client.session_id, created_at=1.0, ready_at=2.0, streams_created=3
        )
        assert stats.active_streams == 3
        assert stats.uptime > 0
        assert stats.to_dict()["streams_created"] == 3


async def test_sessions_in_a_manager(pair: PairOfSessions) -> None:
    async with pair() as (client, server), SessionManager.create(max_sessions=2) as manager:
        session_id = await manager.add_session(session=client)
        assert session_id == client.session_id
        assert await manager.get_session(session_id=session_id) is client
        assert await manager.get_all_sessions() == [client]
        assert await manager.get_sessions_by_state(state=SessionState.CONNECTED) == [client]
        assert manager.get_session_count() == 1
        assert (await manager.get_stats())["active_sessions"] == 1
        assert await manager.cleanup_closed_sessions() == 0
        assert await manager.remove_session(session_id=session_id) is client
        await manager.add_session(session=client)
        await manager.close_all_sessions()
        assert client.is_closed
        assert manager.get_session_count() == 0
        assert (await server.wait_closed()).remote
        await manager.shutdown()


async def test_health_is_watched_while_the_session_lives(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        stream = await client.create_bidirectional_stream()
        assert client.connection is not None
        watching = [
            asyncio.create_task(client.monitor_health(check_interval=0.001)),
            asyncio.create_task(client.connection.monitor_health(check_interval=0.001)),
            asyncio.create_task(
                stream.monitor_health(check_interval=0.001, error_rate_threshold=0.5)
            ),
        ]
        await client.close(code=0, reason="", close_connection=True)
        async with asyncio.timeout(20):
            await asyncio.gather(*watching)
