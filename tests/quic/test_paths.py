"""Addresses, migration, refused ports, key update, statistics."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import pytest

from pywebtransport._quic import QuicSocket
from pywebtransport.exceptions import ConfigurationError, ConnectionError
from tests.support.ports import free_port

from .harness import Lab, Link, Recorder, read_all, run


def test_addresses_of_both_ends(lab: Lab) -> None:
    with lab.link() as link:
        assert link.conn.local_address == link.client.address
        assert link.conn.remote_address == link.server.address
        assert link.peer.local_address == link.server.address
        assert link.peer.remote_address == link.client.address
        link.conn.close(0)
        link.run(lambda: link.near.closed and link.far.closed)
        assert link.conn.local_address == link.client.address
        assert link.peer.remote_address == link.client.address


def test_ipv6(lab: Lab) -> None:
    with lab.link(server={"host": "::1"}, client={"host": "::1"}) as link:
        assert link.conn.remote_address == link.server.address
        assert link.server.address[0] == "::1"
        near, far = link.open(b"over IPv6", fin=True)
        assert far.read() == b"over IPv6"
        assert near.fin_written


def test_ipv4_client_of_a_dual_stack_server_is_shown_as_ipv4(lab: Lab) -> None:
    with lab.side(True) as server, lab.side(False) as client:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setblocking(False)
        sock.bind(("::", 0))
        quic = server.endpoint.add_socket(sock.fileno())
        server.sockets[sock.fileno()] = (sock, quic)
        handler = Recorder()
        conn = client.endpoint.connect(
            client.quic_socket,
            ("127.0.0.1", sock.getsockname()[1]),
            server_name="localhost",
            handler=handler,
            now=time.monotonic_ns(),
        )
        run((server, client), lambda: handler.handshakes and server.handlers)
        peer = server.handlers[0].quic
        assert peer is not None
        assert peer.remote_address == client.address
        assert conn.remote_address == ("127.0.0.1", sock.getsockname()[1])


def test_ipv6_socket_reaches_an_ipv4_address(lab: Lab) -> None:
    with lab.side(True) as server, lab.side(False) as client:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setblocking(False)
        sock.bind(("::", 0))
        quic = client.endpoint.add_socket(sock.fileno())
        client.sockets[sock.fileno()] = (sock, quic)
        handler = Recorder()
        conn = client.endpoint.connect(
            quic, server.address, server_name="localhost", handler=handler, now=time.monotonic_ns()
        )
        run((server, client), lambda: handler.handshakes)
        assert conn.remote_address == server.address


@pytest.mark.parametrize(
    "address",
    [
        ("localhost", 1),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("127.0.0.1", "1"),
        ("127.0.0.1",),
        (),
        (None, 1),
        ("é", 1),
        ("::1", 1),
        ("fe80::1%no-such-interface", 1),
    ],
)
def test_bad_address_is_refused(lab: Lab, address: tuple[Any, ...]) -> None:
    with lab.side(False) as client, pytest.raises(ConfigurationError):
        client.endpoint.connect(
            client.quic_socket, address, server_name="x", handler=Recorder(), now=1
        )


@pytest.mark.parametrize("name", ["a\0b", "x" * 70 + "é"])
def test_bad_server_name_is_refused(lab: Lab, name: str) -> None:
    with lab.side(False) as client, pytest.raises(ConfigurationError, match="server_name"):
        client.endpoint.connect(
            client.quic_socket, ("127.0.0.1", 9), server_name=name, handler=Recorder(), now=1
        )


def test_server_cannot_connect(lab: Lab) -> None:
    with lab.side(True) as server, pytest.raises(ConfigurationError, match="client"):
        server.endpoint.connect(
            server.quic_socket, ("127.0.0.1", 9), server_name="x", handler=Recorder(), now=1
        )


def test_refused_port_ends_the_attempt(lab: Lab) -> None:
    with lab.side(False) as client, lab.side(True) as server:
        address = ("127.0.0.1", free_port())
        handler = Recorder()
        conn = client.endpoint.connect(
            client.quic_socket,
            address,
            server_name="localhost",
            handler=handler,
            now=time.monotonic_ns(),
        )
        run((client,), lambda: handler.closed)
        assert handler.closed is not None
        assert handler.closed.kind == "refused"
        assert handler.closed.errno == 111
        assert conn.is_closed
        # The socket serves others as before.
        Link(server, client).establish()


def test_silent_peer_ends_with_the_handshake_timeout(lab: Lab) -> None:
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    with silent, lab.side(False, settings={"handshake_timeout": 60_000_000}) as client:
        handler = Recorder()
        client.endpoint.connect(
            client.quic_socket,
            silent.getsockname(),
            server_name="localhost",
            handler=handler,
            now=time.monotonic_ns(),
        )
        run((client,), lambda: handler.closed)
        assert handler.closed is not None
        assert handler.closed.kind == "handshake_timeout"


# ------------------------------------------------------------------- migration


def test_client_moves_to_another_socket(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"before")
        old = link.client.address
        link.settle()
        second = link.client.add_socket()
        sock = link.client.sockets[second.fd][0]
        link.conn.migrate(second, sock.getsockname(), time.monotonic_ns())
        link.run(lambda: link.near.paths and link.far.paths)
        assert link.near.paths == [True]
        assert link.conn.local_address == sock.getsockname() != old
        assert link.peer.remote_address == sock.getsockname()
        first = next(iter(link.client.sockets))
        link.client.sockets[first][1].close()
        link.client.sockets.pop(first)[0].close()
        near.write(b" and after", True)
        assert read_all(link, far) == b"before and after"


def test_migration_where_the_peer_forbids_it(lab: Lab) -> None:
    with lab.link(server={"settings": {"enable_migration": 0}}) as link:
        second = link.client.add_socket()
        local = link.client.sockets[second.fd][0].getsockname()
        with pytest.raises(ConnectionError, match="cannot migrate"):
            link.conn.migrate(second, local, time.monotonic_ns())
        link.settle()


def test_server_follows_a_rebound_client(lab: Lab) -> None:
    """What a NAT does: the packets of the client come from another port."""
    with lab.side(True) as server, lab.side(False) as client, Nat(server.address) as nat:
        handler = Recorder()
        conn = client.endpoint.connect(
            client.quic_socket,
            nat.address,
            server_name="localhost",
            handler=handler,
            now=time.monotonic_ns(),
        )

        def step() -> bool:
            nat.forward()
            return bool(handler.handshakes and server.handlers)

        run((server, client), step, poll=(nat.inside, nat.outside))
        stream = conn.open_stream(True)
        assert stream is not None
        stream.write(b"1")
        far = server.handlers[0]

        def first_arrived() -> bool:
            nat.forward()
            return bool(far.streams)

        run((server, client), first_arrived, poll=(nat.inside, nat.outside))
        nat.rebind()
        stream.write(b"2", True)

        def moved() -> bool:
            nat.forward()
            return far.streams[0].fin_received and bool(far.paths)

        run((server, client), moved, poll=(nat.inside, nat.outside))
        assert far.quic is not None
        assert far.quic.remote_address == nat.outside.getsockname()
        assert far.streams[0].read() is not None


class Nat:
    """Forwards UDP datagrams of one client to one server; ``rebind`` changes its outer port."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._client: tuple[str, int] | None = None
        self.inside = self._open()
        self.outside = self._open()
        self.address: tuple[str, int] = self.inside.getsockname()

    @staticmethod
    def _open() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        return sock

    def forward(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, self._client = self.inside.recvfrom(65536)
                self.outside.sendto(data, self._server)
        with contextlib.suppress(BlockingIOError):
            while self._client is not None:
                self.inside.sendto(self.outside.recv(65536), self._client)

    def rebind(self) -> None:
        self.outside.close()
        self.outside = self._open()

    def __enter__(self) -> Nat:
        return self

    def __exit__(self, *exc: object) -> None:
        self.inside.close()
        self.outside.close()


# ------------------------------------------------------------ keys, Retry, numbers


def test_key_update(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"1")
        link.settle()
        # RFC 9001 section 6.1: not before the handshake is confirmed.
        link.conn.initiate_key_update(time.monotonic_ns())
        near.write(b"2", True)
        assert read_all(link, far) == b"12"
        with pytest.raises(ConnectionError):
            # Section 6.2: not twice before the first is acknowledged and some time passed.
            link.conn.initiate_key_update(time.monotonic_ns())

        def counted() -> bool:
            link.conn.send_datagram(b"", b"tick")
            return link.conn.stats()["key_updates"] == link.peer.stats()["key_updates"] == 1

        link.run(counted)


def test_retry_is_invisible_to_the_application(lab: Lab) -> None:
    with lab.link(server={"settings": {"retry": "always"}}) as link:
        link.open(b"x")
        assert link.server.endpoint.stats()["retries_sent"] == 1


@pytest.mark.parametrize("cc", ["cubic", "reno", "bbr"])
def test_congestion_control_by_name(lab: Lab, cc: str) -> None:
    with lab.link(client={"settings": {"cc": cc}}) as link:
        near, far = link.open(bytes(300_000))
        assert far.buffered == 300_000
        assert near.bytes_written == 300_000


def test_version_two(lab: Lab) -> None:
    with lab.link(
        client={"settings": {"prefer_v2": 1}}, server={"settings": {"prefer_v2": True}}
    ) as link:
        assert link.conn.stats()["version"] == 0x6B3343CF  # RFC 9369
    with lab.link() as link:
        assert link.conn.stats()["version"] == 1


def test_statistics_are_measured(lab: Lab) -> None:
    with lab.link() as link:
        link.open(bytes(100_000))
        link.settle()
        near, far = link.conn.stats(), link.peer.stats()
        assert near["stream_bytes_sent"] == far["stream_bytes_received"] == 100_000
        assert near["streams_opened_local"] == far["streams_opened_remote"] == 1
        for stats in (near, far):
            rtt = stats["smoothed_rtt"]
            assert rtt is not None
            assert 0 < rtt < 10**9
            assert (stats["max_udp_payload"] or 0) >= 1200
            assert (stats["cwnd"] or 0) > 0
        engine = link.server.endpoint.stats()
        assert engine["connections"] == engine["accepted"] == 1
        assert engine["packets_received"] >= 70
        assert engine["send_calls"] <= engine["packets_sent"]


def test_statistics_before_the_first_sample(lab: Lab) -> None:
    with lab.pending() as link:
        stats = link.conn.stats()
        assert stats["min_rtt"] is None
        assert stats["latest_rtt"] is None
        assert stats["rttvar"] is None


@pytest.mark.parametrize(
    "features", [(), ("gso",), ("gro", "ecn"), ("gso", "gro", "ecn", "pktinfo")]
)
def test_any_set_of_socket_features_works(lab: Lab, features: tuple[str, ...]) -> None:
    with lab.side(True) as server, lab.side(False) as client:
        client.add_socket(features=features)
        quic: QuicSocket = list(client.sockets.values())[-1][1]
        assert quic.features <= set(features)
        handler = Recorder()
        conn = client.endpoint.connect(
            quic, server.address, server_name="localhost", handler=handler, now=time.monotonic_ns()
        )
        run((server, client), lambda: handler.handshakes and server.handlers)
        stream = conn.open_stream(True)
        assert stream is not None
        stream.write(bytes(200_000), True)
        far = server.handlers[0]
        run((server, client), lambda: far.streams and far.streams[0].fin_received)
        assert far.streams[0].buffered == 200_000


def test_bad_socket_is_refused(lab: Lab) -> None:
    with lab.side(False) as client:
        with pytest.raises(ConfigurationError, match="'gso'"):
            client.endpoint.add_socket(0, features=["magic"])
        with pytest.raises(ConfigurationError, match="buffer_size"):
            client.endpoint.add_socket(0, buffer_size=-1)
        left, right = socket.socketpair()
        with left, right, pytest.raises(ConfigurationError, match="UDP"):
            client.endpoint.add_socket(left.fileno())
        with pytest.raises(ConnectionError, match="Bad file descriptor"):
            client.endpoint.add_socket(10**6)
