"""Links of the fallback with a small connection above them, and raw peers below."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from websockets.frames import Frame, Opcode

from pywebtransport import ClientConfig, ServerConfig
from pywebtransport._header_map import HeaderMap
from pywebtransport._loop import LinkOptions, RemoteAddress, ServerLink, dial
from pywebtransport._loop.websocket import WebSocketLink
from pywebtransport.utils._tcp import abort
from pywebtransport.utils._tls_contexts import TlsContexts, client_tls_over_tcp
from tests.support.certificates import Certificates

NAME = "qmux-02"


class Ends:
    """The connection above a link: keeps what arrives, and sends what is queued.

    Attributes:
        received: The records, in order.
        events: Names of other calls, in order.
        closed: Done when the link has told its end; the result is the error.
        last_record: What is sent when the peer broke a rule.
    """

    def __init__(self, link: WebSocketLink) -> None:
        self.link = link
        self.received: list[bytes] = []
        self.received_bytes = 0
        self.events: list[str] = []
        self.outgoing: deque[bytes] = deque()
        self.pulled = 0
        self.most_unsent = 0
        self.closed: asyncio.Future[BaseException | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.last_record = b"\x1c\x0a\x00\x00"
        self.on_record: Callable[[bytes], object] = self.received.append
        self._changed = asyncio.Event()
        link.attach(self)

    def send(self, *records: bytes) -> None:
        """Queue records."""
        self.outgoing.extend(records)
        self.link.wants_to_send()

    async def count(self, number: int) -> list[bytes]:
        """Wait until so many records have arrived."""
        await self.until(lambda: len(self.received) >= number)
        return self.received

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that changes with one of the calls below."""
        while not condition():
            assert not self.closed.done(), (self.events, self.closed.result())
            self._changed.clear()
            await self._changed.wait()

    def receive(self, record: bytes) -> None:
        assert type(record) is bytes
        self.received_bytes += len(record)
        self.on_record(record)
        self._changed.set()

    def too_large(self) -> None:
        self.events.append("too large")
        self.outgoing.append(self.last_record)
        self.link.close(1009)

    def text_received(self) -> None:
        self.events.append("text")
        self.outgoing.append(self.last_record)
        self.link.close(1003)

    def next_record(self) -> bytes | None:
        if not self.outgoing:
            return None
        self.pulled += 1
        return self.outgoing.popleft()

    def handed_over(self) -> None:
        self.most_unsent = max(self.most_unsent, self.link.unsent)
        self.events.append("handed over")
        self._changed.set()

    def link_closed(self, *, error: BaseException | None = None) -> None:
        self.events.append("closed")
        assert not self.closed.done()
        self.closed.set_result(error)
        self._changed.set()


class Listener:
    """A TCP server whose connections are server links.

    Attributes:
        requests: The links with a request that waits.
        links: All links.
    """

    def __init__(self, options: LinkOptions) -> None:
        self.options = options
        self.requests: asyncio.Queue[ServerLink] = asyncio.Queue()
        self.links: list[ServerLink] = []
        self.ended: list[ServerLink] = []
        self.tls: TlsContexts | None = None
        self.port = 0
        self._server: asyncio.Server | None = None

    def make(self) -> ServerLink:
        """The protocol of a connection."""
        link = ServerLink(
            self.requests.put_nowait,
            self.options,
            is_wanted=lambda name: name.startswith("qmux-"),
            on_end=self.ended.append,
        )
        self.links.append(link)
        return link

    async def start(self, config: ServerConfig | None) -> None:
        """Listen, with TLS if there is a configuration."""
        self.tls = None if config is None else TlsContexts(config, ["http/1.1"])
        limits = {} if self.tls is None else {"ssl_shutdown_timeout": self.options.close_timeout}
        self._server = await asyncio.get_running_loop().create_server(
            self.make, "127.0.0.1", 0, ssl=self.tls and self.tls.context, **limits
        )
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def address(self) -> RemoteAddress:
        """Where it listens."""
        return RemoteAddress(socket.AF_INET, ("127.0.0.1", self.port))

    async def stop(self) -> None:
        """End everything."""
        assert self._server is not None
        self._server.close()
        for link in self.links:
            link.abort()
        # Those that never had a connection (TLS failed) do not end.
        await until(
            lambda: all(link in self.ended or not link.remote_address for link in self.links)
        )


@asynccontextmanager
async def listening(
    config: ServerConfig | None = None, *, options: LinkOptions | None = None
) -> AsyncIterator[Listener]:
    """A listener that is stopped at the end."""
    listener = Listener(options or LinkOptions())
    await listener.start(config)
    try:
        yield listener
    finally:
        await listener.stop()


async def connect(
    listener: Listener, config: ClientConfig | None, *, options: LinkOptions | None = None
) -> tuple[Ends, asyncio.Future[tuple[int, HeaderMap, str | None]]]:
    """Dial, and ask for the upgrade; the second result is done with the answer."""
    answer = asyncio.get_running_loop().create_future()
    link = await dial(
        listener.address,
        server_name="localhost",
        tls=config and client_tls_over_tcp(config),
        timeout=10.0,
        options=options,
    )
    ends = Ends(link)
    link.request(
        path="/chat?room=1",
        authority="localhost:443",
        headers=HeaderMap([("x-client", "yes")]),
        subprotocols=[NAME, "qmux-01"],
        on_answer=lambda *parts: answer.set_result(parts),
    )
    return ends, answer


@asynccontextmanager
async def linked(
    certs: Certificates | None = None,
    *,
    options: LinkOptions | None = None,
    client_options: LinkOptions | None = None,
) -> AsyncIterator[tuple[Ends, Ends]]:
    """Client and server of an open WebSocket, over TLS if there are certificates."""
    server_config = client_config = None
    if certs is not None:
        server_config = ServerConfig(**certs.server.files)
        client_config = ClientConfig(ca_certs=certs.authority.certfile)
    async with listening(server_config, options=options) as listener:
        client, answer = await connect(listener, client_config, options=client_options or options)
        try:
            link = await listener.requests.get()
            server = Ends(link)
            assert link.accept(link.offered[0], HeaderMap([("x-server", "yes")]))
            status, _, name = await answer
            assert (status, name) == (101, NAME)
            yield client, server
        finally:
            await end(client)


async def end(ends: Ends) -> None:
    """Drop a link, and wait until it is gone."""
    ends.link.abort()
    await until(lambda: ends.link._transport is None)


class RawPeer:
    """A client that sends bytes, and looks at frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawPeer]:
        """A connection that is dropped at the end."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname=tls and "localhost"
        )
        try:
            yield cls(reader, writer)
        finally:
            abort(writer.transport)
            await asyncio.wait([asyncio.ensure_future(_closed(writer))])

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def frame(
        self, opcode: Opcode | int, data: bytes = b"", *, fin: bool = True, **bits: bool
    ) -> None:
        """Send one frame, masked."""
        self.send(Frame(opcode, data, fin, **bits).serialize(mask=True))  # type: ignore[arg-type]

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and header fields of an answer."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.rstrip("\r\n").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value for name, value in fields.items()}

    async def read_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of an unmasked frame."""
        first, size = await self.reader.readexactly(2)
        assert first & 0xF0 == 0x80, "FIN and no reserved bits"
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2))
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8))
        return first & 15, await self.reader.readexactly(size)

    async def frames(self) -> list[tuple[int, bytes]]:
        """All frames up to the end of the connection."""
        found = []
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                found.append(await self.read_frame())
        return found


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until something holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def _closed(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await writer.wait_closed()


UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: {offer}\r\n\r\n"
)
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def upgrade(path: str = "/", offer: str = NAME) -> bytes:
    """A request for the upgrade."""
    return UPGRADE.format(path=path, offer=offer).encode("latin-1")


@asynccontextmanager
async def raw_client(
    options: LinkOptions | None = None,
) -> AsyncIterator[tuple[RawPeer, Ends]]:
    """A raw client of an open WebSocket, without TLS."""
    async with listening(options=options) as listener, RawPeer.connect(listener.port) as peer:
        peer.send(upgrade())
        link = await listener.requests.get()
        server = Ends(link)
        assert link.accept(NAME, HeaderMap())
        status, fields = await peer.head()
        assert (status, fields["sec-websocket-accept"]) == (101, ACCEPT)
        yield peer, server
