"""HTTP exchanges: priorities, limits of what a client may do, and the dynamic table of QPACK."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.h3._constants import H3Error
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._settings import encode_settings
from tests.unit.h3.bed import DRAFT16, ServerBed, data_frame, varint
from tests.unit.h3.exchange_bed import ExchangeBed, request_fields

# Priorities.


def update(stream_id: int, value: bytes, kind: int = 0xF0700) -> bytes:
    """A PRIORITY_UPDATE frame."""
    payload = varint(stream_id) + value
    return varint(kind) + varint(len(payload)) + payload


@pytest.mark.parametrize(
    ("value", "order"),
    [
        ("u=0", 3),
        ("u=1, i", 2),
        ("i, u=7", -4),
        ("u=5;x=1", -2),
        ("u=1, u=2", 1),
        ("i", 0),
        ("", 0),
        ("u=9", 0),
        ("u=-1", 0),
        ("u=1x", 0),
        ("urgency=1", 0),
        ("u = 1", 0),
        ("u=1" + " " * 300, 0),
    ],
)
def test_the_priority_field(value: str, order: int) -> None:
    bed = ExchangeBed()
    _, _, stream = bed.open(lines=[("priority", value)])
    # Surrounding spaces are no part of a value.
    assert stream.send_order == (2 if value.startswith("u=1 ") else order)


def test_several_priority_lines_are_one_field() -> None:
    bed = ExchangeBed()
    _, _, stream = bed.open(lines=[("priority", "u=1"), ("priority", "u=5")])
    assert stream.send_order == -2


def test_a_priority_update_of_an_open_request() -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.open(lines=[("priority", "u=1")])
    bed.send_control(update(0, b"u=6, i"))
    assert stream.send_order == -3
    bed.send_control(update(0, b"nonsense"))
    assert stream.send_order == -3
    exchange.set_send_order(9)
    assert stream.send_order == 9
    exchange.respond(200, [], fin=True)
    bed.send_control(update(0, b"u=0"))
    assert stream.send_order == 3  # what is queued can still be late


def test_a_priority_update_before_its_request() -> None:
    bed = ExchangeBed()
    bed.send_control(update(4, b"u=7") + update(4, b"u=2"))
    first = bed.request(request_fields(), fin=True)
    second = bed.request(request_fields(lines=[("priority", "u=5")]), fin=True)
    assert first.send_order == 0
    assert second.send_order == 1  # the newer word counts
    assert not bed.h3.admission._orders


def test_a_priority_update_while_the_header_arrives() -> None:
    bed = ExchangeBed()
    header = bed.headers(request_fields())
    stream = bed.quic.peer_open(False, header[:5])
    bed.send_control(update(0, b"u=0"))
    stream.feed(header[5:], True)
    assert stream.send_order == 3


def test_priority_updates_are_bounded() -> None:
    bed = ExchangeBed(options=H3Options(peer_bidi_streams=4))
    for stream_id in range(0, 16, 4):
        bed.send_control(update(stream_id, b"u=1"))
    assert len(bed.h3.admission._orders) == 4
    # Those of streams that became something else make room.
    bed.quic.peer_open(False, b"\x40\x41\x00", stream_id=12)
    bed.send_control(update(16, b"u=1") + update(20, b"u=1"))
    assert bed.close_code is None
    assert sorted(bed.h3.admission._orders) == [16, 20]
    bed.send_control(update(16 + 16, b"u=1"))
    assert bed.close_code == H3Error.ID_ERROR


def test_priority_updates_without_an_application_are_ignored() -> None:
    bed = ServerBed()
    bed.send_control(update(0, b"u=1"))
    assert bed.close_code is None
    assert not bed.h3.admission._orders


# Limits.


def test_requests_that_are_taken_back() -> None:
    bed = ExchangeBed(options=H3Options(peer_bidi_streams=4))
    for _ in range(8):
        _, _, stream = bed.open()
        stream.feed_reset(0x10C)
    assert bed.close_code is None
    _, events, stream = bed.open()
    stream.feed_stop(0x10C)
    assert bed.close_code == H3Error.EXCESSIVE_LOAD
    assert len(events.ends) == 1


def test_requests_that_are_taken_back_before_they_are_looked_at() -> None:
    bed = ExchangeBed(options=H3Options(peer_bidi_streams=4))
    header = bed.headers(request_fields())
    for _ in range(9):
        assert bed.close_code is None
        stream = bed.quic.peer_stream(False)
        stream._arrive(header)
        stream.feed_reset(0x10C)
        assert stream.released
    assert bed.close_code == H3Error.EXCESSIVE_LOAD
    assert bed.exchanges == []


def test_answers_allow_more_requests_to_be_taken_back() -> None:
    bed = ExchangeBed(options=H3Options(peer_bidi_streams=4))
    for _ in range(100):
        _, _, stream = bed.open()
        stream.feed_reset(0x10C)
        exchange, _, _ = bed.get()
        exchange.respond(200, [], fin=True)
    assert bed.close_code is None
    for _ in range(100):  # the allowance does not grow without end
        exchange, _, _ = bed.get()
        exchange.respond(200, [], fin=True)
    for _ in range(9):
        _, _, stream = bed.open()
        stream.feed_reset(0x10C)
    assert bed.close_code == H3Error.EXCESSIVE_LOAD


def test_a_request_that_is_taken_back_after_its_answer_began_costs_nothing() -> None:
    bed = ExchangeBed(options=H3Options(peer_bidi_streams=4))
    for _ in range(50):
        exchange, _, stream = bed.open()
        exchange.respond(200, [])
        stream.feed_reset(0x10C)
    assert bed.close_code is None


@pytest.mark.parametrize("sent", [b"\1", b"\1\x40", b"\x21\5ab", b"\1\x30\0\0"])
def test_a_header_that_does_not_come_in_time(sent: bytes) -> None:
    bed = ExchangeBed()
    stream = bed.quic.peer_open(False, sent)
    bed.clock.advance(9)
    assert stream.reset_sent is None
    bed.clock.advance(2)
    assert stream.reset_sent == stream.stop_sent == H3Error.REQUEST_INCOMPLETE
    assert stream.released
    assert bed.close_code is None


def test_a_header_in_time_stops_the_clock() -> None:
    bed = ExchangeBed()
    header = bed.headers(request_fields("POST"))
    stream = bed.quic.peer_open(False, header[:9])
    bed.clock.advance(9)
    stream.feed(header[9:])
    bed.clock.advance(9)
    assert bed.clock.pending == 0
    assert len(bed.exchanges) == 1
    assert stream.reset_sent is None


def test_a_slow_header_is_late_however_it_drips() -> None:
    bed = ExchangeBed()
    header = bed.headers(request_fields())
    stream = bed.quic.peer_open(False, header[:1])
    for number in header[1:12]:
        stream.feed(bytes([number]))
        bed.clock.advance(1)
        if stream.reset_sent is not None:
            break
    assert stream.reset_sent == H3Error.REQUEST_INCOMPLETE


# With a dynamic table.


def dynamic() -> tuple[ExchangeBed, Any]:
    bed = ExchangeBed(
        {**DRAFT16, 1: 4096, 7: 16},
        H3Options(qpack_max_table_capacity=4096, qpack_blocked_streams=16),
    )
    bed.encoder.apply_settings(4096, 16)
    return bed, bed.quic.peer_open(True, b"\x02" + bed.encoder.apply_settings(4096, 16))


def insert(bed: ExchangeBed, fields: list[tuple[str, str]], stream_id: int) -> tuple[bytes, bytes]:
    """Instructions for the table, and a HEADERS frame that needs them."""
    lines = [(name.encode(), value.encode()) for name, value in fields]
    for _ in range(3):  # pylsqpack inserts what comes again
        instructions, section = bed.encoder.encode(stream_id, lines)
        if instructions:
            return instructions, varint(1) + varint(len(section)) + section
    raise AssertionError("nothing was inserted")


def test_trailers_that_wait_for_the_dynamic_table() -> None:
    bed, encoder = dynamic()
    exchange, events, stream = bed.open(extra=data_frame(b"abc"))
    instructions, trailers = insert(bed, [("sum-of-all", "0123456789" * 3)], stream.stream_id)
    stream.feed(trailers, True)
    assert exchange.read() == b"abc"
    assert exchange.read() is None
    assert exchange.read() is None
    assert not exchange.is_complete
    encoder.feed(instructions)
    assert events.readable_count == 1
    assert exchange.read() == b""
    assert exchange.is_complete


def test_trailers_that_turn_out_to_be_too_large() -> None:
    """Their references are short, and what they stand for is known only when they are decoded."""
    bed, encoder = dynamic()
    exchange, events, stream = bed.open()
    instructions, _ = insert(bed, [("sum", "y" * 400)], stream.stream_id)
    lines = [(b"sum", b"y" * 400)] * 200
    more, section = bed.encoder.encode(stream.stream_id, lines)
    stream.feed(varint(1) + varint(len(section)) + section, True)
    assert exchange.read() is None
    assert bed.close_code is None
    encoder.feed(instructions + more)
    assert stream.reset_sent == H3Error.EXCESSIVE_LOAD
    assert len(events.ends) == 1
    assert bed.close_code is None


def test_malformed_trailers_that_wait_for_the_dynamic_table() -> None:
    bed, encoder = dynamic()
    exchange, events, stream = bed.open()
    instructions, trailers = insert(bed, [(":path", "/0123456789" * 3)], stream.stream_id)
    stream.feed(trailers, True)
    assert exchange.read() is None
    encoder.feed(instructions)
    assert stream.reset_sent == H3Error.MESSAGE_ERROR
    assert len(events.ends) == 1


def test_a_request_that_waits_for_the_dynamic_table() -> None:
    bed, encoder = dynamic()
    instructions, header = insert(bed, request_fields(lines=[("x-name", "0123456789" * 3)]), 0)
    stream = bed.quic.peer_open(False, header, True)
    assert bed.exchanges == []
    encoder.feed(instructions)
    (exchange,) = bed.exchanges
    assert exchange.is_complete
    exchange.respond(200, [(b"x-name", b"0123456789" * 3)], fin=True)
    assert stream.fin_sent
    assert bed.clock.pending == 0


def test_settings_of_the_client_are_obeyed_when_they_come_late() -> None:
    bed = ExchangeBed(None)
    exchange, _, _ = bed.get()
    bed.quic.peer_open(True, b"\0\x04" + varint(3) + encode_settings({6: 100}))
    with pytest.raises(ConfigurationError, match="0 to 100"):
        exchange.respond(200, [(b"x", b"y" * 100)])
