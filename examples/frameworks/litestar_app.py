"""A Litestar application with a page, a WebSocket and WebTransport sessions.

pywebtransport serve litestar_app:app --certfile localhost.crt --keyfile localhost.key
"""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, get, post
from litestar.handlers import websocket_listener

from pywebtransport import WebTransportSession, WebTransportStream
from pywebtransport.asgi import WebTransportRouter


@get("/hello")
async def hello() -> dict[str, str]:
    return {"hello": "world"}


@post("/upload", status_code=200)
async def upload(request: Request[Any, Any, Any]) -> dict[str, int]:
    return {"bytes": sum([len(piece) async for piece in request.stream()])}


@websocket_listener("/shout")
async def shout(data: str) -> str:
    return data.upper()


async def reverse(stream: WebTransportStream) -> None:
    await stream.write_all((await stream.read_all(max_size=65536))[::-1])


app = WebTransportRouter(Litestar([hello, upload, shout]))


@app.route("/reverse")
async def answer(session: WebTransportSession) -> None:
    """Each stream gets its bytes back, from the last to the first."""
    await session.serve_streams(reverse)
