"""An application for any server that knows the ASGI scope ``webtransport``.

It uses the names that servers share, and nothing of a package. Streams and datagrams come back; the
datagram "open" asks for a stream of the server's, and "close" for the end of the session.
"""

from __future__ import annotations

from typing import Any

__all__ = ["app"]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "webtransport":
        assert (await receive())["type"] == "webtransport.connect"
        if scope["path"] == "/refuse":
            await send({"type": "webtransport.close", "code": 404})
        else:
            await send({"type": "webtransport.accept"})
            await _serve(receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


async def _serve(receive: Any, send: Any) -> None:
    while True:
        event = await receive()
        match event["type"].removeprefix("webtransport."):
            case "stream.receive":
                await _write(send, event["stream"], event["data"], end=not event["more_data"])
            case "stream.opened":
                await _write(send, event["stream"], b"hello", end=True)
            case "datagram.receive" if event["data"] == b"open":
                await send({"type": "webtransport.stream.open", "bidirectional": False})
            case "datagram.receive" if event["data"] == b"close":
                await send({"type": "webtransport.close", "code": 7, "reason": "asked for"})
            case "datagram.receive":
                await send({"type": "webtransport.datagram.send", "data": event["data"]})
            case "disconnect":
                return


async def _write(send: Any, stream: int, data: bytes, *, end: bool) -> None:
    message = {"type": "webtransport.stream.send", "stream": stream, "data": data}
    await send({**message, "end_stream": end})
