"""Conformance cases 61 to 86: what travels on the CONNECT stream."""

from typing import Any

import pytest

from pywebtransport.exceptions import FlowControlError, ProtocolError
from pywebtransport.h3._capsules import encode_capsule, encode_close, encode_number
from pywebtransport.h3._constants import CapsuleType
from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._session import H3Session, H3SessionState
from pywebtransport.h3._varint import encode_varint
from tests.unit.h3.bed import (
    CONNECT,
    DRAFT07,
    DRAFT14,
    DRAFT16,
    DRAFT16_WITHOUT_FLOW_CONTROL,
    ClientBed,
    PairBed,
    ServerBed,
    SessionRecorder,
    data_frame,
    recorder,
)
from tests.unit.h3.fake_quic import FakeStream

MESSAGE_ERROR = 0x10E
FLOW_CONTROL_ERROR = 0x045D4487
SESSION_GONE = 0x170D7B68


class Session:
    """An established session under test, on either side."""

    def __init__(
        self,
        role: str = "server",
        settings: dict[int, int] = DRAFT16,
        options: H3Options | None = None,
    ) -> None:
        self.bed: ServerBed | ClientBed
        if role == "server":
            self.bed = ServerBed(settings, options)
        else:
            self.bed = ClientBed(settings, options)
        self.session: H3Session
        self.events: SessionRecorder
        self.connect: FakeStream
        self.session, self.events, self.connect = self.bed.session()

    def feed(self, *capsules: bytes, fin: bool = False) -> None:
        self.connect.feed(data_frame(b"".join(capsules)), fin)

    def aborted_with(self, code: int, error: type[Exception] = ProtocolError) -> None:
        """The session ended with this code on the CONNECT stream; the connection lives."""
        assert self.connect.reset_sent == self.connect.stop_sent == code
        assert self.connect.released
        assert self.events.closed == (None, "", False)
        reported = self.events.only("closed")[3]
        assert isinstance(reported, error)
        assert reported.error_code == code  # type: ignore[attr-defined]
        assert self.session.state is H3SessionState.CLOSED
        assert self.bed.close_code is None
        assert self.bed.h3.sessions == {}
        assert self.bed.clock.pending == 0

    def violated(self) -> None:
        self.aborted_with(FLOW_CONTROL_ERROR, FlowControlError)

    def lives(self) -> None:
        assert self.session.is_live
        assert self.connect.reset_sent is None
        assert self.bed.close_code is None


roles = pytest.mark.parametrize("role", ["server", "client"])


@roles
def test_case_061_headers_after_connect(role: str) -> None:
    made = Session(role)
    made.connect.feed(b"\x01\x00")
    assert made.bed.close_code == 0x105
    code, _, _, error = made.events.only("closed")
    assert code is None
    assert error.error_code == 0x105


@roles
def test_case_062_stream_signal_on_connect(role: str) -> None:
    made = Session(role)
    made.connect.feed(b"\x40\x41")
    assert made.bed.close_code == 0x106


@roles
def test_case_063_grease_frames_are_skipped(role: str) -> None:
    made = Session(role)
    made.connect.feed(encode_frame(0x21, bytes(100)) + encode_frame(0x1F * 7 + 0x21, b""))
    made.feed(encode_close(3, "x"))
    assert made.events.closed == (3, "x", True)


def test_case_064_capsules_before_the_answer_are_replayed_after_accept() -> None:
    bed = ServerBed()
    stream = bed.request(extra=data_frame(encode_capsule(0x00, b"early")))
    stream.feed(data_frame(encode_number(CapsuleType.WT_MAX_DATA, 1 << 21)))
    (session,) = bed.events.requested
    assert recorder(session).log == []
    session.accept()
    bed.clock.advance(0)
    assert recorder(session).log == [("datagram", b"early"), ("credit", "data", 1 << 21)]


def test_case_064_capsules_are_dropped_on_reject() -> None:
    bed = ServerBed()
    bed.request(extra=data_frame(encode_close(0, "x") + b"garbage"))
    (session,) = bed.events.requested
    session.reject(404)
    bed.clock.advance(0)
    assert recorder(session).log == []
    assert bed.close_code is None
    assert bed.h3.requests == {}


def test_case_064_close_before_the_answer_comes_after_it() -> None:
    bed = ServerBed()
    bed.request(extra=data_frame(encode_close(9, "early")), fin=True)
    (session,) = bed.events.requested
    session.accept()
    assert recorder(session).log == []
    bed.clock.advance(0)
    assert recorder(session).closed == (9, "early", True)
    assert bed.quic.unreleased == [bed.control]


@pytest.mark.parametrize("size", [0, 1, 63, 1 << 20])
def test_case_065_grease_capsules_are_skipped(size: int) -> None:
    made = Session()
    body = encode_varint(0x29 * 3 + 0x17) + encode_varint(size) + bytes(size)
    for start in range(0, len(body), 10_000):
        made.feed(body[start : start + 10_000])
        assert made.session._capsules.pending < 16
    made.feed(encode_capsule(CapsuleType.WT_DRAIN_SESSION, b""))
    assert made.events.names() == ["draining"]


@roles
def test_case_066_capsules_byte_by_byte(role: str) -> None:
    made = Session(role)
    before = len(made.events.log)
    wire = data_frame(
        encode_number(0x17, 5)
        + encode_number(CapsuleType.WT_MAX_STREAMS_BIDI, 100)
        + encode_capsule(0x00, b"dgram")
    ) + data_frame(encode_close(77, "bye"))
    for byte in wire:
        made.connect.feed(bytes([byte]))
    made.connect.feed(fin=True)
    assert made.events.log[before:] == [
        ("credit", "streams_bidi", 100),
        ("streams_available", False),
        ("datagram", b"dgram"),
        ("closed", 77, "bye", True, None),
    ]


@roles
@pytest.mark.parametrize("size", [0, 3])
def test_case_067_close_shorter_than_its_code(role: str, size: int) -> None:
    made = Session(role)
    made.feed(encode_capsule(0x2843, bytes(size)))
    made.aborted_with(MESSAGE_ERROR)


@roles
def test_case_068_close_reason_of_1025_bytes(role: str) -> None:
    made = Session(role)
    made.feed(encode_varint(0x2843) + encode_varint(4 + 1025))
    made.aborted_with(MESSAGE_ERROR)


def test_case_068_close_reason_of_1024_bytes() -> None:
    made = Session()
    made.feed(encode_capsule(0x2843, bytes(4) + b"x" * 1024))
    assert made.events.closed == (0, "x" * 1024, True)


@roles
def test_case_069_close_reason_is_not_utf8(role: str) -> None:
    made = Session(role)
    made.feed(encode_capsule(0x2843, b"\0\0\0\0\xff"))
    made.aborted_with(MESSAGE_ERROR)


@roles
@pytest.mark.parametrize("how", ["same frame", "same turn", "later"])
def test_case_070_data_after_close(role: str, how: str) -> None:
    made = Session(role)
    close = encode_close(5, "bye")
    if how == "same frame":
        made.feed(close, b"\x00")
    elif how == "same turn":
        made.connect.feed(data_frame(close) + data_frame(b"\x00"))
    else:
        made.feed(close)
        made.feed(b"\x00")
    assert made.connect.reset_sent == made.connect.stop_sent == MESSAGE_ERROR
    assert made.events.closed == (5, "bye", True)
    assert made.bed.close_code is None
    assert made.bed.clock.pending == 0


@roles
def test_case_071_close_and_fin_in_one_packet(role: str) -> None:
    made = Session(role)
    made.feed(encode_close(2**32 - 1, "grüße"), fin=True)
    assert made.events.closed == (2**32 - 1, "grüße", True)
    assert made.connect.fin_sent
    assert made.connect.released
    assert made.bed.clock.pending == 0


@roles
def test_case_072_fin_alone(role: str) -> None:
    made = Session(role)
    made.connect.feed(fin=True)
    assert made.events.closed == (0, "", True)
    assert made.connect.fin_sent


def test_case_072_fin_before_the_answer() -> None:
    bed = ServerBed()
    stream = bed.request()
    stream.feed(fin=True)
    (session,) = bed.events.requested
    assert recorder(session).closed == (0, "", True)
    assert bed.h3.sessions == {}
    assert stream.released


@roles
def test_case_073_drain_with_payload(role: str) -> None:
    made = Session(role)
    made.feed(encode_capsule(CapsuleType.WT_DRAIN_SESSION, b"x"))
    made.aborted_with(MESSAGE_ERROR)


@roles
@pytest.mark.parametrize(
    "cut",
    [
        b"\x68",
        b"\x68\x43",
        b"\x68\x43\x07\x00\x00",
        encode_varint(0x17) + b"\x05abc",
        encode_varint(0x17),
    ],
)
def test_case_074_truncated_capsule_and_fin(role: str, cut: bytes) -> None:
    made = Session(role)
    made.feed(cut, fin=True)
    assert made.connect.reset_sent == MESSAGE_ERROR
    assert made.events.closed == (None, "", False)
    assert made.events.only("closed")[3].error_code == MESSAGE_ERROR
    assert made.connect.released


@pytest.mark.parametrize("value", [b"\x80\x20\x00\x00\x00", b"\x05\x00", b"\x40"])
def test_case_075_max_data_is_exactly_one_varint(value: bytes) -> None:
    made = Session()
    made.feed(encode_capsule(CapsuleType.WT_MAX_DATA, value))
    made.aborted_with(MESSAGE_ERROR)


LIMITS = [
    (CapsuleType.WT_MAX_DATA, 1 << 20),
    (CapsuleType.WT_MAX_STREAMS_BIDI, 10),
    (CapsuleType.WT_MAX_STREAMS_UNI, 10),
]


@roles
@pytest.mark.parametrize(("kind", "initial"), LIMITS)
@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("after", ["settings", "capsule"])
def test_case_076_limit_smaller_or_equal(
    role: str, kind: int, initial: int, step: int, after: str
) -> None:
    made = Session(role)
    if after == "capsule":
        made.feed(encode_number(kind, initial + 10))
        made.lives()
        initial += 10
    made.feed(encode_number(kind, initial - step))
    made.violated()


@pytest.mark.parametrize(("kind", "initial"), LIMITS)
def test_case_076_older_generations_allow_equal_values(kind: int, initial: int) -> None:
    made = Session(settings=DRAFT14)
    made.feed(encode_number(kind, initial))
    made.lives()
    made.feed(encode_number(kind, initial - 1))
    made.violated()


@pytest.mark.parametrize("kind", [CapsuleType.WT_MAX_STREAMS_BIDI, CapsuleType.WT_MAX_STREAMS_UNI])
def test_case_077_max_streams_over_two_to_the_sixty(kind: int) -> None:
    made = Session()
    made.feed(encode_number(kind, 2**60))
    made.lives()
    made.feed(encode_number(kind, 2**60 + 1))
    made.violated()


@pytest.mark.parametrize(
    "kind", [CapsuleType.WT_STREAMS_BLOCKED_BIDI, CapsuleType.WT_STREAMS_BLOCKED_UNI]
)
def test_case_078_streams_blocked_over_two_to_the_sixty(kind: int) -> None:
    made = Session()
    made.feed(encode_number(kind, 2**60))
    made.lives()
    made.feed(encode_number(kind, 2**60 + 1))
    made.violated()


@pytest.mark.parametrize(
    "kind", [CapsuleType.WT_MAX_STREAM_DATA, CapsuleType.WT_STREAM_DATA_BLOCKED]
)
@pytest.mark.parametrize("settings", [DRAFT16, DRAFT14, DRAFT16_WITHOUT_FLOW_CONTROL])
def test_case_079_prohibited_capsules(kind: int, settings: dict[int, int]) -> None:
    made = Session(settings=settings)
    made.feed(encode_capsule(kind, b"\x00\x05"))
    made.aborted_with(MESSAGE_ERROR)


@pytest.mark.parametrize("settings", [DRAFT16_WITHOUT_FLOW_CONTROL, DRAFT07])
def test_case_080_flow_control_capsules_while_it_is_off(settings: dict[int, int]) -> None:
    made = Session(settings=settings)
    for kind in (0x3D, 0x3F, 0x40, 0x41, 0x43, 0x44):
        made.feed(encode_number(0x190B4D00 + kind, 0))
        made.feed(encode_capsule(0x190B4D00 + kind, b"not a varint"))
    made.lives()
    assert made.events.log == []
    stream = made.session.open_stream(True)
    assert stream is not None
    stream.write(bytes(100_000))
    assert len(stream.sent) == 100_003


OPTIONS = H3Options(initial_max_streams_uni=3, initial_max_streams_bidi=2, initial_max_data=1000)


def peer_stream(made: Session, kind: str, body: bytes = b"", fin: bool = False) -> FakeStream:
    header = b"\x40\x54\x00" if kind == "uni" else b"\x40\x41\x00"
    return made.bed.quic.peer_open(kind == "uni", header + body, fin)


@roles
@pytest.mark.parametrize(("kind", "limit"), [("uni", 3), ("bidi", 2)])
def test_case_081_one_stream_over_the_limit(role: str, kind: str, limit: int) -> None:
    made = Session(role, options=OPTIONS)
    streams = [peer_stream(made, kind) for _ in range(limit)]
    assert made.events.streams == streams
    made.lives()
    extra = peer_stream(made, kind)
    made.violated()
    assert made.events.streams == streams
    assert extra.released
    assert {stream.stop_sent for stream in [*streams, extra]} == {SESSION_GONE}


def test_case_081_streams_that_are_over_give_credit() -> None:
    made = Session(options=OPTIONS)
    for _ in range(30):
        stream = peer_stream(made, "uni", b"x", fin=True)
        assert stream.read() == b"x"
        made.session.stream_finished(stream, True)
    made.lives()
    granted = [v for k, v in made.bed.capsules_sent(made.connect) if k == 0x190B4D40]
    assert encode_varint(33) == granted[-1]


def test_case_081_blocked_peer_gets_what_there_is() -> None:
    made = Session(options=H3Options(initial_max_streams_uni=100))
    made.session.stream_finished(peer_stream(made, "uni", fin=True), True)
    assert made.bed.capsules_sent(made.connect) == []
    made.feed(encode_number(CapsuleType.WT_STREAMS_BLOCKED_UNI, 100))
    assert made.bed.capsules_sent(made.connect) == [(0x190B4D40, encode_varint(101))]


@roles
def test_case_082_one_body_byte_over_max_data(role: str) -> None:
    made = Session(role, options=OPTIONS)
    first = peer_stream(made, "uni", bytes(600))
    second = peer_stream(made, "bidi", bytes(400))
    made.lives()
    second.feed(b"x")
    made.violated()
    assert first.stop_sent == second.stop_sent == second.reset_sent == SESSION_GONE


def test_case_082_over_max_data_in_the_first_packet() -> None:
    made = Session(options=OPTIONS)
    stream = peer_stream(made, "uni", bytes(1001))
    made.violated()
    assert made.events.streams == []
    assert stream.released


def test_case_082_reading_gives_credit() -> None:
    made = Session(options=OPTIONS)
    stream = peer_stream(made, "uni")
    for _ in range(20):
        stream.feed(bytes(500))
        stream.read()
    made.lives()
    sent = [v for k, v in made.bed.capsules_sent(made.connect) if k == CapsuleType.WT_MAX_DATA]
    assert sent[-1] == encode_varint(11_000)
    assert len(sent) == 20


def test_case_082_data_blocked_gets_what_there_is() -> None:
    made = Session(options=OPTIONS)
    stream = peer_stream(made, "uni", bytes(1000))
    stream.read(100)
    assert made.bed.capsules_sent(made.connect) == []
    made.feed(encode_number(CapsuleType.WT_DATA_BLOCKED, 1000))
    assert made.bed.capsules_sent(made.connect) == [(0x190B4D3D, encode_varint(1100))]
    made.feed(encode_number(CapsuleType.WT_DATA_BLOCKED, 1000))
    assert len(made.bed.capsules_sent(made.connect)) == 1


def test_case_083_header_bytes_do_not_count() -> None:
    made = Session(settings={**DRAFT16, 0x2B61: 10}, options=OPTIONS)
    for kind, count in (("uni", 3), ("bidi", 2)):
        for _ in range(count):
            peer_stream(made, kind)
    assert made.session.stats()["bytes_received"] == 0
    made.events.streams[0].feed(bytes(1000))
    made.lives()
    stream = made.session.open_stream(False)
    assert stream is not None
    assert made.session.stats()["bytes_sent"] == 0
    stream.write(bytes(11))
    assert len(stream.sent) == 3 + 10
    assert made.bed.capsules_sent(made.connect)[-1] == (0x190B4D41, encode_varint(10))
    made.feed(encode_number(CapsuleType.WT_MAX_DATA, 11))
    assert len(stream.sent) == 3 + 11


def test_case_084_reset_stream_counts_its_final_size() -> None:
    made = Session(options=OPTIONS)
    stream = peer_stream(made, "uni", bytes(10))
    stream.feed_reset(0x52E4A40FA8DB, final_size=3 + 900)
    assert made.session.stats()["bytes_received"] == 900
    made.lives()
    other = peer_stream(made, "uni", bytes(100))
    made.lives()
    other.feed_reset(0x52E4A40FA8DB, final_size=3 + 101)
    made.violated()


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("x" * 2000, "x" * 1024), ("é" * 1000, "é" * 512), ("a" + "é" * 999, "a" + "é" * 511)],
)
def test_case_085_long_reason_is_cut(reason: str, kept: str) -> None:
    made = Session()
    made.session.close(1, reason)
    sent = made.bed.capsules_sent(made.connect)
    assert sent == [(0x2843, b"\0\0\0\x01" + kept.encode())]
    assert made.connect.fin_sent
    assert made.events.closed == (1, kept, False)


def test_case_086_both_sides_close_at_once() -> None:
    bed = PairBed()
    ours, our_events, theirs, their_events = bed.session()
    ours.close(1, "client")
    theirs.close(2, "server")
    bed.pump()
    assert our_events.closed == (1, "client", False)
    assert their_events.closed == (2, "server", False)
    assert bed.client.h3.requests == bed.server.h3.requests == {}
    assert bed.client.clock.pending == bed.server.clock.pending == 0
    assert bed.client.close_code is bed.server.close_code is None


# What the drafts say besides the numbered cases.


@roles
def test_drain_is_told_once_and_changes_nothing_else(role: str) -> None:
    made = Session(role)
    for _ in range(3):
        made.feed(encode_capsule(CapsuleType.WT_DRAIN_SESSION, b""))
    assert made.events.names().count("draining") == 1
    assert made.session.state is H3SessionState.DRAINING
    assert made.session.open_stream(True) is not None
    assert made.session.send_datagram(b"x")
    peer_stream(made, "uni")
    assert len(made.events.streams) == 1


def test_drain_is_sent_once() -> None:
    made = Session()
    made.session.drain()
    made.session.drain()
    assert made.bed.capsules_sent(made.connect) == [(0x78AE, b"")]


def test_a_close_that_the_peer_never_finishes_is_given_up() -> None:
    made = Session(options=H3Options(close_timeout=2.0))
    made.session.close(0, "")
    assert made.bed.h3.closing_sessions() == [made.session]
    assert made.session.stream is made.connect
    made.bed.clock.advance(2)
    assert made.connect.stop_sent == SESSION_GONE
    assert made.connect.released
    assert made.bed.h3.closing_sessions() == []


def test_stop_of_the_connect_stream_waits_for_a_close_on_the_way() -> None:
    made = Session()
    made.connect.feed_stop(SESSION_GONE)
    assert made.events.log == []
    made.feed(encode_close(8, "late"), fin=True)
    assert made.events.closed == (8, "late", True)
    assert made.bed.clock.pending == 0


def test_stop_of_the_connect_stream_without_a_close() -> None:
    made = Session()
    made.connect.feed_stop(SESSION_GONE)
    made.bed.clock.advance(5)
    assert made.events.closed == (None, "", True)
    assert made.connect.released


def test_stop_with_another_code_is_abrupt() -> None:
    made = Session()
    made.connect.feed_stop(0x10C)
    code, _, remote, error = made.events.only("closed")
    assert (code, remote, error.error_code) == (None, True, 0x10C)


@roles
def test_reset_of_the_connect_stream_is_abrupt(role: str) -> None:
    made = Session(role)
    made.connect.feed_reset(0x10C)
    code, _, remote, error = made.events.only("closed")
    assert (code, remote, error.error_code) == (None, True, 0x10C)
    assert made.connect.reset_sent is not None
    assert made.connect.released


def test_abort_resets_the_connect_stream() -> None:
    made = Session()
    made.session.abort(0x102)
    assert made.connect.reset_sent == made.connect.stop_sent == 0x102
    assert made.events.closed == (None, "", False)
    made.session.abort(0x102)
    made.session.close()
    assert made.events.names() == ["closed"]


def test_close_before_the_answer_resets_without_a_capsule() -> None:
    bed = ClientBed()
    session, events = bed.open()
    stream = bed.stream_of(session)
    before = bytes(stream.sent)
    session.close(4, "never mind")
    assert bytes(stream.sent) == before
    assert stream.reset_sent == stream.stop_sent == 0x10C
    assert events.closed == (4, "never mind", False)


def test_close_of_a_request_that_was_not_sent() -> None:
    bed = ClientBed(silent=True)
    session, events = bed.open()
    session.close()
    bed.send_settings({0x08: 1, **DRAFT16})
    assert bed.quic.local(False) == []
    assert events.names() == ["closed"]


def test_a_peer_that_reads_no_capsules_is_cut_off() -> None:
    made = Session(options=H3Options(max_capsule_backlog=1024, initial_max_data=2))
    hold = made.connect
    hold.flush = lambda: None  # type: ignore[method-assign]
    stream = peer_stream(made, "uni")
    for _ in range(300):
        if not made.session.is_live:
            break
        stream.feed(b"xx")
        stream.read()
    assert made.connect.reset_sent == 0x107
    assert made.events.closed == (None, "", False)


def test_observers_see_known_capsules_only() -> None:
    made = Session()
    made.feed(
        encode_number(0x17, 1),
        encode_number(CapsuleType.WT_MAX_DATA, 1 << 30),
        encode_capsule(CapsuleType.WT_DRAIN_SESSION, b""),
        encode_close(1, ""),
    )
    assert [kind for kind, _ in made.events.capsules] == [0x190B4D3D, 0x78AE, 0x2843]
    assert made.events.names()[-1] == "closed"


def test_blocked_streams_are_reported_once_and_told_when_there_is_credit() -> None:
    made = Session(settings={**DRAFT16, 0x2B64: 1})
    opened: list[Any] = [made.session.open_stream(True) for _ in range(4)]
    assert [stream is None for stream in opened] == [False, True, True, True]
    assert made.bed.capsules_sent(made.connect) == [(0x190B4D44, encode_varint(1))]
    made.feed(encode_number(CapsuleType.WT_MAX_STREAMS_UNI, 2))
    assert made.events.log == [("credit", "streams_uni", 2), ("streams_available", True)]
    assert made.session.open_stream(True) is not None
    assert made.session.open_stream(True) is None
    assert made.bed.capsules_sent(made.connect)[-1] == (0x190B4D44, encode_varint(2))


def test_capsules_of_a_server_wait_for_its_answer() -> None:
    bed = ServerBed({**DRAFT16, 0x2B64: 0})
    stream = bed.request(CONNECT)
    (session,) = bed.events.requested
    assert session.open_stream(True) is None
    session.drain()
    assert stream.sent == b""
    session.accept()
    assert bed.capsules_sent(stream) == [(0x190B4D44, b"\x00"), (0x78AE, b"")]
