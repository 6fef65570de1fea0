"""One port for several workers: which socket gets a packet, and what workers hand on."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pywebtransport._loop import Endpoint, SharedPort, bind_addresses, bind_udp_sockets
from pywebtransport._loop.resolve import resolve
from pywebtransport._loop.steering import LbConfig, Steering, steering_program
from pywebtransport._quic import QuicConnection
from pywebtransport.exceptions import ConfigurationError, ServerError
from tests.support.steps import until

from .harness import Lab, Recorder

UDP_SEGMENT = 103
UDP_GRO = 104
SHORT = 0x40
INITIAL, HANDSHAKE = 0xC0, 0xE0


@contextlib.contextmanager
def shared(count: int, host: str = "127.0.0.1", port: int = 0) -> Iterator[SharedPort]:
    port_of_all = SharedPort(host, port, count)
    try:
        yield port_of_all
    finally:
        port_of_all.close()


@contextlib.contextmanager
def sender(address: tuple[str, int]) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        yield sock


def short(*cid: int) -> bytes:
    """A packet as 1-RTT packets look from outside."""
    return bytes([SHORT, *cid]).ljust(100, b"\xaa")


def long(first: int, cid: bytes) -> bytes:
    return bytes([first, 0, 0, 0, 1, len(cid)]) + cid + bytes(100)


def arrived(port: SharedPort, count: int) -> list[int]:
    """The workers whose sockets have something; it is taken out."""
    found = []
    for index in range(count):
        for sock in port.seat(index).sockets:
            with contextlib.suppress(BlockingIOError):
                while sock.recv(2000) is not None:
                    found.append(index)
    return found


# ------------------------------------------------------------------------ steering


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "::"])
def test_packets_follow_the_connection_id_from_any_address(host: str) -> None:
    with shared(3, host) as port:
        for address in port.addresses:
            to = ("::1" if address[0] == "::" else address[0], address[1])
            for index in range(3):
                for _ in range(10):
                    with sender(to) as sock:
                        sock.send(short(index, 7, 7, 7, 7, 7, 7, 7))
                        assert arrived(port, 3) == [index]
                        for first in (INITIAL, HANDSHAKE):
                            sock.send(long(first, bytes([index]) + os.urandom(7)))
                            assert arrived(port, 3) == [index]


def test_choice_of_a_client_decides_alone_and_evenly() -> None:
    counts: Counter[int] = Counter()
    with shared(3) as port, sender(port.addresses[0]) as one, sender(port.addresses[0]) as two:
        for _ in range(3000):
            cid = os.urandom(8)
            one.send(long(INITIAL, cid))
            (first,) = arrived(port, 3)
            two.send(long(INITIAL, cid))
            assert arrived(port, 3) == [first]
            counts[first] += 1
    # Six standard deviations are 155.
    assert all(abs(counts[index] - 1000) < 160 for index in range(3))


@pytest.mark.parametrize("size", range(1, 13))
def test_ids_behind_a_balancer_reach_their_worker(size: int) -> None:
    server_id = os.urandom(size)
    lb = LbConfig(server_id, 5)
    first = 5 << 5 | lb.cid_length - 1
    port = SharedPort("127.0.0.1", 0, 3, lb=lb)
    try:
        with sender(port.addresses[0]) as sock:
            for worker in range(3):
                cid = bytes([first]) + server_id + bytes([worker])
                cid += os.urandom(lb.cid_length - len(cid))
                # And as it was before the server had its ID.
                for packet in (short(*cid), long(INITIAL, cid), short(worker)):
                    sock.send(packet)
                    assert arrived(port, 6) == [worker]
            other = bytes(255 - byte for byte in server_id)
            cid = bytes([first]) + other + bytes([2]) + os.urandom(8)
            counts = set()
            for _ in range(200):
                packet = long(INITIAL, cid[:1] + os.urandom(4) + cid[5:])
                sock.send(packet)
                counts |= set(arrived(port, 6))
            assert counts == {0, 1, 2}  # not an ID of this server: shared like those of clients
    finally:
        port.close()


def test_nonsense_arrives_somewhere() -> None:
    with shared(2) as port, sender(port.addresses[0]) as sock:
        for packet in (b"", b"\x40", b"\xc0", b"\xc0\0\0\0\1", short(255), long(INITIAL, b"")):
            sock.send(packet)
            assert len(arrived(port, 2)) == 1


def test_program_is_made_for_any_number_of_workers() -> None:
    for count in (1, 2, 255, 256):
        assert len(steering_program(Steering.initial(count))) == 13 * struct.calcsize("HBBI")
    with shared(256) as port, sender(port.addresses[0]) as sock:
        assert port.seats == 256
        sock.send(short(255))
        assert arrived(port, 256) == [255]
        # The worst that may be: every second worker drains.
        half = tuple(None if place % 2 else place for place in range(256))
        port.steer(Steering(half, frozenset(range(0, 256, 2))))
        sock.send(short(254))
        sock.send(short(255))
        assert 254 in arrived(port, 256)
        assert port.unsteered is None


@pytest.mark.parametrize(
    "steering",
    [
        Steering((0, 4, None), frozenset({0, 1, 4})),
        Steering((None, None, 5), frozenset({5, 2})),
        Steering((3, 1, 2), frozenset({0, 1, 2, 3})),
    ],
    ids=["vacant place", "one left", "drains"],
)
def test_new_clients_reach_only_those_who_take_them(steering: Steering) -> None:
    """Packets of connections reach their worker; those of a dead worker reach another."""
    with shared(3) as port, sender(port.addresses[0]) as sock:
        assert port.seats == 6
        port.steer(steering)
        found = Counter()
        for number in range(2000):
            cid = bytes([number % 256]) + os.urandom(7)
            expected = cid[0] if cid[0] in steering.alive else None
            for packet in (long(INITIAL, cid), short(*cid)):
                sock.send(packet)
                (seat,) = arrived(port, 6)
                assert seat == (steering.taker(packet) if expected is None else expected)
                if expected is None:
                    found[seat] += 1
        assert set(found) == set(steering.open)


def test_program_behind_a_balancer_is_small() -> None:
    lb = LbConfig(bytes(range(12)), 1)
    size = len(steering_program(Steering.initial(256), lb)) // struct.calcsize("HBBI")
    assert size == 13 + 4 + 2 * 4  # the tests of the first byte and of three words, and the worker


def test_nobody_moves_but_the_clients_of_a_place_that_changes() -> None:
    before = Steering.initial(4)
    after = Steering((0, 1, None, 7), frozenset({0, 1, 3, 7}))
    for _ in range(500):
        packet = long(INITIAL, b"\xff" + os.urandom(7))
        one, two = before.taker(packet), after.taker(packet)
        if one in (0, 1):
            assert two == one
        elif one == 3:
            assert two == 7
        else:
            assert two in (0, 1, 7)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
async def test_what_waits_for_a_dead_worker_is_handed_on(lab: Lab, host: str) -> None:
    """In its socket and in its mailbox; trains are taken apart."""
    with shared(2, host) as port:
        to = ("::1" if host == "::" else host, port.addresses[0][1])
        endpoint = Endpoint(
            is_server=True, tls=lab.server_tls, accept=lambda _: None, seat=port.seat(0)
        )
        endpoint.adopt()
        try:
            with sender(to) as sock:
                for waiting in port.seat(1).sockets:
                    waiting.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
                sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
                sock.send(short(1, 2) + short(1, 3) + short(1, 4))
                # Nobody is alive in the other seat: these are answered here.
                port.seat(0).steer(Steering((0, None), frozenset({0})))
                endpoint.quic.set_steering((0, None), bytes([1]))
                port.steer(Steering((0, None), frozenset({0})))
                port.rescue(1)
                await until(lambda: endpoint.quic.stats()["stateless_resets_sent"] == 3)
                assert len({sock.recv(2000)[-16:] for _ in range(3)}) == 3
        finally:
            endpoint.close()


async def test_two_workers_that_disagree_do_not_pass_a_packet_around(lab: Lab) -> None:
    """Each thinks that the other takes new clients."""
    with shared(2) as port, sender(port.addresses[0]) as sock:
        endpoints = []
        for index in range(2):
            endpoint = Endpoint(
                is_server=True, tls=lab.server_tls, accept=lambda _: None, seat=port.seat(index)
            )
            endpoint.adopt()
            other = 1 - index
            endpoint.quic.set_steering((other,), bytes([1, 1]))
            endpoints.append(endpoint)
        try:
            sock.send(long(INITIAL, bytes([0]) + os.urandom(7)).ljust(1200, b"\0"))
            await until(
                lambda: sum(item.quic.stats()["packets_received"] for item in endpoints) == 4
            )
            assert sum(item.quic.stats()["foreign_packets"] for item in endpoints) == 3
        finally:
            for endpoint in endpoints:
                endpoint.close()


@pytest.mark.parametrize(
    "tables",
    [((1,), (0,)), ((0,), (1,)), ((None,), (1,))],
    ids=["the successor does not know", "the old one does not know", "nobody for a while"],
)
async def test_client_that_meets_a_worker_which_leaves_is_served_by_its_successor(
    lab: Lab, tables: tuple[tuple[int | None], tuple[int | None]]
) -> None:
    """Its first packet is dropped there, not answered, and comes again when the tables agree."""
    accepted: list[tuple[int, Recorder]] = []
    near = Recorder()

    def taker(index: int) -> Callable[[QuicConnection], Recorder]:
        def accept(_: QuicConnection) -> Recorder:
            accepted.append((index, Recorder()))
            return accepted[-1][1]

        return accept

    with shared(2) as port:
        endpoints = [
            Endpoint(is_server=True, tls=lab.server_tls, accept=taker(index), seat=port.seat(index))
            for index in range(2)
        ]
        client = Endpoint(is_server=False, tls=lab.client_tls)
        old = endpoints[0]
        try:
            for endpoint, homes in zip(endpoints, tables, strict=True):
                endpoint.adopt()
                # The first byte of the client's choice leads nowhere.
                endpoint.quic.set_steering(homes, bytes(2))
            old.quic.stop_accepting()
            # Where it comes first: to the successor if that hands it on, otherwise to the old one.
            first = 1 if tables[1] == (0,) else 0
            port.steer(Steering((first,), frozenset({first})))
            (remote,) = await resolve(*port.addresses[0])
            client.connect(remote, server_name="localhost", handler=near)
            await until(lambda: old.quic.stats()["dropped_packets"] or near.closed)
            for endpoint in endpoints:
                endpoint.quic.set_steering((1,), bytes([1, 1]))
            port.steer(Steering((1,), frozenset({0, 1})))
            await until(lambda: near.handshakes or near.closed)
            assert near.closed is None
            await until(lambda: accepted)
            assert [index for index, _ in accepted] == [1]
            assert old.quic.stats()["refused"] == 0
        finally:
            for endpoint in (client, *endpoints):
                endpoint.close()


async def test_tables_that_are_wrong_change_nothing(lab: Lab) -> None:
    endpoint = Endpoint(is_server=True, tls=lab.server_tls, accept=lambda _: None)
    try:
        for homes, alive in (((), b""), ((256,), b""), ((-2,), b""), ((0,) * 257, b"")):
            with pytest.raises(ConfigurationError, match="homes"):
                endpoint.quic.set_steering(homes, alive)
        with pytest.raises(ConfigurationError):
            endpoint.quic.set_steering((0,), bytes(257))
    finally:
        endpoint.close()


def test_kernel_without_steering(monkeypatch: pytest.MonkeyPatch) -> None:
    """All workers have the same sockets then."""
    monkeypatch.setattr("pywebtransport._loop.shared._SO_ATTACH_REUSEPORT_CBPF", 9999)
    with shared(2) as port:
        assert port.unsteered is not None
        assert "does not steer packets" in port.unsteered
        (one,), (two,) = port.seat(0).sockets, port.seat(3).sockets
        assert one is two
        port.steer(Steering((3, None), frozenset({0, 3})))
        with sender(port.addresses[0]) as sock:
            sock.send(short(1))
            assert arrived(port, 1) == [0]
            # Nothing is only for one of them, so nothing is taken out for others.
            sock.send(short(1))
            port.rescue(1)
            assert arrived(port, 1) == [0]


def test_port_in_use_is_found_out() -> None:
    with shared(2) as port:
        host, number = port.addresses[0]
        with pytest.raises(ServerError, match="choose another port") as caught:
            SharedPort(host, number, 2)
        assert caught.value.details["errno"] == errno.EADDRINUSE
        addresses = bind_addresses(host, number)
        assert addresses is not None
        with pytest.raises(ServerError):
            bind_udp_sockets(addresses)
    with shared(1, host, number) as port:
        assert port.addresses == [(host, number)]


def test_name_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **more: Any) -> Any:
        if host == "workers.test" and not more.get("flags", 0) & socket.AI_NUMERICHOST:
            host = "127.0.0.3"
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with shared(2, "workers.test") as port:
        assert [host for host, _ in port.addresses] == ["127.0.0.3"]


# ------------------------------------------------------------------ between workers


async def test_train_for_several_workers_is_sorted_out(lab: Lab) -> None:
    """The kernel gives a train to one socket as a whole; each packet still meets its worker."""
    with shared(2, "localhost") as port:
        endpoints = []
        for index in range(2):
            endpoint = Endpoint(
                is_server=True, tls=lab.server_tls, accept=lambda _: None, seat=port.seat(index)
            )
            assert endpoint.adopt() == port.addresses
            endpoints.append(endpoint)
        try:
            for address in port.addresses:
                before = [endpoint.quic.stats() for endpoint in endpoints]
                with sender(address) as sock:
                    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
                    sock.send(short(0, 1) + short(1, 2) + short(0, 3) + short(1, 4))

                    def gained(name: str, start: list[dict[str, int]] = before) -> list[int]:
                        return [
                            endpoint.quic.stats()[name] - old[name]
                            for endpoint, old in zip(endpoints, start, strict=True)
                        ]

                    # Of connections that nobody knows: each worker answers for its own.
                    await until(lambda gained=gained: gained("stateless_resets_sent") == [2, 2])
                    assert gained("foreign_packets") == [2, 0]
                    assert gained("packets_received") == [4, 2]
                    resets = {sock.recv(2000)[-16:] for _ in range(4)}
                    assert len(resets) == 4
                with sender(address) as sock:
                    # The same connection ID gets the same reset from a worker that came later.
                    sock.send(short(1, 2))
                    await until(lambda gained=gained: gained("stateless_resets_sent") == [2, 3])
                    assert sock.recv(2000)[-16:] in resets
        finally:
            for endpoint in endpoints:
                endpoint.close()


async def test_mailbox_is_bounded_and_nonsense_in_it_is_dropped(lab: Lab) -> None:
    with shared(2) as port:
        seat = port.seat(0)
        for junk in (b"x", bytes(4), bytes([9, 0, 16, 16]) + bytes(100), bytes([0, 0, 255, 255])):
            seat.forward(0, junk)
        for _ in range(10_000):
            seat.forward(1, bytes(1000))
        total = 0
        while packets := port.seat(1).take():
            assert len(packets) <= 64
            total += len(packets)
        assert 100 < total < 10_000
        endpoint = Endpoint(is_server=True, tls=lab.server_tls, accept=lambda _: None, seat=seat)
        try:
            endpoint.adopt()
            with pytest.raises(ServerError, match="another server of this worker"):
                endpoint.adopt()
            await until(lambda: not select.select([seat.mailbox], [], [], 0)[0])
            assert endpoint.quic.stats()["packets_received"] == 0
        finally:
            endpoint.close()
        seat.forward(0, b"after the end")
        assert port.seat(0).take() == [b"after the end"]
