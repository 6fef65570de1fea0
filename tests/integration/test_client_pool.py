"""``ClientPool``: a fixed set of clients in turn; all connect, or none stays open."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport.client import ClientPool
from pywebtransport.exceptions import ClientError, ConfigurationError, SessionRejectedError
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, Serving
from tests.support.steps import cancelled_at, far_end, round_trip, until


async def test_clients_come_in_turn_and_closed_ones_are_passed_over(
    client_config: ClientFactory,
) -> None:
    async with ClientPool(configs=[client_config(), None, client_config()]) as pool:
        assert pool.get_client_count() == 3
        turn = [await pool.get_client() for _ in range(6)]
        assert len(set(turn[:3])) == 3
        assert turn[3:] == turn[:3]
        await turn[1].close()
        assert pool.get_client_count() == 2
        assert [await pool.get_client() for _ in range(4)] == [turn[0], turn[2]] * 2
        await turn[0].close()
        await turn[2].close()
        with pytest.raises(ClientError, match="every client of the pool is closed"):
            await pool.get_client()


async def test_all_clients_connect_each_on_its_own_connection(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving() as served,
        ClientPool.create(num_clients=3, base_config=client_config()) as pool,
    ):
        sessions = await pool.connect_all(served.url("/all"))
        assert len(sessions) == 3
        assert len({session.connection for session in sessions}) == 3
        for number in range(3):
            client = await pool.get_client()
            assert client.connections == (sessions[number].connection,)
        far = far_end(served.server.sessions, sessions[1])
        await round_trip(sessions[1], far, b"the second")
    assert all(session.is_closed for session in sessions)


async def test_one_refusal_closes_the_others_and_reports_all_errors(
    serving: Serving, client_config: ClientFactory
) -> None:
    asked = 0

    async def refuse_two(session: WebTransportSession) -> bool:
        nonlocal asked
        asked += 1
        if asked in (1, 3):
            raise SessionRejectedError(status_code=429)
        return True

    async with (
        serving() as served,
        ClientPool.create(num_clients=4, base_config=client_config()) as pool,
    ):
        served.app.add_middleware(refuse_two)
        with pytest.raises(ClientError, match="2 of 4 clients could not connect") as caught:
            await pool.connect_all(url=served.url())
        assert isinstance(caught.value.__cause__, SessionRejectedError)
        assert caught.value.target_url == served.url()
        errors = caught.value.details["errors"]
        assert [error["status_code"] for error in errors.values()] == [429, 429]
        assert set(errors) <= {0, 1, 2, 3}
        await until(lambda: not served.server.sessions)
        # The clients are as good as before.
        assert len(await pool.connect_all(served.url())) == 4


async def test_malformed_url_is_a_mistake_of_the_caller(client_config: ClientFactory) -> None:
    async with ClientPool.create(num_clients=2, base_config=client_config()) as pool:
        with pytest.raises(ConfigurationError, match="https"):
            await pool.connect_all("http://127.0.0.1:1/")


async def test_connect_all_cancelled_at_each_await_leaves_nothing(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        index = 0
        while True:
            async with ClientPool.create(num_clients=2, base_config=client_config()) as pool:
                if not await cancelled_at(lambda pool=pool: pool.connect_all(served.url()), index):
                    break
                clients = [await pool.get_client() for _ in range(2)]
                assert [client.connections for client in clients] == [(), ()]
                await until(lambda: not served.server.sessions)
            index += 1
        assert index >= 1


async def test_connect_all_cancelled_when_one_session_is_open(
    serving: Serving, client_config: ClientFactory
) -> None:
    """The open session is closed, the request that waits for its answer is given up."""
    first = asyncio.Event()
    leave = asyncio.Event()

    async def hesitate(session: WebTransportSession) -> bool:
        if not first.is_set():
            first.set()
            return True
        await leave.wait()
        return True

    async with (
        serving() as served,
        ClientPool.create(num_clients=2, base_config=client_config()) as pool,
    ):
        served.app.add_middleware(hesitate)
        connecting = asyncio.create_task(pool.connect_all(served.url()))
        await until(lambda: sum(s.is_ready for s in served.server.sessions) == 1)
        await until(lambda: len(served.server.sessions) == 2)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        for _ in range(2):
            assert (await pool.get_client()).connections == ()
        await until(lambda: not served.server.sessions)
        leave.set()


async def test_closed_pool_says_so(client_config: ClientFactory) -> None:
    pool = ClientPool.create(num_clients=2, base_config=client_config())
    async with pool:
        assert not pool.is_closed
    await pool.close_all()
    assert pool.is_closed
    assert pool.get_client_count() == 0
    with pytest.raises(ClientError, match="closed"):
        await pool.get_client()
    with pytest.raises(ClientError, match="closed"):
        await pool.connect_all("https://127.0.0.1:1/")
    with pytest.raises(ClientError, match="the pool is closed"):
        await pool.__aenter__()


def test_a_pool_has_at_least_one_client() -> None:
    with pytest.raises(ConfigurationError, match="configs"):
        ClientPool(configs=[])
    with pytest.raises(ConfigurationError, match="num_clients = 0"):
        ClientPool.create(num_clients=0)
