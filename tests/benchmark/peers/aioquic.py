"""aioquic: QUIC and HTTP/3 in Python; a session is a request, and the rest is up to its user.

aioquic keeps all that it is given to send and tells nobody when it left, so this module looks at
its buffers: without that a fast producer would fill the memory.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.asyncio import serve as serve_quic
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DatagramReceived, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived

from .shared.interface import Backlog, Options, Stream

_BUFFER = 1 << 20
_DATAGRAMS = 256
_BATCH = 16
_WINDOW = 16 << 20
_PACKET = 1452


def version() -> str:
    """The installed version."""
    return importlib.metadata.version("aioquic")


class _Incoming:
    """What came on one stream."""

    __slots__ = ("chunks", "ended", "waiter")

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.ended = False
        self.waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes, ended: bool) -> None:
        if data:
            self.chunks.append(data)
        self.ended |= ended
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def read(self) -> bytes:
        while not self.chunks and not self.ended:
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        return self.chunks.popleft() if self.chunks else b""


class Protocol(QuicConnectionProtocol):
    """A connection with one session."""

    def __init__(self, *arguments: Any, handler: Any = None, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.http = H3Connection(self._quic, enable_webtransport=True)
        self._handler = handler
        self.streams: dict[int, _Incoming] = {}
        self._opened: set[int] = set()
        self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()
        self.arrived: asyncio.Queue[int] = asyncio.Queue()
        self._answered: asyncio.Future[str] = self._loop.create_future()
        self.backlog = Backlog()
        self._task: asyncio.Task[None] | None = None
        self.session_id = -1

    # --- what comes

    def datagram_received(self, data: Any, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.backlog.progress()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.stream_id in self._opened:
            # aioquic would read the answer on a stream that it opened as frames of HTTP/3.
            self._feed(event.stream_id, event.data, event.end_stream)
            return
        for http_event in self.http.handle_event(event):
            if isinstance(http_event, WebTransportStreamDataReceived):
                if http_event.stream_id not in self.streams:
                    self.arrived.put_nowait(http_event.stream_id)
                self._feed(http_event.stream_id, http_event.data, http_event.stream_ended)
            elif isinstance(http_event, DatagramReceived):
                self.datagrams.put_nowait(http_event.data)
            elif isinstance(http_event, HeadersReceived):
                self._headers(http_event)

    def _feed(self, stream_id: int, data: bytes, ended: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self.streams[stream_id] = _Incoming()
        stream.feed(data, ended)

    def _headers(self, event: HeadersReceived) -> None:
        headers = dict(event.headers)
        if self._handler is None:
            self._answered.set_result(headers[b":status"].decode())
            return
        self.session_id = event.stream_id
        answer = [(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")]
        self.http.send_headers(event.stream_id, answer)
        session = Session(self, self.wait_closed)
        self._task = self._loop.create_task(self._handler(session))

    # --- what goes

    async def request(self, authority: str) -> None:
        """Client: open the session."""
        self.session_id = self._quic.get_next_available_stream_id()
        headers = [
            (b":method", b"CONNECT"),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", b"/"),
            (b":protocol", b"webtransport"),
            (b"sec-webtransport-http3-draft02", b"1"),
        ]
        self.http.send_headers(self.session_id, headers)
        self.transmit()
        status = await self._answered
        if status != "200":
            raise ConnectionError(f"the server answered {status}")

    def open(self) -> int:
        """Open a stream; aioquic itself holds it back while the peer's limit is reached."""
        stream_id = self.http.create_webtransport_stream(self.session_id)
        self._opened.add(stream_id)
        return stream_id

    def send(self, stream_id: int, data: bytes, ended: bool = False) -> None:
        """Send before the loop turns next."""
        self._quic.send_stream_data(stream_id, data, ended)
        self._transmit_soon()

    def unsent(self, stream_id: int) -> int:
        """Bytes of a stream that are not acknowledged."""
        sender = self._quic._streams[stream_id].sender
        return sender._buffer_stop - sender._buffer_start

    def unsent_datagrams(self) -> int:
        """Datagrams that wait."""
        return len(self._quic._datagrams_pending)


class Session:
    """One session, the only one of its connection."""

    __slots__ = ("_protocol", "_release")

    def __init__(self, protocol: Protocol, release: Callable[[], Awaitable[object]]) -> None:
        self._protocol = protocol
        self._release = release

    def wrap(self, stream_id: int) -> Stream:
        protocol = self._protocol
        incoming = protocol.streams.setdefault(stream_id, _Incoming())

        async def write(data: bytes) -> None:
            protocol.send(stream_id, data)
            while protocol.unsent(stream_id) > _BUFFER:
                await protocol.backlog.wait()

        async def finish(data: bytes) -> None:
            protocol.send(stream_id, data, True)

        async def read() -> bytes:
            data = await incoming.read()
            if not data:
                protocol.streams.pop(stream_id, None)
            return data

        async def read_all() -> bytes:
            parts = []
            while data := await read():
                parts.append(data)
            return b"".join(parts)

        return Stream(write, finish, read, read_all)

    async def open_stream(self) -> Stream:
        return self.wrap(self._protocol.open())

    async def incoming(self) -> AsyncIterator[int]:
        while True:
            yield await self._protocol.arrived.get()

    async def send_datagram(self, data: bytes) -> None:
        protocol = self._protocol
        protocol.http.send_datagram(protocol.session_id, data)
        protocol.transmit()

    async def receive_datagram(self) -> bytes:
        return await self._protocol.datagrams.get()

    async def send_datagrams(self, payloads: Iterator[bytes]) -> None:
        protocol = self._protocol
        send, session_id = protocol.http.send_datagram, protocol.session_id
        while batch := list(islice(payloads, _BATCH)):
            for data in batch:
                send(session_id, data)
            protocol.transmit()
            await asyncio.sleep(0)
            while protocol.unsent_datagrams() > _DATAGRAMS:
                await protocol.backlog.wait()

    async def receive_datagrams(self, sink: Callable[[Iterable[bytes]], object]) -> None:
        receive = self._protocol.datagrams.get
        while True:
            sink((await receive(),))

    async def echo_datagrams(self) -> None:
        while True:
            await self.send_datagram(await self._protocol.datagrams.get())

    async def wait_closed(self) -> None:
        await self._protocol.wait_closed()

    async def close(self) -> None:
        await self._release()


class Client:
    """Sessions, each on a connection and a socket of its own: aioquic knows no other way."""

    def __init__(self, options: Options) -> None:
        self._options = options

    async def connect(self) -> Session:
        options = self._options
        stack = AsyncExitStack()
        protocol = await stack.enter_async_context(
            connect(
                "127.0.0.1",
                options.port,
                configuration=_configuration(options),
                create_protocol=Protocol,
            )
        )
        assert isinstance(protocol, Protocol)
        await protocol.request(f"127.0.0.1:{options.port}")
        return Session(protocol, stack.aclose)


@asynccontextmanager
async def client(options: Options) -> AsyncIterator[Client]:
    """A client that accepts any certificate; it cannot check hashes."""
    yield Client(options)


@asynccontextmanager
async def serve(options: Options, handler: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
    """A server on ``options.port``."""
    configuration = _configuration(options)
    configuration.load_cert_chain(options.certfile, options.keyfile)

    def protocol(*arguments: Any, **keywords: Any) -> Protocol:
        return Protocol(*arguments, handler=handler, **keywords)

    await serve_quic(
        "127.0.0.1", options.port, configuration=configuration, create_protocol=protocol
    )
    yield options.port


def _configuration(options: Options) -> QuicConfiguration:
    fields = {"congestion_control_algorithm": options.congestion} if options.congestion else {}
    return QuicConfiguration(
        alpn_protocols=["h3"],
        is_client=options.role == "client",
        verify_mode=ssl.CERT_NONE,
        max_data=_WINDOW,
        max_stream_data=_WINDOW,
        max_datagram_frame_size=65536,
        max_datagram_size=_PACKET,
        **fields,
    )
