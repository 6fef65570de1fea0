"""How many round trips it takes to open a session and to close it."""

from __future__ import annotations

import asyncio
import inspect
import sys

import pytest

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.testing import Network, serve

virtual = pytest.mark.loops("virtual")
DELAY = 0.25
ROUND_TRIP = 2 * DELAY


def now() -> float:
    return asyncio.get_running_loop().time()


async def wait_for_the_end(session: WebTransportSession) -> None:
    await session.wait_closed()


async def opening(client: WebTransportClient, url: str) -> tuple[float, bool]:
    """Open and close a session: how many round trips it took, and whether it was resumed."""
    started = now()
    session = await client.connect(url)
    taken = (now() - started) / ROUND_TRIP
    assert session.is_ready
    assert session.connection is not None
    resumed = session.connection.is_resumed
    await session.close()
    return taken, resumed


@virtual
async def test_a_session_opens_in_two_round_trips() -> None:
    """One for the handshake, which brings the server's SETTINGS, and one for the request."""
    async with (
        serve(wait_for_the_end, network=Network(delay=DELAY)) as served,
        served.client() as client,
    ):
        for resumes in (False, True):
            taken, resumed = await opening(client, served.url)
            assert resumed is resumes
            assert taken == pytest.approx(2, abs=0.05)


@virtual
async def test_it_takes_two_packets_from_either_end() -> None:
    """The request leaves with the end of the handshake, and the answer with what confirms that.

    On a path so short that no acknowledgement comes before them.
    """
    async with (
        serve(wait_for_the_end, network=Network(delay=0.0001)) as served,
        served.client() as client,
    ):

        def sent() -> tuple[int, int]:
            server = served.app.server.measure()
            return client.measure()["engine"]["packets_sent"], server["engine"]["packets_sent"]

        await opening(client, served.url)
        await asyncio.sleep(10)
        before = sent()
        session = await client.connect(served.url)
        after = sent()  # before the acknowledgement of the answer
        assert session.connection is not None
        assert session.connection.is_resumed
        assert (after[0] - before[0], after[1] - before[1]) == (2, 2)
        await session.close()


@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("factory", [False, True])
async def test_handlers_begin_when_the_request_arrives(factory: bool) -> None:
    """From Python 3.12 on, and unless the application has set a task factory."""
    at_once: list[bool] = []

    async def handler(session: WebTransportSession) -> None:
        at_once.append(any(frame.function == "_session_requested" for frame in inspect.stack()))
        assert asyncio.current_task() is not None
        await session.wait_closed()

    if factory:
        asyncio.get_running_loop().set_task_factory(
            lambda loop, coroutine, **others: asyncio.Task(coroutine, loop=loop, **others)
        )
    async with serve(handler) as served, served.client() as client:
        await opening(client, served.url)
    assert at_once == [sys.version_info >= (3, 12) and not factory]


@virtual
async def test_a_session_ends_in_one_round_trip() -> None:
    ended: list[float] = []

    async def handler(session: WebTransportSession) -> None:
        await session.wait_closed()
        ended.append(now())

    async with (
        serve(handler, network=Network(delay=DELAY)) as served,
        served.client() as client,
    ):
        session = await client.connect(served.url)
        started = now()
        await session.close(code=3)
        assert (now() - started) / ROUND_TRIP == pytest.approx(1, abs=0.05)
        assert ended[0] - started == pytest.approx(DELAY, abs=0.05)


@virtual
async def test_a_middleware_that_waits_delays_only_the_answer() -> None:
    app = ServerApp(config=ServerConfig(access_log=False))

    @app.middleware
    async def slow(session: WebTransportSession) -> bool:
        await asyncio.sleep(1.0)
        return True

    app.route("/")(wait_for_the_end)
    async with (
        serve(app, network=Network(delay=DELAY)) as served,
        served.client(ClientConfig(connect_timeout=30.0)) as client,
    ):
        taken, _ = await opening(client, served.url)
        assert taken * ROUND_TRIP == pytest.approx(2 * ROUND_TRIP + 1.0, abs=0.05)
