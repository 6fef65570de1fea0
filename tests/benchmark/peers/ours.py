"""This project, through its public API, as its documentation shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
    WebTransportStream,
    __version__,
)
from pywebtransport.exceptions import SessionClosedError
from pywebtransport.types import Data

from .shared.interface import READ_SIZE, Options, Stream

_BATCH = 64
_CONNECTIONS = 20000


def version() -> str:
    """The installed version."""
    return __version__


class Session:
    """One session."""

    __slots__ = ("_session", "incoming", "receive_datagram", "send_datagram", "wait_closed")

    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self.incoming = session.incoming_bidirectional_streams
        self.send_datagram = session.datagrams.send
        self.receive_datagram = session.datagrams.receive
        self.wait_closed = session.wait_closed

    @staticmethod
    def wrap(stream: WebTransportStream) -> Stream:
        return Stream(
            stream.write, stream.write_all, partial(stream.read, READ_SIZE), stream.read_all
        )

    async def open_stream(self) -> Stream:
        return self.wrap(await self._session.create_bidirectional_stream())

    async def send_datagrams(self, payloads: Iterator[bytes]) -> None:
        send = self._session.datagrams.send_multiple
        while True:
            batch: list[Data] = list(islice(payloads, _BATCH))
            if not batch:
                return
            await send(batch)

    async def receive_datagrams(self, sink: Callable[[Iterable[bytes]], object]) -> None:
        receive = self._session.datagrams.receive_many
        while True:
            sink(await receive())

    async def echo_datagrams(self) -> None:
        datagrams = self._session.datagrams
        while True:
            await datagrams.send(await datagrams.receive())

    async def close(self) -> None:
        await self._session.close()


class Client:
    """Sessions, each on its own connection."""

    def __init__(self, client: WebTransportClient, url: str) -> None:
        self._client = client
        self._url = url

    async def connect(self) -> Session:
        return Session(await self._client.connect(self._url))


@asynccontextmanager
async def client(options: Options) -> AsyncIterator[Client]:
    """A client that knows the certificate by its hash."""
    config = ClientConfig.create(
        server_certificate_hashes=[options.certificate_hash],
        max_connections=_CONNECTIONS,
        log_level="WARNING",
        **_fields(options),
    )
    async with WebTransportClient(config=config) as connecting:
        yield Client(connecting, f"https://127.0.0.1:{options.port}/")


@asynccontextmanager
async def serve(options: Options, handler: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
    """A server on a free port."""
    config = ServerConfig.create(
        certfile=options.certfile,
        keyfile=options.keyfile,
        max_connections=_CONNECTIONS,
        max_sessions=_CONNECTIONS,
        # All clients come from this machine.
        max_connections_per_address=None,
        max_sessions_per_address=None,
        access_log=False,
        log_level="WARNING",
        **_fields(options),
    )
    app = ServerApp(config=config)

    @app.route("/")
    async def accepted(session: WebTransportSession) -> None:
        with suppress(SessionClosedError):
            await handler(Session(session))

    async with app:
        await app.listen(host="127.0.0.1", port=0)
        address = app.server.local_address
        assert address is not None
        yield address[1]


def _fields(options: Options) -> dict[str, Any]:
    """Fields of both configurations."""
    fields: dict[str, Any] = {"busy_poll_us": options.busy_poll}
    if options.congestion:
        fields["congestion_control_algorithm"] = options.congestion
    return fields
