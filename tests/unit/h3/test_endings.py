"""The end of a session goes before that of its streams; nothing follows that of the connection."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport.exceptions import ClientError, SessionClosedError, SessionError
from pywebtransport.h3._capsules import encode_close
from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._session import H3Session
from tests.unit.h3.bed import (
    CONNECT,
    Bed,
    ClientBed,
    PairBed,
    ServerBed,
    data_frame,
    recorder,
    varint,
)
from tests.unit.h3.fake_quic import FakeStream

BOTH = pytest.mark.parametrize("is_client", [False, True], ids=["server", "client"])

Established = tuple[Bed, H3Session, FakeStream]


def established(is_client: bool) -> Established:
    """A session with streams of both ends and both kinds."""
    bed: Bed
    if is_client:
        bed = ClientBed()
        session, _, connect = bed.session()
    else:
        bed = ServerBed()
        session, _, connect = bed.session()
    for unidirectional in (False, True):
        stream = session.open_stream(unidirectional)
        assert stream is not None
        stream.write(b"unfinished")
        kind = 0x54 if unidirectional else 0x41
        bed.quic.peer_open(unidirectional, varint(kind) + varint(session.session_id) + b"body")
    bed.quic.frames.clear()
    return bed, session, connect


def torn_down(bed: Bed, connect: FakeStream) -> list[tuple[str, int]]:
    """What the streams of the session must send: a reset of each of our sides, a stop of each
    of the peer's."""
    others = [s for s in bed.quic.streams.values() if s is not connect and s.group is not None]
    assert len(others) == 4
    return sorted(
        [("reset", s.stream_id) for s in others if s.sends]
        + [("stop", s.stream_id) for s in others if s.receives]
    )


ENDS: dict[str, Callable[[Bed, H3Session, FakeStream], Any]] = {
    "close": lambda bed, session, connect: session.close(7, "bye"),
    "peer_close": lambda bed, session, connect: connect.feed(
        data_frame(encode_close(7, "bye")), fin=True
    ),
    "peer_close_without_fin": lambda bed, session, connect: connect.feed(
        data_frame(encode_close(7, "bye"))
    ),
    "peer_fin": lambda bed, session, connect: connect.feed(b"", fin=True),
    "abort": lambda bed, session, connect: session.abort(0x10C),
    "peer_reset": lambda bed, session, connect: connect.feed_reset(0x10C),
    "peer_stop": lambda bed, session, connect: connect.feed_stop(0x10C),
    "malformed": lambda bed, session, connect: connect.feed(data_frame(b"\x68\x43\x01\0")),
}


@BOTH
@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_the_connect_stream_goes_first(is_client: bool, how: str) -> None:
    bed, session, connect = established(is_client)
    ENDS[how](bed, session, connect)
    number = connect.stream_id
    assert session.state == "closed"
    ours = [frame for frame in bed.quic.frames if frame[1] == number]
    theirs = [frame for frame in bed.quic.frames if frame[1] != number]
    assert sorted(theirs) == torn_down(bed, connect)
    if how != "peer_stop":  # there the engine itself reset our side already
        assert bed.quic.frames[0] == ours[0]
        assert ours[0][0] == ("reset" if how in ("abort", "peer_reset", "malformed") else "fin")


@BOTH
def test_a_hundred_streams(is_client: bool) -> None:
    bed, session, connect = established(is_client)
    opened = [session.open_stream(True) for _ in range(9)]
    for number in range(90):
        kind = varint(0x54 if number % 2 else 0x41)
        bed.quic.peer_open(bool(number % 2), kind + varint(session.session_id))
    bed.quic.frames.clear()
    session.close(0, "")
    assert all(opened)
    assert bed.quic.frames[0] == ("fin", connect.stream_id)
    assert len(bed.quic.frames) > 100
    assert bed.h3.sessions == {}


def test_a_reset_of_the_application_keeps_its_place() -> None:
    bed, session, connect = established(False)
    stream = session.open_stream(True)
    assert stream is not None
    stream.reset(session.code_to_wire(5))
    session.close(0, "")
    assert bed.quic.frames[:2] == [("reset", stream.stream_id), ("fin", connect.stream_id)]


def test_a_stream_that_crosses_the_end_waits_too() -> None:
    """It arrives while the end is not sent yet, because of credit of the peer."""
    bed, session, connect = established(False)
    connect.block = True
    session.close(0, "")
    bed.quic.peer_open(True, varint(0x54) + varint(session.session_id) + b"late")
    assert bed.quic.frames == []
    connect.block = False
    connect.flush()
    assert bed.quic.frames[0] == ("fin", connect.stream_id)
    assert bed.quic.frames[-1][0] == "stop"


def test_streams_that_waited_for_a_session_that_ends_at_once() -> None:
    bed = ServerBed()
    connect = bed.request(CONNECT)
    early = bed.quic.peer_open(True, varint(0x54) + varint(connect.stream_id) + b"early")
    session = bed.events.requested[-1]
    session.accept()
    session.close(3, "")
    assert bed.quic.frames == [("fin", connect.stream_id), ("stop", early.stream_id)]


def test_streams_of_a_rejected_session() -> None:
    bed = ServerBed()
    connect = bed.request(CONNECT)
    early = bed.quic.peer_open(True, varint(0x54) + varint(connect.stream_id) + b"early")
    bed.events.requested[-1].reject(404)
    ends = [f for f in bed.quic.frames if f[0] in ("fin", "reset") or f[1] != connect.stream_id]
    assert ends == [("fin", connect.stream_id), ("stop", early.stream_id)]


def test_optimistic_streams_of_a_refused_request() -> None:
    bed = ClientBed()
    session, events = bed.open()
    stream = session.open_stream(True)
    assert stream is not None
    bed.quic.frames.clear()
    bed.respond(session, 403)
    assert events.names() == ["rejected"]
    assert bed.quic.frames[0] == ("fin", session.session_id)
    assert bed.quic.frames[-1] == ("reset", stream.stream_id)


def test_nothing_of_the_session_is_left() -> None:
    bed, session, connect = established(False)
    session.close(0, "")
    connect.feed(b"", fin=True)
    assert bed.h3.sessions == {}
    assert bed.h3.requests == {}
    assert connect._waiting == []
    with pytest.raises(SessionError):
        session.open_stream(True)


@pytest.mark.parametrize(
    ("is_client", "state"),
    [
        *itertools.product([False, True], ["established", "draining", "not answered"]),
        (True, "not sent"),
    ],
)
def test_abort_in_every_state(is_client: bool, state: str) -> None:
    bed: Bed
    if is_client:
        bed = ClientBed(silent=state == "not sent")
        session, events = bed.open()
        if state in ("established", "draining"):
            bed.respond(session)
    else:
        bed = ServerBed()
        bed.request(CONNECT)
        session = bed.events.requested[-1]
        events = recorder(session)
        if state != "not answered":
            session.accept()
    connect = None if state == "not sent" else bed.quic.streams[session.session_id]
    if state == "draining":
        assert connect is not None
        connect.feed(data_frame(b"\x80\0\x78\xae\0"))
        assert session.state == "draining"
    session.abort()
    session.abort()
    assert session.state == "closed"
    code, reason, remote, error = events.only("closed")
    assert (code, reason, remote, error.error_code) == (None, "", False, 0x10C)
    assert "rejected" not in events.names()
    if connect is not None:
        assert connect.reset_sent == connect.stop_sent == 0x10C
        assert connect.sent.count(b"\x68\x43") == 0
    assert bed.h3.sessions == bed.h3.requests == {}


@BOTH
def test_the_peer_of_an_abort_learns_no_code(is_client: bool) -> None:
    bed = PairBed()
    ours, our_events, theirs, their_events = bed.session()
    if not is_client:
        ours, our_events, theirs, their_events = theirs, their_events, ours, our_events
    stream = ours.open_stream(True)
    assert stream is not None
    bed.pump()
    ours.abort()
    bed.pump()
    assert theirs.state == "closed"
    assert their_events.only("closed")[:3] == (None, "", True)
    assert their_events.only("closed")[3].error_code == 0x10C
    assert stream.reset_sent == 0x170D7B68


def test_control_streams_are_silent_once_the_connection_has_ended() -> None:
    """The QUIC connection has ended, and the news of it is on its way."""
    bed = ServerBed(options=H3Options(qpack_max_table_capacity=4096))
    bed.h3.send_goaway()
    sent = [bytes(stream.sent) for stream in bed.quic.local(True)]
    assert len(sent) == 3
    bed.quic.closed = (0, "")
    bed.h3.finish_goaway()
    bed.h3.qpack.send_encoder(b"\x20")
    bed.h3.qpack.send_decoder(b"\x80")
    assert [bytes(stream.sent) for stream in bed.quic.local(True)] == sent
    bed.h3.connection_closed(None)


def test_control_streams_are_silent_once_the_peer_stopped_them() -> None:
    bed = ServerBed()
    bed.our_control.sink = None  # STOP_SENDING came in this turn, and is told at its end
    bed.our_control.feed_stop(0)
    sent = bytes(bed.our_control.sent)
    bed.h3.finish_goaway()
    assert bed.our_control.sent == sent


def test_a_session_whose_client_left_is_over_when_it_is_accepted() -> None:
    bed = ServerBed()
    stream = bed.request()
    session = bed.events.requested[-1]
    events = recorder(session)
    sink, stream.sink = stream.sink, None  # STOP_SENDING came in this turn, and is told at its end
    stream.feed_stop(0x10C)
    stream.sink = sink
    with pytest.raises(SessionClosedError, match="the client has given up the request") as caught:
        session.accept()
    assert caught.value.remote
    assert session.state == "closed"
    code, reason, remote, error = events.only("closed")
    assert (code, reason, remote, error) == (None, "", True, caught.value)
    stream.feed_reset(0x10C)
    assert events.names().count("closed") == 1
    assert bed.h3.sessions == bed.h3.requests == {}


def test_codes_of_requests_that_are_given_up() -> None:
    bed = ServerBed()
    _, _, connect = bed.session()
    connect.feed_reset(0x101)
    assert connect.reset_sent == 0x10C
    _, _, stopped = bed.session()
    stopped.feed_stop(0x101)
    assert stopped.stop_sent == 0x10C
    _, events, quiet = bed.session()
    quiet.feed_stop(0x170D7B68)
    bed.clock.advance(5)
    assert quiet.stop_sent == 0x10C
    assert events.only("closed")[3].error_code == 0x170D7B68
    finished = bed.request()
    finished.feed(fin=True)
    assert finished.reset_sent == 0x10C
    held = ServerBed(settings=None)
    request = held.request()
    request.feed(fin=True)
    assert request.reset_sent == 0x10C
    client = ClientBed()
    session, _ = client.open()
    stream = client.stream_of(session)
    client.respond(session, 403)
    assert stream.fin_sent
    assert stream.stop_sent == 0x10C
    refused, _ = client.open()
    client.send_control(encode_frame(0x07, b"\x04"))
    assert client.stream_of(refused).reset_sent == 0x10C


def test_goaway_has_the_code_of_a_refusal() -> None:
    bed = ClientBed()
    bed.send_control(encode_frame(0x07, b"\x00"))
    with pytest.raises(ClientError) as caught:
        bed.open()
    assert caught.value.error_code == 0x10B
