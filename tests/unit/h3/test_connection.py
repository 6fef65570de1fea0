"""The connection as a whole: opening, closing, limits, QPACK, any split, random bytes."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    SessionError,
)
from pywebtransport.h3._connection import H3Connection
from pywebtransport.h3._error_codes import code_to_wire
from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._session import H3Session, H3SessionState
from pywebtransport.h3._settings import encode_settings
from pywebtransport.h3._varint import encode_varint
from tests.unit.h3.bed import (
    CONNECT,
    DRAFT02,
    DRAFT07,
    DRAFT14,
    DRAFT16,
    SERVER_ONLY,
    Bed,
    ClientBed,
    PairBed,
    ServerBed,
    SessionRecorder,
    data_frame,
    recorder,
)
from tests.unit.h3.fake_quic import FakeQuic


def test_start_opens_the_control_stream_and_sends_settings() -> None:
    bed = ServerBed(settings=None)
    (stream,) = bed.quic.local(True)
    assert stream.sent == b"\x00" + encode_frame(0x04, encode_settings(bed.h3.settings))
    assert stream.send_order == 2**63 - 1
    bed.h3.start()
    assert len(bed.quic.local(True)) == 1


def test_a_dynamic_table_takes_two_streams_more() -> None:
    bed = ServerBed(settings=None, options=H3Options(qpack_max_table_capacity=4096))
    streams = bed.quic.local(True)
    assert [stream.sent[:1] for stream in streams] == [b"\x00", b"\x02", b"\x03"]
    assert streams[0].sent[1:] == encode_frame(0x04, encode_settings(bed.h3.settings))
    assert all(stream.send_order == 2**63 - 1 for stream in streams)
    bed.h3.start()
    assert len(bed.quic.local(True)) == 3


def test_settings_are_made_once_for_all_connections() -> None:
    options = H3Options()
    first, second = (ServerBed(options=options).h3 for _ in range(2))
    assert first.settings is second.settings
    assert first.peer_settings is second.peer_settings


def test_streams_of_ours_wait_for_credit() -> None:
    options = H3Options(qpack_max_table_capacity=4096)
    bed = Bed(is_client=False, options=options, start=False)
    bed.quic.limits[True] = 1
    bed.h3.start()
    assert len(bed.quic.local(True)) == 1
    bed.h3.send_goaway()
    bed.quic.limits[True] = 5
    bed.h3.streams_available(True)
    assert [stream.sent[:1] for stream in bed.quic.local(True)] == [b"\x00", b"\x02", b"\x03"]


def test_goaway_before_there_is_a_control_stream() -> None:
    bed = Bed(is_client=True, start=False)
    bed.h3.send_goaway()
    bed.h3.finish_goaway()
    bed.h3.start()
    sent = bytes(bed.our_control.sent)
    assert sent[1:2] == b"\x04"
    assert sent.endswith(encode_frame(0x07, b"\x00"))


def test_the_application_hears_of_settings_before_anything_else() -> None:
    bed = ServerBed(settings=None)
    bed.request()
    seen: list[int] = []
    bed.events.on_request = lambda session: seen.append(len(bed.events.settings))
    bed.send_settings(DRAFT16)
    assert seen == [1]
    assert bed.events.settings == [DRAFT16]
    assert bed.h3.peer_settings == DRAFT16
    assert bed.h3.settings_known


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_connection_in_small_pieces(cut: int) -> None:
    def pieces(data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), cut):
            yield data[start : start + cut]

    bed = PairBed(cut=pieces)
    ours, our_events, theirs, their_events = bed.session(path="/a?b=c", headers={"x": "y" * 50})
    assert theirs.path == "/a?b=c"
    assert theirs.request_headers["x"] == "y" * 50
    for session in (ours, theirs):
        for unidirectional in (False, True):
            stream = session.open_stream(unidirectional)
            assert stream is not None
            stream.write(b"body", fin=True)
    bed.pump()
    for events in (our_events, their_events):
        assert [stream.read() for stream in events.streams] == [b"body", b"body"]
    ours.close(3, "grüße")
    bed.pump()
    assert their_events.closed == (3, "grüße", True)


def test_data_flows_as_far_as_credit_goes_and_on_as_it_is_read() -> None:
    options = H3Options(initial_max_data=1000)
    bed = PairBed(options, options)
    ours, _, _, their_events = bed.session()
    stream = ours.open_stream(False)
    assert stream is not None
    stream.write(bytes(10_000), fin=True)
    bed.pump()
    (received,) = their_events.streams
    total = 0
    for _ in range(100):
        assert received.buffered <= 1000
        total += len(received.read() or b"")
        bed.pump()
        if received.at_eof:
            break
    assert total == 10_000


def test_stream_credit_flows_back() -> None:
    options = H3Options(initial_max_streams_uni=5)
    bed = PairBed(options, options)
    ours, our_events, theirs, their_events = bed.session()
    opened = 0
    for _ in range(200):
        stream = ours.open_stream(True)
        if stream is None:
            for received in their_events.streams:
                assert received.read() == b"x"
                theirs.stream_finished(received, True)
            their_events.streams.clear()
        else:
            opened += 1
            stream.write(b"x", fin=True)
        bed.pump()
    assert opened > 100
    assert ("streams_available", True) in our_events.log
    assert ours.stats()["streams_opened_uni"] == theirs.stats()["streams_received_uni"] == opened
    assert len(theirs._streams) < 10


def test_our_streams_that_are_over_are_forgotten() -> None:
    bed = ServerBed({0x33: 1, 0xC671706A: 1})
    session, _, _ = bed.session()
    keep = session.open_stream(True)
    for _ in range(1000):
        stream = session.open_stream(True)
        assert stream is not None
        stream.write(b"", fin=True)
    assert keep is not None
    assert len(session._streams) <= 130
    assert keep.stream_id in session._streams


def test_a_session_waits_for_a_stream_of_the_connection() -> None:
    bed = ServerBed()
    session, events, _ = bed.session()
    bed.quic.limits[True] = 0
    assert session.open_stream(True) is None
    assert session.open_stream(False) is not None
    bed.h3.streams_available(False)
    assert events.log == []
    bed.quic.limits[True] = 1
    bed.h3.streams_available(True)
    bed.h3.streams_available(True)
    assert events.log == [("streams_available", True)]
    assert session.open_stream(True) is not None


def test_everything_waits_for_the_request_of_a_client() -> None:
    bed = ClientBed(silent=True)
    session, events = bed.open()
    other, _ = bed.open()
    assert session.session_id != other.session_id
    assert session.session_id < 0
    assert session.open_stream(True) is None
    assert session.send_datagram(b"x") is False
    assert session.group.stats()["bytes_sent"] == 0
    assert session.stream is None
    with pytest.raises(SessionError):
        session.export_keying_material("label", b"", 32)
    bed.send_settings({**SERVER_ONLY, **DRAFT16})
    assert (session.session_id, other.session_id) == (0, 4)
    assert events.log == [("streams_available", True), ("writable",)]
    stream = session.open_stream(True)
    assert stream is not None
    assert session.send_datagram(b"x")


def test_a_request_waits_for_a_stream() -> None:
    bed = ClientBed()
    bed.quic.limits[False] = 0
    session, events = bed.open()
    assert session.session_id < 0
    bed.quic.limits[False] = 1
    bed.h3.streams_available(False)
    bed.respond(session)
    assert events.names() == ["established"]


def test_datagram_queue_full_and_writable_again() -> None:
    bed = ServerBed()
    session, events, _ = bed.session()
    _, other_events, _ = bed.session()
    bed.quic.datagram_room = 1
    assert session.send_datagram(b"1")
    assert not session.send_datagram(b"2")
    bed.h3.datagram_writable()
    bed.h3.datagram_writable()
    assert events.log == [("writable",)]
    assert other_events.log == []


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"authority": ""}, "authority"),
        ({"authority": "user@host"}, "authority"),
        ({"path": "chat"}, "path"),
        ({"path": "/a b"}, "path"),
        ({"path": "/é"}, "path"),
        ({"headers": {"connection": "x"}}, "headers"),
        ({"origin": "a\nb"}, "headers"),
        ({"application_protocols": ["a", "a"]}, "application_protocols"),
    ],
)
def test_bad_arguments_of_open_session(changes: dict[str, object], key: str) -> None:
    bed = ClientBed()
    with pytest.raises(ConfigurationError) as caught:
        bed.open(**changes)
    assert caught.value.config_key == key
    assert bed.quic.local(False) == []


def test_only_clients_open_sessions_and_only_servers_answer() -> None:
    with pytest.raises(ClientError):
        ServerBed().h3.open_session(authority="a", path="/", headers={}, events=SessionRecorder())
    session, _ = ClientBed().open()
    with pytest.raises(SessionError):
        session.accept()
    with pytest.raises(SessionError):
        session.reject(404)


def test_an_answer_is_given_once() -> None:
    bed = ServerBed()
    session, _, _ = bed.session()
    with pytest.raises(SessionError, match="open"):
        session.accept()
    with pytest.raises(SessionError):
        session.reject(404)
    bed.request()
    second = bed.events.requested[-1]
    for status in (200, 299, 600):
        with pytest.raises(ConfigurationError, match="300 to 599"):
            second.reject(status)
    second.reject(429, {"Retry-After": "5"})
    with pytest.raises(SessionError, match="closed"):
        second.accept()


def test_headers_of_both_messages() -> None:
    bed = ServerBed()
    stream = bed.request([*CONNECT, ("x-token", "1")])
    (session,) = bed.events.requested
    assert session.request_headers == {"x-token": "1"}
    session.accept({"X-Answer": "2"})
    assert bed.decode_headers(stream)[0][0] == {":status": "200", "x-answer": "2"}
    assert session.response_headers == {"x-answer": "2"}
    with pytest.raises(ConfigurationError):
        session.close(2**32)


def test_a_client_that_gave_up_cannot_be_answered() -> None:
    bed = ServerBed()
    stream = bed.request()
    (session,) = bed.events.requested
    stream.feed_reset(0x10C)
    assert recorder(session).closed == (None, "", True)
    with pytest.raises(SessionError):
        session.accept()
    assert bed.h3.sessions == {}


def test_a_session_that_ends_between_answer_and_delivery() -> None:
    bed = ServerBed()
    early = bed.quic.peer_open(True, b"\x40\x54\x00x")
    stream = bed.request(stream_id=0)
    (session,) = bed.events.requested
    session.accept()
    stream.feed_reset(0x10C)
    bed.clock.advance(0)
    assert recorder(session).names() == ["closed"]
    assert early.released
    assert bed.clock.pending == 0


def test_events_may_be_changed_at_any_time() -> None:
    bed = ServerBed()
    session, events, _ = bed.session()
    other = SessionRecorder()
    bed.quic.datagrams(b"\x001")
    session.events = other
    bed.quic.datagrams(b"\x002")
    assert (events.datagrams, other.datagrams) == ([b"1"], [b"2"])
    session.close()
    session.events = events
    bed.quic.datagrams(b"\x003")
    assert events.datagrams == [b"1"]


def test_a_session_nobody_listens_to() -> None:
    bed = ServerBed()
    bed.events.session_requested = lambda session: session.accept()  # type: ignore[method-assign]
    stream = bed.request()
    bed.clock.advance(0)
    data = bed.quic.peer_open(True, b"\x40\x54\x00x")
    bed.quic.datagrams(b"\x00x")
    assert data.released
    stream.feed(fin=True)
    assert bed.h3.sessions == {}


def test_close_ends_all_sessions_and_the_connection() -> None:
    bed = ServerBed()
    _, events, connect = bed.session()
    pending = bed.request()
    early = bed.quic.peer_open(True, b"\x40\x54\x40\xc8")
    bed.h3.close(0x100, "bye")
    assert bed.quic.closed == (0x100, "bye")
    assert events.closed == (0, "", False)
    assert bed.capsules_sent(connect) == [(0x2843, bytes(4))]
    assert recorder(bed.events.requested[1]).closed == (0, "", False)
    assert pending.reset_sent == 0x10C
    assert early.released
    assert bed.clock.pending == 0
    assert bed.events.errors == []
    bed.h3.close()
    bed.h3.connection_closed(None)
    assert events.names() == ["closed"]


@pytest.mark.parametrize("error", [None, ConnectionError("lost", remote=True)])
def test_a_lost_connection_ends_everything(error: ConnectionError | None) -> None:
    server = ServerBed()
    _, events, _ = server.session()
    server.request()
    server.h3.connection_closed(error)
    for session in server.events.requested:
        code, _, remote, reported = recorder(session).only("closed")
        assert (code, remote) == (None, error is not None)
        assert reported is error or isinstance(reported, SessionError)
    client = ClientBed()
    _, established, _ = client.session()
    _, waiting = client.open()
    client.quic.limits[False] = 0
    _, held = client.open()
    client.h3.connection_closed(error)
    assert established.closed[0] is None
    for recorded in (waiting, held):
        assert recorded.only("rejected")[0] is None
    assert events.names() == ["closed"]
    assert server.clock.pending == client.clock.pending == 0
    with pytest.raises(ConnectionError):
        client.open()


def test_nothing_reacts_after_the_end() -> None:
    bed = ServerBed()
    session, events, connect = bed.session()
    data = bed.quic.peer_open(True, b"\x40\x54\x00")
    waiting = bed.quic.peer_stream(False)
    bed.quic.peer_open(True, b"\x01")  # a violation
    assert bed.close_code == 0x103
    log = list(events.log)
    connect.turn()
    waiting.turn()
    bed.quic.datagrams(b"", b"\x00x")
    bed.h3.streams_available(True)
    bed.h3.datagram_writable()
    bed.h3.start()
    session.close()
    session.stream_finished(data, True)
    session.group.clear_datagrams()
    assert events.log == log
    assert len(bed.events.errors) == 1
    assert bed.clock.pending == 0


def test_a_callback_may_close_the_connection() -> None:
    class Closing(SessionRecorder):
        def __init__(self, h3: H3Connection) -> None:
            super().__init__()
            self.h3 = h3

        def session_closed(
            self, code: int | None, reason: str, remote: bool, error: Exception | None
        ) -> None:
            super().session_closed(code, reason, remote, error)
            self.h3.close()

    bed = ClientBed()
    events = Closing(bed.h3)
    session, _ = bed.open(events=events)
    bed.respond(session, extra=data_frame(bytes.fromhex("68430700000001627965")), fin=True)
    assert events.names() == ["established", "closed"]
    assert bed.close_code == 0x100
    assert bed.clock.pending == 0


def test_exporter_binds_session_label_and_context() -> None:
    bed = ServerBed()
    session, _, _ = bed.session(stream_id=4)
    assert len(session.export_keying_material("label", b"ctx", 48)) == 48
    session.export_keying_material(b"", b"", 16)
    assert bed.quic.exports == [
        (b"EXPORTER-WebTransport", bytes(7) + b"\x04\x05label\x03ctx", 48),
        (b"EXPORTER-WebTransport", bytes(7) + b"\x04\x00\x00", 16),
    ]
    for label, context in ((bytes(256), b""), (b"", bytes(256))):
        with pytest.raises(ConfigurationError, match="256 bytes"):
            session.export_keying_material(label, context, 32)


@pytest.mark.parametrize("settings", [DRAFT16, DRAFT14, DRAFT07, DRAFT02])
@pytest.mark.parametrize("code", [0, 255, 256, 1000, 2**32 - 1])
def test_codes_have_32_bits_in_every_dialect(settings: dict[int, int], code: int) -> None:
    session, _, _ = ServerBed(settings).session()
    assert session.code_to_wire(code) == code_to_wire(code)
    assert session.code_from_wire(code_to_wire(code)) == code
    assert session.code_from_wire(None) is None


DYNAMIC = H3Options(qpack_max_table_capacity=4096, qpack_blocked_streams=16)


def test_dynamic_tables_both_ways() -> None:
    bed = PairBed(DYNAMIC, DYNAMIC)
    sizes = []
    for n in range(5):
        before = len(bed.client.quic.local(False))
        _, events, theirs, _ = bed.session(headers={"x-token": "t" * 100})
        assert events.names() == ["established"]
        assert theirs.request_headers == {"x-token": "t" * 100}
        sizes.append(len(bed.client.quic.local(False)[before].sent))
        assert n < 5
    assert sizes[-1] < sizes[0] / 2


def blocked_bed() -> tuple[ServerBed, bytes, bytes]:
    """A server, a section that refers to its dynamic table, and the instructions for it."""
    bed = ServerBed(options=DYNAMIC)
    lines = [(name.encode(), value.encode()) for name, value in [*CONNECT, ("x-a", "b" * 30)]]
    instructions = bed.encoder.apply_settings(4096, 16)
    section = b""
    for _ in range(3):
        more, section = bed.encoder.encode(0, lines)
        instructions += more
    return bed, encode_frame(0x01, section), instructions


def test_a_request_that_waits_for_the_encoder_stream() -> None:
    bed, headers, instructions = blocked_bed()
    encoder_stream = bed.quic.peer_open(True, b"\x02")
    stream = bed.quic.peer_open(False, headers + data_frame(b"\x00\x01x"))
    assert bed.events.requested == []
    for byte in instructions:
        encoder_stream.feed(bytes([byte]))
    (session,) = bed.events.requested
    assert session.request_headers["x-a"] == "b" * 30
    session.accept()
    bed.clock.advance(0)
    assert recorder(session).datagrams == [b"x"]
    assert bed.status(stream) == "200"


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_blocked_request_may_be_withdrawn(how: str) -> None:
    bed, headers, instructions = blocked_bed()
    stream = bed.quic.peer_open(False, headers)
    if how == "reset":
        stream.feed_reset(0x10C)
        assert len(bed.quic.local(True)[2].sent) > 1  # Stream Cancellation
    else:
        bed.h3.close()
    bed.quic.peer_open(True, b"\x02" + instructions)
    assert bed.events.requested == []
    assert stream.released


def test_qpack_streams_that_the_peer_does_not_read() -> None:
    bed = ServerBed(options=H3Options(qpack_max_table_capacity=4096, max_capsule_backlog=1024))
    bed.quic.local(True)[2].flush = lambda: None  # type: ignore[method-assign]
    for _ in range(600):
        if bed.close_code is not None:
            break
        bed.quic.peer_open(False, b"\x01").feed_reset(0x10C)
    assert bed.close_code == 0x107


# Random bytes.

streams = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(
            st.binary(max_size=40),
            st.tuples(
                st.sampled_from(
                    [b"\x00\x04\x00", b"\x01", b"\x00", b"\x02", b"\x03", b"\x40\x54", b"\x40\x41"]
                ),
                st.binary(max_size=40),
            ).map(b"".join),
            st.tuples(
                st.integers(0, 0x0E).map(encode_varint),
                st.binary(max_size=40).map(lambda b: encode_varint(len(b)) + b),
            ).map(b"".join),
        ),
        st.sampled_from(["open", "fin", "reset", "stop"]),
    ),
    max_size=8,
)


@pytest.mark.parametrize("is_client", [False, True])
@settings(max_examples=300)
@given(
    known=st.booleans(),
    peer=streams,
    connect=st.lists(st.binary(max_size=30), max_size=5),
    capsules=st.lists(st.binary(max_size=30), max_size=5),
    datagrams=st.lists(st.binary(max_size=10), max_size=5),
)
def test_random_bytes_never_raise(
    is_client: bool,
    known: bool,
    peer: list[tuple[bool, bytes, str]],
    connect: list[bytes],
    capsules: list[bytes],
    datagrams: list[bytes],
) -> None:
    bed: ServerBed | ClientBed
    bed = ClientBed(silent=not known) if is_client else ServerBed(DRAFT16 if known else None)
    established = None
    if known:
        session, events, stream = bed.session()
        established = (session, events)
        for payload in capsules:
            feed(bed.quic, stream.stream_id, data_frame(payload))
        for piece in connect:
            feed(bed.quic, stream.stream_id, piece)
    for unidirectional, data, how in peer:
        if bed.quic.is_closed:
            break
        opened = bed.quic.peer_stream(unidirectional)
        opened.feed(data, fin=how == "fin")
        if how == "reset":
            opened.feed_reset(0x10C)
        elif how == "stop" and opened.sends:
            opened.feed_stop(0x10C)
    bed.quic.datagrams(*datagrams)
    bed.clock.advance(100)
    if bed.quic.closed is not None:
        known_codes = {0x33, *range(0x100, 0x110), 0x200, 0x201, 0x202}
        assert bed.quic.closed[0] in known_codes
        assert bed.clock.pending == 0
    if established is not None:
        check_end(*established)


def feed(quic: FakeQuic, stream_id: int, data: bytes) -> None:
    stream = quic.streams[stream_id]
    if not (stream.released or quic.is_closed):
        stream.feed(data)


def check_end(session: H3Session, events: SessionRecorder) -> None:
    """A session is over exactly if its one last event was told."""
    ends = [name for name in events.names() if name in ("closed", "rejected")]
    assert len(ends) == (session.state is H3SessionState.CLOSED)
    if ends:
        assert events.names()[-1] == ends[0]


# Corners of the code.


def test_a_close_just_before_a_reset_is_heard() -> None:
    bed = ServerBed()
    _, events, connect = bed.session()
    sink, connect.sink = connect.sink, None
    connect.feed(data_frame(bytes.fromhex("68430700000001627965")))
    connect.sink = sink
    connect.feed_reset(0x10C)
    assert events.names() == ["closed"]
    assert events.closed == (1, "bye", True)
    assert connect.released


def test_a_request_stream_that_was_reset_before_it_was_seen() -> None:
    bed = ServerBed()
    stream = bed.quic.peer_stream(False)
    stream.sink = None
    stream.feed(bed.headers(CONNECT))
    stream.feed_reset(0x10C)
    stream.sink = bed.quic.default_sink
    stream.turn()
    assert stream.released
    assert bed.events.requested == []


def test_a_request_that_is_stopped_before_its_answer() -> None:
    bed = ServerBed()
    stream = bed.request()
    (session,) = bed.events.requested
    stream.feed_stop(0x10C)
    assert recorder(session).closed == (None, "", True)
    with pytest.raises(SessionError):
        session.accept()
    unanswered = bed.quic.peer_open(False, b"\x01")
    unanswered.feed_stop(0x10C)
    assert unanswered.released


def test_an_answer_to_a_client_that_stops_in_the_same_turn() -> None:
    bed = ServerBed()
    stream = bed.request()
    (session,) = bed.events.requested
    stream.is_stopped = True  # the engine knows, the sink was not called yet
    with pytest.raises(SessionError, match="given up"):
        session.accept()
    stream.turn()
    assert recorder(session).names() == ["closed"]


def test_a_client_hears_the_answer_of_a_server_that_stopped_the_request() -> None:
    bed = ClientBed()
    session, events = bed.open()
    bed.stream_of(session).feed_stop(0x100)
    assert events.log == []
    bed.respond(session, 404, fin=True)
    assert events.only("rejected")[0] == 404


def test_an_oversized_section_that_had_to_wait() -> None:
    options = H3Options(
        qpack_max_table_capacity=4096, qpack_blocked_streams=16, max_field_section_size=1024
    )
    bed = ServerBed(options=options)
    instructions = bed.encoder.apply_settings(4096, 16)
    lines = [(b"x-a", b"v" * 900), (b"x-b", b"w" * 900)]
    section = b""
    for _ in range(3):
        more, section = bed.encoder.encode(0, lines)
        instructions += more
    stream = bed.quic.peer_open(False, encode_frame(0x01, section))
    assert stream.sent == b""
    bed.quic.peer_open(True, b"\x02" + instructions)
    assert bed.status(stream) == "431"
    assert bed.close_code is None


LINES = 256


@pytest.mark.parametrize("capacity", [0, 4096])
@pytest.mark.parametrize("size", [1, 10], ids=["short", "long"])
def test_a_request_may_have_so_many_lines(size: int, capacity: int) -> None:
    """However few bytes they are: each becomes an object, and is looked at."""
    bed = ServerBed(options=H3Options(qpack_max_table_capacity=capacity))
    more = [("x" * size, "") for _ in range(LINES - len(CONNECT))]
    bed.session([*CONNECT, *more])
    stream = bed.request([*CONNECT, *more, ("y", "")])
    assert bed.status(stream) == "431"
    assert len(bed.events.requested) == 1
    assert bed.close_code is None
    bed.session()  # the connection goes on


def test_lines_of_one_byte_are_counted_before_they_are_decoded() -> None:
    bed = ServerBed(options=H3Options(max_field_section_size=1 << 24))
    for lines in (LINES + 1, 60_000):
        stream = bed.quic.peer_open(False, encode_frame(0x01, b"\0\0" + b"\xd1" * lines))
        assert bed.status(stream) == "431"
    assert bed.close_code is None


def test_a_response_may_have_so_many_lines() -> None:
    bed = ClientBed()
    session, events = bed.open()
    bed.respond(session, 200, [("x", "") for _ in range(LINES - 1)])
    assert events.names() == ["established"]
    session, events = bed.open()
    bed.respond(session, 200, [("x", "") for _ in range(LINES)])
    status, _, error = events.only("rejected")
    assert status is None
    assert "too large" in str(error)
    assert bed.stream_of(session).reset_sent == 0x107
    assert bed.close_code is None


def test_a_limit_broken_by_what_waited_refuses_the_rest() -> None:
    bed = ServerBed(options=H3Options(initial_max_streams_uni=2))
    early = [bed.quic.peer_open(True, b"\x40\x54\x00") for _ in range(5)]
    _, events, connect = bed.session(stream_id=0)
    assert connect.reset_sent == 0x045D4487
    assert events.streams == early[:2]
    assert [stream.released for stream in early] == [False, False, True, True, True]
    assert {stream.stop_sent for stream in early} == {0x170D7B68}


def test_a_callback_may_close_its_session() -> None:
    class Impatient(SessionRecorder):
        session: H3Session

        def credit_updated(self, kind: str, limit: int) -> None:
            super().credit_updated(kind, limit)
            self.session.close(6, "seen")

    bed = ServerBed()
    session, _, connect = bed.session()
    events = Impatient()
    events.session = session
    session.events = events
    connect.feed(data_frame(bytes.fromhex("990b4d3d0480200000") + b"\x80\x00\x78\xae\x00"))
    assert events.names() == ["credit", "closed"]
    assert events.capsules == []
    assert bed.close_code is None


def test_drain_after_the_end() -> None:
    bed = ServerBed()
    session, events, _ = bed.session()
    session.close()
    with pytest.raises(SessionError):
        session.drain()
    session.tell_draining()
    assert events.names() == ["closed"]


def test_goaway_while_a_session_waits_for_its_answer() -> None:
    bed = ClientBed()
    session, events = bed.open()
    bed.send_control(encode_frame(0x07, b"\x04"))  # this one is still served
    bed.respond(session)
    assert events.names() == ["draining", "established"]
    assert session.state is H3SessionState.DRAINING


def test_goaway_refuses_requests_that_were_not_sent() -> None:
    bed = ClientBed()
    bed.quic.limits[False] = 0
    _, events = bed.open()
    bed.send_control(encode_frame(0x07, b"\x00"))
    assert events.only("rejected")[2].error_code == 0x10B


def test_a_silent_start_is_not_waited_for_twice() -> None:
    bed = Bed(is_client=False, start=False)
    bed.send_settings(DRAFT16)
    bed.h3.start()
    assert bed.clock.pending == 0
    bed.clock.advance(100)
    assert bed.close_code is None


def test_the_stop_timer_yields_to_a_reset() -> None:
    bed = ServerBed()
    _, events, connect = bed.session()
    connect.feed_stop(0x170D7B68)
    connect.turn()
    connect.feed_reset(0x170D7B68)
    assert events.names() == ["closed"]
    assert bed.clock.pending == 0


@pytest.mark.parametrize("unidirectional", [True, False])
def test_streams_of_sessions_on_a_connection_without_webtransport(unidirectional: bool) -> None:
    header = b"\x40\x54\x20" if unidirectional else b"\x40\x41\x20"
    bed = ServerBed(settings=None)
    before = bed.quic.peer_open(unidirectional, header)
    assert not before.released
    bed.send_settings({0x33: 0, 0x2C7CF000: 1})
    after = bed.quic.peer_open(unidirectional, header)
    for stream in (before, after):
        assert stream.stop_sent == 0x103
        assert stream.released
    bed.quic.datagrams(b"\x02x")
    assert bed.close_code is None
    assert bed.clock.pending == 0


def test_a_client_refuses_unidirectional_streams_without_webtransport() -> None:
    bed = ClientBed(silent=True)
    before = bed.quic.peer_open(True, b"\x40\x54")
    bed.send_settings(SERVER_ONLY)
    before.feed(b"\x00")
    assert before.stop_sent == 0x103
    assert bed.close_code is None


def test_a_section_that_waited_in_vain() -> None:
    bed = ServerBed(options=DYNAMIC)
    # Required insert count 1, then an index that the table will not have.
    bed.quic.peer_open(False, encode_frame(0x01, bytes.fromhex("02008085")))
    encoder = bed.quic.peer_open(True, b"\x02")
    encoder.feed(bytes.fromhex("3fe11f") + bytes.fromhex("4161") + bytes.fromhex("0162"))
    assert bed.close_code == 0x200


def test_what_is_known_about_past_streams_does_not_grow() -> None:
    bed = ServerBed(options=H3Options(initial_max_streams_bidi=1000))
    session, _, _ = bed.session()
    unsettled = []
    for header in (b"\x40\x41\x00", b"\x40\x41\x40\x00", b"\x40\x41\x40\xc8"):
        for _ in range(10):
            bed.quic.peer_open(False, header)
        unsettled.append(bed.h3.arrivals.ids.unsettled)
    bed.quic.peer_open(False, b"\x40\x41", fin=True)
    bed.quic.peer_open(False, b"\x01").feed_reset(0x10C)
    unsettled.append(bed.h3.arrivals.ids.unsettled)
    session.close()
    unsettled.append(bed.h3.arrivals.ids.unsettled)
    assert unsettled == [1, 1, 1, 1, 0]
    foreign = ServerBed({0x33: 0, 0x2C7CF000: 1})
    foreign.quic.peer_open(False, b"\x40\x41\x00")
    assert foreign.h3.arrivals.ids.unsettled == 0


def test_what_waited_for_a_request_that_is_repeated_is_refused() -> None:
    bed = ClientBed({**SERVER_ONLY, **DRAFT16, 0xC671706A: 1})
    session, _ = bed.open()
    early = bed.quic.peer_open(True, b"\x40\x54\x00")
    bed.respond(session, 405)
    assert early.stop_sent == 0x170D7B68
    assert early.released
    assert session.session_id == 4
