"""A Starlette application with a page, a stream of events and WebTransport sessions.

pywebtransport serve starlette_app:app --certfile localhost.crt --keyfile localhost.key
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from pywebtransport import WebTransportSession
from pywebtransport.asgi import WebTransportRouter


async def upload(request: Request) -> PlainTextResponse:
    """Count a body of any size, piece by piece."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return PlainTextResponse(f"{size} bytes")


async def count(request: Request) -> StreamingResponse:
    async def numbers() -> AsyncIterator[str]:
        for number in range(int(request.query_params.get("to", "3"))):
            yield f"data: {number}\n\n"

    return StreamingResponse(numbers(), media_type="text/event-stream")


async def shout(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text.upper())


async def echo(session: WebTransportSession) -> None:
    """Datagrams go back as they come."""
    async for datagram in session.datagrams:
        session.datagrams.try_send(datagram)


routes = [
    Route("/upload", upload, methods=["POST"]),
    Route("/events", count),
    WebSocketRoute("/shout", shout),
]
app = WebTransportRouter(Starlette(routes=routes))
app.add_route("/echo", echo)
