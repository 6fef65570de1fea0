"""A FastAPI application with a WebTransport server in the same event loop.

uvicorn --port 8000 fastapi_beside:web
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from pywebtransport import WebTransportSession, serve

sessions: set[WebTransportSession] = set()


async def listen(session: WebTransportSession) -> None:
    """Keep the session in the set for as long as it is open."""
    sessions.add(session)
    try:
        await session.wait_closed()
    finally:
        sessions.discard(session)


@asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncIterator[None]:
    port = int(os.environ.get("WEBTRANSPORT_PORT", "4433"))
    async with serve(listen, "localhost", port, drain_timeout=0) as server:
        web.state.server = server
        yield


web = FastAPI(lifespan=lifespan)


@web.get("/where")
async def where() -> dict[str, str]:
    """What a page needs to connect."""
    server = web.state.server
    return {"url": server.url, "certificate_hash": server.certificate_hash.hex()}


@web.post("/tell/{text}")
async def tell(text: str) -> dict[str, int]:
    """Send a text to every session."""
    return {"sent": sum(bool(session.datagrams.try_send(text)) for session in sessions)}
