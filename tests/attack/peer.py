"""A hostile peer at full speed: this project's engine, and any bytes above it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from pywebtransport._loop import Endpoint
from pywebtransport._loop.resolve import RemoteAddress
from pywebtransport._quic import CloseInfo, QuicConnection, QuicStream, QuicTls
from tests.integration import raw_h3 as h3

__all__ = ["ADDRESS", "Closed", "Peer", "engine"]

ADDRESS = "127.0.0.66"
"""Where attackers come from; well-behaved clients have another address."""

# Bytes of one stream that may wait in the engine: enough to keep it busy.
_AHEAD = 1 << 19
_PATIENCE = 5.0
_NO_ERROR = 0x100


class Closed(Exception):
    """The connection has ended."""


def engine(
    *, settings: dict[str, Any] | None = None, address: str = ADDRESS, **server: Any
) -> Endpoint:
    """An endpoint without manners; with ``server`` options, one that accepts."""
    values = {
        "max_datagram_frame_size": 65535,
        "datagram_queue_count": 4096,
        "max_streams_uni": 1 << 16,
        "max_streams_bidi": 1 << 16,
        "initial_max_data": 1 << 26,
        "initial_max_stream_data": 1 << 22,
        **(settings or {}),
    }
    if server:
        return Endpoint(is_server=True, settings=values, **server)
    tls = QuicTls(is_server=False, alpn=["h3"], verify=0)
    endpoint = Endpoint(is_server=False, settings=values, tls=tls)
    endpoint.open_socket(socket.AF_INET, (address, 0))
    return endpoint


class Peer:
    """One connection in the hands of an attack; hears what the engine calls.

    Attributes:
        quic: The engine's connection.
        end: How it ended, once it has.
        tokens: For later connections.
        drains: What comes on streams of the other end is read and forgotten; else it stays.
        streams: Those of the other end, in order.
    """

    def __init__(self, *, drains: bool = False) -> None:
        self.quic: QuicConnection | None = None
        self.end: CloseInfo | None = None
        self.tokens: list[bytes] = []
        self.has_token = asyncio.Event()
        self.drains = drains
        self.streams: list[QuicStream] = []
        self.control: QuicStream | None = None
        self.encoder: QuicStream | None = None
        self.decoder: QuicStream | None = None
        self.is_up = False
        self._protocol = ""
        self._news: asyncio.Future[None] | None = None

    @classmethod
    def connect(cls, endpoint: Endpoint, port: int, *, token: bytes | None = None) -> Peer:
        """Start a connection."""
        peer = cls()
        peer.quic = endpoint.connect(
            RemoteAddress(socket.AF_INET, ("127.0.0.1", port)),
            server_name="localhost",
            handler=peer,
            token=token,
        )
        return peer

    # --- what the engine calls

    def handshake_completed(self) -> None:
        self.is_up = True
        self._wake()

    def connection_closed(self, info: CloseInfo) -> None:
        self.end = info
        self._wake()

    def stream_ready(self, stream: QuicStream) -> None:
        self.streams.append(stream)
        if self.drains:
            stream.sink = drain
            drain(stream)
        self._wake()

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        pass

    def streams_available(self, unidirectional: bool) -> None:
        self._wake()

    def datagram_writable(self) -> None:
        self._wake()

    def path_changed(self, validated: bool) -> None:
        pass

    def session_ticket(self, ticket: bytes) -> None:
        pass

    def new_token(self, token: bytes) -> None:
        self.tokens.append(token)
        self.has_token.set()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # --- waiting

    async def news(self) -> None:
        """Wait for a fact about the connection.

        Raises:
            Closed: It has ended.
        """
        self.check()
        self._news = asyncio.get_running_loop().create_future()
        await self._news
        self.check()

    def check(self) -> None:
        """Raise ``Closed`` when the connection has ended."""
        if self.end is not None or self.quic is None or self.quic.is_closed:
            raise Closed

    async def up(self) -> None:
        """Wait for the handshake."""
        while not self.is_up:
            await self.news()

    # --- HTTP/3

    def start(self, settings: Mapping[int, int] = h3.DRAFT16) -> None:
        """Control stream with SETTINGS, and both QPACK streams."""
        self._protocol = "webtransport-h3" if h3.WT_16 in settings else "webtransport"
        self.control = self.must_open(b"\0" + h3.settings_frame(settings), unidirectional=True)
        self.encoder = self.must_open(b"\x02", unidirectional=True)
        self.decoder = self.must_open(b"\x03", unidirectional=True)

    def request(self, path: str) -> bytes:
        """What asks for a session, in the words of the draft that was announced."""
        return h3.connect(path, protocol=self._protocol)

    async def session(self, path: str, *, fin: bool = False) -> QuicStream:
        """Ask for a session and wait for the answer; returns the CONNECT stream.

        Raises:
            Closed: The connection, or the stream, has ended.
        """
        stream = await self.open(self.request(path), fin=fin)
        async with asyncio.timeout(_PATIENCE):
            while not stream.peek(1 << 16):
                if stream.is_reset or stream.at_eof:
                    raise Closed
                await readable(stream)
                self.check()
        frames = list(h3.read_frames(stream.peek(1 << 16)))
        if not frames or h3.decode_headers(frames[0].payload).get(":status") != "200":
            raise Closed
        return stream

    # --- streams

    def try_open(
        self, payload: bytes = b"", *, unidirectional: bool = False, fin: bool = False
    ) -> QuicStream | None:
        """Open a stream with its first bytes; None without credit."""
        self.check()
        assert self.quic is not None
        stream = self.quic.open_stream(unidirectional)
        if stream is not None and (payload or fin):
            stream.write(payload, fin)
        return stream

    def must_open(self, payload: bytes, *, unidirectional: bool = False) -> QuicStream:
        """The same, where there is credit."""
        stream = self.try_open(payload, unidirectional=unidirectional)
        if stream is None:
            raise Closed
        return stream

    async def open(
        self, payload: bytes = b"", *, unidirectional: bool = False, fin: bool = False
    ) -> QuicStream:
        """Open a stream as soon as there is credit."""
        while True:
            stream = self.try_open(payload, unidirectional=unidirectional, fin=fin)
            if stream is not None:
                return stream
            await self.news()

    async def write(self, stream: QuicStream, data: bytes) -> None:
        """Write, and wait while much waits already.

        Raises:
            Closed: The stream takes no more.
        """
        self.check()
        if not stream.can_write:
            raise Closed
        if stream.write(data) > _AHEAD:
            waiter = asyncio.get_running_loop().create_future()
            stream.set_write_waiter(waiter)
            await waiter
        else:
            await asyncio.sleep(0)

    async def flood(self, stream: QuicStream, block: bytes) -> None:
        """Write a block again and again until the end of the stream."""
        while True:
            await self.write(stream, block)


def drain(stream: QuicStream) -> None:
    """Read and forget."""
    if stream.is_reset:
        stream.release()
        return
    while stream.read():
        pass
    if stream.at_eof:
        stream.release()


async def readable(stream: QuicStream) -> None:
    """Wait until there is something to read, or its end."""
    waiter = asyncio.get_running_loop().create_future()
    stream.set_read_waiter(waiter)
    await waiter


def ended(info: CloseInfo | None) -> str:
    """How a connection ended, in a few words."""
    if info is None or (info.kind, info.code, info.remote) == ("application", _NO_ERROR, False):
        return "open until the end"
    side = "by the other end" if info.remote else "here"
    return f"{info.kind} {info.code:#x} {side}"
