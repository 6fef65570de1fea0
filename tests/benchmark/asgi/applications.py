"""The applications that are served: a bare ASGI function, and one of Starlette."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

__all__ = ["BLOCK", "BODY", "bare", "starlette"]

BODY = b"Hello, world!"
BLOCK = bytes(1 << 16)
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"13")],
}
_BODY = {"type": "http.response.body", "body": BODY}
_waiting = 0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer ``/``; other paths move large bodies, wait, or tell how much memory is used."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    path = scope["path"]
    if path == "/":
        await send(_START)
        await send(_BODY)
    elif path.startswith("/download/"):
        await _download(int(path.rpartition("/")[2]), send)
    elif path == "/upload":
        await _answer(send, str(await _size_of_body(receive)).encode())
    elif path == "/wait":
        await _wait(receive)
    else:
        await _answer(send, json.dumps({"waiting": _waiting, "resident": _resident()}).encode())


def _resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _answer(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def _download(size: int, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(size // len(BLOCK)):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _size_of_body(receive: Receive) -> int:
    size = 0
    while True:
        event = await receive()
        size += len(event.get("body", b""))
        if not event.get("more_body", False):
            return size


async def _wait(receive: Receive) -> None:
    """A long poll: until the client leaves."""
    global _waiting
    _waiting += 1
    await receive()
    await receive()


def starlette() -> Any:
    """An application with one route."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse(BODY)

    return Starlette(routes=[Route("/", hello)])


async def stream_bodies(session: Any) -> None:
    """The same large bodies on streams of a WebTransport session: "download SIZE", or an upload."""

    async def answer(stream: Any) -> None:
        first = await stream.readexactly(24)
        if first.startswith(b"download"):
            for _ in range(int(first[8:]) // len(BLOCK)):
                await stream.write(BLOCK)
        else:
            size = len(first)
            while data := await stream.read():
                size += len(data)
            await stream.write(str(size).encode())
        await stream.close()

    async with asyncio.TaskGroup() as tasks:
        async for stream in session.incoming_bidirectional_streams():
            tasks.create_task(answer(stream))
