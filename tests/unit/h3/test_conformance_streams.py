"""Conformance cases 87 to 110: data streams and datagrams.

Case 92 (a DATAGRAM frame larger than our transport parameter) and case 107
(STOP_SENDING on a stream that only receives) are errors of QUIC: they never
reach this layer and are covered by
``tests/integration/test_conformance_wire_streams.py``.
"""

import pytest

from pywebtransport.exceptions import DatagramTooLargeError, SessionError
from pywebtransport.h3._capsules import encode_close
from pywebtransport.h3._error_codes import code_to_wire
from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._session import H3SessionState
from pywebtransport.h3._varint import encode_varint
from tests.unit.h3.bed import CONNECT, DRAFT16, ClientBed, PairBed, ServerBed, recorder
from tests.unit.h3.fake_quic import FakeStream

SESSION_GONE = 0x170D7B68
BUFFERED_STREAM_REJECTED = 0x3994BD84


def uni(session_id: int, body: bytes = b"") -> bytes:
    return b"\x40\x54" + encode_varint(session_id) + body


def bidi(session_id: int, body: bytes = b"") -> bytes:
    return b"\x40\x41" + encode_varint(session_id) + body


def refused(stream: FakeStream, code: int) -> bool:
    """The stream was stopped, reset where possible, and let go of."""
    assert stream.sink is None
    reset = code if stream.sends else None
    return (stream.stop_sent, stream.reset_sent, stream.released) == (code, reset, True)


@pytest.mark.parametrize("session_id", [1, 2, 3, 5, 4097])
@pytest.mark.parametrize("bed_type", [ServerBed, ClientBed])
def test_case_087_bad_session_id_on_uni(session_id: int, bed_type: type[ServerBed]) -> None:
    bed = bed_type()
    bed.quic.peer_open(True, uni(session_id))
    assert bed.close_code == 0x108


@pytest.mark.parametrize("session_id", [1, 2, 3, 5, 4097])
@pytest.mark.parametrize("bed_type", [ServerBed, ClientBed])
def test_case_088_bad_session_id_on_bidi(session_id: int, bed_type: type[ServerBed]) -> None:
    bed = bed_type()
    bed.quic.peer_open(False, bidi(session_id))
    assert bed.close_code == 0x108


@pytest.mark.parametrize("quarter", [2**60, 2**62 - 1])
def test_case_089_quarter_id_too_large(quarter: int) -> None:
    bed = ServerBed()
    bed.quic.datagrams(encode_varint(quarter) + b"x")
    assert bed.close_code == 0x33


@pytest.mark.parametrize("payload", [b"", b"\x40", b"\x80\x00\x00", b"\xc0"])
@pytest.mark.parametrize("bed_type", [ServerBed, ClientBed])
def test_case_090_cut_quarter_id(payload: bytes, bed_type: type[ServerBed]) -> None:
    bed = bed_type()
    bed.quic.datagrams(payload)
    assert bed.close_code == 0x33


def test_case_091_quarter_id_beyond_the_stream_limit() -> None:
    bed = ServerBed(options=H3Options(peer_bidi_streams=10))
    bed.session()
    bed.quic.datagrams(encode_varint(10))  # ID 40: the client may have opened 0 to 40
    assert bed.close_code is None
    bed.quic.datagrams(encode_varint(11))
    assert bed.close_code == 0x108


def test_case_091_session_id_of_a_stream_beyond_the_limit() -> None:
    bed = ServerBed(options=H3Options(peer_bidi_streams=10))
    bed.quic.peer_open(True, uni(36))
    assert bed.close_code is None
    bed.quic.peer_open(True, uni(40))
    assert bed.close_code == 0x108


@pytest.mark.parametrize("what", ["datagram", "stream"])
def test_case_091_a_server_names_a_session_that_the_client_never_opened(what: str) -> None:
    bed = ClientBed()
    bed.session()
    if what == "datagram":
        bed.quic.datagrams(b"\x01")
    else:
        bed.quic.peer_open(True, uni(4))
    assert bed.close_code == 0x108


def test_case_093_zero_length_datagram() -> None:
    bed = ServerBed()
    _, events, _ = bed.session()
    bed.quic.datagrams(b"\x00")
    assert events.datagrams == [b""]


def test_datagrams_with_longer_quarter_ids() -> None:
    bed = ServerBed()
    _, events, _ = bed.session()
    _, far_events, _ = bed.session(stream_id=400)
    bed.quic.datagrams(b"\x40\x00long", b"\x80\0\0\0longer", b"\x40\x64far", b"\x00short")
    assert events.datagrams == [b"long", b"longer", b"short"]
    assert far_events.datagrams == [b"far"]


@pytest.mark.parametrize("accepts", ["at once", "later"])
def test_case_094_streams_and_datagrams_before_their_session(accepts: str) -> None:
    bed = ServerBed()
    early = [
        bed.quic.peer_open(True, uni(0, b"1")),
        bed.quic.peer_open(False, bidi(0, b"2"), stream_id=4),
        bed.quic.peer_open(True, uni(0, b"3"), fin=True),
    ]
    bed.quic.datagrams(b"\x00a", b"\x00b")
    if accepts == "at once":
        bed.events.on_request = lambda session: session.accept()
    bed.request(stream_id=0)
    (session,) = bed.events.requested
    if accepts == "later":
        bed.clock.advance(60)  # an application may think about it for long
        early.append(bed.quic.peer_open(True, uni(0, b"4")))
        session.accept()
    late = bed.quic.peer_open(True, uni(0, b"5"))
    assert recorder(session).log == []
    bed.clock.advance(0)
    events = recorder(session)
    assert events.streams == [*early, late]
    assert [stream.read() for stream in early] == [b"1", b"2", b"3", b"4"][: len(early)]
    assert events.datagrams == [b"a", b"b"]
    assert all(stream.sink is None for stream in events.streams)
    assert bed.clock.pending == 0


def test_case_094_unknown_sessions_are_waited_for_in_vain_only_so_long() -> None:
    bed = ServerBed()
    streams = [bed.quic.peer_open(True, uni(0)), bed.quic.peer_open(False, bidi(0), stream_id=4)]
    bed.quic.datagrams(b"\x00x")
    bed.clock.advance(5)
    assert all(refused(stream, BUFFERED_STREAM_REJECTED) for stream in streams)
    _, events, _ = bed.session(stream_id=0)
    assert events.log == []


def test_case_095_buffer_full() -> None:
    bed = ServerBed()
    kept = [bed.quic.peer_open(True, uni(0)) for _ in range(24)]
    extra = bed.quic.peer_open(True, uni(0))
    other = bed.quic.peer_open(False, bidi(0), stream_id=4)
    assert refused(extra, BUFFERED_STREAM_REJECTED)
    assert refused(other, BUFFERED_STREAM_REJECTED)
    bed.quic.datagrams(*(b"\x00" + bytes([n]) for n in range(70)))
    _, events, _ = bed.session(stream_id=0)
    assert events.streams == kept
    assert events.datagrams == [bytes([n]) for n in range(64)]
    assert bed.close_code is None


def test_case_095_one_stream_too_long() -> None:
    bed = ServerBed()
    stream = bed.quic.peer_open(True, uni(0, bytes(60_000)))
    assert not stream.released
    stream.feed(bytes(10_000))
    assert refused(stream, BUFFERED_STREAM_REJECTED)
    assert bed.clock.pending == 0
    _, events, _ = bed.session(stream_id=0)
    assert events.streams == []


@pytest.mark.parametrize("ended", ["closed", "closed by peer", "rejected", "reset", "no session"])
def test_case_096_stream_for_a_closed_session(ended: str) -> None:
    bed = ServerBed()
    if ended == "no session":
        bed.request([(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")])
    elif ended == "rejected":
        bed.request()
        bed.events.requested[0].reject(404)
    else:
        session, _, connect = bed.session()
        if ended == "closed":
            session.close()
        elif ended == "reset":
            connect.feed_reset(0x10C)
        else:
            connect.feed(fin=True)
    streams = [bed.quic.peer_open(True, uni(0)), bed.quic.peer_open(False, bidi(0, b"x"))]
    assert all(refused(stream, SESSION_GONE) for stream in streams)
    assert bed.close_code is None
    assert bed.session()[0].state is H3SessionState.OPEN


def test_case_096_server_stream_for_a_closed_session() -> None:
    bed = ClientBed()
    session, _, _ = bed.session()
    session.close()
    assert refused(bed.quic.peer_open(False, bidi(0)), SESSION_GONE)
    assert bed.close_code is None


@pytest.mark.parametrize("bed_type", [ServerBed, ClientBed])
def test_case_097_datagram_for_a_closed_session(bed_type: type[ServerBed]) -> None:
    bed = bed_type()
    session, events, _ = bed.session()
    session.close()
    bed.quic.datagrams(b"\x00late")
    assert events.datagrams == []
    assert bed.close_code is None


@pytest.mark.parametrize("header", [uni(0), uni(16384), b"\xc0\0\0\0\0\0\0\x54\x40\x00"])
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_cases_098_and_099_uni_stream_cut_inside_its_header(header: bytes, how: str) -> None:
    bed = ServerBed()
    _, events, _ = bed.session()
    for cut in range(len(header)):
        stream = bed.quic.peer_stream(True)
        if how == "fin":
            stream.feed(header[:cut], fin=True)
        else:
            stream.feed(header[:cut])
            stream.feed_reset(0x52E4A40FA8DB)
        assert stream.released
        assert stream.sink is None
    assert events.log == []
    assert bed.close_code is None


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_cases_098_and_099_bidi_stream_cut_inside_its_header(how: str, cut: int) -> None:
    bed = ServerBed()
    _, events, _ = bed.session()
    stream = bed.quic.peer_stream(False)
    if how == "fin":
        stream.feed(bidi(0)[:cut], fin=True)
    else:
        stream.feed(bidi(0)[:cut])
        stream.feed_reset(0x52E4A40FA8DB)
    assert stream.released
    assert stream.reset_sent is not None
    assert events.log == []
    assert bed.close_code is None


def test_case_100_reset_after_the_header() -> None:
    bed = ServerBed()
    session, events, _ = bed.session()
    stream = bed.quic.peer_stream(True)
    stream.sink = None  # header and reset arrive in one turn
    stream.feed(uni(0))
    stream.feed_reset(code_to_wire(17))
    stream.sink = bed.quic.default_sink
    stream.turn()
    assert events.streams == [stream]
    assert stream.is_reset
    assert session.code_from_wire(stream.reset_code) == 17


def test_case_100_reset_of_a_stream_that_waits() -> None:
    bed = ServerBed()
    stream = bed.quic.peer_open(True, uni(0, b"x"))
    stream.feed_reset(code_to_wire(17))
    session, events, _ = bed.session(stream_id=0)
    assert events.streams == [stream]
    assert session.code_from_wire(stream.reset_code) == 17


@pytest.mark.parametrize("wire", [0x10C, 0, 0x52E4A40FA8DA])
def test_case_101_reset_code_outside_the_range(wire: int) -> None:
    bed = ServerBed()
    session, events, _ = bed.session()
    stream = bed.quic.peer_open(True, uni(0))
    stream.feed_reset(wire)
    assert events.streams == [stream]
    assert session.code_from_wire(stream.reset_code) is None


def test_case_102_reset_code_that_is_reserved() -> None:
    bed = ServerBed()
    session, _, _ = bed.session()
    stream = bed.quic.peer_open(True, uni(0))
    stream.feed_reset(0x52E4A40FA8F9)
    assert session.code_from_wire(stream.reset_code) is None


def test_case_103_stop_sending_reaches_the_writer() -> None:
    bed = PairBed()
    ours, _, theirs, their_events = bed.session()
    stream = ours.open_stream(True)
    assert stream is not None
    bed.pump()
    (received,) = their_events.streams
    received.stop_sending(theirs.code_to_wire(42))
    bed.pump()
    assert stream.is_stopped
    assert ours.code_from_wire(stream.stop_code) == 42
    assert received.is_reset


def test_case_104_header_then_fin() -> None:
    bed = ServerBed()
    _, events, _ = bed.session()
    stream = bed.quic.peer_open(False, bidi(0), fin=True)
    assert events.log == [("stream", stream.stream_id, False)]
    assert stream.at_eof
    assert stream.read() == b""
    stream.write(b"answer", fin=True)
    assert stream.sent == b"answer"


def test_case_105_stream_signal_after_headers() -> None:
    bed = ServerBed()
    _, _, stream = bed.session()
    stream.feed(bidi(0))
    assert bed.close_code == 0x106


def test_case_105_stream_signal_after_another_frame() -> None:
    bed = ServerBed()
    bed.quic.peer_open(False, encode_frame(0x21, b"") + bidi(0))
    assert bed.close_code == 0x106


GREASE_FRAME = encode_frame(0x1F * 5 + 0x21, b"grease")
SIGNALS = {
    "short": b"\x40\x41\x00",
    "four bytes": b"\x80\x00\x00\x41\x00",
    "eight bytes": b"\xc0" + bytes(6) + b"\x41\x00",
}
BETWEEN = {
    "at once": b"",
    "after grease": GREASE_FRAME,
    "after data": encode_frame(0x00, b"\x17\x03abc"),
    "after both": encode_frame(0x00, b"") + GREASE_FRAME + encode_frame(0x00, b"\x17\x00"),
}
REQUESTS = {
    "session": CONNECT,
    "unknown protocol": [*CONNECT[:-1], (":protocol", "other")],
    "get": [(":method", "GET"), *CONNECT[1:-1]],
    "post": [(":method", "POST"), *CONNECT[1:-1]],
}


@pytest.mark.parametrize("signal", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
@pytest.mark.parametrize("request_fields", REQUESTS.values(), ids=REQUESTS)
def test_case_105_whatever_the_request_and_its_answer(
    signal: bytes, between: bytes, request_fields: list[tuple[str, str]]
) -> None:
    """The rule holds without an answer to the request, and without further reads."""
    bed = ServerBed()
    bed.request(request_fields, between + signal)
    assert bed.close_code == 0x106
    assert bed.events.requested == []


@pytest.mark.parametrize("settings", [True, False], ids=["known", "missing"])
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_case_105_while_the_request_waits(settings: bool, between: bytes) -> None:
    bed = ServerBed(DRAFT16 if settings else None)
    stream = bed.request()
    rest = between + bidi(0)
    for number, byte in enumerate(rest[:-1]):
        assert bed.close_code is None, number
        stream.feed(bytes([byte]))
    assert bed.close_code == 0x106


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (encode_frame(0x01, b""), 0x105),
        (encode_frame(0x04, b""), 0x105),
        (encode_frame(0x05, b"\0"), 0x105),
        (encode_frame(0x07, b"\0"), 0x105),
        (encode_frame(0x02, b""), 0x105),
        (encode_frame(0xF0700, b"\0"), 0x105),
    ],
    ids=["HEADERS", "SETTINGS", "PUSH_PROMISE", "GOAWAY", "HTTP/2", "PRIORITY_UPDATE"],
)
@pytest.mark.parametrize("together", [True, False])
def test_other_frames_behind_a_request_that_waits(frame: bytes, code: int, together: bool) -> None:
    bed = ServerBed()
    stream = bed.request(extra=BETWEEN["after both"] + frame if together else b"")
    if not together:
        stream.feed(frame)
    assert bed.close_code == code


def test_frame_cut_by_fin_behind_a_request_that_waits() -> None:
    bed = ServerBed()
    bed.request(extra=encode_frame(0x00, b"12345")[:-1], fin=True)
    assert bed.close_code == 0x106


def test_what_is_looked_at_is_read_after_the_answer() -> None:
    bed = ServerBed()
    close = encode_frame(0x00, encode_close(5, "bye"))
    stream = bed.request(extra=BETWEEN["after both"] + close[:4])
    for byte in close[4:]:
        stream.feed(bytes([byte]))
    (session,) = bed.events.requested
    session.accept()
    bed.clock.advance(0)
    assert recorder(session).closed == (5, "bye", True)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("signal", SIGNALS.values(), ids=SIGNALS)
def test_case_105_at_a_client(before: bool, signal: bytes) -> None:
    bed = ClientBed()
    session, _ = bed.open()
    if before:
        bed.stream_of(session).feed(signal)
    else:
        bed.respond(session, extra=BETWEEN["after both"] + signal)
    assert bed.close_code == 0x106


def test_case_106_unknown_first_frame_follows_the_rules_of_http3() -> None:
    bed = ServerBed()
    stream = bed.quic.peer_open(False, encode_frame(0x1F * 3 + 0x21, b"grease"))
    assert not stream.released
    stream.feed(bed.headers(CONNECT_FIELDS))
    bed.events.requested[0].accept()
    assert bed.status(stream) == "200"


CONNECT_FIELDS = [
    (":method", "CONNECT"),
    (":protocol", "webtransport"),
    (":scheme", "https"),
    (":authority", "a"),
    (":path", "/"),
]


def test_case_108_server_stream_before_the_response() -> None:
    bed = ClientBed()
    session, events = bed.open()
    streams = [bed.quic.peer_open(True, uni(0, b"1")), bed.quic.peer_open(False, bidi(0, b"2"))]
    bed.quic.datagrams(b"\x00early")
    assert events.log == []
    bed.respond(session)
    assert events.names() == ["established", "stream", "stream", "datagram"]
    assert events.streams == streams


def test_case_108_server_stream_before_a_refusal() -> None:
    bed = ClientBed()
    session, events = bed.open()
    streams = [bed.quic.peer_open(True, uni(0, b"1")), bed.quic.peer_open(False, bidi(0, b"2"))]
    optimistic = session.open_stream(True)
    bed.respond(session, 404, fin=True)
    assert all(refused(stream, SESSION_GONE) for stream in streams)
    assert optimistic is not None
    assert optimistic.reset_sent == SESSION_GONE
    assert events.names() == ["rejected"]


@pytest.mark.parametrize("how", ["close", "closed by peer", "abort", "reset"])
def test_case_109_session_ends_with_100_streams(how: str) -> None:
    bed = ServerBed(
        {0x33: 1, 0x2C7CF000: 1, 0x2B61: 1000, 0x2B64: 100, 0x2B65: 100},
        options=H3Options(initial_max_streams_uni=100),
    )
    session, events, connect = bed.session()
    streams: list[FakeStream] = []
    for _ in range(25):
        streams += [
            bed.quic.peer_open(True, uni(0, b"x")),
            bed.quic.peer_open(False, bidi(0, b"x")),
        ]
        for unidirectional in (True, False):
            stream = session.open_stream(unidirectional)
            assert stream is not None
            streams.append(stream)
    if how == "close":
        session.close(1)
    elif how == "abort":
        session.abort(0x102)
    elif how == "reset":
        connect.feed_reset(0x10C)
    else:
        connect.feed(fin=True)
    assert len(streams) == 100
    for stream in streams:
        assert stream.reset_sent == (SESSION_GONE if stream.sends else None)
        assert stream.stop_sent == (SESSION_GONE if stream.receives else None)
        assert not stream.released  # that is for those who hold it
    assert events.names().count("closed") == 1
    assert bed.quic.groups[-1].is_closed
    with pytest.raises(SessionError, match="closed"):
        session.open_stream(True)
    with pytest.raises(SessionError, match="closed"):
        session.send_datagram(b"x")


def test_case_109_finished_streams_keep_what_was_received() -> None:
    bed = ServerBed()
    session, _, connect = bed.session()
    stream = bed.quic.peer_open(True, uni(0, b"whole"), fin=True)
    connect.feed(fin=True)
    assert session.state is H3SessionState.CLOSED
    assert stream.read() == b"whole"
    assert stream.read() == b""


def test_case_110_datagram_too_large() -> None:
    bed = ServerBed()
    session, _, _ = bed.session()
    assert session.max_datagram_size == 1199
    with pytest.raises(DatagramTooLargeError) as caught:
        session.send_datagram(bytes(1200))
    assert (caught.value.max_size, caught.value.datagram_size) == (1199, 1200)
    assert bed.quic.datagrams_sent == []
    assert session.send_datagram(bytes(1199))
    bed.quic.max_datagram_size = 1000  # the path changed
    assert session.max_datagram_size == 999
    bed.quic.max_datagram_size = 0
    assert session.max_datagram_size == 0


@pytest.mark.parametrize("encoded", [b"\x40\x54", b"\x80\0\0\x54", b"\xc0\0\0\0\0\0\0\x54"])
@pytest.mark.parametrize("session", [b"\x00", b"\x40\x00", b"\xc0\0\0\0\0\0\0\0"])
def test_headers_in_longer_encodings_byte_by_byte(encoded: bytes, session: bytes) -> None:
    bed = ServerBed()
    _, events, _ = bed.session()
    stream = bed.quic.peer_stream(True)
    for byte in encoded + session + b"body":
        stream.feed(bytes([byte]))
    assert events.streams == [stream]
    assert stream.read() == b"body"
    assert stream.recv_header == len(encoded + session)


def test_golden_stream_headers() -> None:
    bed = ServerBed()
    session, _, _ = bed.session(stream_id=4)
    streams = [session.open_stream(True), session.open_stream(False)]
    assert [bytes(stream.sent).hex() for stream in streams if stream] == ["405404", "404104"]
    assert [stream.reliable_size for stream in streams if stream] == [3, 3]
    session.send_datagram(b"x")
    assert bed.quic.datagrams_sent == [b"\x01x"]
    far, _, _ = bed.session(stream_id=256)
    stream = far.open_stream(True)
    assert stream is not None
    assert bytes(stream.sent).hex() == "40544100"
    far.send_datagram(b"x")
    assert bed.quic.datagrams_sent[-1] == b"\x40\x40x"
