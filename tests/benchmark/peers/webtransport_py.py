"""webtransport-py: ngtcp2 and nghttp3 behind objects without I/O, driven by an asyncio transport.

The asyncio classes of the package sleep for up to 10 ms after every packet and do not report the
end of a stream. So this program drives the documented objects without I/O, as those classes do.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from webtransport import h3, quic

from .shared.interface import Options, Stream

_WINDOW = 16 << 20
_STREAMS = 1 << 20
_IDLE = 60 * 10**9
# Datagrams that are sent before others may run: the library has no backpressure for them.
_TURN = 16

Handler = Callable[[Any], Awaitable[None]]


def version() -> str:
    """The installed version."""
    return importlib.metadata.version("webtransport-py")


class _Incoming:
    """What arrived on one stream."""

    __slots__ = ("ended", "parts", "waiter")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.ended = False
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def wait(self) -> None:
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter


class Connection:
    """One QUIC connection with one session: objects without I/O, a socket and a timer."""

    def __init__(
        self,
        connection: quic.Connection,
        session: h3.Session,
        send: Callable[[bytes], object],
        handler: Handler | None = None,
    ) -> None:
        self.quic = connection
        self.session = session
        self.session_id = -1
        self.streams: dict[int, _Incoming] = {}
        self.arrived: asyncio.Queue[int] = asyncio.Queue()
        self.datagrams: deque[bytes] = deque()
        self.datagram_waiter: asyncio.Future[None] | None = None
        self.loop = asyncio.get_running_loop()
        self.settled = asyncio.Event()
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self.closed = asyncio.Event()
        self._send = send
        self._handler = handler
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._ended: list[int] = []

    # --- what comes

    def receive(self, data: bytes) -> None:
        """A packet of the peer."""
        self.quic.receive(data)
        self._quic_events()
        self._session_events()
        if not self.closed.is_set():
            self.flush_soon()

    def _quic_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            kind = event.type
            if kind == quic.EventType.STREAM_DATA:
                self.session.receive_stream_data(event.stream_id, event.data, event.fin)
                if event.fin:
                    self._ended.append(event.stream_id)
                    # The end of a session is the end of its stream.
                    if event.stream_id == self.session_id:
                        self._close()
                # The first stream of a server is its control stream: it begins with SETTINGS.
                if event.stream_id == 3:
                    self.settled.set()
            elif kind == quic.EventType.DATAGRAM:
                self.session.receive_datagram(event.data)
            elif kind == quic.EventType.HANDSHAKE_COMPLETED:
                self._open_control_streams()
            elif kind == quic.EventType.CONNECTION_CLOSED:
                self._close()

    def _session_events(self) -> None:
        while (event := self.session.next_event()) is not None:
            kind = event.type
            if kind == h3.EventType.STREAM_DATA:
                incoming = self._incoming(event.stream_id)
                incoming.parts.append(event.data)
                incoming.wake()
            elif kind == h3.EventType.DATAGRAM:
                # It begins with a quarter of the session's ID, one byte as the ID is small.
                self.datagrams.append(event.data[1:])
                if self.datagram_waiter is not None and not self.datagram_waiter.done():
                    self.datagram_waiter.set_result(None)
            elif kind == h3.EventType.SESSION_READY:
                self._begin(event.session_id)
            elif kind == h3.EventType.SESSION_CLOSED:
                self._close()
        for stream_id in self._ended:
            incoming = self.streams.get(stream_id)
            if incoming is not None:
                incoming.ended = True
                incoming.wake()
        self._ended.clear()

    def _incoming(self, stream_id: int) -> _Incoming:
        incoming = self.streams.get(stream_id)
        if incoming is None:
            incoming = self.streams[stream_id] = _Incoming()
            self.arrived.put_nowait(stream_id)
        return incoming

    def _open_control_streams(self) -> None:
        session = self.session
        for bind in (
            session.bind_control_stream,
            session.bind_qpack_encoder_stream,
            session.bind_qpack_decoder_stream,
        ):
            bind(self.quic.open_stream(False))
        if self._handler is not None:
            session.set_max_client_streams_bidi(_STREAMS)

    def _begin(self, session_id: int) -> None:
        self.session_id = session_id
        if self._handler is None:
            if not self.ready.done():
                self.ready.set_result(None)
            return
        self.session.accept_session(session_id)
        self._task = self.loop.create_task(self._run(self._handler))

    async def _run(self, handler: Handler) -> None:
        await handler(Session(self))

    def _close(self) -> None:
        self.closed.set()
        if self._timer is not None:
            self._timer.cancel()

    # --- what goes

    def flush_soon(self) -> None:
        """Send before the loop turns next."""
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send all that may go now, and set the timer."""
        self._scheduled = False
        connection = self.quic
        for stream_id, data, ended in self.session.get_streams_to_send():
            connection.send_stream_data(stream_id, data, ended)
        for data in self.session.get_datagrams_to_send():
            connection.send_datagram(data)
        while packet := connection.send():
            self._send(packet)
        if self._timer is not None:
            self._timer.cancel()
        timeout = connection.get_timeout()
        if timeout is not None and not self.closed.is_set():
            self._timer = self.loop.call_later(max(0.0, timeout / 1e9), self._expired)

    def _expired(self) -> None:
        self.quic.handle_timeout()
        self._quic_events()
        self.flush()

    async def request(self, url: str) -> None:
        """Client: open the session."""
        self.flush()
        await self.settled.wait()
        self.session_id = self.quic.open_stream(True)
        if not self.session.connect(self.session_id, url):
            raise ConnectionError("the session cannot be requested")
        self.flush_soon()
        await self.ready

    def open(self) -> int:
        """A bidirectional stream."""
        stream_id: int = self.quic.open_stream(True)
        if not self.session.open_stream(self.session_id, stream_id, False):
            raise ConnectionError("no stream can be opened")
        self.streams[stream_id] = _Incoming()
        return stream_id

    def shut_down(self) -> None:
        """Close session and connection."""
        self.session.close_session(self.session_id)
        self.flush()
        self.quic.close()
        self.flush()
        self._close()


class Session:
    """One session, the only one of its connection."""

    __slots__ = ("_connection", "_release")

    def __init__(self, connection: Connection, release: Callable[[], object] = bool) -> None:
        self._connection = connection
        self._release = release

    def wrap(self, stream_id: int) -> Stream:
        connection = self._connection
        incoming = connection.streams[stream_id]

        async def write(data: bytes) -> None:
            # Does not return with this version: libraries.py leaves out what needs it.
            connection.session.send_stream_data(stream_id, data, False)
            connection.flush_soon()

        async def finish(data: bytes) -> None:
            connection.session.send_stream_data(stream_id, data, True)
            connection.flush_soon()

        async def read() -> bytes:
            while not incoming.parts and not incoming.ended:
                await incoming.wait()
            if not incoming.parts:
                connection.streams.pop(stream_id, None)
                return b""
            data = b"".join(incoming.parts)
            incoming.parts.clear()
            return data

        async def read_all() -> bytes:
            while not incoming.ended:
                await incoming.wait()
            connection.streams.pop(stream_id, None)
            return b"".join(incoming.parts)

        return Stream(write, finish, read, read_all)

    async def open_stream(self) -> Stream:
        return self.wrap(self._connection.open())

    async def incoming(self) -> AsyncIterator[int]:
        while True:
            yield await self._connection.arrived.get()

    async def send_datagram(self, data: bytes) -> None:
        connection = self._connection
        connection.session.send_datagram(connection.session_id, data)
        connection.flush_soon()

    async def receive_datagram(self) -> bytes:
        connection = self._connection
        while not connection.datagrams:
            connection.datagram_waiter = connection.loop.create_future()
            await connection.datagram_waiter
        return connection.datagrams.popleft()

    async def send_datagrams(self, payloads: Iterator[bytes]) -> None:
        connection = self._connection
        send, session_id = connection.session.send_datagram, connection.session_id
        for number, data in enumerate(payloads):
            send(session_id, data)
            if number % _TURN == 0:
                connection.flush()
                await asyncio.sleep(0)
        connection.flush()

    async def receive_datagrams(self, sink: Callable[[Iterable[bytes]], object]) -> None:
        while True:
            sink((await self.receive_datagram(),))

    async def echo_datagrams(self) -> None:
        while True:
            await self.send_datagram(await self.receive_datagram())

    async def wait_closed(self) -> None:
        await self._connection.closed.wait()

    async def close(self) -> None:
        self._connection.shut_down()
        self._release()


class _ClientSocket(asyncio.DatagramProtocol):
    """The socket of one connection."""

    connection: Connection

    def datagram_received(self, data: bytes, _: Any) -> None:
        self.connection.receive(data)


class Client:
    """Sessions, each on its own connection and socket."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def connect(self) -> Session:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            _ClientSocket, remote_addr=("127.0.0.1", self._port)
        )
        config = _configuration()
        config.verify_peer = False
        config.server_name = "localhost"
        settings = _settings(server=False)
        connection = Connection(
            quic.Connection.create_client(config),
            h3.Session.create_client(settings),
            transport.sendto,
        )
        protocol.connection = connection
        await connection.request(f"https://localhost:{self._port}/")
        return Session(connection, transport.close)


@asynccontextmanager
async def client(options: Options) -> AsyncIterator[Client]:
    """A client that accepts any certificate; it cannot check hashes."""
    yield Client(options.port)


class _ServerSocket(asyncio.DatagramProtocol):
    """The socket of all connections; they are told apart by the peer's address."""

    def __init__(self, options: Options, handler: Handler) -> None:
        self._options = options
        self._handler = handler
        self._connections: dict[Any, Connection] = {}

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        connection = self._connections.get(address)
        if connection is None or (connection.closed.is_set() and _is_initial(data)):
            if not _is_initial(data):
                return
            connection = self._connections[address] = self._accept(data, address)
        connection.receive(data)
        if connection.closed.is_set():
            self._connections.pop(address, None)

    def _accept(self, data: bytes, address: Any) -> Connection:
        config = _configuration()
        config.cert_file = self._options.certfile
        config.key_file = self._options.keyfile
        settings = _settings(server=True)
        return Connection(
            quic.Connection.accept(config, data),
            h3.Session.create_server(settings),
            lambda packet: self._transport.sendto(packet, address),
            self._handler,
        )


@asynccontextmanager
async def serve(options: Options, handler: Handler) -> AsyncIterator[int]:
    """A server on a free port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _ServerSocket(options, handler), local_addr=("127.0.0.1", 0)
    )
    yield transport.get_extra_info("sockname")[1]
    transport.close()


def _is_initial(data: bytes) -> bool:
    """A packet that begins a connection: long header, type 0, and padded."""
    return len(data) >= 1200 and data[0] & 0xF0 == 0xC0


def _settings(*, server: bool) -> h3.Config:
    settings = h3.Config()
    settings.is_server = server
    # A request that waits for the dynamic table of QPACK is sometimes forgotten.
    settings.qpack_max_dtable_capacity = 0
    settings.qpack_blocked_streams = 0
    return settings


def _configuration() -> quic.Config:
    config = quic.Config()
    config.alpn_protocols = ["h3"]
    config.idle_timeout_ns = _IDLE
    config.max_data = _WINDOW
    config.max_stream_data_bidi_local = _WINDOW
    config.max_stream_data_bidi_remote = _WINDOW
    config.max_streams_bidi = _STREAMS
    return config
