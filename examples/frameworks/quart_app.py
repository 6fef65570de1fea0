"""A Quart application with a page, a WebSocket and WebTransport sessions.

pywebtransport serve quart_app:app --certfile localhost.crt --keyfile localhost.key
"""

from __future__ import annotations

from quart import Quart, request, websocket

from pywebtransport import WebTransportSession
from pywebtransport.asgi import WebTransportRouter

web = Quart(__name__)


@web.get("/hello/<name>")
async def hello(name: str) -> str:
    return f"hello, {name}"


@web.post("/upload")
async def upload() -> str:
    size = 0
    async for piece in request.body:
        size += len(piece)
    return f"{size} bytes"


@web.websocket("/shout")
async def shout() -> None:
    while True:
        await websocket.send((await websocket.receive()).upper())


app = WebTransportRouter(web)


@app.route("/room/{name}")
async def room(session: WebTransportSession) -> None:
    """Say where the client is, then send its datagrams back."""
    await session.datagrams.send(f"this is {session.path_params['name']}")
    async for datagram in session.datagrams:
        session.datagrams.try_send(datagram)
