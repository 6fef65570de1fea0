"""A flood of packets or datagrams does not hold up another connection; counted in turns."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from .harness import Lab, Link, Recorder

FLOOD = 3000
HONEST = b"honest"


def now() -> int:
    return time.monotonic_ns()


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


def send(link: Link, data: bytes) -> None:
    """A datagram of the client is in the server's socket when this returns."""
    assert link.conn.send_datagram(b"", data)
    link.client.endpoint.process(now())


def test_one_turn_finds_the_packet_behind_a_flood(lab: Lab, stranger: socket.socket) -> None:
    with lab.link() as link:
        link.settle()
        for _ in range(FLOOD):  # of no connection
            stranger.sendto(b"\x40" + bytes(40), link.server.address)
        send(link, HONEST)
        endpoint = link.server.endpoint
        more = endpoint.receive(link.server.quic_socket, now())
        assert HONEST in link.far.datagrams
        waiting = endpoint.stats()["backlog_packets"]
        assert more
        assert 0 < waiting < FLOOD
        # It is worked off by the turns that the endpoint asks for.
        assert link.server.wants_turn
        link.run(lambda: endpoint.stats()["backlog_packets"] == 0)
        assert endpoint.stats()["backlog_dropped"] == 0


def figure(link: Link, name: str) -> int:
    """Of the server's end."""
    value = link.peer.stats()[name]
    assert value is not None
    return value


class Slow(Recorder):
    """Takes longer than a slice for each call."""

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        super().datagrams_received(datagrams)
        end = time.monotonic() + 0.003
        while time.monotonic() < end:
            pass


def test_slow_handler_of_one_does_not_stop_reading(lab: Lab) -> None:
    """Its datagrams wait for many turns; those of another take two."""
    with lab.link() as slow:
        handler = Slow()
        handler.quic = slow.peer
        slow.peer.handler = handler
        with lab.side(False) as client:
            link = Link(slow.server, client).establish()
            link.settle()
            # Bursts that are not acknowledged meanwhile, each more than one call takes.
            server = slow.server
            for number in range(1000):
                assert slow.conn.send_datagram(b"", b"%d" % number)
            slow.client.endpoint.process(now())
            server.endpoint.receive(server.quic_socket, now())
            taken = len(handler.datagrams)
            assert 0 < taken <= 256  # one call: it took longer than a turn has
            send(link, HONEST)
            for _ in range(2):
                if HONEST not in link.far.datagrams:
                    server.endpoint.receive(server.quic_socket, now())
            assert HONEST in link.far.datagrams
            assert len(handler.datagrams) - taken <= 2 * 256
            slow.run(lambda: len(handler.datagrams) == 1000)


def test_datagrams_that_wait_for_a_slow_handler_are_bounded(lab: Lab) -> None:
    with lab.link() as link:
        handler = Slow()
        handler.quic = link.peer
        link.peer.handler = handler
        for _ in range(400):
            if figure(link, "datagrams_missed"):
                break
            while link.conn.send_datagram(b"", b""):
                pass
            link.client.endpoint.process(now())
            link.server.endpoint.receive(link.server.quic_socket, now())
            link.server.endpoint.process(now())
            link.client.endpoint.receive(link.client.quic_socket, now())
        assert figure(link, "datagrams_missed") > 0

        def waiting() -> int:
            there = figure(link, "datagrams_received") - figure(link, "datagrams_missed")
            return there - len(handler.datagrams)

        # What the calls of the last turn took is room again.
        assert 16384 - 4 * 256 <= waiting() <= 16384
        link.run(lambda: waiting() == 0)
