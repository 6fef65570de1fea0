"""Serving ASGI applications in tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pywebtransport import ServerApp

from .certificates import Certificates
from .endpoints import Served, make_server_config, serving
from .http3 import Http3Client, http3

__all__ = [
    "AsgiServed",
    "answer",
    "asgi_served",
    "body_of",
    "by_path",
    "echo",
    "echo_messages",
    "hello",
    "start",
    "until_over",
]

App = Callable[[Any, Any, Any], Awaitable[None]]


class AsgiServed:
    """A server with a mounted application, and a client."""

    def __init__(self, served: Served, client: Http3Client) -> None:
        self.served = served
        self.server = served.server
        self.client = client


@asynccontextmanager
async def asgi_served(
    certs: Certificates,
    app: App,
    *,
    client: Mapping[str, Any] | None = None,
    mount: Mapping[str, Any] | None = None,
    **fields: Any,
) -> AsyncIterator[AsgiServed]:
    """Serve an application, and connect an HTTP/3 client.

    Args:
        certs: Certificates.
        app: The application.
        client: Fields of the configuration of the client.
        mount: Keywords of ``ServerApp.mount``.
        **fields: Fields of the configuration of the server.
    """
    target = ServerApp(config=make_server_config(certs, **fields))
    target.mount(app, **{"lifespan": "off", "tcp": False, **(mount or {})})
    async with (
        serving(certs, target) as served,
        http3(certs, served, **(client or {})) as opened,
    ):
        yield AsgiServed(served, opened)


def by_path(**apps: App) -> App:
    """An application that gives a request to the one that is named like its path."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await apps[scope["path"].strip("/")](scope, receive, send)

    return app


def start(status: int = 200, *headers: tuple[bytes, bytes], **others: Any) -> dict[str, Any]:
    """``http.response.start``."""
    return {"type": "http.response.start", "status": status, "headers": list(headers), **others}


async def answer(
    send: Any, body: bytes = b"", status: int = 200, *headers: tuple[bytes, bytes]
) -> None:
    """Send a whole response."""
    await send(start(status, *headers))
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    """Read the whole body of a request."""
    pieces = []
    while True:
        event = await receive()
        assert event["type"] == "http.request", event
        pieces.append(event["body"])
        if not event["more_body"]:
            return b"".join(pieces)


async def until_over(receive: Any) -> int:
    """Wait for ``http.disconnect``; returns how many bytes came before."""
    count = 0
    while (event := await receive())["type"] != "http.disconnect":
        count += len(event["body"])
        await asyncio.sleep(0)
    return count


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers without a look at the request, and takes no sessions."""
    if scope["type"] == "webtransport":
        await send({"type": "webtransport.close"})
        return
    await answer(send, b"hello", 200, (b"content-length", b"5"))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that sends back what it gets, body or messages."""
    if scope["type"] == "websocket":
        await echo_messages(scope, receive, send)
    else:
        await answer(send, await body_of(receive))


async def echo_messages(scope: Any, receive: Any, send: Any) -> None:
    """A WebSocket that sends back each message."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
