"""web-transport-quinn: quinn under PyO3; awaits are answered by threads of Rust."""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import web_transport

from .shared.interface import READ_SIZE, Options, Stream

# Datagrams between two turns of the loop: sending one never waits, the oldest gives way.
_TURN = 16


def version() -> str:
    """The installed version."""
    return importlib.metadata.version("web-transport-quinn")


class Session:
    """One session."""

    __slots__ = ("_session", "receive_datagram", "wait_closed")

    def __init__(self, session: web_transport.Session) -> None:
        self._session = session
        self.receive_datagram = session.receive_datagram
        self.wait_closed = session.wait_closed

    @staticmethod
    def wrap(streams: tuple[web_transport.SendStream, web_transport.RecvStream]) -> Stream:
        send, receive = streams

        async def finish(data: bytes) -> None:
            if data:
                await send.write(data)
            await send.finish()

        return Stream(send.write, finish, partial(receive.read, READ_SIZE), receive.read)

    async def open_stream(self) -> Stream:
        return self.wrap(await self._session.open_bi())

    async def incoming(self) -> AsyncIterator[Any]:
        while True:
            yield await self._session.accept_bi()

    async def send_datagram(self, data: bytes) -> None:
        self._session.send_datagram(data)

    async def send_datagrams(self, payloads: Iterator[bytes]) -> None:
        send = self._session.send_datagram
        for number, data in enumerate(payloads):
            send(data)
            if number % _TURN == 0:
                await asyncio.sleep(0)

    async def receive_datagrams(self, sink: Callable[[Iterable[bytes]], object]) -> None:
        receive = self._session.receive_datagram
        while True:
            sink((await receive(),))

    async def echo_datagrams(self) -> None:
        session = self._session
        while True:
            session.send_datagram(await session.receive_datagram())

    async def close(self) -> None:
        self._session.close()
        await self._session.wait_closed()


class Client:
    """Sessions, each on its own connection."""

    def __init__(self, client: web_transport.Client, url: str) -> None:
        self._client = client
        self._url = url

    async def connect(self) -> Session:
        return Session(await self._client.connect(self._url))


@asynccontextmanager
async def client(options: Options) -> AsyncIterator[Client]:
    """A client that knows the certificate by its hash."""
    connecting = web_transport.Client(
        server_certificate_hashes=[bytes.fromhex(options.certificate_hash)],
        **_congestion(options),
    )
    async with connecting:
        yield Client(connecting, f"https://127.0.0.1:{options.port}/")


@asynccontextmanager
async def serve(options: Options, handler: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
    """A server on a free port."""
    server = web_transport.Server(
        **_identity(options),
        bind="127.0.0.1:0",
        **_congestion(options),
    )
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def one(request: web_transport.SessionRequest) -> None:
        await handler(Session(await request.accept()))

    async def accept() -> None:
        async for request in server:
            task = loop.create_task(one(request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async with server:
        accepting = loop.create_task(accept())
        yield server.local_addr[1]
        accepting.cancel()


def _identity(options: Options) -> dict[str, Any]:
    """The files in PEM, as the DER that the library takes."""
    lines = Path(options.keyfile).read_text().splitlines()
    body = "".join(line for line in lines if not line.startswith("-----"))
    certificate = ssl.PEM_cert_to_DER_cert(Path(options.certfile).read_text())
    return {"certificate_chain": [certificate], "private_key": base64.b64decode(body)}


def _congestion(options: Options) -> dict[str, Any]:
    return {"congestion_control": options.congestion} if options.congestion else {}
