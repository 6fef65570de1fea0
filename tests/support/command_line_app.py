"""Applications that the tests of the command line serve."""

from __future__ import annotations

import asyncio
import os

from pywebtransport import ServerApp, ServerConfig, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.server import echo_handler

__all__ = ["app", "failing", "make", "number", "private"]

app = ServerApp()
app.route("/echo")(echo_handler)
number = 7


@app.route("/idle")
async def idle(session: WebTransportSession) -> None:
    """Takes everything, and answers nothing."""


@app.route("/greeting")
async def greeting(session: WebTransportSession) -> None:
    """Says something by itself, and takes its time to answer."""
    await session.datagrams.send(b"welcome")
    async for datagram in session.datagrams:
        await asyncio.sleep(0.1)
        await session.datagrams.send(datagram)


@app.route("/bye")
async def bye(session: WebTransportSession) -> None:
    """Says something, and ends the session."""
    stream = await session.create_unidirectional_stream()
    await stream.write_all(b"one\ntwo \x1b[31m\n")
    await stream.wait_acknowledged()
    await session.close(code=7, reason="that is all")


@app.route("/failing")
async def fails(session: WebTransportSession) -> None:
    """Raises."""
    raise RuntimeError("no session today")


@app.route("/forbidden")
@app.route("/busy")
@app.route("/stuck")
@app.route("/hangup")
async def never(session: WebTransportSession) -> None:
    """The middleware answers."""


@app.middleware
async def doorkeeper(session: WebTransportSession) -> bool:
    """Refuses some paths, and answers one never."""
    if session.path == "/busy":
        raise SessionRejectedError(status_code=503, headers={"retry-after": "3"})
    if session.path == "/hangup":
        assert session.connection is not None
        session.connection.close_nowait(5, "gone\x1b[2J")
    if session.path == "/stuck":
        await asyncio.Event().wait()
    return session.path != "/forbidden"


def make() -> ServerApp:
    """Make another application."""
    return ServerApp()


def private() -> ServerApp:
    """Make one for clients with a certificate of the authority that CLIENT_CA names."""
    files = {"ca_certs": os.environ["CLIENT_CA"], "verify_mode": "CERT_REQUIRED"}
    private_app = ServerApp(config=ServerConfig.from_dict(files))
    private_app.route("/echo")(echo_handler)
    return private_app


def failing() -> ServerApp:
    """Fail to do so."""
    raise RuntimeError("no application today")
