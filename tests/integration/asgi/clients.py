"""Clients of others: libcurl for HTTP/1.1, HTTP/2 and HTTP/3, and WebSockets over all three.

WebSockets: RFC 6455 over a TLS connection, RFC 8441 with h2, and RFC 9220 with aioquic. The frames
are those of wsproto in each case.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset
from curl_cffi import Curl, CurlError, CurlHttpVersion, CurlInfo, CurlOpt
from wsproto import ConnectionType
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.utilities import RemoteProtocolError

__all__ = ["PIPES", "VERSIONS", "AioquicClient", "Answer", "Request", "WebSocket", "perform"]

PATIENCE = 20.0
Lines = Sequence[tuple[bytes, bytes]]
VERSIONS = {
    "1.1": CurlHttpVersion.V1_1,
    "2": CurlHttpVersion.V2TLS,
    "3": CurlHttpVersion.V3ONLY,
    "any": CurlHttpVersion.V3,
}


@dataclass(frozen=True)
class Request:
    """What libcurl is to send.

    Attributes:
        target: Path and query, sent as they are.
        method: Of the request.
        lines: Fields besides those that libcurl sends.
        body: Or None; a list has pieces whose total length is not announced.
        leave: Break the connection off once the first byte of the response's body is there.
    """

    target: str = "/"
    method: str = "GET"
    lines: tuple[str, ...] = ()
    body: bytes | list[bytes] | None = None
    leave: bool = False


@dataclass
class Answer:
    """What libcurl received.

    Attributes:
        status: The last one; 0 if there was none.
        interim: Statuses before it, with their fields.
        lines: Fields in the order and spelling they came in, without trailers.
        trailers: Fields after the body.
        body: All of it.
        error: Number of libcurl's error, 0 for none.
        version: "1.1", "2" or "3", as the status line says.
    """

    status: int = 0
    interim: list[int] = field(default_factory=list)
    lines: list[tuple[bytes, bytes]] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    error: int = 0
    version: str = ""


def perform(request: Request, port: int, version: str, cafile: str, **options: Any) -> Answer:
    """Send one request on a connection of its own; blocks.

    Args:
        request: What to send.
        port: Of the server, on localhost.
        version: A key of ``VERSIONS``.
        cafile: Authority to trust.
        options: Names of ``CurlOpt`` with their values.
    """
    answer = Answer()
    ended = False

    def take_line(line: bytes) -> int:
        nonlocal ended
        text = line.rstrip(b"\r\n")
        if text.startswith(b"HTTP/"):
            if answer.status:
                answer.interim.append(answer.status)
            name, status, *_ = text.split()
            answer.version, answer.status = name[5:].decode().removesuffix(".0"), int(status)
            answer.lines.clear()
            ended = False
        elif not text:
            ended = True
        else:
            key, _, value = text.partition(b":")
            (answer.trailers if ended else answer.lines).append((key, value.strip(b" ")))
        return len(line)

    def take_body(data: bytes) -> int:
        answer.body += data
        return 0xFFFFFFFF if request.leave else len(data)

    curl = Curl()
    try:
        curl.setopt(CurlOpt.URL, f"https://localhost:{port}{request.target}")
        curl.setopt(CurlOpt.CAINFO, cafile)
        curl.setopt(CurlOpt.RESOLVE, [f"localhost:{port}:127.0.0.1"])
        curl.setopt(CurlOpt.HTTP_VERSION, VERSIONS[version])
        curl.setopt(CurlOpt.PATH_AS_IS, 1)
        curl.setopt(CurlOpt.TIMEOUT_MS, int(PATIENCE * 1000))
        curl.setopt(CurlOpt.HEADERFUNCTION, take_line)
        curl.setopt(CurlOpt.WRITEFUNCTION, take_body)
        _set_request(curl, request)
        for name, value in options.items():
            curl.setopt(getattr(CurlOpt, name), value)
        try:
            curl.perform()
        except CurlError as error:
            answer.error = int(error.code)
        curl.getinfo(CurlInfo.RESPONSE_CODE)
    finally:
        curl.close()
    return answer


def _set_request(curl: Curl, request: Request) -> None:
    # Without these libcurl waits for a 100 before larger bodies.
    lines = [*request.lines]
    if not any(line.lower().startswith("expect:") for line in lines):
        lines.append("Expect:")
    if request.method == "HEAD":
        curl.setopt(CurlOpt.NOBODY, 1)
    elif request.body is not None:
        pieces = request.body if isinstance(request.body, list) else [request.body]
        buffer = bytearray(b"".join(pieces))

        def give(size: int) -> bytes:
            piece = bytes(buffer[:size])
            del buffer[:size]
            return piece

        curl.setopt(CurlOpt.UPLOAD, 1)
        curl.setopt(CurlOpt.READFUNCTION, give)
        if isinstance(request.body, bytes):
            curl.setopt(CurlOpt.INFILESIZE_LARGE, len(request.body))
    if request.method not in ("GET", "HEAD"):
        curl.setopt(CurlOpt.CUSTOMREQUEST, request.method)
    curl.setopt(CurlOpt.HTTPHEADER, [line.encode("latin-1") for line in lines])


# ------------------------------------------------------------------- WebSockets


class Pipe(ABC):
    """A byte stream for frames, over some version of HTTP."""

    @abstractmethod
    async def open(self, path: str, fields: Lines) -> tuple[int, Lines, bytes]:
        """Ask for a WebSocket: status, fields, and the body if it was refused."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send bytes of frames."""

    @abstractmethod
    async def receive(self) -> bytes:
        """Bytes of frames; b"" at the end."""

    @abstractmethod
    def finish(self) -> None:
        """End this direction."""

    @abstractmethod
    def abort(self) -> None:
        """Break it off."""


class _Http1(Pipe):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def connect(cls, port: int, cafile: str) -> AsyncIterator[Pipe]:
        reader, writer = await _tls(port, cafile, "http/1.1")
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def open(self, path: str, fields: Lines) -> tuple[int, Lines, bytes]:
        key = base64.b64encode(os.urandom(16))
        lines = [
            (b"host", b"localhost"),
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-key", key),
            (b"sec-websocket-version", b"13"),
            *fields,
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
        self._writer.write(b"GET " + path.encode() + b" HTTP/1.1\r\n" + head + b"\r\n")
        first, *rest = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        answered = [
            (name.lower(), value.strip(b" "))
            for name, _, value in (line.partition(b":") for line in rest if line)
        ]
        status = int(first.split()[1])
        body = b""
        if status != 101:
            length = int(dict(answered).get(b"content-length", b"-1"))
            body = await (self._reader.read() if length < 0 else self._reader.readexactly(length))
        return status, answered, body

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        try:
            return await self._reader.read(65536)
        except OSError:  # broken off
            return b""

    def finish(self) -> None:
        """TLS has no half-closed connections: the closing handshake ends it."""

    def abort(self) -> None:
        self._writer.transport.abort()


class _Http2(Pipe):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._http = h2.connection.H2Connection(config)
        self._stream = 0
        self._answered: list[tuple[bytes, bytes]] = []
        self._received = bytearray()
        self._over = False
        self._ready = False

    @classmethod
    @asynccontextmanager
    async def connect(cls, port: int, cafile: str) -> AsyncIterator[Pipe]:
        reader, writer = await _tls(port, cafile, "h2")
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def open(self, path: str, fields: Lines) -> tuple[int, Lines, bytes]:
        self._http.initiate_connection()
        self._flush()
        while not self._ready:
            await self._pump()
        assert self._http.remote_settings.enable_connect_protocol == 1
        self._stream = self._http.get_next_available_stream_id()
        self._http.send_headers(self._stream, _connect_lines(path, fields))
        self._flush()
        while not self._answered:
            await self._pump()
        status = int(dict(self._answered)[b":status"])
        while status != 200 and not self._over:
            await self._pump()
        body = bytes(self._received) if status != 200 else b""
        return status, [line for line in self._answered if line[0] != b":status"], body

    async def send(self, data: bytes) -> None:
        while data:
            while not (room := self._http.local_flow_control_window(self._stream)):
                await self._pump()
            size = min(room, self._http.max_outbound_frame_size, len(data))
            self._http.send_data(self._stream, data[:size])
            data = data[size:]
            self._flush()
        await self._writer.drain()

    async def receive(self) -> bytes:
        while not self._received and not self._over:
            await self._pump()
        data = bytes(self._received)
        self._received.clear()
        return data

    def finish(self) -> None:
        """hypercorn forgets the stream at the closing handshake, and fails on what comes then."""

    def abort(self) -> None:
        self._http.reset_stream(self._stream, 8)  # CANCEL
        self._flush()
        self._over = True

    def _flush(self) -> None:
        self._writer.write(self._http.data_to_send())

    async def _pump(self) -> None:
        data = await self._reader.read(65536)
        if not data:
            self._over = self._ready = True
            return
        for event in self._http.receive_data(data):
            match event:
                case h2.events.RemoteSettingsChanged():
                    self._ready = True
                case h2.events.ResponseReceived():
                    self._answered = [(bytes(k), bytes(v)) for k, v in event.headers]
                case h2.events.DataReceived():
                    self._received += event.data
                    self._http.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    self._over = True
        self._flush()


class AioquicClient(QuicConnectionProtocol):
    """HTTP/3 of aioquic: requests, and the stream of an extended CONNECT."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self._streams: dict[int, asyncio.Queue[H3Event | None]] = {}

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int, cafile: str) -> AsyncIterator[AioquicClient]:
        """A connection to localhost."""
        configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name="localhost")
        configuration.load_verify_locations(cafile)
        async with connect(
            "127.0.0.1", port, configuration=configuration, create_protocol=cls
        ) as client:
            assert isinstance(client, AioquicClient)
            yield client

    def end(self, code: int) -> None:
        """Close the connection with a transport code."""
        self._quic.close(error_code=code, frame_type=0)
        self.transmit()

    def request(self, lines: Lines, body: bytes = b"", *, fin: bool = True) -> int:
        """Send a request; the number of its stream."""
        stream = self._quic.get_next_available_stream_id()
        self._streams[stream] = asyncio.Queue()
        self.http.send_headers(stream, list(lines), end_stream=fin and not body)
        if body:
            self.http.send_data(stream, body, end_stream=fin)
        self.transmit()
        return stream

    async def event(self, stream: int) -> H3Event | None:
        """What came next on a stream; None once it was reset or the connection ended."""
        async with asyncio.timeout(PATIENCE):
            return await self._streams[stream].get()

    async def fetch(
        self, method: str, path: str, body: bytes = b"", fields: Lines = ()
    ) -> tuple[Lines, bytes]:
        """One request and its response: fields with ``:status``, and the body."""
        lines = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
            *fields,
        ]
        stream = self.request(lines, body)
        answered: Lines = []
        received = b""
        while True:
            event = await self.event(stream)
            assert event is not None, "the stream was reset"
            if isinstance(event, HeadersReceived) and not answered:
                answered = event.headers
            elif isinstance(event, DataReceived):
                received += event.data
            if getattr(event, "stream_ended", False):
                return answered, received

    def quic_event_received(self, event: QuicEvent) -> None:
        """Hand events to whoever waits for the stream."""
        if isinstance(event, StreamReset) and event.stream_id in self._streams:
            self._streams[event.stream_id].put_nowait(None)
        if isinstance(event, ConnectionTerminated):
            for queue in self._streams.values():
                queue.put_nowait(None)
        for found in self.http.handle_event(event):
            stream = getattr(found, "stream_id", None)
            if stream in self._streams:
                self._streams[stream].put_nowait(found)


class _Http3(Pipe):
    def __init__(self, client: AioquicClient) -> None:
        self._client = client
        self._stream = -1
        self._over = False

    @classmethod
    @asynccontextmanager
    async def connect(cls, port: int, cafile: str) -> AsyncIterator[Pipe]:
        async with AioquicClient.connected(port, cafile) as client:
            yield cls(client)

    async def open(self, path: str, fields: Lines) -> tuple[int, Lines, bytes]:
        self._stream = self._client.request(_connect_lines(path, fields), fin=False)
        event = await self._client.event(self._stream)
        assert isinstance(event, HeadersReceived), "no response"
        status = int(dict(event.headers)[b":status"])
        self._over = event.stream_ended
        body = b""
        while status != 200 and not self._over:
            body += await self.receive()
        return status, [line for line in event.headers if line[0] != b":status"], body

    async def send(self, data: bytes) -> None:
        self._client.http.send_data(self._stream, data, end_stream=False)
        self._client.transmit()

    async def receive(self) -> bytes:
        while not self._over:
            event = await self._client.event(self._stream)
            self._over = event is None or getattr(event, "stream_ended", False)
            if isinstance(event, DataReceived) and event.data:
                return event.data
        return b""

    def finish(self) -> None:
        if not self._over:
            self._client.http.send_data(self._stream, b"", end_stream=True)
            self._client.transmit()

    def abort(self) -> None:
        self._client._quic.reset_stream(self._stream, 0x010C)  # H3_REQUEST_CANCELLED
        self._client._quic.stop_stream(self._stream, 0x010C)
        self._client.transmit()


def _connect_lines(path: str, fields: Lines) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", path.encode()),
        (b"sec-websocket-version", b"13"),
        *fields,
    ]


async def _tls(
    port: int, cafile: str, alpn: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=cafile)
    context.set_alpn_protocols([alpn])
    return await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )


PIPES = {"1.1": _Http1.connect, "2": _Http2.connect, "3": _Http3.connect}


class WebSocket:
    """A WebSocket over a pipe.

    Attributes:
        status, lines, body: What the server answered; the body only if it refused.
        closed: Code and reason of the server's close, None before.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._frames = Connection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self.status = 0
        self.lines: Lines = ()
        self.body = b""
        self.closed: tuple[int, str | None] | None = None

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, version: str, port: int, cafile: str, path: str, fields: Lines = ()
    ) -> AsyncIterator[WebSocket]:
        """A WebSocket over a version of HTTP, or the server's refusal."""
        async with asyncio.timeout(PATIENCE), PIPES[version](port, cafile) as pipe:
            socket = cls(pipe)
            socket.status, socket.lines, socket.body = await pipe.open(path, fields)
            yield socket

    async def send(self, event: Event) -> None:
        """Send a frame."""
        await self._pipe.send(self._frames.send(event))

    async def send_raw(self, data: bytes) -> None:
        """Send bytes, whether they are a frame or not."""
        await self._pipe.send(data)

    async def echo(self, message: str | bytes) -> str | bytes:
        """Send a message and return the next one."""
        if isinstance(message, str):
            await self.send(TextMessage(message))
        else:
            await self.send(BytesMessage(message))
        received = await self.message()
        assert received is not None
        return received

    async def message(self) -> str | bytes | None:
        """The next message; None after the close."""
        whole: list[Any] = []
        while (event := await self.event()) is not None:
            if isinstance(event, TextMessage | BytesMessage):
                whole.append(event.data)
                if event.message_finished:
                    empty: Any = type(whole[0])()
                    joined: str | bytes = empty.join(whole)
                    return joined
        return None

    async def event(self) -> Event | None:
        """The next frame, control frames too; None after the end."""
        while not self._events:
            data = await self._pipe.receive()
            try:
                self._frames.receive_data(data or None)
                self._events += self._frames.events()
            except RemoteProtocolError:
                return None
            if not data and not self._events:
                return None
        event = self._events.pop(0)
        if isinstance(event, CloseConnection):
            if self.closed is None:
                self.closed = (int(event.code), event.reason)
            return None
        if isinstance(event, Ping):
            await self.send(event.response())
        return event

    async def pong(self) -> bool:
        """Send a ping; whether its pong came."""
        await self.send(Ping(b"there?"))
        return isinstance(await self.event(), Pong)

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """The closing handshake."""
        await self.send(CloseConnection(code, reason))
        while await self.event() is not None:
            pass
        self._pipe.finish()

    async def answer_close(self) -> None:
        """Answer the server's close, if it has said one."""
        assert self.closed is not None
        if self._frames.state is ConnectionState.REMOTE_CLOSING:
            await self.send(CloseConnection(*self.closed))
        self._pipe.finish()

    def abort(self) -> None:
        """Break it off."""
        self._pipe.abort()
