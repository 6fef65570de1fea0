"""Two ``QuicEndpoint`` objects and their sockets, driven by ``select``.

Nothing here sleeps: a wait ends when its condition holds, and it fails when the
endpoints were idle past the deadline.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pywebtransport._quic import (
    CloseInfo,
    QuicConnection,
    QuicEndpoint,
    QuicSocket,
    QuicStream,
    QuicTls,
)
from tests.support.certificates import Certificates, Pair

ALPN = ("h3",)
DEADLINE = 20.0  # seconds until a wait that makes no sense any more fails
SECOND = 1_000_000_000


class Recorder:
    """A connection handler that keeps what it hears."""

    def __init__(self) -> None:
        self.quic: QuicConnection | None = None
        self.handshakes = 0
        self.closed: CloseInfo | None = None
        self.streams: list[QuicStream] = []
        self.ready: list[QuicStream] = []
        self.datagrams: list[bytes] = []
        self.batches: list[int] = []
        self.available: list[bool] = []
        self.writable = 0
        self.paths: list[bool] = []
        self.tickets: list[bytes] = []
        self.tokens: list[bytes] = []
        self.order: list[str] = []

    def handshake_completed(self) -> None:
        self.handshakes += 1
        self.order.append("handshake")

    def connection_closed(self, info: CloseInfo) -> None:
        self.closed = info
        self.order.append("closed")

    def stream_ready(self, stream: QuicStream) -> None:
        self.ready.append(stream)
        self.order.append("stream")
        if stream not in self.streams:
            self.streams.append(stream)

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        self.datagrams += datagrams
        self.batches.append(len(datagrams))
        self.order.append("datagrams")

    def streams_available(self, unidirectional: bool) -> None:
        self.available.append(unidirectional)

    def datagram_writable(self) -> None:
        self.writable += 1

    def path_changed(self, validated: bool) -> None:
        self.paths.append(validated)

    def session_ticket(self, ticket: bytes) -> None:
        self.tickets.append(ticket)

    def new_token(self, token: bytes) -> None:
        self.tokens.append(token)


class Waiter:
    """The smallest thing that a stream can wake."""

    def __init__(self) -> None:
        self.woken = 0
        self.cancelled = False

    def done(self) -> bool:
        return self.cancelled or self.woken > 0

    def set_result(self, result: None, /) -> None:
        self.woken += 1


class Side:
    """One endpoint with its sockets."""

    def __init__(
        self,
        *,
        is_server: bool,
        tls: QuicTls | None,
        settings: dict[str, Any] | None = None,
        accept: Callable[[QuicConnection], Any] | None = None,
        **callbacks: Any,
    ) -> None:
        self.errors: list[BaseException] = []
        self.flushes = 0
        self.wants_turn = False
        self.handlers: list[Recorder] = []
        self.sockets: dict[int, tuple[socket.socket, QuicSocket]] = {}
        self.endpoint = QuicEndpoint(
            is_server=is_server,
            settings=settings or {},
            tls=tls,
            accept=(accept or self.accept) if is_server else None,
            schedule_flush=self.schedule_flush,
            on_error=lambda error: self.report(error),
            **callbacks,
        )

    def accept(self, connection: QuicConnection) -> Recorder:
        handler = Recorder()
        handler.quic = connection
        self.handlers.append(handler)
        return handler

    def report(self, error: BaseException) -> None:
        self.errors.append(error)

    def schedule_flush(self) -> None:
        self.flushes += 1
        self.wants_turn = True

    def add_socket(
        self,
        host: str = "127.0.0.1",
        features: Sequence[str] = ("gso", "gro", "ecn", "pktinfo"),
    ) -> QuicSocket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((host, 0))
        quic = self.endpoint.add_socket(sock.fileno(), features=features)
        self.sockets[sock.fileno()] = (sock, quic)
        return quic

    @property
    def address(self) -> tuple[str, int]:
        sock, _ = next(iter(self.sockets.values()))
        host, port = sock.getsockname()[:2]
        return host, port

    @property
    def quic_socket(self) -> QuicSocket:
        return next(iter(self.sockets.values()))[1]

    def close(self) -> None:
        self.endpoint.close()
        for sock, _ in self.sockets.values():
            sock.close()


def run(
    sides: Sequence[Side],
    until: Callable[[], object],
    deadline: float = DEADLINE,
    poll: Sequence[socket.socket] = (),
) -> None:
    """Drive the endpoints until ``until()`` is true; AssertionError after ``deadline`` seconds.

    ``until`` is asked again when a socket of an endpoint or one of ``poll`` is readable.
    """
    end = time.monotonic() + deadline
    while True:
        ticks = []
        busy = False
        for side in sides:
            if side.endpoint.is_closed:
                continue
            if side.endpoint.is_blocked:
                side.endpoint.unblock()
            side.wants_turn = False
            busy = side.endpoint.process(time.monotonic_ns()) or busy
            tick = side.endpoint.next_tick()
            if tick is not None:
                ticks.append(tick)
        if until():
            return
        now = time.monotonic()
        if now > end:
            raise AssertionError("the condition did not come true in time")
        busy = busy or any(side.wants_turn for side in sides)
        timeout = 0.0 if busy else end - now
        if ticks:
            timeout = min(timeout, max(0.0, (min(ticks) - time.monotonic_ns()) / SECOND))
        by_fd = {
            fd: (side, quic)
            for side in sides
            if not side.endpoint.is_closed
            for fd, (_, quic) in side.sockets.items()
        }
        readable, _, _ = select.select([*by_fd, *poll], [], [], timeout)
        for fd in readable:
            if fd not in by_fd:
                continue
            side, quic = by_fd[fd]
            if not side.endpoint.is_closed:
                side.endpoint.receive(quic, time.monotonic_ns())


class Link:
    """A server, a client, and one connection between them."""

    def __init__(
        self,
        server: Side,
        client: Side,
        *,
        server_name: str = "localhost",
        connect: dict[str, Any] | None = None,
    ) -> None:
        self.server = server
        self.client = client
        self.near = Recorder()
        self._far: Recorder | None = None
        self.conn = client.endpoint.connect(
            client.quic_socket,
            server.address,
            server_name=server_name,
            handler=self.near,
            now=time.monotonic_ns(),
            **(connect or {}),
        )
        self.near.quic = self.conn

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.server, self.client

    @property
    def far(self) -> Recorder:
        """Handler of the server's end."""
        return self.server.handlers[-1] if self._far is None else self._far

    @property
    def peer(self) -> QuicConnection:
        """The server's end."""
        assert self.far.quic is not None
        return self.far.quic

    def run(self, until: Callable[[], object], deadline: float = DEADLINE) -> None:
        run(self.sides, until, deadline)

    def establish(self) -> Link:
        before = len(self.server.handlers)
        self.run(
            lambda: (
                self.near.closed or (self.near.handshakes and len(self.server.handlers) > before)
            )
        )
        assert self.near.closed is None, self.near.closed
        self._far = self.server.handlers[-1]
        return self

    def settle(self) -> None:
        """Until both ends have everything acknowledged that was sent before this call."""
        for mine, other in ((self.conn, self.far), (self.peer, self.near)):
            self.ping(mine, other)

    def ping(self, sender: QuicConnection, receiver: Recorder) -> None:
        marker = b"settle %d" % time.monotonic_ns()
        assert sender.send_datagram(b"", marker)
        self.run(lambda: marker in receiver.datagrams)
        receiver.datagrams.remove(marker)

    def open(
        self, payload: bytes = b"hello", *, unidirectional: bool = False, fin: bool = False
    ) -> tuple[QuicStream, QuicStream]:
        """A stream of the client with ``payload`` arrived; (client's end, server's end)."""
        near = self.conn.open_stream(unidirectional)
        assert near is not None
        near.write(payload, fin)
        known = len(self.far.streams)
        self.run(
            lambda: (
                len(self.far.streams) > known
                and self.far.streams[-1].bytes_received >= len(payload)
                and (not fin or self.far.streams[-1].fin_received)
            )
        )
        return near, self.far.streams[-1]


class Lab:
    """Makes endpoints and connections, and checks at the end that no handler raised."""

    def __init__(self, certs: Certificates) -> None:
        self.certs = certs
        self.server_tls = self.make_server_tls()
        self.client_tls = self.make_client_tls()

    def make_server_tls(self, pair: Pair | None = None, **options: Any) -> QuicTls:
        options = {**(pair or self.certs.server).files, **options}
        return QuicTls(is_server=True, alpn=ALPN, **options)

    def make_client_tls(self, **options: Any) -> QuicTls:
        options = {"ca_certs": self.certs.authority.certfile, "verify": 2, **options}
        return QuicTls(is_server=False, alpn=ALPN, **options)

    @contextlib.contextmanager
    def side(
        self,
        is_server: bool,
        *,
        host: str = "127.0.0.1",
        tls: QuicTls | None = None,
        errors: int | None = 0,
        **options: Any,
    ) -> Iterator[Side]:
        """An endpoint with one loopback socket.

        ``errors`` is how many exceptions handlers raise; None: the test looks itself.
        """
        default = self.server_tls if is_server else self.client_tls
        side = Side(is_server=is_server, tls=tls or default, **options)
        try:
            side.add_socket(host)
            yield side
        finally:
            side.close()
        assert errors is None or len(side.errors) == errors, side.errors

    @contextlib.contextmanager
    def pending(
        self,
        *,
        server: dict[str, Any] | None = None,
        client: dict[str, Any] | None = None,
        server_name: str = "localhost",
        connect: dict[str, Any] | None = None,
    ) -> Iterator[Link]:
        """A connection that was started; ``server`` and ``client`` are options of the sides."""
        with self.side(True, **(server or {})) as far, self.side(False, **(client or {})) as near:
            yield Link(far, near, server_name=server_name, connect=connect)

    @contextlib.contextmanager
    def link(self, **options: Any) -> Iterator[Link]:
        """An established connection; the options are those of ``pending``."""
        with self.pending(**options) as link:
            yield link.establish()


def read_all(link: Link, stream: QuicStream) -> bytes:
    """Read to FIN while driving both ends."""
    chunks: list[bytes] = []

    def drained() -> bool:
        while (data := stream.read()) is not None:
            if data == b"":
                return True
            chunks.append(data)
        return False

    link.run(drained)
    return b"".join(chunks)
