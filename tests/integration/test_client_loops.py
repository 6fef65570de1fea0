"""Clients and pools in a second event loop: a typed error, and nothing that stays open."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.client import (
    ClientPool,
    PooledClient,
    ReconnectingClient,
    WebTransportBrowser,
)
from pywebtransport.connection import ConnectionLoadBalancer, ConnectionPool
from pywebtransport.exceptions import ConfigurationError
from tests.support.endpoints import ClientFactory, Served, Serving
from tests.support.loops import DEFAULT_LOOPS, FACTORIES

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=DEFAULT_LOOPS)
def two_loops(request: pytest.FixtureRequest) -> Iterator[tuple[Loop, Loop]]:
    """Two event loops, which the test may close."""
    loops = (FACTORIES[request.param](), FACTORIES[request.param]())
    yield loops
    for loop in loops:
        loop.close()


class Used:
    """Something that was used in a loop, and its calls.

    Attributes:
        calls: What needs the loop.
        close: Ends it.
    """

    def __init__(
        self, calls: list[Callable[[], Awaitable[object]]], close: Callable[[], Awaitable[object]]
    ) -> None:
        self.calls = calls
        self.close = close


async def use_client(config: Any, served: Served) -> Used:
    client = WebTransportClient(config=config)
    await client.connect(served.url())
    return Used([lambda: client.connect(served.url()), client.__aenter__], client.close)


async def use_client_pool(config: Any, served: Served) -> Used:
    pool = ClientPool.create(2, base_config=config)
    await pool.connect_all(served.url())
    return Used([lambda: pool.connect_all(served.url())], pool.close_all)


async def use_pooled_client(config: Any, served: Served) -> Used:
    pool = PooledClient(config=config)
    session = await pool.get_session(served.url())
    await pool.return_session(session)
    return Used(
        [
            lambda: pool.get_session(served.url()),
            lambda: pool.session(served.url()).__aenter__(),
            lambda: pool.return_session(session),
            pool.__aenter__,
        ],
        pool.close,
    )


async def use_browser(config: Any, served: Served) -> Used:
    browser = WebTransportBrowser(config=config)
    await browser.navigate(served.url())
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: browser.navigate(served.url()),
        browser.refresh,
        browser.back,
    ]
    return Used(calls, browser.close)


async def use_reconnecting_client(config: Any, served: Served) -> Used:
    client = ReconnectingClient(served.url(), config=config)
    await client.__aenter__()
    await client.get_session()
    return Used([client.get_session, client.__aenter__], client.close)


async def use_connection_pool(config: Any, served: Served) -> Used:
    pool = ConnectionPool()
    connection = await pool.get_connection(config=config, host=served.host, port=served.port)
    return Used(
        [
            lambda: pool.get_connection(config=config, host=served.host, port=served.port),
            lambda: pool.return_connection(connection),
        ],
        pool.close_all,
    )


async def use_load_balancer(config: Any, served: Served) -> Used:
    balancer = ConnectionLoadBalancer([(served.host, served.port)])
    await balancer.get_connection(config)
    return Used([lambda: balancer.get_connection(config)], balancer.shutdown)


USES = [
    use_client,
    use_client_pool,
    use_pooled_client,
    use_browser,
    use_reconnecting_client,
    use_connection_pool,
    use_load_balancer,
]


@pytest.mark.parametrize("use", USES)
def test_use_in_a_second_loop_is_refused(
    two_loops: tuple[Loop, Loop],
    serving: Serving,
    client_config: ClientFactory,
    use: Callable[[Any, Served], Awaitable[Used]],
) -> None:
    first, second = two_loops
    context = serving()
    served = first.run_until_complete(context.__aenter__())
    used: Used = first.run_until_complete(use(client_config(), served))
    for call in (*used.calls, used.close):
        with pytest.raises(ConfigurationError, match=r"event loop .* is another one") as caught:
            second.run_until_complete(_call(call))
        assert caught.value.config_key == "loop"
    # It works on where it belongs.
    first.run_until_complete(_call(used.close))
    first.run_until_complete(context.__aexit__(None, None, None))


async def _call(call: Callable[[], Awaitable[object]]) -> object:
    async with asyncio.timeout(10):
        return await call()


@contextlib.contextmanager
def served_by_a_thread(serving: Serving) -> Iterator[Served]:
    """A server whose loop continues while the loop of a client ends."""
    found: Future[Served] = Future()
    over = asyncio.Event()
    loops: list[Loop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with serving(close_timeout=0.05) as served:
            found.set_result(served)
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield found.result(10)
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join()


@pytest.mark.parametrize("use", USES)
def test_use_after_the_end_of_the_loop_is_refused(
    two_loops: tuple[Loop, Loop],
    serving: Serving,
    client_config: ClientFactory,
    use: Callable[[Any, Served], Awaitable[Used]],
) -> None:
    first, second = two_loops
    with served_by_a_thread(serving) as served:
        used: Used = first.run_until_complete(use(client_config(), served))
        tasks = asyncio.all_tasks(first)
        for task in tasks:
            task.cancel()
        if tasks:
            first.run_until_complete(asyncio.wait(tasks))
        first.close()
        for call in used.calls:
            with pytest.raises(ConfigurationError, match=r"event loop .* has ended") as caught:
                second.run_until_complete(_call(call))
            assert caught.value.config_key == "loop"
        # What it holds is given back all the same; the suite's check sees what is not.
        second.run_until_complete(_call(used.close))
