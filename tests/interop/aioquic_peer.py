"""aioquic as a WebTransport client and server (draft-02), in this process."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import (
    DatagramReceived,
    DataReceived,
    H3Event,
    HeadersReceived,
    WebTransportStreamDataReceived,
)
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from tests.support.certificates import Certificates

from .link import Digest, Far, pattern

__all__ = ["aioquic_client", "aioquic_server"]

_PATIENCE = 30.0
# Bytes handed to aioquic at once; it keeps all it is given.
_CHUNK = 1 << 20
_WINDOW = 8 << 20
_CODE_BASE = 0x52E4A40FA8DB
_CLOSE = b"\x68\x43"

T = TypeVar("T")


class _Stream:
    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.ended = False
        self.reset: int | None = None
        self.stopped: int | None = None


class AioquicSession:
    """A WebTransport session on a connection of aioquic: the verbs of ``Far``.

    aioquic frames streams and datagrams; that a CONNECT stream carries capsules, and how
    application codes map to HTTP/3 codes, is up to its user: here.
    """

    tells_ids = True

    def __init__(self, protocol: QuicConnectionProtocol) -> None:
        self._protocol = protocol
        self._quic = protocol._quic
        self._http = H3Connection(self._quic, enable_webtransport=True)
        self._streams: defaultdict[int, _Stream] = defaultdict(_Stream)
        self._opened: set[int] = set()
        self._unclaimed: list[int] = []
        self._datagrams: list[bytes] = []
        self._capsules = b""
        self._closed = False
        self._connect_ended = False
        self._terminated = False
        self._news = asyncio.Event()
        self.session_id = -1
        self.status = ""
        self.request: dict[str, str] = {}

    # --- session

    async def connect_session(self, authority: str, path: str) -> None:
        """Client: open the session."""
        self.session_id = self._quic.get_next_available_stream_id()
        self._http.send_headers(
            self.session_id,
            [
                (b":method", b"CONNECT"),
                (b":scheme", b"https"),
                (b":authority", authority.encode()),
                (b":path", path.encode()),
                (b":protocol", b"webtransport"),
                (b"sec-webtransport-http3-draft02", b"1"),
            ],
        )
        self._protocol.transmit()
        await self._until(lambda: self.status)

    async def accept_session(self) -> None:
        """Server: wait for the session request and accept it."""
        await self._until(lambda: self.request)
        self._http.send_headers(
            self.session_id,
            [(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")],
        )
        self._protocol.transmit()

    # --- streams

    async def open_stream(self, *, unidirectional: bool) -> int:
        number = self._http.create_webtransport_stream(self.session_id, unidirectional)
        self._opened.add(number)
        self._protocol.transmit()
        return number

    async def accept_stream(self, *, unidirectional: bool) -> int:
        def find() -> list[int]:
            return [number for number in self._unclaimed if bool(number & 2) == unidirectional]

        number = (await self._until(find))[0]
        self._unclaimed.remove(number)
        return number

    async def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        self._quic.send_stream_data(stream_id, data, fin)
        self._protocol.transmit()

    async def send_pattern(self, stream_id: int, size: int, seed: int) -> None:
        data = pattern(size, seed)
        sender = self._quic._streams[stream_id].sender
        for start in range(0, size, _CHUNK):
            chunk = data[start : start + _CHUNK]
            await self._until(lambda: sender._buffer_stop - sender._buffer_start < _CHUNK)
            await self.send(stream_id, chunk, fin=start + len(chunk) == size)

    async def receive(self, stream_id: int) -> Digest:
        stream = self._streams[stream_id]
        await self._until(lambda: stream.ended or stream.reset is not None)
        assert stream.ended, f"reset with {stream.reset}"
        return Digest.of(b"".join(stream.chunks))

    async def reset(self, stream_id: int, code: int) -> None:
        await self._protocol.ping()  # the header has arrived
        self._quic.reset_stream(stream_id, _to_wire(code))
        self._protocol.transmit()

    async def stop(self, stream_id: int, code: int) -> None:
        self._quic.stop_stream(stream_id, _to_wire(code))
        self._protocol.transmit()

    async def was_reset(self, stream_id: int) -> int:
        stream = self._streams[stream_id]
        await self._until(lambda: stream.reset is not None)
        return _from_wire(stream.reset)

    async def received(self, stream_id: int, data: bytes) -> None:
        """Wait until just these bytes have come on a stream."""
        stream = self._streams[stream_id]
        await self._until(lambda: b"".join(stream.chunks) == data)

    def is_stopped(self, stream_id: int) -> bool:
        """Whether STOP_SENDING has come for a stream."""
        return self._streams[stream_id].stopped is not None

    async def was_stopped(self, stream_id: int) -> int:
        stream = self._streams[stream_id]
        await self._until(lambda: stream.stopped is not None)
        return _from_wire(stream.stopped)

    # --- datagrams

    async def send_datagram(self, data: bytes) -> None:
        self._http.send_datagram(self.session_id, data)
        self._protocol.transmit()

    async def receive_datagram(self) -> bytes:
        await self._until(lambda: self._datagrams)
        return self._datagrams.pop(0)

    # --- the end

    async def close(self, code: int, reason: str) -> None:
        value = code.to_bytes(4, "big") + reason.encode()
        assert len(value) < 64
        self._closed = True
        self._http.send_data(self.session_id, _CLOSE + bytes([len(value)]) + value, True)
        self._protocol.transmit()

    async def was_closed(self) -> tuple[int, str]:
        await self._until(lambda: self._connect_ended)
        assert self._capsules[:2] == _CLOSE
        value = self._capsules[3:] if self._capsules[2] < 64 else self._capsules[4:]
        return int.from_bytes(value[:4], "big"), value[4:].decode()

    # --- what the protocol calls

    def quic_event_received(self, event: QuicEvent) -> None:
        """Something happened on the connection."""
        if isinstance(event, StreamReset):
            self._streams[event.stream_id].reset = event.error_code
        elif isinstance(event, StopSendingReceived):
            self._streams[event.stream_id].stopped = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self._terminated = True
        elif isinstance(event, StreamDataReceived) and event.stream_id in self._opened:
            # aioquic would read the answer on a stream that it opened as frames of HTTP/3.
            self._received(event.stream_id, event.data, event.end_stream)
            return
        for http_event in self._http.handle_event(event):
            self._http_event_received(http_event)

    def look_again(self) -> None:
        """A packet arrived; acknowledgements cause no events."""
        self._news.set()

    def _http_event_received(self, event: H3Event) -> None:
        if isinstance(event, WebTransportStreamDataReceived):
            if event.stream_id not in self._streams and self._is_ours(event.stream_id):
                self._unclaimed.append(event.stream_id)
            self._received(event.stream_id, event.data, event.stream_ended)
        elif isinstance(event, DatagramReceived):
            self._datagrams.append(event.data)
        elif isinstance(event, HeadersReceived):
            fields = {name.decode(): value.decode() for name, value in event.headers}
            if ":status" in fields:
                self.status = fields[":status"]
            else:
                self.session_id = event.stream_id
                self.request = fields
        elif isinstance(event, DataReceived):
            self._capsules += event.data
            if event.stream_ended:
                self._connect_ended = True
                if not self._closed:
                    self._quic.send_stream_data(self.session_id, b"", True)

    def _received(self, stream_id: int, data: bytes, ended: bool) -> None:
        stream = self._streams[stream_id]
        stream.chunks.append(data)
        stream.ended |= ended

    def _is_ours(self, stream_id: int) -> bool:
        return bool(stream_id & 1) == self._quic.configuration.is_client

    async def _until(self, ready: Callable[[], T]) -> T:
        async with asyncio.timeout(_PATIENCE):
            while not (result := ready()):
                assert not self._terminated, self._quic._close_event
                self._news.clear()
                await self._news.wait()
        return result


class _Protocol(QuicConnectionProtocol):
    def __init__(self, quic: QuicConnection, stream_handler: object = None) -> None:
        super().__init__(quic)
        self.session = AioquicSession(self)

    def quic_event_received(self, event: QuicEvent) -> None:
        self.session.quic_event_received(event)

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.session.look_again()

    def vanish(self) -> None:
        """Let go of the connection without waiting for its closing period."""
        if self._quic._close_event is None:
            self.close(0x100)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@asynccontextmanager
async def aioquic_client(certs: Certificates, port: int, path: str) -> AsyncIterator[Far]:
    """A session to the server on ``127.0.0.1``; the certificate is verified."""
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=H3_ALPN,
        server_name="localhost",
        verify_mode=ssl.CERT_REQUIRED,
        cafile=certs.authority.certfile,
        max_datagram_frame_size=65536,
        max_data=_WINDOW,
        max_stream_data=_WINDOW,
    )
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Protocol(QuicConnection(configuration=configuration)),
        local_addr=("127.0.0.1", 0),
    )
    try:
        protocol.connect(("127.0.0.1", port))
        async with asyncio.timeout(_PATIENCE):
            await protocol.wait_connected()
        await protocol.session.connect_session(f"localhost:{port}", path)
        assert protocol.session.status == "200"
        yield protocol.session
    finally:
        protocol.vanish()
        transport.close()


class AioquicServer:
    """A server of aioquic; ``accept`` gives its sessions."""

    def __init__(self, port: int, accepted: asyncio.Queue[AioquicSession]) -> None:
        self.port = port
        self._accepted = accepted

    async def accept(self) -> Far:
        """Wait for the next session and accept it."""
        session = await self._accepted.get()
        await session.accept_session()
        return session


@asynccontextmanager
async def aioquic_server(certs: Certificates) -> AsyncIterator[AioquicServer]:
    """A server on a free port of ``127.0.0.1``."""
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=H3_ALPN,
        max_datagram_frame_size=65536,
        max_data=_WINDOW,
        max_stream_data=_WINDOW,
    )
    configuration.load_cert_chain(certs.server.certfile, certs.server.keyfile)
    accepted: asyncio.Queue[AioquicSession] = asyncio.Queue()
    protocols: list[_Protocol] = []

    def create(quic: QuicConnection, stream_handler: object = None) -> _Protocol:
        protocol = _Protocol(quic)
        protocols.append(protocol)
        accepted.put_nowait(protocol.session)
        return protocol

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: QuicServer(configuration=configuration, create_protocol=create),
        local_addr=("127.0.0.1", 0),
    )
    try:
        yield AioquicServer(transport.get_extra_info("sockname")[1], accepted)
    finally:
        for protocol in protocols:
            protocol.vanish()
        transport.close()


def _to_wire(code: int) -> int:
    return _CODE_BASE + code + code // 30


def _from_wire(code: int | None) -> int:
    assert code is not None
    shifted = code - _CODE_BASE
    return shifted - shifted // 31
