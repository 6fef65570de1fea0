"""An endpoint without sockets: its packets come and go as bytes."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pywebtransport._quic import QuicEndpoint
from pywebtransport.exceptions import ConfigurationError, ConnectionError

from .harness import Lab, Recorder, Side, run


class Carrier(Side):
    """A client whose packets the test carries, through a UDP socket that the engine never sees."""

    def __init__(self, lab: Lab, server: Side, **settings: Any) -> None:
        self.sent: list[bytes] = []
        self.on_sent: Callable[[], object] | None = None
        super().__init__(
            is_server=False,
            tls=lab.client_tls,
            settings=settings,
            packets_out=self.packets_out,
            early_clock=time.monotonic_ns,
        )
        self.server = server
        self.pipe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.pipe.connect(server.address)
        self.pipe.setblocking(False)
        self.near = Recorder()

    def packets_out(self, packets: list[bytes]) -> None:
        self.sent += packets
        for packet in packets:
            self.pipe.send(packet)
        if self.on_sent is not None:
            self.on_sent()

    def connect(self) -> None:
        self.conn = self.endpoint.connect(
            None,
            ("192.0.2.1", 443),
            server_name="localhost",
            handler=self.near,
            now=time.monotonic_ns(),
            local=("192.0.2.2", 99),
        )

    def arrived(self) -> list[bytes]:
        packets = []
        while True:
            try:
                packets.append(self.pipe.recv(65536))
            except BlockingIOError:
                return packets

    def run(self, until: Callable[[], object]) -> None:
        def carry() -> object:
            if packets := self.arrived():
                self.endpoint.receive_packets(packets, time.monotonic_ns())
            return until()

        run((self.server, self), carry, poll=[self.pipe])

    def close(self) -> None:
        super().close()
        self.pipe.close()


@contextlib.contextmanager
def carrying(lab: Lab, *, connect: bool = True, **settings: Any) -> Iterator[Carrier]:
    """A carrier with an established connection."""
    with lab.side(True, settings=settings) as server:
        carrier = Carrier(lab, server, **settings)
        try:
            if connect:
                carrier.connect()
                carrier.run(lambda: carrier.near.handshakes and carrier.server.handlers)
            yield carrier
        finally:
            carrier.close()


def test_connection_works_both_ways(lab: Lab) -> None:
    with carrying(lab) as carrier:
        assert carrier.conn.local_address == ("192.0.2.2", 99)
        assert carrier.conn.remote_address == ("192.0.2.1", 443)
        stream = carrier.conn.open_stream(False)
        assert stream is not None
        payload = bytes(range(256)) * 4096
        stream.write(payload, True)
        far = carrier.server.handlers[0]
        carrier.run(lambda: far.streams and far.streams[0].fin_received)
        assert far.streams[0].bytes_received == len(payload)
        assert far.quic is not None
        far.quic.send_datagram(b"", b"back")
        carrier.run(lambda: b"back" in carrier.near.datagrams)
        far.quic.close(7, "done")
        carrier.run(lambda: carrier.near.closed)
        assert carrier.near.closed is not None
        assert carrier.near.closed.code == 7


def test_packets_are_handed_over_in_turns_only(lab: Lab) -> None:
    with carrying(lab) as carrier:
        stream = carrier.conn.open_stream(False)
        assert stream is not None
        before = len(carrier.sent)
        for _ in range(20):
            stream.write(bytes(1024))
        assert len(carrier.sent) == before
        carrier.endpoint.process(time.monotonic_ns())
        assert len(carrier.sent) > before


def test_blocked_engine_keeps_its_packets(lab: Lab) -> None:
    with carrying(lab) as carrier:
        carrier.endpoint.block()
        before = len(carrier.sent)
        carrier.conn.send_datagram(b"", b"held")
        carrier.endpoint.process(time.monotonic_ns())
        assert carrier.endpoint.is_blocked
        assert len(carrier.sent) == before
        carrier.endpoint.unblock()
        assert not carrier.endpoint.is_blocked
        carrier.run(lambda: b"held" in carrier.server.handlers[0].datagrams)
        assert len(carrier.sent) > before


def test_packets_in_the_middle_of_a_turn_wait_for_its_end(lab: Lab) -> None:
    with carrying(lab) as carrier:
        far = carrier.server.handlers[0].quic
        assert far is not None
        far.send_datagram(b"", b"later")
        carrier.server.endpoint.process(time.monotonic_ns())
        answers: list[bool] = []
        held: list[bytes] = []

        def reenter() -> None:
            held.extend(carrier.arrived())
            answers.append(carrier.endpoint.receive_packets(held, time.monotonic_ns()))
            carrier.on_sent = None

        carrier.on_sent = reenter
        carrier.conn.send_datagram(b"", b"now")
        more = carrier.endpoint.process(time.monotonic_ns())
        assert answers == [True]
        assert more
        carrier.run(lambda: b"later" in carrier.near.datagrams)


def test_endpoint_may_be_closed_by_whoever_takes_its_packets(lab: Lab) -> None:
    with carrying(lab) as carrier:
        carrier.on_sent = carrier.endpoint.close
        carrier.conn.send_datagram(b"", b"x")
        carrier.endpoint.process(time.monotonic_ns())
        assert carrier.endpoint.is_closed
        assert carrier.near.closed is not None
        assert carrier.endpoint.receive_packets([b"x"], time.monotonic_ns()) is False


def test_exception_of_the_taker_is_reported(lab: Lab) -> None:
    with carrying(lab) as carrier:

        def fail() -> None:
            raise RuntimeError("no way out")

        carrier.on_sent = fail
        carrier.conn.send_datagram(b"", b"x")
        carrier.endpoint.process(time.monotonic_ns())
        carrier.on_sent = None
        assert [str(error) for error in carrier.errors] == ["no way out"]


def test_garbage_is_dropped(lab: Lab) -> None:
    with carrying(lab) as carrier:
        before = carrier.endpoint.stats()["dropped_packets"]
        packets = [b"", b"\x40", bytes(1200), b"\xff" * 1200, b"\x40" + bytes(64)]
        carrier.endpoint.receive_packets(packets, time.monotonic_ns())
        assert carrier.endpoint.stats()["dropped_packets"] == before + len(packets)
        assert carrier.near.closed is None


def test_what_does_not_fit_is_refused(lab: Lab) -> None:
    with carrying(lab, connect=False) as carrier:
        endpoint = carrier.endpoint
        assert endpoint.receive_packets([b"x"], time.monotonic_ns()) is False
        arguments: dict[str, Any] = {
            "server_name": "localhost",
            "handler": Recorder(),
            "now": time.monotonic_ns(),
        }
        with pytest.raises(ConfigurationError, match="sock"):
            endpoint.connect(None, ("192.0.2.1", 443), **arguments)
        with lab.side(False) as other:
            with pytest.raises(ConfigurationError, match="sock"):
                endpoint.connect(
                    other.quic_socket, ("192.0.2.1", 443), local=("192.0.2.2", 9), **arguments
                )
            with pytest.raises(ConfigurationError, match="sock"):
                other.endpoint.connect(None, ("192.0.2.1", 443), **arguments)
        with pytest.raises(ConfigurationError, match="IPv4"):
            endpoint.connect(None, ("192.0.2.1", 443), local=("::1", 9), **arguments)
        carrier.connect()
        with pytest.raises(ConnectionError, match="one connection"):
            carrier.connect()
        with pytest.raises(ConfigurationError, match="packets_out"):
            QuicEndpoint(
                is_server=False,
                settings={},
                tls=lab.client_tls,
                accept=None,
                schedule_flush=lambda: None,
                on_error=lambda error: None,
                packets_out=3,  # type: ignore[arg-type]
            )


@pytest.mark.parametrize("size", [1200, 1280, 1452])
def test_known_size_is_used_from_the_first_packet_on(lab: Lab, size: int) -> None:
    settings = {"max_tx_udp_payload_size": size, "known_mtu": True}
    with carrying(lab, connect=False, **settings) as carrier:
        carrier.connect()
        assert carrier.conn.stats()["max_udp_payload"] == size
        handlers = carrier.server.handlers
        carrier.run(lambda: carrier.near.handshakes and handlers)
        far = handlers[0].quic
        assert far is not None
        assert far.stats()["max_udp_payload"] == size
        # A full packet goes out before anything could have been probed.
        carrier.conn.send_datagram(b"", bytes(carrier.conn.max_datagram_size))
        carrier.run(lambda: handlers[0].datagrams)
        assert size - 8 <= max(map(len, carrier.sent)) <= size
