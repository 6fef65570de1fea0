"""``close_timeout`` is a time in all: several slow steps share it, and whatever does not end.

The peers here have vanished: the network between the ends loses every packet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.client import ReconnectingClient
from pywebtransport.connection import ConnectionManager
from pywebtransport.events import EventBus, MemoryBackend
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.pubsub import Broker
from pywebtransport.rpc import RpcManager
from pywebtransport.session import SessionManager, WebTransportSession
from pywebtransport.testing import Network
from pywebtransport.types import EventType
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

pytestmark = pytest.mark.loops("virtual")

TIMEOUT = 2.0
# Two steps that take TIMEOUT each would need 4 seconds.
AT_MOST = 3.4
# What has no configuration takes 5 seconds.
DEFAULT = 5.0


class Stubborn:
    """A coroutine function that continues when it is cancelled, until the test releases it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._released = asyncio.Event()
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def __call__(self, *_: object) -> None:
        self._tasks.add(asyncio.current_task())
        self.entered.set()
        while not self._released.is_set():
            try:
                await self._released.wait()
            except asyncio.CancelledError:
                continue

    async def release(self) -> None:
        """Let it end, and wait for that."""
        self._released.set()
        tasks = self._tasks - {None, asyncio.current_task()}
        if tasks:
            await asyncio.wait([task for task in tasks if task is not None])


@pytest.fixture
def clock() -> Callable[[Awaitable[object]], Awaitable[float]]:
    async def elapsed(work: Awaitable[object]) -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await work
        return loop.time() - start

    return elapsed


Clock = Callable[[Awaitable[object]], Awaitable[float]]


@asynccontextmanager
async def gone_peer(
    serving: Serving, config: ClientConfig, count: int = 1
) -> AsyncIterator[tuple[WebTransportClient, list[WebTransportSession]]]:
    """A client whose server vanished, with a finished stream in each session."""
    path = Network()
    async with (
        serving(close_timeout=0.1, network=path) as served,
        WebTransportClient(config=config.update(network=path)) as client,
    ):
        sessions = [await client.connect(served.url()) for _ in range(count)]
        path.loss = 1.0
        for session in sessions:
            stream = await session.create_unidirectional_stream()
            await stream.write(b"nobody acknowledges this")
            await stream.close()
        yield client, sessions


async def test_a_session_its_connection_and_its_client(
    serving: Serving, client_config: ClientFactory, clock: Clock
) -> None:
    """Streams, the closing capsule and CONNECTION_CLOSE are three steps."""
    config = client_config(close_timeout=TIMEOUT)
    async with gone_peer(serving, config) as (client, (session,)):
        assert await clock(session.close()) < AT_MOST
        assert await clock(client.close()) < TIMEOUT
    async with gone_peer(serving, config) as (_, (session,)):
        connection = session.connection
        assert connection is not None
        assert await clock(connection.close()) < AT_MOST
    async with gone_peer(serving, config, 3) as (client, _):
        assert await clock(client.close()) < AT_MOST


async def test_managers(serving: Serving, client_config: ClientFactory, clock: Clock) -> None:
    config = client_config(close_timeout=TIMEOUT)
    async with gone_peer(serving, config, 3) as (_, sessions):
        manager = SessionManager()
        for session in sessions:
            await manager.add_session(session)
        assert await clock(manager.shutdown()) < AT_MOST
    async with gone_peer(serving, config, 3) as (_, sessions):
        connections = ConnectionManager()
        for session in sessions:
            assert session.connection is not None
            await connections.add_connection(session.connection)
        assert await clock(connections.shutdown()) < AT_MOST


async def test_a_server_whose_handler_goes_on(
    serving: Serving, client_config: ClientFactory, clock: Clock, expected_logs: ExpectedLogs
) -> None:
    """The handler is named with its session and its place; closing returns."""
    expected_logs(
        r"1 session handlers did not end .*: tests\.integration\.test_close_deadline\.test_\S*\."
        r"handler of session [\w-]+ \(/gone\) at \S*test_close_deadline\.py:\d+, "
        r"in Stubborn\.__call__ at \S*test_close_deadline\.py:\d+"
    )
    stubborn = Stubborn()

    async def handler(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        path.loss = 1.0
        await stream.write_all(b"nobody acknowledges this")
        await stubborn(session)

    path = Network()

    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(
            serving({"/gone": handler}, close_timeout=TIMEOUT, drain_timeout=0.0, network=path)
        )
        config = client_config(close_timeout=0.1, connect_timeout=0.2, network=path)
        client = await stack.enter_async_context(WebTransportClient(config=config))
        connecting = asyncio.create_task(client.connect(served.url("/gone")))
        await stubborn.entered.wait()
        assert await clock(served.server.close()) < AT_MOST
        await stubborn.release()
        await asyncio.wait({connecting})
        connecting.cancelled() or connecting.exception()


async def test_a_reconnecting_client_whose_listener_goes_on(
    serving: Serving, client_config: ClientFactory, clock: Clock, expected_logs: ExpectedLogs
) -> None:
    expected_logs("telling that the client was closed did not end in time: .*Stubborn.__call__")
    expected_logs("were cancelled, and are no longer waited for: .*Stubborn.__call__")
    stubborn = Stubborn()
    path = Network()
    config = client_config(close_timeout=TIMEOUT, network=path)
    async with serving(close_timeout=0.1, network=path) as served:
        client = ReconnectingClient(served.url(), config=config)
        client.on(EventType.CONNECTION_CLOSED, stubborn)
        async with client:
            session = await client.get_session(wait_timeout=None)
            assert session is not None
            path.loss = 1.0
            stream = await session.create_unidirectional_stream()
            await stream.write_all(b"nobody acknowledges this")
            assert await clock(client.close()) < AT_MOST
            await stubborn.release()


async def test_a_reconnecting_client_whose_hook_goes_on(
    serving: Serving, client_config: ClientFactory, clock: Clock, expected_logs: ExpectedLogs
) -> None:
    expected_logs("tasks of a reconnecting client did not end .*Stubborn.__call__ of session")
    stubborn = Stubborn()
    config = client_config(close_timeout=TIMEOUT)
    async with (
        serving() as served,
        ReconnectingClient(served.url(), config=config, on_session=stubborn) as client,
    ):
        await stubborn.entered.wait()
        assert await clock(client.close()) < AT_MOST
        await stubborn.release()


async def test_listeners_of_a_client_that_go_on(
    client_config: ClientFactory, clock: Clock, expected_logs: ExpectedLogs
) -> None:
    expected_logs("1 event handlers did not end .*Stubborn.__call__")
    stubborn = Stubborn()
    async with WebTransportClient(config=client_config(close_timeout=TIMEOUT)) as client:
        client.on("news", stubborn)
        client._emit_nowait("news")
        await stubborn.entered.wait()
        assert await clock(client.close()) < AT_MOST
        await stubborn.release()


async def test_remote_methods_that_go_on(
    pair: PairOfSessions, clock: Clock, expected_logs: ExpectedLogs
) -> None:
    expected_logs(r"1 remote calls did not end .*Stubborn.__call__ of session [\w-]+ \(/\)")
    stubborn = Stubborn()
    async with (
        pair(server={"close_timeout": TIMEOUT}) as (near, far),
        RpcManager(far) as callee,
        RpcManager(near) as caller,
    ):
        callee.register(stubborn, name="stubborn")
        await caller.notify("stubborn")
        await stubborn.entered.wait()
        assert await clock(callee.close()) < AT_MOST
        await stubborn.release()


class SlowBackend(MemoryBackend):
    """Takes longer than anybody waits."""

    def __init__(self, stubborn: Stubborn) -> None:
        super().__init__()
        self._stubborn = stubborn

    async def unsubscribe(self, subscription_id: str) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        await self._stubborn()


async def test_backends_that_go_on(clock: Clock, expected_logs: ExpectedLogs) -> None:
    expected_logs("releasing the backend of an event bus did not end in time")
    expected_logs("closing the backend of a broker did not end in time: .*Stubborn.__call__")
    expected_logs("closing the backend of a broker did not end when")
    stubborn = Stubborn()
    bus, broker = EventBus(SlowBackend(stubborn)), Broker(backend=SlowBackend(stubborn))
    await bus.start()
    await broker.start()
    assert await clock(asyncio.gather(bus.close(), broker.close())) < DEFAULT + 2
    await stubborn.release()


async def test_listeners_of_a_bus_that_go_on(clock: Clock, expected_logs: ExpectedLogs) -> None:
    expected_logs("1 event handlers did not end .*Stubborn.__call__")
    stubborn = Stubborn()
    bus = EventBus()
    bus.subscribe("news", stubborn)
    emitting = asyncio.create_task(bus.emit("news"))
    await stubborn.entered.wait()
    assert await clock(bus.close()) < DEFAULT
    await stubborn.release()
    await asyncio.wait({emitting})


async def test_a_relay_between_two_that_vanished(
    serving: Serving, client_config: ClientFactory, clock: Clock
) -> None:
    """What was on its way, the upstream session, and its connection have one time together."""
    path = Network()
    async with (
        serving(close_timeout=0.1, network=path) as upstream,
        WebTransportForwarder(
            f"https://{upstream.host}:{upstream.port}",
            config=client_config(close_timeout=TIMEOUT, network=path),
        ) as forwarder,
        serving(forwarder, close_timeout=TIMEOUT) as front,
        WebTransportClient(config=client_config()) as client,
    ):
        session = await client.connect(front.url())
        await until(lambda: forwarder.stats["sessions"])
        path.loss = 1.0
        stream = await session.create_unidirectional_stream()
        await stream.write_all(bytes(1000))
        await session.close()

        async def relayed() -> None:
            await until(lambda: not forwarder.stats["sessions"])

        assert await clock(relayed()) < AT_MOST
