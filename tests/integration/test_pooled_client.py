"""``PooledClient``: sessions are lent again, fairly, never too many, never broken ones."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.client import PooledClient
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    SessionError,
    SessionRejectedError,
    TimeoutError,
)
from pywebtransport.session import WebTransportSession
from pywebtransport.types import SessionCloseInfo, SessionState
from tests.support.endpoints import ClientFactory, Serving
from tests.support.steps import cancelled_at, far_end, once_set, round_trip, until
from tests.support.timers import Timers

# ------------------------------------------------------------------------------ reuse


async def test_a_session_that_came_back_is_lent_again(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient.create(config=client_config()) as pool:
        first = await pool.get_session(url=served.url("/a"))
        await round_trip(first, served.server.sessions[0], b"first borrower")
        await pool.return_session(session=first)
        assert await pool.get_session(served.url("/a")) is first
        await round_trip(first, served.server.sessions[0], b"second borrower")
        second = await pool.get_session(served.url("/a"))
        assert second is not first
        await pool.return_session(first)
        await pool.return_session(second)
        # The last that came back goes first, so that the other may become idle.
        assert await pool.get_session(served.url("/a")) is second
        assert pool.get_stats() == {
            "endpoints": 1,
            "idle_sessions": 1,
            "active_sessions": 1,
            "pool_size": 10,
            "opened": 2,
            "reused": 2,
            "expired": 0,
            "discarded": 0,
        }


async def test_each_url_has_its_own_sessions(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:
        sessions = {}
        for path in ("/a", "/b", "/a?user=1", "/a?user=2"):
            sessions[path] = await pool.get_session(served.url(path))
            assert sessions[path].path == path
        assert len(set(sessions.values())) == 4
        for session in sessions.values():
            await pool.return_session(session)
        for path, session in sessions.items():
            assert await pool.get_session(served.url(path)) is session
        # The same URL, written differently.
        await pool.return_session(sessions["/a"])
        host = f"https://127.0.0.1:{served.port:05}"
        assert await pool.get_session(f"{host}/a") is sessions["/a"]


async def test_block_returns_its_session_and_closes_it_after_an_error(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient(config=client_config()) as pool:
        async with pool.session(served.url()) as first:
            assert pool.get_stats()["active_sessions"] == 1
        assert first.is_ready
        borrowed = pool.session(served.url())
        assert await borrowed.__aenter__() is first
        error = LookupError("half of an answer was read")
        assert not await borrowed.__aexit__(LookupError, error, None)
        assert await first.wait_closed() == SessionCloseInfo(0, "", False)
        async with pool.session(served.url()) as other:
            assert other is not first
            await other.close()
        assert pool.get_stats()["active_sessions"] == 0
        assert pool.get_stats()["idle_sessions"] == 0
        assert pool.get_stats()["endpoints"] == 0


# ---------------------------------------------------------------------- bounded and fair


async def test_who_asked_first_is_served_first(
    serving: Serving, client_config: ClientFactory
) -> None:
    order: list[int] = []
    async with serving() as served, PooledClient(config=client_config(), pool_size=2) as pool:
        lent = [await pool.get_session(served.url()) for _ in range(2)]

        async def borrow(number: int) -> None:
            async with pool.session(served.url()):
                order.append(number)

        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(borrow(number)))
            await until(lambda number=number: pool.waiting_callers == number + 1)
        assert len(served.server.sessions) == 2
        await pool.return_session(lent[0])
        # One who comes now does not overtake those who wait.
        late = asyncio.create_task(borrow(99))
        await asyncio.gather(*tasks, late)
        await pool.return_session(lent[1])
        assert order == [0, 1, 2, 3, 4, 5, 99]
        assert pool.get_stats()["opened"] == 2
        assert pool.get_stats()["idle_sessions"] == 2


async def test_a_session_that_ends_while_it_is_lent_gives_its_place_away(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:
        lent = await pool.get_session(served.url())
        waiter = asyncio.create_task(pool.get_session(served.url()))
        await until(lambda: pool.waiting_callers == 1)
        await served.server.sessions[0].close(code=9, close_connection=False)
        other = await waiter
        assert other is not lent
        assert other.is_ready
        # Its borrower may return it all the same, once.
        await pool.return_session(lent)
        with pytest.raises(SessionError, match="not lent"):
            await pool.return_session(lent)
        await pool.return_session(other)
        assert pool.get_stats()["idle_sessions"] == 1


async def test_waiting_has_a_timeout(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:
        lent = await pool.get_session(served.url())
        pool.config.connect_timeout = 0.05
        with pytest.raises(TimeoutError, match=r"all 1 sessions .*=0\.05 s") as caught:
            await pool.get_session(served.url())
        assert caught.value.timeout_duration == 0.05
        assert caught.value.operation == "wait for a pooled session"
        assert pool.waiting_callers == 0
        await pool.return_session(lent)
        assert await pool.get_session(served.url()) is lent


async def test_a_failed_attempt_lets_the_next_one_try(
    serving: Serving, client_config: ClientFactory
) -> None:
    asked, leave = asyncio.Event(), asyncio.Event()

    async def refuse_first(session: WebTransportSession) -> bool:
        if asked.is_set():
            return True
        asked.set()
        await leave.wait()
        return False

    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:
        served.app.add_middleware(refuse_first)
        first = asyncio.create_task(pool.get_session(served.url()))
        await asked.wait()
        second = asyncio.create_task(pool.get_session(served.url()))
        await until(lambda: pool.waiting_callers == 1)
        leave.set()
        with pytest.raises(SessionRejectedError):
            await first
        assert (await second).is_ready
        assert pool.get_stats()["active_sessions"] == 1


async def test_a_timeout_of_connecting_passes(
    serving: Serving, client_config: ClientFactory
) -> None:
    leave = asyncio.Event()

    config = client_config(connect_timeout=0.2)
    async with serving() as served, PooledClient(config=config) as pool:
        served.app.add_middleware(once_set(leave))
        with pytest.raises(TimeoutError) as caught:
            await pool.get_session(served.url())
        assert caught.value.operation != "wait for a pooled session"
        assert pool.get_stats()["endpoints"] == 0
        leave.set()


async def test_idle_sessions_make_room_for_another_endpoint(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(max_connections=2)
    async with serving() as served, PooledClient(config=config) as pool:
        oldest = await pool.get_session(served.url("/a"))
        newer = await pool.get_session(served.url("/b"))
        await pool.return_session(oldest)
        await pool.return_session(newer)
        await pool.get_session(served.url("/c"))
        assert oldest.is_closed
        assert newer.is_ready
        await pool.get_session(served.url("/b"))
        # Lent sessions are not taken away.
        with pytest.raises(ClientError, match="max_connections=2"):
            await pool.get_session(served.url("/d"))


async def test_connections_being_opened_count_when_room_is_made(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving() as served,
        PooledClient(config=client_config(max_connections=2)) as pool,
    ):
        idle = await pool.get_session(served.url("/a"))
        await pool.return_session(idle)
        await asyncio.gather(*(pool.get_session(served.url(path)) for path in ("/b", "/c")))
        assert idle.is_closed


async def test_idle_sessions_that_share_connections_make_room_for_another_server(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(max_connections=1, allow_pooling=True)
    async with (
        serving() as served,
        serving() as other,
        PooledClient(config=config) as pool,
    ):
        idle = [await pool.get_session(served.url(path)) for path in ("/a", "/b")]
        for session in idle:
            await pool.return_session(session)
        # There is room on the connection: nobody has to go.
        lent = await pool.get_session(served.url("/c"))
        # As long as it is lent, the end of the others would free no connection.
        with pytest.raises(ClientError, match="max_connections=1"):
            await pool.get_session(other.url())
        assert [session.is_ready for session in idle] == [True, True]
        await pool.return_session(lent)
        assert (await pool.get_session(other.url())).is_ready
        assert [session.is_closed for session in (*idle, lent)] == [True] * 3
        assert pool.get_stats()["discarded"] == 3


async def test_a_waiter_that_gives_up_late_leaves_the_limit_alone(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:
        session = await pool.get_session(served.url())
        waiter = asyncio.create_task(pool.get_session(served.url()))
        await until(lambda: pool.waiting_callers == 1)
        waiter.cancel()
        # The endpoint is forgotten and made anew before the waiter hears of its end.
        session.close_nowait()
        await pool.get_session(served.url())
        assert waiter.cancelled()
        another = asyncio.create_task(pool.get_session(served.url()))
        await until(lambda: pool.waiting_callers == 1 or another.done())
        assert not another.done()
        another.cancel()


# ------------------------------------------------------------------------- healthy only


async def test_sessions_that_the_server_ended_are_not_lent(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient(config=client_config()) as pool:
        first = await pool.get_session(served.url())
        await pool.return_session(first)
        await served.server.sessions[0].close(close_connection=False)
        await first.wait_closed()
        assert pool.get_stats()["idle_sessions"] == 0
        second = await pool.get_session(served.url())
        assert second is not first
        await round_trip(second, far_end(served.server.sessions, second), b"healthy")


async def test_draining_sessions_are_not_lent(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:
        first = await pool.get_session(served.url())
        await pool.return_session(first)
        served.server.sessions[0].drain()
        await until(lambda: first.state is SessionState.DRAINING)
        second = await pool.get_session(served.url())
        assert second is not first
        await first.wait_closed()
        # Neither is one that began to drain while it was lent.
        far_end(served.server.sessions, second).drain()
        await until(lambda: second.state is SessionState.DRAINING)
        await pool.return_session(second)
        assert pool.get_stats()["idle_sessions"] == 0
        assert (await second.wait_closed()).remote is False
        assert pool.get_stats()["discarded"] == 2


async def test_sessions_of_a_connection_that_drains_are_not_lent(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient(config=client_config()) as pool:
        first = await pool.get_session(served.url())
        await pool.return_session(first)
        connection = served.server.connections[0]
        connection._driver.layer.send_goaway()  # type: ignore[union-attr]
        connection._driver.layer.finish_goaway()  # type: ignore[union-attr]
        await until(lambda: str(first.connection.state) == "draining")  # type: ignore[union-attr]
        assert await pool.get_session(served.url()) is not first
        await first.wait_closed()


async def test_a_new_session_that_drains_at_once_is_an_error(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def accept_and_drain(session: WebTransportSession) -> bool:
        session.accept()
        session.drain()
        return True

    async with serving() as served, PooledClient(config=client_config()) as pool:
        served.app.add_middleware(accept_and_drain)
        with pytest.raises(ClientError, match="as soon as it was open") as caught:
            await pool.get_session(served.url())
        assert caught.value.target_url == served.url()
        assert pool.get_stats()["active_sessions"] == 0
        await until(lambda: not served.server.sessions)


async def test_a_session_that_ends_before_the_waiter_runs_is_replaced(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:
        lent = await pool.get_session(served.url())
        waiter = asyncio.create_task(pool.get_session(served.url()))
        await until(lambda: pool.waiting_callers == 1)
        await pool.return_session(lent)
        # It is the waiter's turn by now, but that has not run yet.
        lent.close_nowait(5, "gone")
        other = await waiter
        assert other is not lent
        assert other.is_ready


async def test_idle_sessions_are_closed_after_their_time(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving() as served,
        PooledClient(config=client_config(), max_idle_time=0.05) as pool,
    ):
        sessions = [await pool.get_session(served.url()) for _ in range(3)]
        await pool.return_session(sessions[0])
        await pool.return_session(sessions[1])
        for session in sessions[:2]:
            assert await session.wait_closed() == SessionCloseInfo(0, "", False)
        assert pool.get_stats()["expired"] == 2
        assert sessions[2].is_ready
        await until(lambda: len(served.server.connections) == 1)
        await pool.return_session(sessions[2])
        await sessions[2].wait_closed()
        assert pool.get_stats()["expired"] == 3
        assert pool.get_stats()["endpoints"] == 0


async def test_one_timer_for_the_session_that_goes_first(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that came back later stay when the timer fires for the first."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    with Timers("pywebtransport.utils._pooling") as timers:
        async with (
            serving() as served,
            PooledClient(config=client_config(), max_idle_time=1000) as pool,
        ):
            first, second = [await pool.get_session(served.url()) for _ in range(2)]
            # As if the first had come back almost 1000 seconds ago.
            looks = iter([clock() - 999.99])
            with monkeypatch.context() as patch:
                patch.setattr(loop, "time", lambda: next(looks, None) or clock())
                await pool.return_session(first)
            await pool.return_session(second)
            assert timers.count == 1
            await first.wait_closed()
            assert second.is_ready
            assert timers.pending == 1
            assert pool.get_stats()["expired"] == 1
            assert await pool.get_session(served.url()) is second


# -------------------------------------------------------------------------------- misuse


async def test_double_return_and_foreign_sessions_are_refused(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config()
    async with (
        serving() as served,
        PooledClient(config=config) as pool,
        WebTransportClient(config=config) as client,
    ):
        session = await pool.get_session(served.url())
        await pool.return_session(session)
        with pytest.raises(SessionError, match="was returned already") as caught:
            await pool.return_session(session)
        assert caught.value.session_id == session.session_id
        assert pool.get_stats()["idle_sessions"] == 1
        foreign = await client.connect(served.url())
        with pytest.raises(SessionError, match="from another pool"):
            await pool.return_session(foreign)
        assert foreign.is_ready


@pytest.mark.parametrize("field", ["pool_size", "cleanup_interval", "max_idle_time"])
def test_senseless_values_are_refused(field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{field} = 0"):
        PooledClient.create(**{field: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="connect = 5"):
        PooledClient.create(connect=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"pool_size = 1\.5"):
        PooledClient(pool_size=1.5)  # type: ignore[arg-type]


async def test_malformed_url(client_config: ClientFactory) -> None:
    async with PooledClient(config=client_config()) as pool:
        with pytest.raises(ConfigurationError, match="https"):
            await pool.get_session("http://127.0.0.1:1/")


# ------------------------------------------------------------------ closing, cancellation


async def test_close_ends_everything(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:
        pool = PooledClient(config=client_config(), pool_size=2)
        lent, idle = [await pool.get_session(served.url()) for _ in range(2)]
        waiter = asyncio.create_task(pool.get_session(served.url()))
        await until(lambda: pool.waiting_callers == 1)
        other = await pool.get_session(served.url("/other"))
        await pool.return_session(other)
        await pool.close()
        with pytest.raises(ClientError, match="the pool is closed"):
            await waiter
        await pool.close()
        assert pool.is_closed
        for session in (lent, idle, other):
            assert session.is_closed
        await pool.return_session(lent)
        with pytest.raises(ClientError, match="the pool is closed"):
            await pool.get_session(served.url())
        with pytest.raises(ClientError, match="the pool is closed"):
            await pool.__aenter__()
        await until(lambda: not served.server.connections)


async def test_close_while_discarded_sessions_are_closing(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        pool = PooledClient(config=client_config())
        session = await pool.get_session(served.url())
        far_end(served.server.sessions, session).drain()
        await until(lambda: session.state is SessionState.DRAINING)
        await pool.return_session(session)
        await pool.close()
        assert session.is_closed
        await until(lambda: not served.server.connections)


async def test_borrowing_cancelled_at_each_await(
    serving: Serving, client_config: ClientFactory
) -> None:
    """The slot is free again each time, so that a pool of one continues."""
    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:

        async def borrow() -> None:
            async with pool.session(served.url()) as session:
                await session.close()

        index = 0
        while await cancelled_at(borrow, index):
            assert pool.get_stats()["active_sessions"] == 0
            assert pool.get_stats()["endpoints"] == 0
            index += 1
        assert index >= 2
        await until(lambda: not served.server.connections)


@pytest.mark.parametrize("when", ["waiting", "served", "place"])
async def test_cancelled_waiter_passes_its_turn_on(
    serving: Serving, client_config: ClientFactory, when: str
) -> None:
    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:
        lent = await pool.get_session(served.url())
        waiters = [asyncio.create_task(pool.get_session(served.url())) for _ in range(2)]
        await until(lambda: pool.waiting_callers == 2)
        if when == "waiting":
            waiters[0].cancel()
            await pool.return_session(lent)
        elif when == "served":
            await pool.return_session(lent)
            waiters[0].cancel()
        else:
            lent.close_nowait(0, "")
            waiters[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiters[0]
        session = await waiters[1]
        assert session.is_ready
        assert (session is lent) == (when != "place")
        assert pool.get_stats()["active_sessions"] == 1


async def test_cancelled_waiter_whose_session_ended(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, PooledClient(config=client_config(), pool_size=1) as pool:
        lent = await pool.get_session(served.url())
        waiter = asyncio.create_task(pool.get_session(served.url()))
        await until(lambda: pool.waiting_callers == 1)
        await pool.return_session(lent)
        lent.close_nowait(0, "")
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert pool.get_stats()["endpoints"] == 0
        assert (await pool.get_session(served.url())).is_ready


async def test_many_borrowers_never_exceed_the_pool(
    serving: Serving, client_config: ClientFactory
) -> None:
    most = 0
    count = 0

    async def handler(session: WebTransportSession) -> None:
        nonlocal most
        most = max(most, len(served.server.sessions))

    async with serving(handler) as served:
        async with PooledClient(config=client_config(), pool_size=3) as pool:

            async def borrow(number: int) -> None:
                nonlocal count
                async with pool.session(served.url()) as session:
                    stream = await session.create_unidirectional_stream()
                    await stream.write_all(str(number).encode())
                    count += 1

            await asyncio.gather(*(borrow(number) for number in range(60)))
            assert pool.get_stats()["opened"] <= 3
        assert count == 60
        assert most <= 3
