"""Sessions and WebSockets of applications leave nothing to the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

from wsproto.events import CloseConnection

from pywebtransport import WebTransportClient
from pywebtransport.asgi._websocket import _WebSocket
from pywebtransport.asgi._webtransport import _SessionEvents
from tests.support.asgi_http import asgi_served
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory
from tests.support.steps import until
from tests.support.websocket import WebSocketClient

from .conftest import Mounting


def alive(kind: type) -> int:
    return sum(type(item) is kind for item in gc.get_objects())


async def leaves_nothing(kind: type, use: Callable[[], Awaitable[None]]) -> None:
    """Without the collector, the objects of a kind are gone when what used them has ended."""
    await use()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            await use()
        await until(lambda: not alive(kind))
    finally:
        gc.enable()


async def test_sessions_leave_no_cycles(mounting: Mounting, client_config: ClientFactory) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "webtransport.accept"})
        await send({"type": "webtransport.stream.open"})
        while (event := await receive())["type"] != "webtransport.disconnect":
            if event["type"] == "webtransport.stream.receive":
                await send(
                    {
                        "type": "webtransport.stream.send",
                        "stream": event["stream"],
                        "data": event["data"],
                        "end_stream": event["end_stream"],
                    }
                )

    async with mounting(echo) as served, WebTransportClient(config=client_config()) as client:

        async def use() -> None:
            async with await client.connect(served.url()) as session:
                stream = await session.create_bidirectional_stream()
                await stream.write_all(b"x")
                assert await stream.read_all() == b"x"
                other = await session.create_bidirectional_stream()
                await other.write(b"y")
                assert await other.read() == b"y"
                await other.abort(1)
                unfinished = await session.create_bidirectional_stream()
                await unfinished.write(b"z")
                assert await unfinished.read() == b"z"

        await leaves_nothing(_SessionEvents, use)


async def test_websockets_leave_no_cycles(certs: Certificates) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] != "websocket.disconnect":
            await send({**event, "type": "websocket.send"})

    async with asgi_served(certs, echo) as served:

        async def use() -> None:
            client = WebSocketClient(served.client)
            await client.answer()
            client.send_text("x")
            assert await client.message() == "x"
            client.send(CloseConnection(code=1000))
            assert (await client.closed())[0] == 1000
            cut = WebSocketClient(served.client)
            await cut.answer()
            cut.exchange.cancel()
            await until(lambda: not served.server.http_requests.tasks)

        await leaves_nothing(_WebSocket, use)
