"""Streams that a client gives up halfway cost the echo and the forwarder nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pywebtransport import ServerApp, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import WebTransportError
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.forwarder import _relay as relay_module
from pywebtransport.server import create_echo_server_app
from pywebtransport.server.utils import echo_handler
from pywebtransport.types import SessionCloseInfo
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

# More than the streams that one client may have open.
MANY = 150
LIMITS = {"initial_max_streams_bidi": 20, "initial_max_streams_uni": 20}


async def reset(session: WebTransportSession) -> None:
    stream = await session.create_bidirectional_stream(timeout=20)
    await stream.write(b"hello")
    stream.reset(7)
    stream.stop_sending(7)


async def reset_alone(session: WebTransportSession) -> None:
    """The other half is read to its end, whatever that is."""
    stream = await session.create_bidirectional_stream(timeout=20)
    await stream.write(b"hello")
    stream.reset(7)
    try:
        await stream.read_all()
    except WebTransportError:
        return


async def stop_alone(session: WebTransportSession) -> None:
    stream = await session.create_bidirectional_stream(timeout=20)
    stream.stop_sending(7)
    try:
        await stream.write_all(b"hello")
    except WebTransportError:
        return


async def reset_at_once(session: WebTransportSession) -> None:
    stream = await session.create_bidirectional_stream(timeout=20)
    await stream.abort(3)


async def reset_unidirectional(session: WebTransportSession) -> None:
    stream = await session.create_unidirectional_stream(timeout=20)
    await stream.write(b"hello")
    stream.reset(7)


WAYS = [reset, reset_alone, stop_alone, reset_at_once, reset_unidirectional]


async def give_up_many(
    session: WebTransportSession,
    servers: list[ServerApp],
    way: Callable[[WebTransportSession], Awaitable[None]],
) -> None:
    """Each of them would cost one of the streams that may be open."""
    # The echo of a unidirectional stream is one that the server opens.
    discards = asyncio.create_task(discard(session))
    for _ in range(MANY):
        await way(session)
    for app in servers:
        (far,) = app.server.sessions
        await until(lambda far=far: not far._streams)
    await session.close()
    await discards


async def discard(session: WebTransportSession) -> None:
    async for stream in session.incoming_unidirectional_streams():
        stream.stop_sending(0)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_echo(
    serving: Serving,
    server_config: ServerFactory,
    client_config: ClientFactory,
    way: Callable[[WebTransportSession], Awaitable[None]],
) -> None:
    app = create_echo_server_app(config=server_config(**LIMITS))
    async with serving(app) as served, WebTransportClient(config=client_config()) as client:
        await give_up_many(await client.connect(served.url()), [app], way)
        assert (await app.server.get_server_stats())["handler_errors"] == 0


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_forwarder(
    serving: Serving,
    server_config: ServerFactory,
    client_config: ClientFactory,
    way: Callable[[WebTransportSession], Awaitable[None]],
) -> None:
    back_app, front_app = (
        ServerApp(config=server_config(**LIMITS)),
        ServerApp(config=server_config(**LIMITS)),
    )
    back_app.router.set_default_handler(echo_handler)
    async with serving(back_app) as back:
        forwarder = WebTransportForwarder(back.url().rstrip("/"), config=client_config())
        front_app.router.set_default_handler(forwarder)
        front_app.on_shutdown(forwarder.close)
        async with (
            serving(front_app) as front,
            WebTransportClient(config=client_config()) as client,
        ):
            await give_up_many(await client.connect(front.url()), [front_app, back_app], way)
            await until(lambda: forwarder.stats["streams"] == 0)


async def test_a_relay_that_fails_says_so_and_ends_both_sessions(
    serving: Serving,
    server_config: ServerFactory,
    client_config: ClientFactory,
    expected_logs: ExpectedLogs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No silent half: data from one side would not reach anybody."""
    expected_logs("relaying raised LookupError: a mistake in the relay .*path /a")

    def mistake(*_: object) -> None:
        raise LookupError("a mistake in the relay")

    arrived: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    async with serving(arrived.put) as back:
        forwarder = WebTransportForwarder(back.url().rstrip("/"), config=client_config())
        app = ServerApp(config=server_config())
        app.route("/a")(forwarder)
        app.on_shutdown(forwarder.close)
        async with serving(app) as front, WebTransportClient(config=client_config()) as client:
            session = await client.connect(front.url("/a"))
            far = await arrived.get()
            monkeypatch.setattr(relay_module, "_watch", mistake)
            stream = await session.create_bidirectional_stream()
            await stream.write(b"hello")
            wanted = SessionCloseInfo(1, "internal error", True)
            assert await session.wait_closed() == await far.wait_closed() == wanted
