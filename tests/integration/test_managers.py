"""Managers of connections, sessions and streams; those of a server and of a session."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from pywebtransport import (
    ConnectionState,
    SessionState,
    StreamDirection,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.connection import ConnectionManager, WebTransportConnection
from pywebtransport.exceptions import (
    ConfigurationError,
    ConnectionError,
    SessionClosedError,
    SessionError,
    StreamError,
    StreamLimitError,
    TimeoutError,
)
from pywebtransport.session import SessionManager
from pywebtransport.stream import StreamManager
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.pooling import open_session
from tests.support.steps import take, take_unidirectional, until
from tests.support.timers import Timers


async def connections(
    stack: AsyncExitStack, serving: Serving, client_config: ClientFactory, count: int
) -> list[WebTransportConnection]:
    """Connections to one server, with a session each."""
    served = await stack.enter_async_context(serving())
    made = []
    for _ in range(count):
        connection = await WebTransportConnection.create_client(
            config=client_config(), host=served.host, port=served.port
        )
        made.append(await stack.enter_async_context(connection))
        await open_session(connection)
    return made


async def sessions(
    stack: AsyncExitStack, serving: Serving, client_config: ClientFactory, count: int
) -> list[WebTransportSession]:
    """Sessions of one client."""
    served = await stack.enter_async_context(serving())
    client = await stack.enter_async_context(WebTransportClient(config=client_config()))
    return [await client.connect(served.url(f"/{number}")) for number in range(count)]


# ------------------------------------------------------------------- connections


async def test_connection_manager_drops_closed_connections_at_once(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await connections(stack, serving, client_config, 2)
        async with ConnectionManager.create(max_connections=5) as manager:
            assert await manager.add_connection(connection=first) == first.connection_id
            await manager.add_connection(second)
            await manager.add_connection(second)  # again: nothing changes
            assert await manager.get_stats() == {
                "total_created": 2,
                "total_closed": 0,
                "current_count": 2,
                "max_concurrent": 2,
                "active": 2,
                "states": {"connected": 2},
                "max_connections": 5,
            }
            assert await manager.get_all_connections() == [first, second]
            assert await manager.get_connection(connection_id=first.connection_id) is first

            await first.close()
            assert manager.get_connection_count() == 1
            assert await manager.get_connection(connection_id=first.connection_id) is None
            assert await manager.cleanup_closed_connections() == 0

            removed = await manager.remove_connection(connection_id=second.connection_id)
            assert removed is second
            assert second.state is ConnectionState.CONNECTED
            assert await manager.remove_connection(connection_id=second.connection_id) is None
            stats = await manager.get_stats()
            assert (stats["total_closed"], stats["current_count"], stats["max_concurrent"]) == (
                2,
                0,
                2,
            )
        assert second.is_connected  # removed: not the manager's any more


async def test_connection_manager_enforces_its_limit(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await connections(stack, serving, client_config, 2)
        manager = ConnectionManager(max_connections=1)
        await manager.add_connection(first)
        with pytest.raises(ConnectionError, match="max_connections=1"):
            await manager.add_connection(second)
        await first.close()
        with pytest.raises(ConnectionError, match="is closed"):
            await manager.add_connection(first)
        await manager.add_connection(second)
        await manager.shutdown()
        assert second.is_closed
        with pytest.raises(ConnectionError, match="shut down"):
            await manager.add_connection(second)
        await manager.shutdown()


async def test_connection_whose_events_are_paused_is_dropped_like_any_other(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        (connection,) = await connections(stack, serving, client_config, 1)
        async with ConnectionManager() as manager:
            await manager.add_connection(connection)
            connection.pause()
            await connection.close()
            assert manager.get_connection_count() == 0
            assert await manager.cleanup_closed_connections() == 0


async def test_idle_time_does_not_follow_the_time_of_day(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        (idle,) = await connections(stack, serving, client_config, 1)
        idle.keep_open = True  # outlives its session
        await idle.sessions[0].close()
        async with ConnectionManager(connection_idle_timeout=1000) as manager:
            with Timers("pywebtransport.connection.manager") as timers:
                await manager.add_connection(idle)
                assert timers.pending == 1
                later = time.time() + 86400
                monkeypatch.setattr(time, "time", lambda: later)
                timers.fire()
            assert idle.is_connected


async def test_connection_manager_closes_idle_connections(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        busy, idle = await connections(stack, serving, client_config, 2)
        idle.keep_open = True  # outlives its session
        await idle.sessions[0].close()
        timers = stack.enter_context(Timers("pywebtransport.connection.manager"))
        async with ConnectionManager(connection_idle_timeout=0.1) as manager:
            await manager.add_connection(busy)
            await manager.add_connection(idle)
            await idle.wait_closed()
            assert await manager.get_all_connections() == [busy]
            busy.keep_open = True
            await busy.sessions[0].close()
            await busy.wait_closed()
            assert manager.get_connection_count() == 0
            await until(lambda: timers.pending == 0)


async def test_closing_all_connections_keeps_the_manager(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        first, second, third = await connections(stack, serving, client_config, 3)
        async with ConnectionManager() as manager:
            await manager.add_connection(first)
            await manager.add_connection(second)
            await manager.close_all_connections()
            assert first.is_closed
            assert second.is_closed
            await manager.add_connection(third)
            closing = asyncio.create_task(manager.close_all_connections())
            await asyncio.sleep(0)
            closing.cancel()
            await third.wait_closed()
            assert manager.get_connection_count() == 0


# ---------------------------------------------------------------------- sessions


async def test_session_manager_drops_closed_sessions_at_once(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with AsyncExitStack() as stack:
        first, second, third = await sessions(stack, serving, client_config, 3)
        async with SessionManager.create(max_sessions=2) as manager:
            assert await manager.add_session(session=first) == first.session_id
            await manager.add_session(second)
            await manager.add_session(second)
            with pytest.raises(SessionError, match="max_sessions=2"):
                await manager.add_session(third)
            assert await manager.get_stats() == {
                "total_created": 2,
                "total_closed": 0,
                "current_count": 2,
                "max_concurrent": 2,
                "active_sessions": 2,
                "states": {"connected": 2},
                "max_sessions": 2,
            }
            assert await manager.get_sessions_by_state(state=SessionState.CONNECTED) == [
                first,
                second,
            ]
            assert await manager.get_sessions_by_state(state=SessionState.DRAINING) == []

            await first.close()
            assert await manager.get_all_sessions() == [second]
            assert await manager.get_session(session_id=first.session_id) is None
            assert await manager.get_session(session_id=second.session_id) is second
            with pytest.raises(SessionError, match="closed"):
                await manager.add_session(first)

            assert await manager.remove_session(session_id=second.session_id) is second
            assert second.is_ready
            await manager.add_session(third)
            third.pause()
            third.remove_all_listeners()
            await third.close()
            assert manager.get_session_count() == 0
            assert await manager.cleanup_closed_sessions() == 0
            await manager.add_session(second)
        assert second.is_closed
        with pytest.raises(SessionError, match="shut down"):
            await manager.add_session(second)


async def test_server_shows_its_sessions(serving: Serving, client_config: ClientFactory) -> None:
    async with serving(max_sessions=7) as served:
        server = served.server
        assert server._session_manager is None  # nothing is made before it is used
        async with WebTransportClient(config=client_config()) as client:
            near = await client.connect(served.url("/one"))
            manager = server.session_manager
            assert server.session_manager is manager
            await client.connect(served.url("/two"))
            one, two = sorted(await manager.get_all_sessions(), key=lambda session: session.path)
            assert (one.path, two.path) == ("/one", "/two")
            assert manager.get_session_count() == 2
            assert await manager.get_session(session_id=one.session_id) is one
            assert await manager.add_session(session=one) == one.session_id
            assert await manager.get_stats() == {
                "sessions_accepted": 2,
                "sessions_rejected": 0,
                "active_sessions": 2,
                "states": {"connected": 2},
                "max_sessions": 7,
            }

            # Removing hides one; the server goes on with it.
            assert await manager.remove_session(session_id=two.session_id) is two
            assert await manager.remove_session(session_id=two.session_id) is None
            assert await manager.get_all_sessions() == [one]
            assert two in server.sessions
            await manager.add_session(two)
            assert manager.get_session_count() == 2

            with pytest.raises(SessionError, match="not open on this server"):
                await manager.add_session(near)
            await near.close()
            await until(lambda: manager.get_session_count() == 1)
            assert await manager.cleanup_closed_sessions() == 0
            await manager.shutdown()
            assert two.is_closed
            assert server.is_serving


# ----------------------------------------------------------------------- streams


async def test_stream_manager_shows_the_streams_of_both_ends(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        assert "stream_manager" not in vars(near)  # nothing is made before it is used
        manager = near.stream_manager
        assert near.stream_manager is manager
        assert "stream_manager" not in vars(far)

        both = await manager.create_bidirectional_stream()
        one = await manager.create_unidirectional_stream()
        await both.write(b"x")
        await one.write(b"x")
        theirs = await far.create_unidirectional_stream()
        await theirs.write(b"x")
        incoming = await take_unidirectional(near)
        assert await manager.get_all_streams() == [both, one, incoming]
        assert [stream async for stream in manager] == [both, one, incoming]
        assert await manager.get_stream(stream_id=one.stream_id) is one
        assert await manager.get_stream(stream_id=4000) is None
        limit = near._config.max_streams
        assert await manager.get_stats() == {
            "total_created": 2,
            "total_closed": 0,
            "active_streams": 3,
            "semaphore_locked": False,
            "semaphore_value": limit - 2,
            "states": {"open": 3},
            "directions": dict.fromkeys(map(str, StreamDirection), 1),
            "max_streams": limit,
        }

        assert await manager.remove_stream(stream_id=incoming.stream_id) is incoming
        assert await manager.remove_stream(stream_id=incoming.stream_id) is None
        assert incoming.is_readable
        assert await manager.get_all_streams() == [both, one]
        await manager.add_stream(stream=incoming)
        assert await manager.get_all_streams() == [both, one, incoming]
        with pytest.raises(StreamError, match="not an open stream of session"):
            await manager.add_stream(theirs)

        # A stream that is done leaves by itself.
        await theirs.close()
        assert await incoming.read_all() == b"x"
        await until(lambda: len(near._streams) == 2)
        assert await manager.get_all_streams() == [both, one]


async def test_stream_manager_limits_what_it_creates(pair: PairOfSessions) -> None:
    async with (
        pair() as (near, far),
        StreamManager.create(session=near, max_streams=1) as manager,
    ):
        first = await manager.create_unidirectional_stream()
        assert (await manager.get_stats())["semaphore_locked"]
        with pytest.raises(StreamLimitError, match=r"stream limit.*max_streams=1"):
            await manager.create_bidirectional_stream()
        with pytest.raises(TimeoutError, match=r"stayed open for 0\.02 s"):
            await manager.create_bidirectional_stream(timeout=0.02)
        await near.create_bidirectional_stream()  # the limit is the manager's own

        waiting = [
            asyncio.create_task(manager.create_unidirectional_stream(timeout=50)) for _ in range(3)
        ]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await first.write_all(b"done")
        assert await (await take_unidirectional(far)).read_all() == b"done"
        second = await waiting[1]
        assert not waiting[2].done()
        stats = await manager.get_stats()
        assert (stats["total_created"], stats["total_closed"]) == (2, 1)
        await second.write_all(b"done")
        assert await (await take_unidirectional(far)).read_all() == b"done"
        await waiting[2]
        assert waiting[0].cancelled()


async def test_stream_manager_hides_streams_that_failed_unread(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        manager = near.stream_manager
        stream = await manager.create_bidirectional_stream()
        await stream.write(b"x")
        far_stream = await take(far)
        await far_stream.write_all(b"left unread")
        assert await far_stream.read(1) == b"x"
        await stream.close()
        await until(lambda: stream._quic.is_closed)
        assert await manager.get_all_streams() == [stream]
        assert await manager.cleanup_closed_streams() == 1
        assert await manager.get_all_streams() == []
        assert await manager.cleanup_closed_streams() == 0
        assert await stream.read_all() == b"left unread"


async def test_end_of_the_session_and_of_the_manager(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        async with StreamManager(near, max_streams=2) as manager:
            both = await manager.create_bidirectional_stream()
            await both.write(b"all of it")
            one = await manager.create_unidirectional_stream()
            await one.write(b"arrives")
            waiting = asyncio.create_task(manager.create_unidirectional_stream(timeout=50))
            await asyncio.sleep(0)
        with pytest.raises(SessionError, match="shut down"):
            await waiting
        with pytest.raises(SessionError, match="shut down"):
            await manager.create_bidirectional_stream()
        assert not both.is_writable
        assert not both.is_readable
        assert await (await take(far)).read_all() == b"all of it"
        assert await (await take_unidirectional(far)).read_all() == b"arrives"
        assert near.is_ready

        manager = StreamManager(near, max_streams=1)
        await manager.create_bidirectional_stream()
        waiting = asyncio.create_task(manager.create_unidirectional_stream(timeout=50))
        await asyncio.sleep(0)
        await near.close()
        with pytest.raises(SessionClosedError):
            await waiting
        with pytest.raises(SessionClosedError):
            await manager.create_bidirectional_stream()


async def test_stream_manager_shut_down_while_the_peer_gives_no_credit(
    pair: PairOfSessions,
) -> None:
    limits = {"initial_max_streams_uni": 1}
    async with pair(server=limits) as (near, far):
        manager = StreamManager(near)
        first = await manager.create_unidirectional_stream()
        waiting = asyncio.create_task(manager.create_unidirectional_stream())
        await asyncio.sleep(0)
        assert not waiting.done()
        await manager.shutdown()
        await first.close()
        await (await take_unidirectional(far)).read_all()
        with pytest.raises(SessionError, match="shut down"):
            await waiting


@pytest.mark.parametrize(
    ("manager", "field"),
    [
        (ConnectionManager, "max_connections"),
        (ConnectionManager, "connection_idle_timeout"),
        (SessionManager, "max_sessions"),
    ],
)
def test_bad_limits_are_named(manager: type, field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        manager(**{field: 0})


async def test_bad_limit_of_streams_is_named(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        with pytest.raises(ConfigurationError, match="max_streams"):
            StreamManager(near, max_streams=0)
