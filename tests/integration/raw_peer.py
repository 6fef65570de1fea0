"""A QUIC peer that says exactly what a test tells it to: aioquic's QUIC, our own bytes above."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    DatagramFrameReceived,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from aioquic.tls import SessionTicket

from pywebtransport import WebTransportSession
from pywebtransport.server import WebTransportServer
from tests.integration import raw_h3 as h3
from tests.support.certificates import Certificates

__all__ = ["Linked", "RawPeer", "RawServer", "RawStream", "linked", "raw_client", "raw_server"]

# Longest wait for any one fact; a test that comes here fails.
_PATIENCE = 10.0

T = TypeVar("T")


class RawStream:
    """What the other end did to one stream.

    Attributes:
        data: What it sent.
        fin: It finished the stream.
        reset: Code of its RESET_STREAM, or None.
        stopped: Code of its STOP_SENDING, or None.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.fin = False
        self.reset: int | None = None
        self.stopped: int | None = None

    @property
    def headers(self) -> dict[str, str] | None:
        """The first field section, once it is there."""
        for found in h3.read_frames(self.data):
            if found.type == h3.HEADERS:
                return h3.decode_headers(found.payload)
        return None

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The lines of the first field section."""
        section = next(f.payload for f in h3.read_frames(self.data) if f.type == h3.HEADERS)
        return h3.decode_lines(section)

    @property
    def capsules(self) -> list[h3.Frame]:
        """The capsules in its DATA frames."""
        return h3.read_capsules(self.data)


class RawPeer(QuicConnectionProtocol):
    """One end of a connection, in the hands of a test.

    Attributes:
        streams: By ID, what the other end did.
        datagrams: What came, with the quarter stream ID.
        control_id: ID of our control stream; -1: not open yet.
        ends: FINs, resets and stops in the order in which they came: which of the three, the
            stream ID, and the number of the UDP datagram.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.streams: defaultdict[int, RawStream] = defaultdict(RawStream)
        self.datagrams: list[bytes] = []
        self.ends: list[tuple[str, int, int]] = []
        self._packets = 0
        self._news = asyncio.Event()
        server = not self._quic.configuration.is_client
        self._next = {False: 0 + server, True: 2 + server}
        self.control_id = -1

    # --- what comes

    def quic_event_received(self, event: QuicEvent) -> None:
        """Take note; aioquic calls this."""
        if isinstance(event, StreamDataReceived):
            stream = self.streams[event.stream_id]
            stream.data += event.data
            stream.fin |= event.end_stream
            if event.end_stream:
                self.ends.append(("fin", event.stream_id, self._packets))
        elif isinstance(event, StreamReset):
            self.streams[event.stream_id].reset = event.error_code
            self.ends.append(("reset", event.stream_id, self._packets))
        elif isinstance(event, StopSendingReceived):
            self.streams[event.stream_id].stopped = event.error_code
            self.ends.append(("stop", event.stream_id, self._packets))
        elif isinstance(event, DatagramFrameReceived):
            self.datagrams.append(event.data)

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """A UDP datagram; asyncio calls this."""
        self._packets += 1
        super().datagram_received(data, addr)
        self._news.set()

    @property
    def terminated(self) -> ConnectionTerminated | None:
        """How the connection was closed, as soon as CONNECTION_CLOSE is there."""
        return self._quic._close_event

    async def until(self, ready: Callable[[], T | None]) -> T:
        """Wait until ``ready()`` is true and return it."""
        async with asyncio.timeout(_PATIENCE):
            while not (result := ready()):
                self._news.clear()
                await self._news.wait()
        return result

    async def closed(self) -> int:
        """Wait for CONNECTION_CLOSE with an application code; returns the code."""
        end = await self.until(lambda: self.terminated)
        assert end.frame_type is None, f"closed by the transport: {end}"
        return end.error_code

    async def closed_by_transport(self) -> int:
        """Wait for CONNECTION_CLOSE with a transport code; returns the code."""
        end = await self.until(lambda: self.terminated)
        assert end.frame_type is not None, f"closed by the application: {end}"
        return end.error_code

    async def finished(self, stream_id: int) -> bytes:
        """Wait for the FIN of a stream; returns all its bytes."""
        stream = self.streams[stream_id]
        await self.until(lambda: stream.fin or stream.reset is not None or self.terminated)
        assert stream.fin, f"no FIN: reset={stream.reset} connection={self.terminated}"
        return bytes(stream.data)

    async def was_reset(self, stream_id: int) -> int:
        """Wait for RESET_STREAM; returns its code."""
        stream = self.streams[stream_id]
        await self.until(lambda: stream.reset is not None or stream.fin or self.terminated)
        assert stream.reset is not None, f"no reset: fin={stream.fin} {self.terminated}"
        return stream.reset

    async def was_stopped(self, stream_id: int) -> int:
        """Wait for STOP_SENDING; returns its code."""
        stream = self.streams[stream_id]
        await self.until(lambda: stream.stopped is not None or self.terminated)
        assert stream.stopped is not None, f"no STOP_SENDING: {self.terminated}"
        return stream.stopped

    async def aborted(self, stream_id: int) -> int:
        """Wait for RESET_STREAM and STOP_SENDING with one code; returns the code."""
        code = await self.was_reset(stream_id)
        assert await self.was_stopped(stream_id) == code
        assert self.terminated is None
        return code

    async def headers(self, stream_id: int) -> dict[str, str]:
        """Wait for the first field section of a stream."""
        stream = self.streams[stream_id]
        await self.until(
            lambda: stream.headers or stream.reset is not None or stream.fin or self.terminated
        )
        assert stream.headers, f"no headers: reset={stream.reset} connection={self.terminated}"
        return stream.headers

    async def capsule(self, stream_id: int, capsule_type: int) -> bytes:
        """Wait for a capsule; returns its value."""
        stream = self.streams[stream_id]

        def find() -> list[bytes]:
            return [found.payload for found in stream.capsules if found.type == capsule_type]

        await self.until(lambda: find() or stream.reset is not None or self.terminated)
        assert find(), f"no capsule: reset={stream.reset} connection={self.terminated}"
        return find()[0]

    async def datagram(self) -> bytes:
        """Wait for a datagram and take it."""
        await self.until(lambda: self.datagrams or self.terminated)
        return self.datagrams.pop(0)

    async def opened(self, prefix: bytes) -> int:
        """Wait for a stream of the other end that begins with ``prefix``; returns its ID."""
        ours = self._quic.configuration.is_client

        def find() -> list[int]:
            return [
                number
                for number, stream in self.streams.items()
                if number % 2 == ours and stream.data.startswith(prefix)
            ]

        await self.until(lambda: find() or self.terminated)
        return find()[-1]

    async def settings(self) -> dict[int, int]:
        """Wait for the SETTINGS of the other end."""
        control = self.streams[await self.opened(b"\x00\x04")]
        await self.until(lambda: list(h3.read_frames(control.data[1:])) or self.terminated)
        payload = next(h3.read_frames(control.data[1:])).payload
        numbers, at = [], 0
        while at < len(payload):
            number, at = h3.read_varint(payload, at)
            numbers.append(number)
        return dict(zip(numbers[::2], numbers[1::2], strict=True))

    # --- what goes

    def open_stream(self, *, unidirectional: bool = False) -> int:
        """The next stream ID; nothing is sent yet."""
        number = self._next[unidirectional]
        self._next[unidirectional] += 4
        # Known to aioquic from now on, so that higher ones may be used before it.
        self._quic._get_or_create_stream_for_send(number)
        return number

    def send(self, stream_id: int, payload: bytes, *, fin: bool = False) -> None:
        """Send bytes on a stream, now."""
        self._quic.send_stream_data(stream_id, payload, fin)
        self.transmit()

    def open(self, payload: bytes, *, unidirectional: bool = False, fin: bool = False) -> int:
        """Open a stream with its first bytes; returns its ID."""
        number = self.open_stream(unidirectional=unidirectional)
        self.send(number, payload, fin=fin)
        return number

    def open_in_session(
        self,
        session_id: int,
        payload: bytes = b"",
        *,
        unidirectional: bool = False,
        fin: bool = False,
    ) -> int:
        """Open a WebTransport stream; returns its ID."""
        header = h3.stream_header(session_id, unidirectional=unidirectional)
        return self.open(header + payload, unidirectional=unidirectional, fin=fin)

    def reset(self, stream_id: int, code: int) -> None:
        """Send RESET_STREAM."""
        self._quic.reset_stream(stream_id, code)
        self.transmit()

    def stop(self, stream_id: int, code: int) -> None:
        """Send STOP_SENDING, whatever kind of stream it is."""
        quic = self._quic
        stream = quic._streams.get(stream_id) or quic._get_or_create_stream_for_send(stream_id)
        stream.receiver.stop(code)
        self.transmit()

    def send_datagram(self, payload: bytes) -> None:
        """Send a DATAGRAM frame."""
        self._quic.send_datagram_frame(payload)
        self.transmit()

    def control(self, payload: bytes) -> None:
        """Send on the control stream."""
        if self.control_id < 0:
            self.control_id = self.open(b"\x00" + payload, unidirectional=True)
        else:
            self.send(self.control_id, payload)

    def start(self, settings: Mapping[int, int] = h3.DRAFT16) -> None:
        """Open the control stream and both QPACK streams; send SETTINGS."""
        self.control(h3.settings_frame(settings))
        self.open(b"\x02", unidirectional=True)
        self.open(b"\x03", unidirectional=True)

    def keep_credit(self) -> None:
        """Give no more credit for bytes of the connection until ``give_credit``."""
        self._quic._write_connection_limits = lambda **_: None  # type: ignore[method-assign]

    def give_credit(self) -> None:
        """Go on, with what was kept."""
        del self._quic._write_connection_limits
        self.transmit()

    @property
    def credit_used(self) -> int:
        """Stream bytes that came, over all streams."""
        return sum(len(stream.data) for stream in self.streams.values())

    async def delivered(self) -> None:
        """Wait until the other end acknowledged everything sent so far."""
        senders = [stream.sender for stream in self._quic._streams.values()]
        async with asyncio.timeout(_PATIENCE):
            await self.ping()
            # Of a stream that the other end has stopped, nothing more is sent.
            while any(
                sender._buffer_start != sender._buffer_stop and sender._reset_error_code is None
                for sender in senders
            ):
                await self.ping()

    async def session(self, path: str = "/", **request: Any) -> int:
        """Client: open a session; returns its ID."""
        number = self.open(h3.connect(path, **request))
        assert (await self.headers(number))[":status"] == "200"
        return number

    def vanish(self) -> None:
        """Let go of the connection without waiting for its closing period."""
        if self._quic._close_event is None:
            self.close(0x100)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transmit_task is not None:
            self._transmit_task.cancel()
            self._transmit_task = None


@asynccontextmanager
async def raw_client(
    port: int,
    *,
    settings: Mapping[int, int] | None = h3.DRAFT16,
    ticket: SessionTicket | None = None,
    on_ticket: Callable[[SessionTicket], None] | None = None,
    local: str = "127.0.0.1",
    **fields: Any,
) -> AsyncIterator[RawPeer]:
    """A client that is connected to ``127.0.0.1``.

    Args:
        port: Of the server.
        settings: Sent at once with the control and QPACK streams; None: nothing is sent.
        ticket: Resume with it; the block is then entered before the handshake.
        on_ticket: Hears of new tickets.
        local: The client's address.
        **fields: Of aioquic's QuicConfiguration.
    """
    values: dict[str, Any] = {
        "alpn_protocols": ["h3"],
        "server_name": "localhost",
        "verify_mode": ssl.CERT_NONE,
        "max_datagram_frame_size": 65536,
        "session_ticket": ticket,
    }
    quic = QuicConnection(
        configuration=QuicConfiguration(is_client=True, **(values | fields)),
        session_ticket_handler=on_ticket,
    )
    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_datagram_endpoint(
        lambda: RawPeer(quic), local_addr=(local, 0)
    )
    try:
        peer.connect(("127.0.0.1", port), transmit=ticket is None)
        if ticket is None:
            async with asyncio.timeout(_PATIENCE):
                await peer.wait_connected()
        if settings is not None:
            peer.start(settings)
        yield peer
    finally:
        peer.vanish()
        transport.close()


class RawServer:
    """A server whose connections are in the hands of a test."""

    def __init__(self, port: int, accepted: asyncio.Queue[RawPeer]) -> None:
        self.port = port
        self._accepted = accepted

    @property
    def url(self) -> str:
        """A URL on it."""
        return f"https://127.0.0.1:{self.port}/"

    async def accept(self, settings: Mapping[int, int] | None) -> RawPeer:
        """The next connection, its handshake done; SETTINGS are sent if given."""
        async with asyncio.timeout(_PATIENCE):
            peer = await self._accepted.get()
            await peer.wait_connected()
        if settings is not None:
            peer.start(settings)
        return peer


@asynccontextmanager
async def raw_server(certs: Certificates) -> AsyncIterator[RawServer]:
    """A server on a free port of ``127.0.0.1``."""
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=["h3"], max_datagram_frame_size=65536
    )
    configuration.load_cert_chain(certs.server.certfile, certs.server.keyfile)
    accepted: asyncio.Queue[RawPeer] = asyncio.Queue()
    peers: list[RawPeer] = []

    def create(quic: QuicConnection, stream_handler: object = None) -> RawPeer:
        peer = RawPeer(quic)
        peers.append(peer)
        accepted.put_nowait(peer)
        return peer

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: QuicServer(configuration=configuration, create_protocol=create),
        local_addr=("127.0.0.1", 0),
    )
    try:
        yield RawServer(transport.get_extra_info("sockname")[1], accepted)
    finally:
        for peer in peers:
            peer.vanish()
        transport.close()


class Linked:
    """A raw client and our server.

    Attributes:
        peer: The client.
        sessions: What the server's application was given.
        server: The server.
    """

    def __init__(
        self,
        peer: RawPeer,
        sessions: asyncio.Queue[WebTransportSession],
        server: WebTransportServer,
    ) -> None:
        self.peer = peer
        self.sessions = sessions
        self.server = server

    async def open(self, path: str = "/", **request: Any) -> tuple[int, WebTransportSession]:
        """Open a session: its ID, and what the server's application got."""
        number = await self.peer.session(path, **request)
        return number, await self.sessions.get()

    async def still_works(self, session_id: int, session: WebTransportSession) -> None:
        """Show that connection and session live: a datagram there and back."""
        prefix = h3.varint(session_id // 4)
        self.peer.send_datagram(prefix + b"ping")
        assert await session.datagrams.receive(timeout=_PATIENCE) == b"ping"
        await session.datagrams.send(b"pong")
        assert await self.peer.datagram() == prefix + b"pong"


@asynccontextmanager
async def linked(
    serving: Callable[..., Any],
    *,
    settings: Mapping[int, int] | None = h3.DRAFT16,
    client: Mapping[str, Any] | None = None,
    target: Any = None,
    **server: Any,
) -> AsyncIterator[Linked]:
    """Our server, and a raw client connected to it.

    Args:
        serving: The fixture of that name.
        settings: Of the client; None: it sends nothing by itself.
        client: Fields of the client's QuicConfiguration.
        target: What to serve instead of a handler that hands sessions over and returns.
        **server: Fields of ServerConfig.
    """
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    async with (
        serving(sessions.put if target is None else target, **server) as served,
        raw_client(served.port, settings=settings, **(client or {})) as peer,
    ):
        yield Linked(peer, sessions, served.server)
