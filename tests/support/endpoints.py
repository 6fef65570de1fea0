"""A server and a client for tests, on a free port of the loopback interface.

On a loop with a virtual clock they have no sockets: their packets go through ``network()``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.server import WebTransportServer
from pywebtransport.session import WebTransportSession
from pywebtransport.testing import Network, VirtualClockLoop

from .certificates import Certificates

Handler = Callable[[WebTransportSession], Awaitable[None]]
# Types of the fixtures.
Serving = Callable[..., AbstractAsyncContextManager["Served"]]
PairOfSessions = Callable[
    ..., AbstractAsyncContextManager[tuple[WebTransportSession, WebTransportSession]]
]
ClientFactory = Callable[..., ClientConfig]
ServerFactory = Callable[..., ServerConfig]


_networks: WeakKeyDictionary[asyncio.AbstractEventLoop, Network] = WeakKeyDictionary()


def network() -> Network | None:
    """The network of the running loop, if its clock is virtual."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return _networks.setdefault(loop, Network()) if isinstance(loop, VirtualClockLoop) else None


def make_server_config(certs: Certificates, **fields: Any) -> ServerConfig:
    """Fields over a certificate of ``certs.authority`` and a free port of 127.0.0.1."""
    defaults: dict[str, Any] = {
        "bind_host": "127.0.0.1",
        "bind_port": 0,
        "network": network(),
        "retry": "off",
        **certs.server.files,
    }
    return ServerConfig(**(defaults | fields))


def make_client_config(certs: Certificates, **fields: Any) -> ClientConfig:
    """Fields over trust in ``certs.authority``."""
    defaults: dict[str, Any] = {
        "ca_certs": certs.authority.certfile,
        "connect_timeout": 20.0,
        "network": network(),
    }
    return ClientConfig(**(defaults | fields))


class Served:
    """A server that listens.

    Attributes:
        app: The application.
        server: The server below.
        host, port: Where it listens first.
    """

    def __init__(self, app: ServerApp) -> None:
        self.app = app
        self.server: WebTransportServer = app.server
        address = self.server.local_address
        assert address is not None
        self.host, self.port = address

    def url(self, path: str = "/", *, host: str | None = None) -> str:
        """The URL of a path; ``host`` as it stands in a URL."""
        if host is None:
            host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}{path}"


async def _stay(session: WebTransportSession) -> None:
    """A handler that leaves the session to the client."""


@asynccontextmanager
async def serving(
    certs: Certificates,
    target: ServerApp | Handler | Mapping[str, Handler] | None = None,
    *,
    host: str | None = None,
    **fields: Any,
) -> AsyncIterator[Served]:
    """Serve ``target`` until the block is left; sessions that are open then are closed."""
    app = target if isinstance(target, ServerApp) else None
    if app is None:
        app = ServerApp(config=make_server_config(certs, **fields))
        if isinstance(target, Mapping):
            for path, handler in target.items():
                app.route(path)(handler)
        else:
            app.router.set_default_handler(_stay if target is None else target)
    async with app:
        await app.listen(host=host)
        try:
            yield Served(app)
        finally:
            await app.server.close(drain_timeout=0)


@asynccontextmanager
async def pair(
    certs: Certificates,
    *,
    client: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    path: str = "/",
) -> AsyncIterator[tuple[WebTransportSession, WebTransportSession]]:
    """Both ends of one session: the client's and the server's."""
    arrived: asyncio.Future[WebTransportSession] = asyncio.get_running_loop().create_future()

    async def accepted(session: WebTransportSession) -> None:
        if not arrived.done():
            arrived.set_result(session)

    config = make_client_config(certs, **(client or {}))
    async with (
        serving(certs, accepted, **(server or {})) as served,
        WebTransportClient(config=config) as opener,
    ):
        session = await opener.connect(served.url(path))
        yield session, await arrived
