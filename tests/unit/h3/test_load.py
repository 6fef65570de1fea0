"""What a peer sends is worked off in slices, and what leads nowhere is counted.

The count falls with time: peers that have a reason for what they send are not closed, however
long they go on.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pywebtransport.exceptions import ConnectionError, SessionClosedError
from pywebtransport.h3._capsules import encode_close, encode_number
from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._session import H3Session
from tests.unit.h3.bed import (
    CONNECT,
    Bed,
    ClientBed,
    PairBed,
    ServerBed,
    SessionRecorder,
    capsule,
    data_frame,
    recorder,
    varint,
)
from tests.unit.h3.fake_quic import FakeStream

EXCESSIVE_LOAD = 0x107
BOTH = pytest.mark.parametrize("is_client", [False, True], ids=["server", "client"])
SOME = H3Options(max_idle_items=200, idle_items_per_second=50)
ALL = H3Options(max_idle_items=1 << 30)
"""Slices alone, without a limit."""
UNLIMITED = {0x33: 1, 0x2C7CF000: 1, 0x2B61: 1 << 20, 0x2B64: 1 << 20, 0x2B65: 1 << 20}


def established(
    is_client: bool, options: H3Options | None = None
) -> tuple[Bed, H3Session, SessionRecorder, FakeStream]:
    bed: Bed
    if is_client:
        bed = ClientBed(options=options)
        session, events, stream = bed.session()
    else:
        bed = ServerBed(options=options)
        session, events, stream = bed.session()
    return bed, session, events, stream


# ---------------------------------------------------------------------------------- slices


@BOTH
@pytest.mark.parametrize(
    "filler",
    [capsule(0x17, b""), capsule(0x17, b"x"), capsule(0x00, b""), capsule(0x190B4D41, varint(7))],
    ids=["unknown", "unknown-1", "datagram", "blocked"],
)
@pytest.mark.parametrize("per_frame", [1, 1000])
def test_capsules_are_handled_in_slices_and_in_order(
    is_client: bool, filler: bytes, per_frame: int
) -> None:
    bed, session, events, stream = established(is_client, ALL)
    bed.turns.slice = 2
    marks = [b"%d" % n for n in range(10)]
    capsules = b"".join(filler * 100 + capsule(0x00, mark) for mark in marks)
    parts = 1010 if per_frame == 1 else 1
    if parts == 1:
        data = data_frame(capsules)
    else:
        single = [filler] * 100
        data = b"".join(b"".join(map(data_frame, [*single, capsule(0x00, mark)])) for mark in marks)
    stream.feed(data + data_frame(encode_close(7, "end")))
    assert events.datagrams.count(marks[-1]) == 0
    assert session.is_live
    bed.clock.advance(0)
    assert [d for d in events.datagrams if d] == marks
    assert events.closed == (7, "end", True)
    assert bed.turns.taken > 40
    assert bed.close_code is None


@BOTH
@pytest.mark.parametrize("how", ["fin", "reset", "stop"])
def test_an_end_that_comes_meanwhile_waits_its_turn(is_client: bool, how: str) -> None:
    bed, session, events, stream = established(is_client, ALL)
    bed.turns.slice = 1
    data = data_frame(capsule(0x17, b"") * 500)
    if how == "reset":
        data += data_frame(encode_close(9, "said before"))
    stream.feed(data)
    {"fin": lambda: stream.feed(fin=True), "reset": lambda: stream.feed_reset(3)}.get(
        how, lambda: stream.feed_stop(3)
    )()
    assert session.is_live
    bed.clock.advance(0)
    code, reason, remote = events.closed
    assert remote
    assert (code, reason) == {"fin": (0, ""), "reset": (9, "said before"), "stop": (None, "")}[how]


@BOTH
def test_the_end_of_a_session_is_heard_although_the_connection_ends_too(is_client: bool) -> None:
    bed, _, events, stream = established(is_client, ALL)
    bed.turns.slice = 0
    stream.feed(data_frame(capsule(0x17, b"") * 100 + encode_close(4, "bye")))
    assert not events.log or events.log[-1][0] != "closed"
    bed.h3.connection_closed(None)
    assert events.closed == (4, "bye", True)
    bed.clock.advance(0)
    assert bed.clock.pending == 0


MANY = 10_000


def many_streams(bed: Bed, session: H3Session) -> list[FakeStream]:
    """The session has so many streams; each has sent a byte more than goes out."""
    assert session.dialect is not None
    for _ in range(MANY):
        stream = session.open_stream(True)
        assert stream is not None
    return [s for s in bed.quic.local(True) if s.group is not None]


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
def test_the_end_of_a_session_with_many_streams_takes_many_turns(how: str) -> None:
    bed = ServerBed(UNLIMITED, ALL)
    session, events, connect = bed.session()
    streams = many_streams(bed, session)
    group = streams[0].group
    assert group is not None
    bed.turns.slice = 10  # questions in each turn
    if how == "peer":
        connect.feed(data_frame(encode_close(5, "enough")))
    elif how == "close":
        session.close(5, "enough")
    else:
        session.abort()
    # The session is over at once; its streams are cut off in slices, and keep its limits so long.
    assert len(events.closed) == 3
    assert not session.is_live
    done = sum(stream.reset_sent is not None for stream in streams)
    assert 0 < done < 200
    assert not group.is_closed
    taken = bed.turns.taken
    bed.clock.advance(0)
    assert bed.turns.taken - taken > 50
    assert all(stream.reset_sent == 0x170D7B68 for stream in streams)
    assert group.is_closed


def test_streams_that_wait_to_be_cut_off_go_with_their_connection() -> None:
    bed = ServerBed(UNLIMITED, ALL)
    session, _, _ = bed.session()
    streams = many_streams(bed, session)
    bed.turns.slice = 10
    session.close()
    bed.h3.close()
    done = sum(stream.reset_sent is not None for stream in streams)
    bed.clock.advance(0)
    assert sum(stream.reset_sent is not None for stream in streams) == done < MANY
    assert streams[0].group is not None
    assert streams[0].group.is_closed


def test_the_end_of_a_connection_with_many_sessions_takes_many_turns() -> None:
    bed = ServerBed(options=H3Options(max_sessions=1000))
    sessions = [bed.session()[1] for _ in range(500)]
    ended: list[int] = []
    bed.turns.slice = 2
    bed.h3.connection_closed(None, lambda: ended.append(told()))

    def told() -> int:
        return sum("closed" in events.names() for events in sessions)

    assert 0 < told() < 100
    # What the application does with those that have not heard of it yet does no harm.
    waiting = next(s for s in bed.events.requested if "closed" not in recorder(s).names())
    waiting.close(3, "me, too")
    assert recorder(waiting).closed == (3, "me, too", False)
    taken = bed.turns.taken
    bed.clock.advance(0)
    assert bed.turns.taken - taken > 10
    assert ended == [500]
    assert all(len(events.names()) == 1 for events in sessions)
    assert bed.h3.sessions == {}
    assert bed.clock.pending == 0


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_session_that_is_not_told_yet_of_a_loss_does_not_end_cleanly(how: str) -> None:
    bed = ServerBed(options=H3Options(max_sessions=1000))
    sessions = [bed.session()[1] for _ in range(100)]
    bed.turns.slice = 2
    error = ConnectionError("gone", error_code=0x107, reason="overloaded", remote=True)
    bed.h3.connection_closed(error)
    waiting = next(s for s in bed.events.requested if "closed" not in recorder(s).names())
    if how == "close":
        waiting.close(3, "me, too")
    else:
        waiting.abort()
    assert recorder(waiting).closed == (None, "overloaded", True)
    with pytest.raises(ConnectionError) as caught:
        bed.h3.check_can_request()
    assert caught.value is error
    bed.clock.advance(0)
    assert all(events.names().count("closed") == 1 for events in sessions)


def test_an_answer_to_a_session_that_is_told_later_says_that_its_client_is_gone() -> None:
    """The connection is lost: who answers first must not be taken for one who answers twice."""
    bed = ServerBed(options=H3Options(max_sessions=1000))
    for _ in range(500):
        bed.request()
    bed.turns.slice = 2
    bed.h3.connection_closed(None)
    waiting = [s for s in bed.events.requested if "closed" not in recorder(s).names()]
    assert len(waiting) > 400
    accepted, rejected, *_ = waiting
    with pytest.raises(SessionClosedError, match="the connection has ended"):
        accepted.accept()
    with pytest.raises(SessionClosedError, match="the connection has ended"):
        rejected.reject(404)
    assert recorder(accepted).names() == recorder(rejected).names() == ["closed"]
    bed.clock.advance(0)
    assert all(recorder(session).names() == ["closed"] for session in bed.events.requested)


@BOTH
def test_what_is_put_off_does_not_outlive_its_session(is_client: bool) -> None:
    bed, session, events, stream = established(is_client, ALL)
    bed.turns.slice = 1
    stream.feed(data_frame(capsule(0x17, b"") * 500 + capsule(0x00, b"late")))
    session.close(1, "enough")
    bed.clock.advance(0)
    assert events.closed == (1, "enough", False)
    assert events.datagrams == []
    stream.feed(fin=True)
    bed.clock.advance(0)
    assert stream.released


@BOTH
def test_nothing_is_read_ahead_of_what_is_put_off(is_client: bool) -> None:
    bed, _, _, stream = established(is_client, ALL)
    bed.turns.slice = 1
    stream.feed(data_frame(capsule(0x17, b"") * 500))
    stream.feed(bytes(100_000))
    assert stream.buffered == 100_000  # credit for it stays with us


@BOTH
def test_control_frames_are_handled_in_slices(is_client: bool) -> None:
    bed, _, _, _ = established(is_client, ALL)
    bed.turns.slice = 1
    bed.send_control(encode_frame(0x21, b"") * 500 + encode_frame(0x07, varint(0)))
    assert bed.events.goaways == []
    bed.clock.advance(0)
    assert bed.events.goaways == [0]
    assert bed.turns.taken > 20


def test_frames_behind_a_request_that_waits_are_judged_in_slices() -> None:
    bed = ServerBed(options=ALL)
    bed.turns.slice = 1
    bed.request(extra=encode_frame(0x21, b"") * 500 + encode_frame(0x04, b""))
    assert len(bed.events.requested) == 1
    assert bed.close_code is None
    bed.clock.advance(0)
    assert bed.close_code == 0x105


def test_early_streams_are_handed_over_in_slices_and_in_order() -> None:
    options = H3Options(max_early_streams=64)
    bed = ServerBed(options=options)
    early = [bed.quic.peer_open(True, varint(0x54) + varint(0) + b"%d" % n) for n in range(40)]
    bed.request(stream_id=0)
    session = bed.events.requested[-1]
    bed.turns.slice = 0
    session.accept()
    late = bed.quic.peer_open(True, varint(0x54) + varint(0) + b"late")
    bed.clock.advance(0)
    assert recorder(session).streams == [*early, late]
    assert bed.turns.taken > 3


def more_than_may_be_early(bed: Bed, session_id: int = 0) -> list[FakeStream]:
    """The peer opens more streams than may be early, and each holds more than an early one may."""
    options = bed.h3.options
    streams = []
    for _ in range(options.max_early_streams + 5):
        stream = bed.quic.peer_open(True, varint(0x54) + varint(session_id) + b"x")
        stream.feed(bytes(options.max_early_bytes))
        streams.append(stream)
    return streams


def test_streams_of_an_answered_session_are_not_early_before_they_are_delivered() -> None:
    # The client has the answer, but this end takes the session's streams only in its next turn.
    bed = ServerBed(options=H3Options(max_early_streams=2, max_early_bytes=64))
    early = bed.quic.peer_open(True, varint(0x54) + varint(0) + b"early")
    bed.request(stream_id=0)
    session = bed.events.requested[-1]
    session.accept()
    assert not session.takes_arrivals
    late = more_than_may_be_early(bed)
    bed.quic.datagrams(*(b"\x00%d" % number for number in range(200)))
    bed.clock.advance(0)
    assert session.takes_arrivals
    assert recorder(session).streams == [early, *late]
    assert recorder(session).datagrams == [b"%d" % number for number in range(200)]
    assert bed.events.dropped == []
    assert [stream.stop_sent for stream in late] == [None] * len(late)


def test_streams_of_an_established_session_are_not_early_while_earlier_ones_are_delivered() -> None:
    bed = ClientBed(options=H3Options(max_early_streams=40, max_early_bytes=64))
    session, events = bed.open()
    early = [bed.quic.peer_open(True, varint(0x54) + varint(0) + b"early") for _ in range(40)]
    bed.quic.datagrams(b"\x00early")
    bed.turns.slice = 0
    bed.respond(session)
    assert session.is_live
    assert not session.takes_arrivals
    late = more_than_may_be_early(bed)
    bed.quic.datagrams(b"\x00late")
    bed.clock.advance(0)
    assert session.takes_arrivals
    assert events.streams == [*early, *late]
    assert events.datagrams == [b"early", b"late"]
    assert bed.events.dropped == []


# ---------------------------------------------------------------------------------- limits


def open_and_reset(bed: Bed, _: FakeStream) -> None:
    assert isinstance(bed, ServerBed)
    bed.request().feed_reset(0x10C)


def repeat(data: bytes, *, control: bool = False) -> Callable[[Bed, FakeStream], None]:
    def act(bed: Bed, stream: FakeStream) -> None:
        if control:
            bed.send_control(data)
        else:
            stream.feed(data)

    return act


def unknown_stream(bed: Bed, _: FakeStream) -> None:
    bed.quic.peer_open(True, varint(0x21) + b"x")


def empty_stream(bed: Bed, _: FakeStream) -> None:
    bed.quic.peer_open(True, b"", True)


def growing_limit(bed: Bed, stream: FakeStream) -> None:
    """One byte of credit at a time, none of which is used."""
    bed.grown = getattr(bed, "grown", 1 << 20) + 1  # type: ignore[attr-defined]
    stream.feed(data_frame(encode_number(0x190B4D3D, bed.grown)))  # type: ignore[attr-defined]


NOTHING = {
    "unknown frames": repeat(encode_frame(0x21, b"")),
    "unknown frames with a byte": repeat(encode_frame(0x21, b"x")),
    "empty DATA frames": repeat(data_frame(b"")),
    "unknown capsules": repeat(data_frame(capsule(0x17, b""))),
    "large unknown capsules": repeat(data_frame(capsule(0x17, bytes(100)))),
    "empty datagram capsules": repeat(data_frame(capsule(0x00, b""))),
    "drains": repeat(data_frame(capsule(0x78AE, b""))),
    "blocked": repeat(data_frame(encode_number(0x190B4D41, 5))),
    "limits": growing_limit,
    "unknown control frames": repeat(encode_frame(0x21, b""), control=True),
    "goaways": repeat(encode_frame(0x07, varint(0)), control=True),
    "unknown streams": unknown_stream,
    "empty streams": empty_stream,
}
OF_CLIENTS = {
    "priorities": repeat(encode_frame(0xF0700, varint(0) + b"u=1"), control=True),
    "max push IDs": repeat(encode_frame(0x0D, varint(7)), control=True),
    "requests taken back": open_and_reset,
}
CASES = [(name, act, False) for name, act in {**NOTHING, **OF_CLIENTS}.items()] + [
    (name, act, True) for name, act in NOTHING.items()
]
EACH = pytest.mark.parametrize(
    ("act", "is_client"),
    [
        pytest.param(act, is_client, id=f"{name}-to-{'client' if is_client else 'server'}")
        for name, act, is_client in CASES
    ],
)


@EACH
def test_who_goes_on_and_on_is_closed(
    act: Callable[[Bed, FakeStream], None], is_client: bool
) -> None:
    bed, _, _, stream = established(is_client, SOME)
    for _ in range(2 * SOME.max_idle_items + 10):
        act(bed, stream)
        if bed.close_code is not None:
            break
    assert bed.close_code == EXCESSIVE_LOAD
    assert bed.clock.pending == 0


@EACH
def test_who_does_it_now_and_then_is_not(
    act: Callable[[Bed, FakeStream], None], is_client: bool
) -> None:
    """Much longer than the limit would last."""
    bed, _, _, stream = established(is_client, SOME)
    for _ in range(SOME.max_idle_items):
        for _ in range(SOME.idle_items_per_second // 10):
            act(bed, stream)
        bed.clock.advance(1)
        assert bed.close_code is None
    bed.clock.advance(1)


MANY_LINES = (*CONNECT, *((f"x{number}", "v") for number in range(1000)))


def test_requests_whose_header_is_too_large_are_a_load() -> None:
    """Each is scanned for as long as hundreds of useless frames are, and answered."""
    bed = ServerBed()
    answered = 0
    while bed.close_code is None:
        stream = bed.request(MANY_LINES)
        answered += bed.status(stream) == "431"
    assert bed.close_code == EXCESSIVE_LOAD
    assert 40 <= answered <= H3Options().max_idle_items // 20


def test_some_requests_with_too_large_a_header_are_none() -> None:
    bed = ServerBed()
    for _ in range(100):
        for _ in range(20):
            assert bed.status(bed.request(MANY_LINES)) == "431"
        bed.clock.advance(1)
    assert bed.close_code is None


@pytest.mark.parametrize("size", [1, 20])
def test_one_capsule_in_many_frames_is_too_much(size: int) -> None:
    bed, _, _, stream = established(False)
    stream.feed(data_frame(varint(0x17) + varint(1 << 30)))
    for _ in range(H3Options().max_idle_items + 1):
        stream.feed(data_frame(bytes(size)))
        if bed.close_code is not None:
            break
    assert bed.close_code == EXCESSIVE_LOAD


def test_one_large_frame_may_come_in_small_pieces() -> None:
    bed, _, events, stream = established(False)
    whole = data_frame(b"".join(capsule(0x00, bytes(1000)) for _ in range(10)))
    for n in range(len(whole)):
        stream.feed(whole[n : n + 1])
    assert len(events.datagrams) == 10
    assert bed.close_code is None


@pytest.mark.parametrize("window", [600, 5000])
def test_small_windows_that_are_used_are_no_load(window: int) -> None:
    """A thousand updates at the same time: each answers bytes that were sent."""
    options = H3Options(initial_max_data=window, max_idle_items=200)
    bed = PairBed(options, options)
    ours, events, theirs, _ = bed.session()
    for _ in range(20):
        stream = ours.open_stream(True)
        assert stream is not None
        stream.write(bytes(50 * window))
        bed.pump()
        got = recorder(theirs).streams[-1]
        while True:
            data = got.read(window // 2)
            if data is None:
                break
            bed.pump()
        stream.write(b"", True)
        bed.pump()
        assert got.read() == b""
        theirs.stream_finished(got, True)
    assert ours.is_live
    assert theirs.is_live
    limits = [entry for entry in events.log if entry[:2] == ("credit", "data")]
    assert len(limits) > 2 * options.max_idle_items
    assert bed.client.close_code is bed.server.close_code is None


def test_datagrams_in_capsules_are_no_load() -> None:
    bed, _, events, stream = established(False)
    count = 10 * H3Options().max_idle_items
    for _ in range(count):
        stream.feed(data_frame(capsule(0x00, b"x")))
    assert len(events.datagrams) == count
    assert bed.close_code is None
