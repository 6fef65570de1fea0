"""``_loop.Endpoint`` on asyncio and uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pywebtransport._loop import Endpoint, RemoteAddress, UdpSocket, resolve
from pywebtransport._quic import CloseInfo, QuicConnection, QuicStream
from pywebtransport.exceptions import ConnectionError, ServerError, UnreachableError
from pywebtransport.utils._logs import SHARED_BURST
from tests.support.ports import free_port

from .harness import Lab, Recorder

KIB = 1024


class Peer(Recorder):
    """A handler whose events can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self.ready_event: asyncio.Future[None] = loop.create_future()
        self.end: asyncio.Future[CloseInfo] = loop.create_future()
        self.incoming: asyncio.Queue[QuicStream] = asyncio.Queue()
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.moved: asyncio.Queue[bool] = asyncio.Queue()

    def handshake_completed(self) -> None:
        super().handshake_completed()
        self.ready_event.set_result(None)

    def connection_closed(self, info: CloseInfo) -> None:
        super().connection_closed(info)
        self.end.set_result(info)

    def stream_ready(self, stream: QuicStream) -> None:
        super().stream_ready(stream)
        stream.sink = None
        self.incoming.put_nowait(stream)

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self.inbox.put_nowait(datagram)

    def path_changed(self, validated: bool) -> None:
        self.moved.put_nowait(validated)


async def read(stream: QuicStream) -> bytes:
    while (data := stream.read()) is None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stream.set_read_waiter(waiter)
        await waiter
    return data


async def read_all(stream: QuicStream) -> bytes:
    chunks = []
    while data := await read(stream):
        chunks.append(data)
    return b"".join(chunks)


async def drain(stream: QuicStream) -> None:
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stream.set_write_waiter(waiter)
    await waiter


class Net:
    """A server, a client endpoint, and one connection between them."""

    def __init__(self, lab: Lab, **options: Any) -> None:
        self.accepted: asyncio.Queue[Peer] = asyncio.Queue()
        self.server = Endpoint(
            is_server=True, tls=lab.server_tls, accept=self._accept, **options.get("server", {})
        )
        self.client = Endpoint(is_server=False, tls=lab.client_tls, **options.get("client", {}))

    def _accept(self, connection: QuicConnection) -> Peer:
        peer = Peer()
        peer.quic = connection
        self.accepted.put_nowait(peer)
        return peer

    async def connect(self, host: str = "127.0.0.1") -> tuple[QuicConnection, Peer, Peer]:
        bound = await self.server.bind(host, 0)
        remote = (await resolve(bound[0][0], bound[0][1]))[0]
        near = Peer()
        conn = self.client.connect(remote, server_name="localhost", handler=near)
        await near.ready_event
        return conn, near, await self.accepted.get()


@contextlib.asynccontextmanager
async def net(lab: Lab, **options: Any) -> AsyncIterator[Net]:
    made = Net(lab, **options)
    try:
        yield made
    finally:
        made.client.close()
        made.server.close()


# ------------------------------------------------------------------- connections


async def test_streams_and_datagrams_make_the_round_trip(lab: Lab) -> None:
    async with net(lab) as pair:
        conn, near, far = await pair.connect()
        stream = conn.open_stream(False)
        assert stream is not None
        stream.write(b"question", True)
        other = await far.incoming.get()
        assert await read_all(other) == b"question"
        other.write(b"answer", True)
        assert await read_all(stream) == b"answer"
        conn.send_datagram(b"", b"ping")
        assert await far.inbox.get() == b"ping"
        assert far.quic is not None
        far.quic.send_datagram(b"", b"pong")
        assert await near.inbox.get() == b"pong"
        conn.close(5, "over")
        assert (await far.end).code == (await near.end).code == 5


async def test_bulk_with_backpressure_both_ways_at_once(lab: Lab) -> None:
    size = 8 << 20
    high = 256 * KIB

    async def send(stream: QuicStream) -> int:
        highest = 0
        for number in range(size // 65536):
            queued = stream.write(number.to_bytes(4, "big") * 16384)
            highest = max(highest, queued)
            if queued > high:
                await drain(stream)
        stream.write(b"", True)
        return highest

    async with net(lab) as pair:
        conn, _, far = await pair.connect()
        stream = conn.open_stream(False)
        assert stream is not None
        stream.write(b"\0\0\0\0")
        other = await far.incoming.get()
        assert await read(other) == b"\0\0\0\0"
        up, down, highest, _ = await asyncio.gather(
            read_all(other), read_all(stream), send(stream), send(other)
        )
        expected = b"".join(number.to_bytes(4, "big") * 16384 for number in range(size // 65536))
        assert up == expected
        assert down == expected
        assert highest <= high + 65536


async def test_connection_by_every_address_of_localhost(lab: Lab) -> None:
    async with net(lab) as pair:
        bound = await pair.server.bind("localhost", 0)
        assert {host for host, _ in bound} == {"127.0.0.1", "::1"}
        assert len({port for _, port in bound}) == 1
        for host, port in bound:
            (remote,) = await resolve(host, port)
            near = Peer()
            pair.client.connect(remote, server_name="localhost", handler=near)
            await near.ready_event
            await pair.accepted.get()
        assert len(pair.client.sockets) == 2
        assert pair.client.local_addresses[0][1] != 0


async def test_wildcard_serves_both_families_on_one_socket(lab: Lab) -> None:
    async with net(lab) as pair:
        bound = await pair.server.bind("", 0)
        assert [host for host, _ in bound] == ["::"]
        for host in ("127.0.0.1", "::1"):
            (remote,) = await resolve(host, bound[0][1])
            near = Peer()
            conn = pair.client.connect(remote, server_name="localhost", handler=near)
            await near.ready_event
            peer = await pair.accepted.get()
            assert peer.quic is not None
            assert peer.quic.remote_address is not None
            assert peer.quic.remote_address[0] == host
            assert conn.remote_address == (host, bound[0][1])


async def test_migration_to_a_new_socket(lab: Lab) -> None:
    async with net(lab) as pair:
        conn, near, far = await pair.connect()
        conn.send_datagram(b"", b"warm")
        await far.inbox.get()
        old = pair.client.sockets[0]
        new = pair.client.open_socket(socket.AF_INET, ("127.0.0.1", 0))
        pair.client.migrate(conn, new)
        assert await near.moved.get() is True
        pair.client.close_socket(old)
        pair.client.close_socket(old)
        conn.send_datagram(b"", b"moved")
        assert await far.inbox.get() == b"moved"
        assert conn.local_address == new.address
        assert pair.client.sockets == (new,)


async def test_idle_timeout_needs_no_traffic_to_fire(lab: Lab) -> None:
    settings = {"idle_timeout": 60_000_000}
    async with net(lab, client={"settings": settings}) as pair:
        _, near, far = await pair.connect()
        assert (await near.end).kind == "idle"
        assert (await far.end).kind == "idle"


async def test_refused_port_is_told_at_once(lab: Lab) -> None:
    port = free_port()
    async with net(lab) as pair:
        near = Peer()
        start = time.monotonic()
        pair.client.connect(
            RemoteAddress(socket.AF_INET, ("127.0.0.1", port)),
            server_name="localhost",
            handler=near,
        )
        info = await near.end
        assert info.kind == "refused"
        assert info.handshake_done is False
        assert time.monotonic() - start < 5


async def test_socket_survives_errors_of_the_network(lab: Lab) -> None:
    """An ICMP error makes the descriptor fail once; libuv stops watching such descriptors."""
    nobody = RemoteAddress(socket.AF_INET, ("127.0.0.1", free_port()))
    async with net(lab) as pair:
        conn, _, far = await pair.connect()
        for _ in range(3):
            refused = Peer()
            pair.client.connect(nobody, server_name="localhost", handler=refused)
            assert (await refused.end).kind == "refused"
            conn.send_datagram(b"", b"still here")
            assert await far.inbox.get() == b"still here"
        assert len(pair.client.sockets) == 1


async def test_server_survives_a_client_that_vanished(lab: Lab) -> None:
    async with net(lab) as pair:
        conn, near, far = await pair.connect()
        gone = Endpoint(is_server=False, tls=lab.client_tls)
        handler = Peer()
        remote = RemoteAddress(socket.AF_INET, pair.server.local_addresses[0])
        gone.connect(remote, server_name="localhost", handler=handler)
        await handler.ready_event
        left = await pair.accepted.get()
        gone.close()
        assert left.quic is not None
        for number in range(5):
            # Each is answered by "port unreachable".
            left.quic.send_datagram(b"", b"anybody?")
            pair.server.flush()
            conn.send_datagram(b"", b"%d" % number)
            assert await far.inbox.get() == b"%d" % number
            assert far.quic is not None
            far.quic.send_datagram(b"", b"%d" % number)
            assert await near.inbox.get() == b"%d" % number


async def test_cancelled_reader_leaves_the_stream_usable(lab: Lab) -> None:
    async with net(lab) as pair:
        conn, _, far = await pair.connect()
        stream = conn.open_stream(False)
        assert stream is not None
        stream.write(b"1")
        other = await far.incoming.get()
        assert await read(other) == b"1"
        reader = asyncio.create_task(read(other))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        stream.write(b"2")
        assert await read(other) == b"2"


async def test_handler_exception_goes_to_the_loop_or_to_on_error(lab: Lab) -> None:
    errors: list[BaseException] = []
    reports: list[dict[str, Any]] = []
    reported = asyncio.Event()
    loop = asyncio.get_running_loop()
    previous = loop.get_exception_handler()

    def report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        reports.append(context)
        reported.set()

    loop.set_exception_handler(report)
    try:
        async with net(lab, server={"on_error": errors.append}) as pair:
            conn, _, far = await pair.connect()

            def fail(stream: QuicStream) -> None:
                raise ValueError("sink")

            stream = conn.open_stream(False)
            assert stream is not None
            stream.sink = fail
            stream.write(b"x")
            other = await far.incoming.get()
            other.sink = fail
            stream.write(b"y", True)
            conn.send_datagram(b"", b"then")
            await far.inbox.get()
            other.write(b"z")
            await reported.wait()
    finally:
        loop.set_exception_handler(previous)
    assert [str(error) for error in errors] == ["sink"]
    assert [str(context["exception"]) for context in reports] == ["sink"]


async def test_packets_that_make_a_handler_fail_are_few_reports(lab: Lab) -> None:
    """An attacker who found one can send it again and again."""
    reports: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    previous = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reports.append(context))

    again = asyncio.Event()

    def fail(stream: QuicStream) -> None:
        again.set()
        raise ValueError("sink")

    started = loop.time()
    try:
        async with net(lab) as pair:
            conn, _, far = await pair.connect()
            stream = conn.open_stream(False)
            assert stream is not None
            stream.write(b"x")
            other = await far.incoming.get()
            other.sink = fail
            for _ in range(100):
                again.clear()
                stream.write(b"y")
                await again.wait()
                other.read(100)
    finally:
        loop.set_exception_handler(previous)
    assert 1 <= len(reports) <= SHARED_BURST + loop.time() - started + 1


# ------------------------------------------------------------------------ closing


async def test_aclose_lets_the_close_go_out(lab: Lab) -> None:
    async with net(lab) as pair:
        conn, near, far = await pair.connect()
        conn.close(9, "bye")
        await pair.client.aclose()
        await pair.client.aclose()
        assert near.closed is not None
        assert near.closed.code == 9
        assert (await far.end).code == 9
        assert pair.client.is_closed


async def test_close_inside_a_handler_releases_everything(lab: Lab) -> None:
    async with net(lab) as pair:
        conn, _, far = await pair.connect()
        stream = conn.open_stream(False)
        assert stream is not None
        stream.write(b"x")
        other = await far.incoming.get()
        other.sink = lambda _: pair.server.close()
        stream.write(b"y")
        info = await far.end
        assert info.remote is False
        assert pair.server.is_closed
        assert pair.server.sockets == ()


async def test_closed_endpoint_refuses_work(lab: Lab) -> None:
    async with net(lab) as pair:
        pair.client.close()
        pair.client.close()
        pair.client.flush()
        with pytest.raises(ConnectionError, match="endpoint is closed"):
            pair.client.connect(
                RemoteAddress(socket.AF_INET, ("127.0.0.1", 9)),
                server_name="localhost",
                handler=Peer(),
            )
        with pytest.raises(ServerError, match="endpoint is closed"):
            await pair.client.bind("127.0.0.1", 0)
        with pytest.raises(ServerError, match="endpoint is closed"):
            pair.client.open_socket(socket.AF_INET)
        with pytest.raises(ServerError, match="endpoint is closed"):
            pair.client.add_socket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


async def test_full_socket_is_waited_for(lab: Lab) -> None:
    """A tiny send buffer makes the kernel refuse packets; everything still arrives."""
    async with net(lab, client={"socket_buffer_size": 4608}) as pair:
        conn, _, far = await pair.connect()
        streams = []
        for _ in range(8):
            stream = conn.open_stream(True)
            assert stream is not None
            stream.write(bytes(500_000), True)
            streams.append(stream)
        await pair.client.wait_sent()
        for _ in streams:
            incoming = await far.incoming.get()
            assert len(await read_all(incoming)) == 500_000


async def test_one_flush_for_all_writers_of_a_turn(lab: Lab) -> None:
    async with net(lab) as pair:
        conn, _, far = await pair.connect()
        conn.send_datagram(b"", b"warm")
        await far.inbox.get()
        before = pair.client.quic.stats()["send_calls"]
        for number in range(20):
            conn.send_datagram(b"", b"%d" % number)
        for _ in range(20):
            await far.inbox.get()
        assert pair.client.quic.stats()["send_calls"] - before < 10


async def test_endpoint_needs_a_running_loop(lab: Lab) -> None:
    def outside() -> None:
        with pytest.raises(RuntimeError):
            Endpoint(is_server=False, tls=lab.client_tls)

    await asyncio.to_thread(outside)


async def test_unusable_socket_is_closed(lab: Lab) -> None:
    async with net(lab) as pair:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with pytest.raises(ValueError, match="UDP"):
            pair.client.add_socket(sock)
        assert sock.fileno() == -1
        with pytest.raises(UnreachableError, match=r"192\.0\.2\.1"):
            pair.client.open_socket(socket.AF_INET, ("192.0.2.1", 0))


class Full:
    """A ``QuicEndpoint`` whose socket takes nothing until ``unblock()`` was called n times."""

    def __init__(self, quic: Any, refusals: int) -> None:
        self._quic = quic
        self.refusals = refusals
        self.unblocked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._quic, name)

    @property
    def is_blocked(self) -> bool:
        return self.refusals > 0

    def process(self, now: int) -> bool:
        return False if self.is_blocked else bool(self._quic.process(now))

    def unblock(self) -> None:
        self.unblocked += 1
        self.refusals -= 1


class FullSocket:
    """In place of ``UdpSocket.ready``: full when asked first, writable when asked again."""

    def __init__(self) -> None:
        self.answers = itertools.cycle([0, select.EPOLLOUT])

    def __call__(self) -> int:
        return next(self.answers)


@pytest.mark.parametrize("kernel_is_full", [False, True])
async def test_blocked_endpoint_goes_on_when_the_socket_is_writable(
    lab: Lab, kernel_is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loopback socket is never full, so the engine's and the kernel's answers are replaced."""
    if kernel_is_full:
        monkeypatch.setattr(UdpSocket, "ready", FullSocket())
    async with net(lab) as pair:
        conn, _, far = await pair.connect()
        real = pair.client._quic
        full = Full(real, 3)
        pair.client._quic = full  # type: ignore[assignment]
        conn.send_datagram(b"", b"kept")
        await pair.client.wait_sent()
        assert full.unblocked == 3
        assert await far.inbox.get() == b"kept"
        full.refusals = 10**9
        conn.send_datagram(b"", b"never")
        await pair.client.aclose(timeout=0.01)
        assert pair.client.is_closed
        assert real.is_closed


async def test_socket_that_is_waited_for_may_be_closed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UdpSocket, "ready", lambda udp: 0)
    async with net(lab) as pair:
        conn, _, far = await pair.connect()
        second = pair.client.open_socket(socket.AF_INET6)
        full = Full(pair.client.quic, 1)
        pair.client._quic = full  # type: ignore[assignment]
        conn.send_datagram(b"", b"kept")
        pair.client.flush()
        pair.client.close_socket(second)
        assert await far.inbox.get() == b"kept"


async def test_a_timer_and_a_flush_of_one_turn_do_their_work_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a slice of the turn: a timer that fires beside a flush would have one more."""
    async with net(lab) as pair:
        await pair.connect()
        client, runs = pair.client, 0
        run = Endpoint._run

        def count(self: Endpoint) -> None:
            nonlocal runs
            runs += self is client
            run(self)

        def fire() -> None:
            assert client._timer is not None
            client._timer.cancel()
            client._on_timer()

        client.flush()
        with monkeypatch.context() as patch:
            patch.setattr(Endpoint, "_run", count)
            client._schedule_flush()
            fire()
            assert runs == 0
            await asyncio.sleep(0)
            assert runs == 1
            assert client._flush_handle is None
            fire()
            assert runs == 2
