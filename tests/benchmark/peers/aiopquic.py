"""aiopquic: picoquic in a thread of its own, beside the loop."""

from __future__ import annotations

import asyncio
import importlib.metadata
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiopquic._binding._transport import TransportContext
from aiopquic.asyncio.webtransport import (
    WebTransportClient,
    WebTransportSession,
    serve_webtransport,
)
from aiopquic.quic.configuration import QuicConfiguration
from aiopquic.quic.events import (
    WebTransportDatagramReceived,
    WebTransportNewStream,
    WebTransportStreamReset,
)

from .shared.interface import Options, Stream

_PATH = "/"
_CONNECTIONS = 4096


def version() -> str:
    """The installed version."""
    return importlib.metadata.version("aiopquic")


class Session:
    """One session."""

    __slots__ = ("_events", "_session")

    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self._events = session.events()

    def wrap(self, stream_id: int) -> Stream:
        session = self._session
        send = session.send_stream_data_drained
        events = session.receive_stream_data(stream_id)

        async def write(data: bytes) -> None:
            await send(stream_id, bytes(data))

        async def finish(data: bytes) -> None:
            await send(stream_id, bytes(data), end_stream=True)

        async def read() -> Any:
            async for event in events:
                if isinstance(event, WebTransportStreamReset):
                    raise ConnectionError(f"reset with {event.error_code:#x}")
                if event.data:
                    return event.data
            return b""

        async def read_all() -> bytes:
            parts = []
            while data := await read():
                parts.append(data)
            return b"".join(parts)

        return Stream(write, finish, read, read_all)

    async def open_stream(self) -> Stream:
        return self.wrap(await self._session.create_stream())

    async def incoming(self) -> AsyncIterator[int]:
        async for event in self._events:
            if isinstance(event, WebTransportNewStream):
                yield event.stream_id

    async def send_datagram(self, data: bytes) -> None:
        session = self._session
        while not session.send_datagram_frame(data):
            await session.get_datagram_tx_drain_event().wait()

    async def receive_datagram(self) -> Any:
        async for event in self._events:
            if isinstance(event, WebTransportDatagramReceived):
                return event.data
        raise ConnectionError("the session is closed")

    async def send_datagrams(self, payloads: Iterator[bytes]) -> None:
        send = self._session.send_datagram_frame
        drained = self._session.get_datagram_tx_drain_event()
        for data in payloads:
            while not send(data):
                await drained.wait()

    async def receive_datagrams(self, sink: Callable[[Iterable[Any]], object]) -> None:
        async for event in self._events:
            if isinstance(event, WebTransportDatagramReceived):
                sink((event.data,))

    async def echo_datagrams(self) -> None:
        async for event in self._events:
            if isinstance(event, WebTransportDatagramReceived):
                await self.send_datagram(bytes(event.data))

    async def wait_closed(self) -> None:
        await self._session.wait_closed()

    async def close(self) -> None:
        await self._session.aclose()
        await self._session.detach()


class Client:
    """Sessions, each on its own connection of one transport: one thread for all of them."""

    def __init__(self, transport: TransportContext, port: int) -> None:
        self._transport = transport
        self._port = port

    async def connect(self) -> Session:
        session = WebTransportClient(
            self._transport, "127.0.0.1", self._port, _PATH, sni="localhost"
        )
        await session.open()
        return Session(session)


@asynccontextmanager
async def client(options: Options) -> AsyncIterator[Client]:
    """A client that accepts any certificate; it cannot check hashes."""
    configuration = _configuration(options)
    transport = TransportContext()
    transport.start(
        is_client=True,
        alpn="h3",
        verify_peer=False,
        max_datagram_frame_size=configuration.max_datagram_frame_size,
        rx_data_ring_cap=configuration.max_stream_data,
        initial_max_data=configuration.max_data,
        initial_max_streams_uni=configuration.max_streams_uni,
        initial_max_streams_bidi=configuration.max_streams_bidi,
        idle_timeout_ms=int(configuration.idle_timeout * 1000),
        congestion_control_algorithm=configuration.congestion_control_algorithm,
    )
    yield Client(transport, options.port)


@asynccontextmanager
async def serve(options: Options, handler: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
    """A server on ``options.port``: it does not tell which one it took."""

    async def accepted(session: WebTransportSession) -> None:
        await handler(Session(session))

    server = await serve_webtransport(
        "127.0.0.1",
        options.port,
        _PATH,
        handler=accepted,
        cert_file=options.certfile,
        key_file=options.keyfile,
        configuration=_configuration(options),
    )
    # The network thread opens the socket; nothing tells when but this flag.
    await asyncio.to_thread(_spin, server)
    yield options.port


def _spin(server: Any) -> None:
    while not server._transport.thread_ready:
        time.sleep(0.001)


def _configuration(options: Options) -> QuicConfiguration:
    fields: dict[str, Any] = {}
    if options.congestion:
        fields["congestion_control_algorithm"] = options.congestion
    return QuicConfiguration(
        alpn_protocols=["h3"],
        is_client=options.role == "client",
        verify_mode=ssl.CERT_NONE,
        max_connections=_CONNECTIONS,
        **fields,
    )
