"""Serving ASGI applications over TCP in tests, and clients for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx
import websockets

from pywebtransport import ServerApp

from .certificates import Certificates
from .endpoints import Served, make_server_config

__all__ = ["RawTcp", "TcpServed", "tcp_served", "tls_of"]

App = Callable[[Any, Any, Any], Awaitable[None]]


def tls_of(certs: Certificates) -> ssl.SSLContext:
    """What a TLS client of the tests trusts; httpx changes what it gets."""
    return ssl.create_default_context(cafile=certs.authority.certfile)


class TcpServed:
    """A server with a mounted application, as TCP clients see it.

    Attributes:
        served: The server.
        tls: What clients trust; HTTP clients have one of their own.
    """

    def __init__(self, served: Served, certs: Certificates) -> None:
        self.served = served
        self.server = served.server
        self.app = served.app
        self._certs = certs
        self.tls = tls_of(certs)

    def url(self, path: str = "/") -> str:
        """The URL of a path."""
        return self.served.url(path)

    def http(self, **options: Any) -> httpx.AsyncClient:
        """A client; ``http2=True`` for HTTP/2."""
        options.setdefault("verify", tls_of(self._certs))
        return httpx.AsyncClient(base_url=self.url(""), timeout=20, trust_env=False, **options)

    def websocket(self, path: str = "/", **options: Any) -> Any:
        """A WebSocket: ``async with served.websocket() as socket``."""
        url = self.url(path).replace("https", "wss", 1)
        return websockets.connect(url, ssl=self.tls, proxy=None, **options)

    async def raw(self) -> RawTcp:
        """A TLS connection."""
        reader, writer = await asyncio.open_connection(
            self.served.host, self.served.port, ssl=self.tls
        )
        return RawTcp(reader, writer)


class RawTcp:
    """A TLS connection of a client that writes what the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        """Read the head of a response."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """Read until the server ends the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def pause(self) -> None:
        """Take nothing more, not even the end of the connection."""
        transport: Any = self.writer.transport
        transport.pause_reading()

    def close(self) -> None:
        """End it, whatever the server thinks."""
        self.writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()


@asynccontextmanager
async def tcp_served(
    certs: Certificates,
    app: App,
    *,
    mount: Mapping[str, Any] | None = None,
    **fields: Any,
) -> AsyncIterator[TcpServed]:
    """Serve an application over TCP and HTTP/3.

    Args:
        certs: Certificates.
        app: The application.
        mount: Keywords of ``ServerApp.mount``.
        **fields: Fields of the configuration of the server.
    """
    config = make_server_config(certs, **{"network": None, "drain_timeout": 0, **fields})
    target = ServerApp(config=config)
    target.mount(app, **{"lifespan": "off", "tcp": True, **(mount or {})})
    async with target:
        await target.listen()
        yield TcpServed(Served(target), certs)
