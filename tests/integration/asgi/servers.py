"""Three servers for one ASGI application, each in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.certificates import Certificates
from tests.support.endpoints import make_server_config

__all__ = ["SERVERS", "TCP_SIDES", "Kind"]


Starting = Callable[[Any, Certificates], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def uvicorn_server(app: Any, certs: Certificates) -> AsyncIterator[int]:
    """uvicorn, HTTP/1.1 over TLS; yields its port."""
    import uvicorn

    class Server(uvicorn.Server):
        def capture_signals(self) -> contextlib.AbstractContextManager[None]:
            return contextlib.nullcontext()

    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="on",
        http="httptools",
        ws="wsproto",
        timeout_keep_alive=1,
        ssl_certfile=certs.server.certfile,
        ssl_keyfile=certs.server.keyfile,
    )
    listener = _listener()
    port = listener.getsockname()[1]
    server = Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield port
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def hypercorn_server(app: Any, certs: Certificates) -> AsyncIterator[int]:
    """hypercorn, HTTP/2 over TLS; yields its port."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    listener = _listener()
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.certfile, config.keyfile = certs.server.certfile, certs.server.keyfile
    config.errorlog = logging.getLogger("hypercorn.error")
    config.keep_alive_timeout = 0.5
    config.graceful_timeout = 0.1
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait, mode="asgi"))
    try:
        yield port
    finally:
        stop.set()
        try:
            await serving
        except* KeyError:
            pass  # hypercorn 0.18 fails on the client's answer to a close of its own


@asynccontextmanager
async def our_server(app: Any, certs: Certificates, **options: Any) -> AsyncIterator[int]:
    """This package, by default HTTP/3 only; yields its port."""
    from pywebtransport import ServerApp

    ours = ServerApp(config=make_server_config(certs))
    ours.mount(app, **({"tcp": False} | options))
    async with ours:
        await ours.listen()
        assert ours.server.local_address is not None
        try:
            yield ours.server.local_address[1]
        finally:
            await ours.server.close(drain_timeout=0)


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    listener.setblocking(False)
    return listener


@dataclass(frozen=True)
class Kind:
    """A server, and how it is spoken to.

    Attributes:
        title: In tables.
        version: Of HTTP.
        start: Starts it.
        is_ours: It is this package.
    """

    title: str
    version: str
    start: Starting
    is_ours: bool = False


SERVERS = {
    "uvicorn": Kind("uvicorn, HTTP/1.1", "1.1", uvicorn_server),
    "hypercorn": Kind("hypercorn, HTTP/2", "2", hypercorn_server),
    "ours": Kind("pywebtransport, HTTP/3", "3", our_server, is_ours=True),
}

# What each of the others is embedded as.
TCP_SIDES = {
    "uvicorn": Kind("this, HTTP/1.1", "1.1", functools.partial(our_server, tcp=True), True),
    "hypercorn": Kind(
        "this, HTTP/2", "2", functools.partial(our_server, tcp=True, http2=True), True
    ),
}
