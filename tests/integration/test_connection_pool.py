"""``ConnectionPool``: reuse, bounds, order, health, idle eviction, cancellation."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, ConnectionState
from pywebtransport.connection import ConnectionPool, WebTransportConnection
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    TimeoutError,
    UnreachableError,
)
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, Served, Serving
from tests.support.pooling import ask, closed_port, open_session, silent_port
from tests.support.steps import cancelled_at, echo_bidirectional, until
from tests.support.timers import Timers

Get = Callable[..., Any]


def getter(pool: ConnectionPool, served: Served, config: ClientConfig) -> Get:
    """``get_connection`` for one server; keywords go through."""

    def get(**more: Any) -> Any:
        return pool.get_connection(
            **{"config": config, "host": served.host, "port": served.port, **more}
        )

    return get


def counts(pool: ConnectionPool) -> tuple[int, int, int]:
    """Idle, active, keys."""
    stats = pool.get_stats()
    return (
        stats["total_pooled_connections"],
        stats["total_active_connections"],
        stats["active_pools"],
    )


# ------------------------------------------------------------------------- reuse


async def test_returned_connection_is_used_again(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(echo_bidirectional) as served, ConnectionPool(max_size=3) as pool:
        get = getter(pool, served, client_config())
        first = await get(path="/one")
        assert counts(pool) == (0, 1, 1)
        session = await open_session(first)
        assert await ask(session, b"one") == b"one"
        await session.close()  # its connection stays
        await pool.return_connection(connection=first)
        assert counts(pool) == (1, 0, 1)

        # An equal configuration in another object is the same key.
        second = await getter(pool, served, client_config())(path="/two")
        assert second is first
        session = await open_session(second)
        assert session.path == "/two"
        assert await ask(session, b"two") == b"two"
        assert len(served.server.connections) == 1
        assert pool.get_stats() == {
            "total_pooled_connections": 0,
            "total_active_connections": 1,
            "active_pools": 1,
            "max_size_per_pool": 3,
        }
        await pool.return_connection(second)
    assert first.is_closed
    assert counts(pool) == (0, 0, 0)


async def test_documented_use(serving: Serving, client_config: ClientFactory) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "connection.md"
    names: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)[0], names)
    async with (
        serving({"/echo": echo_bidirectional}, host="localhost") as served,
        ConnectionPool() as pool,
    ):
        for question in (b"one", b"two"):
            assert await names["ask"](pool, client_config(), served.port, question) == question
        assert counts(pool) == (1, 0, 1)


async def test_connection_belongs_to_one_user_at_a_time(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool() as pool:
        get = getter(pool, served, client_config())
        first, second = await asyncio.gather(get(), get())
        assert first is not second
        await pool.return_connection(first)
        await pool.return_connection(second)
        assert await get() is second  # the warmest one


async def test_other_configuration_gets_another_connection(
    serving: Serving, client_config: ClientFactory
) -> None:
    seen: list[str | None] = []

    async def note(session: WebTransportSession) -> None:
        seen.append(session.headers.get("authorization"))

    async with serving(note) as served, ConnectionPool() as pool:
        alice = client_config(headers={"authorization": "alice"})
        for config in (alice, client_config(headers={"authorization": "bob"}), alice):
            connection = await getter(pool, served, config)()
            await open_session(connection)
            await pool.return_connection(connection)
        assert seen == ["alice", "bob", "alice"]
        assert counts(pool) == (2, 0, 2)
        # Changing the object afterwards changes nothing that is shared.
        alice.headers["authorization"] = "eve"
        await open_session(await getter(pool, served, alice)())
        assert seen[-1] == "eve"
        assert counts(pool) == (2, 1, 3)


async def test_request_carries_what_the_configuration_says(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(
        application_protocols=["one", "two"],
        require_application_protocol=True,
        headers={"X-Color": "blue"},
        user_agent="tester/1",
    )
    async with serving(application_protocols=["two"]) as served, ConnectionPool() as pool:
        for _ in range(2):
            connection = await getter(pool, served, config)()
            session = await open_session(connection)
            assert session.application_protocol == "two"
            (far,) = served.server.sessions
            assert far.headers["x-color"] == "blue"
            assert far.headers["user-agent"] == "tester/1"
            await session.close()
            await until(lambda: not served.server.sessions)
            await pool.return_connection(connection)


async def test_what_the_last_user_left_open_is_closed(
    serving: Serving, client_config: ClientFactory
) -> None:
    sessions: list[WebTransportSession] = []

    async def keep(session: WebTransportSession) -> None:
        sessions.append(session)

    async with serving(keep) as served, ConnectionPool() as pool:
        get = getter(pool, served, client_config())
        connection = await get(path="/left")
        left = await open_session(connection)
        stream = await left.create_unidirectional_stream()
        await stream.write_all(b"last words")
        further = await connection.create_session("/further")
        await further.ready()
        await pool.return_connection(connection)
        assert left.is_closed
        assert further.is_closed
        far = next(session for session in sessions if session.path == "/left")
        assert (await far.wait_closed()).code == 0

        # A session that nobody made an object for is closed as well.
        assert await get(path="/unclaimed") is connection
        await connection.wait_for_ready_session()
        await pool.return_connection(connection)
        unclaimed = next(session for session in sessions if session.path == "/unclaimed")
        await unclaimed.wait_closed()

        assert await get(path="/next") is connection
        session = await open_session(connection)
        assert session.path == "/next"
        assert connection.sessions == (session,)


# ------------------------------------------------------------- bounds and order


async def test_callers_wait_in_order_and_leave_cleanly(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool(max_size=1) as pool:
        get = getter(pool, served, client_config())
        connection = await get()
        served_order: list[int] = []

        async def use(number: int) -> None:
            taken = await get()
            assert taken is connection
            served_order.append(number)
            await pool.return_connection(taken)

        tasks = [asyncio.create_task(use(number)) for number in range(5)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        await pool.return_connection(connection)
        # Cancelled in the very turn in which it is served: the next one must not starve.
        tasks[0].cancel()
        await asyncio.gather(*tasks[2:])
        assert served_order == [2, 3, 4]
        assert counts(pool) == (1, 0, 1)
        assert len(served.server.connections) == 1


async def test_newcomer_does_not_overtake(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, ConnectionPool(max_size=1) as pool:
        get = getter(pool, served, client_config())
        connection = await get()
        waiting = asyncio.create_task(get())
        await asyncio.sleep(0)
        await pool.return_connection(connection)
        newcomer = asyncio.create_task(get())
        assert await waiting is connection
        await pool.return_connection(connection)
        assert await newcomer is connection


@pytest.mark.loops("virtual")
async def test_waiting_ends_with_connect_timeout(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool(max_size=1) as pool:
        get = getter(pool, served, client_config(connect_timeout=2.0))
        connection = await get()
        with pytest.raises(TimeoutError, match=r"all 1 connections .* connect_timeout=2.0 s"):
            await get()
        await pool.return_connection(connection)
        assert await get() is connection


async def test_failed_attempt_frees_its_place(client_config: ClientFactory) -> None:
    port = closed_port()
    async with ConnectionPool(max_size=1) as pool:
        for _ in range(3):
            with pytest.raises(UnreachableError):
                await pool.get_connection(config=client_config(), host="127.0.0.1", port=port)
        assert counts(pool) == (0, 0, 0)


async def test_bad_path_costs_no_connection(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, ConnectionPool(max_size=1) as pool:
        get = getter(pool, served, client_config())
        with pytest.raises(ConfigurationError, match="path"):
            await get(path="no slash")
        connection = await get()
        await pool.return_connection(connection)
        with pytest.raises(ConfigurationError, match="path"):
            await get(path="no slash")
        assert counts(pool) == (1, 0, 1)
        assert await get() is connection
        await until(lambda: len(served.server.connections) == 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_size", 0),
        ("max_size", 1.5),  # would never be used up
        ("max_size", float("nan")),
        ("max_idle_time", 0),
        ("max_idle_time", float("nan")),
    ],
)
def test_bad_limits_are_named(field: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=field):
        ConnectionPool(**{field: value})  # type: ignore[arg-type]


# ------------------------------------------------------------------------ health


async def test_closed_connection_is_never_handed_out(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool(max_size=1) as pool:
        get = getter(pool, served, client_config())
        connection = await get()
        await pool.return_connection(connection)
        await connection.close()
        assert counts(pool) == (0, 0, 0)

        # One that the server closes leaves the pool by itself.
        connection = await get()
        await open_session(connection)
        await pool.return_connection(connection)
        await until(lambda: len(served.server.connections) == 1)
        await served.server.connections[0].close()
        await until(lambda: counts(pool) == (0, 0, 0))
        assert await get() is not connection


async def test_closed_connection_frees_its_place_without_being_returned(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool(max_size=1) as pool:
        get = getter(pool, served, client_config())
        connection = await get()
        waiting = asyncio.create_task(get())
        await asyncio.sleep(0)
        await connection.close()
        other = await waiting
        assert other is not connection
        await pool.return_connection(connection)  # too late, and harmless
        assert counts(pool) == (0, 1, 1)


async def test_connection_that_closes_while_it_is_returned(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool() as pool:
        connection = await getter(pool, served, client_config())()
        session = await open_session(connection)
        stream = await session.create_unidirectional_stream()
        await stream.write_all(bytes(1_000_000))
        returning = asyncio.create_task(pool.return_connection(connection))
        await asyncio.sleep(0)
        assert not returning.done()
        connection.close_nowait()
        await returning
        assert counts(pool) == (0, 0, 0)


async def test_draining_connection_is_not_used_again(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool() as pool:
        get = getter(pool, served, client_config())

        async def drained(connection: WebTransportConnection) -> None:
            (far,) = served.server.connections
            assert far._driver is not None
            far._driver.layer.send_goaway()
            far.flush_nowait()
            await until(lambda: connection.state is ConnectionState.DRAINING)

        idle = await get()
        await open_session(idle)
        await pool.return_connection(idle)
        await drained(idle)
        active = await get()
        assert active is not idle
        assert idle.is_closed

        await open_session(active)
        await until(lambda: len(served.server.connections) == 1)
        await drained(active)
        await pool.return_connection(active)
        assert active.is_closed
        assert counts(pool) == (0, 0, 0)


async def test_connection_that_allows_no_further_session_is_replaced(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool() as pool:
        get = getter(pool, served, client_config())
        connection = await get()
        await open_session(connection)
        await pool.return_connection(connection)
        assert connection._driver is not None
        # Both ends think differently for a moment: the GOAWAY is known to HTTP/3 only.
        connection._driver.layer.goaway_received = True
        assert await get() is not connection
        assert connection.is_closed


async def test_returning_what_the_pool_does_not_lend(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool() as pool:
        get = getter(pool, served, client_config())
        connection = await get()
        await pool.return_connection(connection)
        await pool.return_connection(connection)  # twice
        assert counts(pool) == (1, 0, 1)

        connection = await get()
        await open_session(connection)
        await asyncio.gather(*(pool.return_connection(connection) for _ in range(2)))
        assert counts(pool) == (1, 0, 1)

        foreign = await WebTransportConnection.create_client(
            config=client_config(), host=served.host, port=served.port
        )
        await pool.return_connection(foreign)
        assert foreign.is_closed
        await pool.return_connection(foreign)
        assert counts(pool) == (1, 0, 1)


# -------------------------------------------------------------------- idle and end


async def test_idle_connections_are_closed_in_time(
    serving: Serving, client_config: ClientFactory
) -> None:
    with Timers("pywebtransport.utils._pooling") as timers:
        async with serving() as served, ConnectionPool(max_idle_time=0.2) as pool:
            get = getter(pool, served, client_config())
            connections = await asyncio.gather(*(get() for _ in range(3)))
            await pool.return_connection(connections[0])
            assert timers.pending == 1
            loop = asyncio.get_running_loop()
            returned = loop.time()
            await until(lambda: loop.time() > returned + 0.005)  # their times differ
            await pool.return_connection(connections[1])
            await asyncio.gather(*(connection.wait_closed() for connection in connections[:2]))
            assert connections[2].is_connected
            assert counts(pool) == (0, 1, 1)
            assert timers.pending == 0
            await pool.return_connection(connections[2])
            assert await get() is connections[2]
            assert timers.pending == 0  # nothing is idle: nothing to wake up for


async def test_closing_the_pool_ends_everything(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config()
    with silent_port() as silent:
        async with serving() as served:
            pool = ConnectionPool(max_size=2)
            get = getter(pool, served, config)
            idle, active = await asyncio.gather(get(), get())
            waiting = asyncio.create_task(get())
            connecting = asyncio.create_task(get(port=silent))
            await pool.return_connection(idle)
            taken = await waiting
            waiting = asyncio.create_task(get())
            await asyncio.sleep(0)
            await pool.close_all()
            for task in (waiting, connecting):
                with pytest.raises(ClientError, match="pool is closed"):
                    await task
            assert taken is idle
            assert idle.is_closed
            assert active.is_closed
            assert counts(pool) == (0, 0, 0)
            with pytest.raises(ClientError, match="pool is closed"):
                await get()
            with pytest.raises(ClientError, match="pool is closed"):
                async with pool:
                    pass
            await pool.return_connection(active)
            await pool.close_all()


# ------------------------------------------------------------------- cancellation


@pytest.mark.limit(120)
async def test_get_connection_may_be_cancelled_anywhere(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, ConnectionPool(max_size=1) as pool:
        get = getter(pool, served, client_config())
        index = 0
        while await cancelled_at(get, index):
            assert counts(pool) == (0, 0, 0)
            index += 1
        assert index > 0
        assert counts(pool) == (0, 1, 1)


async def test_return_connection_may_be_cancelled(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(echo_bidirectional) as served, ConnectionPool(max_size=1) as pool:
        get = getter(pool, served, client_config())
        index = 0
        while True:
            connection = await get()
            session = await open_session(connection)
            stream = await session.create_unidirectional_stream()
            await stream.write_all(bytes(1_000_000))
            if not await cancelled_at(lambda c=connection: pool.return_connection(c), index):  # type: ignore[misc]
                break
            await connection.wait_closed()
            assert counts(pool) == (0, 0, 0)
            index += 1
        assert index > 0
        assert counts(pool) == (1, 0, 1)
