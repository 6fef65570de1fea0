"""The package of this project's own name on PyPI: a Rust reactor in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from pywebtransport import (
    ClientConfig,
    ServerConfig,
    WebTransportBidirectionalStream,
    WebTransportClient,
    WebTransportConnection,
    WebTransportServer,
    WebTransportSession,
    __version__,
)

from .shared.interface import READ_SIZE, Options, Stream

_CONNECTIONS = 20000
_STREAMS = 1000
_DATAGRAMS = 4096
_WINDOW = 16 << 20


def version() -> str:
    """The installed version."""
    return __version__


class Session:
    """One session."""

    __slots__ = ("_connection", "_session", "incoming", "receive_datagram")

    def __init__(self, session: WebTransportSession, connection: WebTransportConnection) -> None:
        self._session = session
        self._connection = connection  # the session holds it weakly
        self.incoming = session.incoming_bidirectional_streams
        self.receive_datagram = session.read_datagram

    @staticmethod
    def wrap(stream: WebTransportBidirectionalStream) -> Stream:
        write, read = stream.write, stream.read
        return Stream(
            lambda data: write(data=data),
            lambda data: write(data=data, end_stream=True),
            lambda: read(max_size=READ_SIZE),
            stream.read_all,
        )

    async def open_stream(self) -> Stream:
        return self.wrap(await self._session.create_bidirectional_stream())

    async def send_datagram(self, data: bytes) -> None:
        await self._session.send_datagram(data=data)

    async def send_datagrams(self, payloads: Iterator[bytes]) -> None:
        send = self._session.send_datagram
        for data in payloads:
            await send(data=data)

    async def receive_datagrams(self, sink: Callable[[Iterable[bytes]], object]) -> None:
        receive = self._session.read_datagram
        while True:
            sink((await receive(),))

    async def echo_datagrams(self) -> None:
        session = self._session
        while True:
            await session.send_datagram(data=await session.read_datagram())

    async def wait_closed(self) -> None:
        async for _ in self._session.incoming_bidirectional_streams():
            pass

    async def close(self) -> None:
        await self._session.close()
        await self._connection.close()


class Client:
    """Sessions, each on its own connection."""

    def __init__(self, client: WebTransportClient, url: str) -> None:
        self._client = client
        self._url = url

    async def connect(self) -> Session:
        session = await self._client.connect(url=self._url)
        return Session(session, session.connection)


@asynccontextmanager
async def client(options: Options) -> AsyncIterator[Client]:
    """A client that accepts any certificate; it cannot check hashes."""
    logging.disable(logging.WARNING)
    config = ClientConfig(verify_mode=ssl.CERT_NONE, **_limits(options))
    async with WebTransportClient(config=config) as connecting:
        yield Client(connecting, f"https://127.0.0.1:{options.port}/")


@asynccontextmanager
async def serve(options: Options, handler: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
    """A server on ``options.port``: it does not take 0."""
    logging.disable(logging.WARNING)
    config = ServerConfig(
        bind_host="127.0.0.1",
        bind_port=options.port,
        certfile=options.certfile,
        keyfile=options.keyfile,
        **_limits(options),
    )
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def start(work: Any) -> None:
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def one(connection: WebTransportConnection) -> None:
        async for session in connection.incoming_sessions():
            await session.accept()
            start(handler(Session(session, connection)))

    async def accept(server: WebTransportServer) -> None:
        async for connection in server.incoming_connections():
            start(one(connection))

    async with WebTransportServer(config=config) as server:
        await server.listen()
        start(accept(server))
        yield options.port


def _limits(options: Options) -> dict[str, Any]:
    limits: dict[str, Any] = {
        "max_connections": _CONNECTIONS,
        "max_streams_bidi": _STREAMS,
        "initial_max_streams_bidi": _STREAMS,
        "max_pending_streams": _STREAMS,
        "max_pending_datagrams": _DATAGRAMS,
        "initial_max_data": _WINDOW,
        "session_receive_window": _WINDOW,
        "stream_receive_window": _WINDOW,
    }
    if options.congestion:
        limits["congestion_control_algorithm"] = options.congestion
    return limits
