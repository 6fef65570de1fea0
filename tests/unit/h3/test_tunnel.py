"""UDP tunnels: CONNECT-UDP requests, their answers, packets, capsules and ends (RFC 9298)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    SessionError,
    SessionRejectedError,
    StreamLimitError,
    WebTransportNotSupportedError,
)
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._tunnel import H3Tunnel
from tests.unit.h3.bed import (
    CONNECT,
    Bed,
    ClientBed,
    PairBed,
    ServerBed,
    capsule,
    data_frame,
    varint,
)
from tests.unit.h3.fake_quic import FakeStream

# What a proxy shows that knows nothing of WebTransport.
PLAIN_PROXY = {0x33: 1}
PATH = "/.well-known/masque/udp/192.0.2.6/443/"
CONNECT_UDP: tuple[tuple[str, str], ...] = (
    (":method", "CONNECT"),
    (":scheme", "https"),
    (":authority", "proxy.example:4433"),
    (":path", PATH),
    (":protocol", "connect-udp"),
    ("capsule-protocol", "?1"),
)


class TunnelRecorder:
    """TunnelEvents that remembers, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.packets: list[bytes] = []
        self.on_packet: Callable[[], object] | None = None

    def tunnel_established(self) -> None:
        self.log.append(("established",))

    def tunnel_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception
    ) -> None:
        self.log.append(("rejected", status, dict(headers), error))

    def packets_received(self, packets: list[bytes]) -> None:
        self.packets += packets
        if self.on_packet is not None:
            self.on_packet()

    def tunnel_writable(self) -> None:
        self.log.append(("writable",))

    def tunnel_closed(self, error: Exception | None) -> None:
        self.log.append(("closed", error))


def ask(bed: Bed, **changes: Any) -> tuple[H3Tunnel, TunnelRecorder, FakeStream]:
    events = TunnelRecorder()
    arguments: dict[str, Any] = {
        "authority": "proxy.example:4433",
        "path": PATH,
        "headers": {},
        "events": events,
    }
    tunnel = H3Tunnel.open(bed.h3, **{**arguments, **changes})
    return tunnel, events, bed.quic.streams[tunnel.stream_id]


def answer(bed: Bed, stream: FakeStream, status: int, *, extra: bytes = b"") -> None:
    stream.feed(bed.headers([(":status", str(status))], stream.stream_id) + extra)


def client_tunnel() -> tuple[ClientBed, H3Tunnel, TunnelRecorder, FakeStream]:
    """An established tunnel of a client."""
    bed = ClientBed(PLAIN_PROXY)
    tunnel, events, stream = ask(bed)
    answer(bed, stream, 200)
    assert events.log == [("established",)]
    return bed, tunnel, events, stream


class ProxyBed(ServerBed):
    """A server under test that takes tunnels."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{"settings": {0x33: 1}, **arguments})
        self.requested: list[H3Tunnel] = []
        self.h3.tunnel_requested = self.requested.append

    def tunnel(self, extra: bytes = b"") -> tuple[H3Tunnel, TunnelRecorder, FakeStream]:
        """A tunnel that was accepted."""
        stream = self.request(CONNECT_UDP, extra)
        tunnel, events = self.requested[-1], TunnelRecorder()
        tunnel.events = events
        tunnel.accept()
        return tunnel, events, stream


# ------------------------------------------------------------------- the request


def test_client_sends_an_extended_connect() -> None:
    bed = ClientBed(PLAIN_PROXY)
    assert bed.h3.webtransport_error is not None  # and tunnels work all the same
    tunnel, events, stream = ask(bed, headers={"Proxy-Authorization": "Basic x"})
    ((fields, body),) = bed.decode_headers(stream)
    assert fields == {**dict(CONNECT_UDP), "proxy-authorization": "Basic x"}
    assert body == b""
    assert not stream.fin_written
    assert not tunnel.is_open
    assert not tunnel.is_closed
    assert bed.h3.tunnels == {0: tunnel}
    answer(bed, stream, 200)
    assert tunnel.is_open
    assert tunnel.status == 200
    assert events.log == [("established",)]


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({0x08: 0}, "ENABLE_CONNECT_PROTOCOL"),
        ({0x33: 0}, "H3_DATAGRAM"),
    ],
)
def test_client_asks_only_a_proxy_that_can(settings: dict[int, int], missing: str) -> None:
    bed = ClientBed({**PLAIN_PROXY, **settings})
    with pytest.raises(WebTransportNotSupportedError, match=missing):
        ask(bed)
    assert bed.quic.local(False) == []


def test_client_asks_only_a_proxy_whose_transport_takes_datagrams() -> None:
    bed = ClientBed(PLAIN_PROXY)
    bed.quic.peer_max_datagram_frame_size = 0
    with pytest.raises(WebTransportNotSupportedError, match="max_datagram_frame_size"):
        ask(bed)


def test_client_asks_only_while_it_may() -> None:
    bed = ClientBed(PLAIN_PROXY)
    with pytest.raises(ConfigurationError):
        ask(bed, headers={"connection": "close"})
    bed.quic.limits[False] = 0
    with pytest.raises(StreamLimitError):
        ask(bed)
    bed.quic.limits[False] = 1
    bed.send_control(b"\x07\x01\x00")
    with pytest.raises(ClientError, match="GOAWAY"):
        ask(bed)
    bed.h3.close()
    with pytest.raises(ConnectionError):
        ask(bed)


def test_server_without_tunnels_answers_501() -> None:
    bed = ServerBed()
    stream = bed.request(CONNECT_UDP)
    assert bed.status(stream) == "501"


def test_server_hears_of_a_tunnel_and_accepts() -> None:
    bed = ProxyBed()
    stream = bed.request((*CONNECT_UDP, ("x-own", "1")))
    (tunnel,) = bed.requested
    assert (tunnel.authority, tunnel.path) == ("proxy.example:4433", PATH)
    assert tunnel.request_headers["x-own"] == "1"
    tunnel.accept({"X-Mine": "2"})
    ((fields, _),) = bed.decode_headers(stream)
    assert fields == {":status": "200", "x-mine": "2", "capsule-protocol": "?1"}
    assert tunnel.is_open
    for again in (tunnel.accept, lambda: tunnel.reject(403)):
        with pytest.raises(SessionError):
            again()


def test_server_rejects_with_status_and_fields() -> None:
    bed = ProxyBed()
    stream = bed.request(CONNECT_UDP)
    (tunnel,) = bed.requested
    with pytest.raises(ConfigurationError, match="300 to 599"):
        tunnel.reject(200)
    tunnel.reject(403, {"proxy-status": "p; error=destination_ip_prohibited"})
    assert bed.status(stream) == "403"
    assert stream.fin_written
    assert stream.released
    assert tunnel.is_closed
    assert bed.h3.tunnels == {}


def test_server_holds_a_request_until_settings_and_needs_datagrams() -> None:
    bed = ProxyBed(settings=None)
    stream = bed.request(CONNECT_UDP)
    assert bed.requested == []
    bed.send_settings({})
    assert bed.requested == []
    assert bed.status(stream) == "501"
    bed = ProxyBed(settings=None)
    bed.request(CONNECT_UDP)
    bed.send_settings({0x33: 1})
    assert len(bed.requested) == 1


def test_server_bounds_its_tunnels() -> None:
    bed = ProxyBed(options=H3Options(max_sessions=2))
    bed.tunnel()
    bed.tunnel()
    third = bed.request(CONNECT_UDP)
    assert third.reset_sent == 0x10B
    bed.requested[0].close()
    bed.tunnel()


@pytest.mark.parametrize(
    "fields",
    [
        [f for f in CONNECT_UDP if f[0] != ":path"],
        [f for f in CONNECT_UDP if f[0] != ":scheme"],
        [f if f[0] != ":path" else (":path", "") for f in CONNECT_UDP],
        [*CONNECT_UDP, ("content-length", "3")],
    ],
)
def test_malformed_request_is_a_stream_error(fields: list[tuple[str, str]]) -> None:
    bed = ProxyBed()
    stream = bed.request(fields)
    assert stream.reset_sent == 0x10E
    assert bed.requested == []
    assert bed.close_code is None


def test_tunnels_and_sessions_live_side_by_side() -> None:
    bed = ProxyBed(settings={0x33: 1, 0x2C7CF000: 1, 0x2B61: 1 << 20, 0x2B64: 9, 0x2B65: 9})
    session, session_events, _ = bed.session(CONNECT)
    _, events, _ = bed.tunnel()
    bed.quic.datagrams(b"\x00to the session", b"\x01\x00to the tunnel", b"\x00again")
    assert session_events.datagrams == [b"to the session", b"again"]
    assert events.packets == [b"to the tunnel"]
    assert session.is_live


# ------------------------------------------------------------------- the answer


@pytest.mark.parametrize("status", [300, 403, 502])
def test_refusal_reaches_the_client(status: int) -> None:
    bed = ClientBed(PLAIN_PROXY)
    tunnel, events, stream = ask(bed)
    stream.feed(bed.headers([(":status", str(status)), ("proxy-status", "p")], 0), True)
    ((name, seen, headers, error),) = events.log
    assert (name, seen, headers) == ("rejected", status, {"proxy-status": "p"})
    assert isinstance(error, SessionRejectedError)
    assert error.status_code == status
    assert tunnel.is_closed
    assert stream.fin_written
    assert bed.h3.tunnels == {}


def test_informational_response_is_not_the_answer() -> None:
    bed = ClientBed(PLAIN_PROXY)
    tunnel, events, stream = ask(bed)
    answer(bed, stream, 103)
    assert events.log == []
    answer(bed, stream, 200)
    assert tunnel.is_open


@pytest.mark.parametrize("how", ["reset", "malformed", "fin", "goaway", "lost", "closed"])
def test_request_without_an_answer(how: str) -> None:
    bed = ClientBed(PLAIN_PROXY)
    tunnel, events, stream = ask(bed)
    if how == "reset":
        stream.feed_reset(0x10B)
    elif how == "malformed":
        answer(bed, stream, 204)
    elif how == "fin":
        stream.feed(fin=True)
    elif how == "goaway":
        bed.send_control(b"\x07\x01\x00")
    elif how == "lost":
        bed.h3.connection_closed(ConnectionError("gone"))
    else:
        tunnel.close()
    assert tunnel.is_closed
    assert bed.h3.tunnels == {}
    if how == "closed":
        assert events.log == []
        assert stream.reset_sent == 0x10C
        return
    ((name, status, headers, error),) = events.log
    assert (name, status, headers) == ("rejected", None, {})
    codes = {"reset": 0x10B, "malformed": 0x10E, "fin": 0x10D, "goaway": 0x10B, "lost": None}
    assert error.error_code == codes[how]


# ---------------------------------------------------------------------- packets


def test_packets_carry_quarter_stream_id_and_context_zero() -> None:
    bed, tunnel, events, _ = client_tunnel()
    assert tunnel.max_packet_size == bed.quic.max_datagram_size - 2
    assert tunnel.send(b"out")
    assert tunnel.send(b"")
    assert bed.quic.datagrams_sent == [b"\x00\x00out", b"\x00\x00"]
    assert tunnel.packets_sent == 2
    bed.quic.datagrams(b"\x00\x00in", b"\x00\x00", b"\x00\x40\x00long form")
    assert events.packets == [b"in", b"", b"long form"]


def test_unknown_contexts_are_dropped() -> None:
    bed, tunnel, events, _ = client_tunnel()
    bed.quic.datagrams(b"\x00\x02unknown", b"\x00", b"\x00\x00known")
    assert events.packets == [b"known"]
    assert tunnel.packets_dropped == 2
    assert bed.close_code is None


def test_what_cannot_be_carried_is_dropped_and_counted() -> None:
    bed, tunnel, _, _ = client_tunnel()
    assert tunnel.send(bytes(tunnel.max_packet_size + 1))
    assert tunnel.packets_dropped == 1
    assert tunnel.send(bytes(tunnel.max_packet_size))
    bed.quic.close(0)
    assert tunnel.send(b"x")
    bed.h3.connection_closed(None)
    assert tunnel.send(b"x")
    assert tunnel.packets_dropped == 3
    assert tunnel.packets_sent == 1


def test_full_queue_refuses_and_tells_when_to_go_on() -> None:
    bed, tunnel, events, _ = client_tunnel()
    tunnel.queue_limit = 7
    assert tunnel.queue_limit == bed.quic.groups[-1].datagram_limit == 7
    bed.quic.datagram_room = 1
    assert tunnel.send(b"a")
    assert not tunnel.send(b"b")
    assert tunnel.packets_dropped == 0
    bed.quic.datagram_room = 1
    bed.h3.datagram_writable()
    bed.h3.datagram_writable()
    assert events.log == [("established",), ("writable",)]
    assert tunnel.send(b"b")


def test_stream_id_beyond_the_short_forms() -> None:
    bed = ProxyBed()
    stream_id = 4 << 14
    bed.request(CONNECT_UDP, stream_id=stream_id)
    (tunnel,) = bed.requested
    events = tunnel.events = TunnelRecorder()
    tunnel.accept()
    bed.quic.datagrams(varint(1 << 14) + b"\x00far")
    assert events.packets == [b"far"]
    assert tunnel.send(b"back")
    assert bed.quic.datagrams_sent == [varint(1 << 14) + b"\x00back"]


def test_packets_before_the_answer_and_after_the_end_are_dropped() -> None:
    bed = ProxyBed()
    stream = bed.request(CONNECT_UDP)
    (tunnel,) = bed.requested
    events = tunnel.events = TunnelRecorder()
    bed.quic.datagrams(b"\x00\x00early")
    assert tunnel.packets_dropped == 1
    tunnel.accept()
    bed.quic.datagrams(b"\x00\x00in time")
    stream.feed(fin=True)
    bed.quic.datagrams(b"\x00\x00late")
    assert events.packets == [b"in time"]
    assert events.log == [("closed", None)]
    assert bed.close_code is None


# --------------------------------------------------------------------- capsules


def pieces(data: bytes) -> Iterator[bytes]:
    yield from (data[i : i + 1] for i in range(len(data)))


@pytest.mark.parametrize("whole", [True, False])
def test_datagram_capsules_are_packets_and_others_are_skipped(whole: bool) -> None:
    bed, _, events, stream = client_tunnel()
    data = data_frame(
        capsule(0x17, b"grease")
        + capsule(0x00, b"\x00one")
        + capsule(0x2843, b"no close of a session here")
        + capsule(0x00, b"\x02of an unknown context")
        + capsule(1 << 40, bytes(3000))
    ) + data_frame(capsule(0x00, b"\x00two"))
    for piece in [data] if whole else pieces(data):
        stream.feed(piece)
    assert events.packets == [b"one", b"two"]
    assert bed.close_code is None


@pytest.mark.parametrize("size", [65_527, 65_528, 65_536, 1 << 30])
def test_largest_udp_payload(size: int) -> None:
    bed, tunnel, events, stream = client_tunnel()
    body = b"\x00" + bytes(min(size, 65_536))
    head = varint(0) + varint(size + 1)
    stream.feed(data_frame(head + body))
    assert bed.close_code is None
    if size <= 65_527:
        assert [len(packet) for packet in events.packets] == [size]
        return
    assert stream.reset_sent == 0x33
    name, error = events.log[-1]
    assert name == "closed"
    assert error.error_code == 0x33
    assert tunnel.is_closed


def test_capsules_that_waited_for_the_answer_are_read() -> None:
    bed = ProxyBed()
    _, events, _ = bed.tunnel(data_frame(capsule(0x00, b"\x00early")))
    assert events.packets == [b"early"]


def test_stream_that_ends_inside_a_capsule_is_an_error() -> None:
    bed, _, events, stream = client_tunnel()
    stream.feed(data_frame(capsule(0x00, b"\x00abc")[:-1]), True)
    assert events.log[-1][1].error_code == 0x10E
    assert stream.reset_sent == 0x10E
    assert bed.close_code is None


def test_headers_in_an_open_tunnel_close_the_connection() -> None:
    bed, tunnel, events, stream = client_tunnel()
    answer(bed, stream, 200)
    assert bed.close_code == 0x105
    assert tunnel.is_closed
    assert events.log[-1][0] == "closed"


def test_tunnel_closed_by_the_receiver_of_a_packet() -> None:
    _, tunnel, events, stream = client_tunnel()
    events.on_packet = tunnel.close
    stream.feed(data_frame(capsule(0x00, b"\x00one") + capsule(0x00, b"\x00two")))
    assert events.packets == [b"one"]
    assert events.log[-1] == ("closed", None)


# ---------------------------------------------------------------------- the end


def test_close_finishes_the_stream_and_forgets_the_tunnel() -> None:
    bed, tunnel, events, stream = client_tunnel()
    tunnel.close()
    tunnel.close()
    assert stream.fin_written
    assert stream.stop_sent == 0x100
    assert stream.released
    assert stream.reset_sent is None
    assert events.log == [("established",), ("closed", None)]
    assert bed.h3.tunnels == bed.h3.requests == {}
    assert all(group.is_closed for group in bed.quic.groups)


@pytest.mark.parametrize(("how", "code"), [("reset", 0x10F), ("stop", 0x10C)])
def test_tunnel_cut_by_the_peer(how: str, code: int) -> None:
    bed, tunnel, events, stream = client_tunnel()
    if how == "reset":
        stream.feed_reset(code)
    else:
        stream.feed_stop(code)
    error = events.log[-1][1]
    assert error.error_code == code
    assert tunnel.is_closed
    assert bed.close_code is None


def test_client_that_gives_up_before_the_answer() -> None:
    bed = ProxyBed()
    stream = bed.request(CONNECT_UDP)
    (tunnel,) = bed.requested
    events = tunnel.events = TunnelRecorder()
    stream.feed(fin=True)
    assert tunnel.is_closed
    assert events.log[-1][0] == "closed"
    with pytest.raises(SessionError):
        tunnel.accept()


@pytest.mark.parametrize("error", [None, ConnectionError("gone", error_code=5)])
def test_end_of_the_connection_ends_its_tunnels(error: Exception | None) -> None:
    bed, tunnel, events, _ = client_tunnel()
    bed.h3.connection_closed(error)
    assert tunnel.is_closed
    assert events.log[-1][0] == "closed"
    if error is not None:
        assert events.log[-1][1] is error
    assert bed.clock.pending == 0


def test_closing_the_connection_ends_tunnels_in_good_order() -> None:
    bed, tunnel, events, stream = client_tunnel()
    bed.h3.close()
    assert stream.fin_written
    assert events.log[-1] == ("closed", None)
    assert tunnel.is_closed
    assert bed.close_code == 0x100


def test_goaway_leaves_open_tunnels_alone() -> None:
    bed, tunnel, _, _ = client_tunnel()
    bed.send_control(b"\x07\x01\x00")
    assert tunnel.is_open


@pytest.mark.parametrize("cut", [None, pieces])
def test_both_ends_together(cut: Callable[[bytes], Iterator[bytes]] | None) -> None:
    bed = PairBed(cut=cut)
    requested: list[H3Tunnel] = []
    bed.server.h3.tunnel_requested = requested.append
    near, near_events, _ = ask(bed.client)
    bed.pump()
    (far,) = requested
    far_events = far.events = TunnelRecorder()
    far.accept()
    bed.pump()
    assert near_events.log == [("established",)]
    near.send(b"there")
    far.send(b"back")
    bed.pump()
    assert far_events.packets == [b"there"]
    assert near_events.packets == [b"back"]
    far.close()
    bed.pump()
    assert near_events.log[-1] == ("closed", None)
    assert near.is_closed
    assert far_events.log == [("closed", None)]
    for end in (bed.client, bed.server):
        assert end.h3.tunnels == end.h3.requests == {}
        assert end.quic.closed is None
