"""Streams and datagrams reach their session whatever the size of its ID."""

from __future__ import annotations

import pytest

from pywebtransport.h3._session import H3Session

from .bed import ServerBed, SessionRecorder

# One byte, two bytes (the first and the last of them), four bytes.
IDS = (0, 60, 64, 252, 256, 16380, 16384)


def encodings(value: int) -> list[bytes]:
    """Every encoding of a varint, the shortest first (RFC 9000 section 16)."""
    return [
        (value | prefix << (8 * size - 2)).to_bytes(size, "big")
        for prefix, size in enumerate((1, 2, 4, 8))
        if value < 1 << (8 * size - 2)
    ]


def session_with(bed: ServerBed, stream_id: int) -> tuple[H3Session, SessionRecorder]:
    session, events, _ = bed.session(stream_id=stream_id)
    return session, events


@pytest.mark.parametrize("session_id", IDS)
@pytest.mark.parametrize("unidirectional", [False, True])
def test_streams_come_with_every_encoding_of_the_session_id(
    session_id: int, unidirectional: bool
) -> None:
    bed = ServerBed()
    _, events = session_with(bed, session_id)
    kind = b"\x40\x54" if unidirectional else b"\x40\x41"
    forms = encodings(session_id)
    for form in forms:
        bed.quic.peer_open(unidirectional, kind + form + b"body")
    assert bed.quic.closed is None
    assert [stream.read() for stream in events.streams] == [b"body"] * len(forms)
    assert {stream.is_unidirectional for stream in events.streams} == {unidirectional}


@pytest.mark.parametrize("session_id", IDS)
def test_datagrams_come_with_every_encoding_of_the_quarter_stream_id(session_id: int) -> None:
    bed = ServerBed()
    _, events = session_with(bed, session_id)
    expected: list[bytes] = []
    for form in encodings(session_id // 4):
        bed.quic.datagrams(form + b"one", form, form + b"two")
        expected += [b"one", b"", b"two"]
    assert bed.quic.closed is None
    assert events.datagrams == expected


def test_datagrams_of_several_sessions_in_one_turn_keep_their_order() -> None:
    bed = ServerBed()
    recorders = [session_with(bed, number)[1] for number in (0, 4, 256)]
    quarters = (b"\x00", b"\x01", b"\x40\x40")
    turn = [(0, b"a"), (0, b"b"), (1, b"c"), (0, b"d"), (2, b"e"), (2, b""), (1, b"f")]
    bed.quic.datagrams(*(quarters[which] + text for which, text in turn))
    for which, events in enumerate(recorders):
        assert events.datagrams == [text for number, text in turn if number == which]


def test_a_session_that_ends_in_a_turn_gets_no_more_of_it() -> None:
    bed = ServerBed()
    first, first_events = session_with(bed, 0)
    second, second_events = session_with(bed, 4)

    def end_the_other(datagrams: list[bytes]) -> None:
        first_events.datagrams += datagrams
        second.close()

    bed.h3.route_datagrams(first.session_id, end_the_other)
    bed.quic.datagrams(b"\x01early", b"\x00x", b"\x01late")
    assert first_events.datagrams == [b"x"]
    assert second_events.datagrams == [b"early"]
