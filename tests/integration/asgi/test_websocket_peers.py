"""WebSockets over HTTP/3 with code of others: aioquic as the client, frameworks as applications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from wsproto.events import CloseConnection

from tests.support.asgi_http import asgi_served
from tests.support.certificates import Certificates
from tests.support.websocket import WebSocketClient

from .clients import WebSocket as WebSocketOf
from .conftest import Mounting


def starlette_app() -> Any:
    async def echo(socket: Any) -> None:
        await socket.accept()
        while True:
            try:
                await socket.send_text(await socket.receive_text())
            except WebSocketDisconnect:
                return

    return Starlette(routes=[WebSocketRoute("/echo", echo)])


def fastapi_app() -> Any:
    app = FastAPI()

    # The annotation is looked up in the module.
    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    return app


@pytest.mark.loops("asyncio")
async def test_aioquic_is_the_client(mounting: Mounting, certs: Certificates) -> None:
    async with (
        mounting(starlette_app()) as served,
        WebSocketOf.opened("3", served.port, certs.authority.certfile, "/echo") as socket,
    ):
        assert socket.status == 200
        for text in ("hello", "☃" * 40_000):
            assert await socket.echo(text) == text
        await socket.close(1000)
        assert socket.closed is not None
        assert socket.closed[0] == 1000
        assert await socket.event() is None  # the end of the stream


@pytest.mark.parametrize("make", [starlette_app, fastapi_app])
async def test_frameworks_are_the_application(certs: Certificates, make: Callable[[], Any]) -> None:
    async with asgi_served(certs, make()) as served:
        client = WebSocketClient(served.client, "/echo")
        assert (await client.answer()).status == 200
        for text in ("one", "☃", ""):
            client.send_text(text)
            assert await client.message() == text
        client.send(CloseConnection(code=1001))
        assert await client.closed() == (1001, "")
        unknown = WebSocketClient(served.client, "/unknown")
        assert (await unknown.exchange.finish()).status == 403
