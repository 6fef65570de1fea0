"""HTTP exchanges that go well, and those that an end gives up."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    StreamArgumentError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)
from pywebtransport.h3._constants import H3Error
from pywebtransport.h3._options import H3Options
from tests.unit.h3.bed import CONNECT, DRAFT16, ServerBed, data_frame, varint
from tests.unit.h3.exchange_bed import ExchangeBed, request_fields

TEXT = (b"content-type", b"text/plain")


def test_a_request_without_a_body() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.get(lines=[("accept", "*/*")])
    request = exchange.request
    assert (request.method, request.path, request.authority) == ("GET", "/", "example.org")
    assert request.lines == ((b"accept", b"*/*"),)
    assert exchange.is_complete
    assert exchange.read() == b""
    assert not exchange.awaits_body
    assert bed.h3.exchanges == {0: exchange}
    exchange.respond(200, [TEXT], b"Hello", fin=True)
    assert bed.response(stream) == ({":status": "200", "content-type": "text/plain"}, b"Hello")
    assert stream.fin_sent
    assert stream.stop_sent is None
    assert stream.released
    assert events.ends == [None]
    assert exchange.is_over
    assert exchange.has_responded
    assert bed.h3.exchanges == {}
    assert bed.h3.requests == {}


def test_header_body_and_end_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.get()
    writes: list[tuple[int, bool]] = []
    write = stream.write

    def counted(data: bytes, fin: bool = False) -> int:
        writes.append((len(data), fin))
        return write(data, fin)

    monkeypatch.setattr(stream, "write", counted)
    exchange.respond(200, [], b"x" * 16384, fin=True)
    assert [fin for _, fin in writes] == [True]
    # A larger body follows its header as it is, without a copy.
    exchange, _, stream = bed.get()
    write, writes = stream.write, []
    monkeypatch.setattr(stream, "write", counted)
    exchange.respond(200, [], b"x" * 16385, fin=True)
    assert [size for size, _ in writes][1:] == [16385]


def test_lines_are_sent_in_order_with_duplicates_in_lower_case() -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.get()
    lines = [(b"Set-Cookie", b"a=1"), (b"X", b" 1 "), (b"set-cookie", b"b=2")]
    exchange.respond(200, lines, fin=True)
    _, decoded = bed.decoder.feed_header(0, bytes(stream.sent)[2:])
    assert decoded == [
        (b":status", b"200"),
        (b"set-cookie", b"a=1"),
        (b"x", b"1"),
        (b"set-cookie", b"b=2"),
    ]


def test_reading_while_the_connection_ends() -> None:
    bed = ExchangeBed()
    exchange, events, _ = bed.open()
    bed.quic.close(0)  # news of it has not come
    assert exchange.read() is None
    assert events.ends == []
    bed.h3.connection_closed(ClientError("gone"))
    assert isinstance(events.end, ClientError)


def test_pairs_may_be_lists() -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.get()
    exchange.respond(200, [[b"x", b"1"]], fin=True)  # type: ignore[list-item]
    assert bed.response(stream)[0]["x"] == "1"


def test_lines_may_come_from_a_generator() -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.get()
    exchange.respond(200, (line for line in [TEXT]), fin=True)  # type: ignore[arg-type]
    assert bed.response(stream)[0]["content-type"] == "text/plain"


def test_an_exchange_that_is_over_keeps_no_connection_alive() -> None:
    bed = ExchangeBed()
    exchange, _, _ = bed.get()
    exchange.respond(200, [], fin=True)
    stopped, _, stream = bed.open()
    stream.feed_stop(0x10C)
    lost, _, _ = bed.open()
    assert bed.h3 in gc.get_referents(lost)
    bed.h3.close()
    for over in (exchange, stopped, lost):
        assert over.is_over
        assert bed.h3 not in gc.get_referents(over)


def test_fields_of_connections_are_left_out() -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.get()
    forbidden = [b"Connection", b"keep-alive", b"proxy-connection", b"transfer-encoding"]
    lines = [*((name, b"x") for name in forbidden), (b"upgrade", b"h2c"), (b"x", b"1")]
    exchange.respond(200, lines, fin=True)
    assert bed.response(stream)[0] == {":status": "200", "x": "1"}


@pytest.mark.parametrize(
    "lines",
    [
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"a\0")],
        [(b":status", b"200")],
        [(b"", b"1")],
        [(b"sp ace", b"1")],
        [("x", b"1")],
        [(b"x", "1")],
        [(b"x",)],
        [b"x"],
        [(b"content-length", b"-1")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
        [(b"x" * 2000, b"1")],
        [(b"x", b"1" * 70000)],
        5,
    ],
)
def test_lines_that_cannot_be_sent(lines: Any) -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.get()
    for send in (exchange.respond, exchange.inform):
        with pytest.raises(ConfigurationError):
            send(200 if send == exchange.respond else 103, lines)
    assert bytes(stream.sent) == b""
    assert events.ends == []
    exchange.respond(200, [], fin=True)
    assert bed.status(stream) == "200"


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, True, "200", None, 200.0])
def test_a_wrong_status(status: Any) -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.get()
    with pytest.raises(StreamArgumentError, match=r"200 to 599|integer"):
        exchange.respond(status, [])
    assert bytes(stream.sent) == b""


@pytest.mark.parametrize("data", ["text", 5, None, [b"x"]])
def test_a_wrong_body(data: Any) -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.get()
    with pytest.raises(StreamArgumentError, match="bytes"):
        exchange.respond(200, [], data)
    assert bytes(stream.sent) == b""
    exchange.respond(200, [])
    with pytest.raises(StreamArgumentError, match="bytes"):
        exchange.send(data)


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc"), b"abc"])
def test_any_buffer_is_a_body(data: Any) -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.get()
    exchange.respond(200, [], data)
    exchange.send(data, fin=True)
    assert bed.response(stream)[1] == b"abcabc"


def test_interim_responses_come_first() -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.open()
    assert exchange.awaits_body
    exchange.inform(100)
    exchange.inform(103, [(b"link", b"</a.css>"), (b"content-length", b"5")])
    exchange.respond(200, [], b"ok", fin=True)
    statuses = [(header[":status"], body) for header, body in bed.decode_headers(stream)]
    assert statuses == [("100", b""), ("103", b""), ("200", b"ok")]
    assert "content-length" not in bed.decode_headers(stream)[1][0]


@pytest.mark.parametrize("status", [99, 101, 200, "100"])
def test_a_wrong_interim_status(status: Any) -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.get()
    with pytest.raises(StreamArgumentError, match=r"101|integer"):
        exchange.inform(status)
    assert bytes(stream.sent) == b""


def test_calls_in_the_wrong_order() -> None:
    bed = ExchangeBed()
    exchange, _, _ = bed.get()
    for call in (lambda: exchange.send(b"x"), lambda: exchange.send_trailers([])):
        with pytest.raises(StreamError, match="not begun"):
            call()
    exchange.respond(200, [])
    with pytest.raises(StreamError, match="already"):
        exchange.respond(200, [])
    with pytest.raises(StreamError, match="already"):
        exchange.inform(103)
    exchange.send(b"", fin=True)
    for late in (
        lambda: exchange.respond(200, []),
        lambda: exchange.send(b"x"),
        lambda: exchange.inform(103),
        lambda: exchange.send_trailers([]),
    ):
        with pytest.raises(StreamError, match="over"):
            late()
    exchange.cancel()
    exchange.set_send_order(1)
    assert exchange.read() == b""


def test_a_body_in_pieces_and_trailers() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.get()
    exchange.respond(200, [], b"one ")
    assert exchange.send(b"") == 0
    exchange.send(b"two")
    exchange.send_trailers([(b"Sum", b"3"), (b"content-length", b"9")])
    assert bed.decode_headers(stream) == [({":status": "200"}, b"one two"), ({"sum": "3"}, b"")]
    assert stream.fin_sent
    assert events.ends == [None]


# Responses without a body.


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [
        ("HEAD", 200, "5"),
        ("HEAD", 404, "5"),
        ("GET", 304, "5"),
        ("GET", 204, None),
        ("GET", 205, None),
    ],
)
def test_responses_without_a_body(method: str, status: int, length: str | None) -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.get(method)
    exchange.respond(status, [(b"content-length", b"5")], b"abc")
    exchange.send(b"defgh")
    exchange.send_trailers([(b"x", b"1")])
    (found,) = bed.decode_headers(stream)
    assert found[0].get("content-length") == length
    assert found[1] == b""
    assert events.ends == [None]


def test_the_length_of_a_response_that_fits() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.get()
    exchange.respond(200, [(b"Content-Length", b"5"), (b"content-length", b"5")], b"He")
    exchange.send(b"llo", fin=True)
    assert bed.response(stream) == ({":status": "200", "content-length": "5"}, b"Hello")
    assert events.ends == [None]


@pytest.mark.parametrize("how", ["at once", "in pieces", "at the end", "with trailers"])
def test_the_length_of_a_response_that_does_not_fit(how: str) -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.get()
    length = [(b"content-length", b"3")]
    with pytest.raises(StreamArgumentError, match="content-length"):  # noqa: PT012
        if how == "at once":
            exchange.respond(200, length, b"four")
        exchange.respond(200, length, b"ab")
        if how == "in pieces":
            exchange.send(b"cd")
        elif how == "at the end":
            exchange.send(b"", fin=True)
        else:
            exchange.send_trailers([])
    assert stream.reset_sent == H3Error.INTERNAL_ERROR
    assert isinstance(events.end, StreamError)
    assert bed.close_code is None


def test_a_header_that_the_client_does_not_accept() -> None:
    bed = ExchangeBed({**DRAFT16, 0x06: 200})
    exchange, events, stream = bed.get()
    with pytest.raises(ConfigurationError, match="0 to 200 bytes"):
        exchange.respond(200, [(b"x", b"y" * 200)])
    assert not exchange.has_responded
    exchange.respond(500, [], fin=True)
    assert bed.status(stream) == "500"
    assert events.ends == [None]


# The body of a request.


def test_a_body_is_pulled() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.open(extra=data_frame(b"abc") + data_frame(b"def"))
    assert stream.buffered == 10  # nothing is taken before the application reads
    assert not exchange.awaits_body
    assert exchange.read(2) == b"ab"
    assert exchange.read() == b"cdef"
    assert exchange.read() is None
    assert events.readable_count == 0
    stream.feed(data_frame(b"more"))
    assert events.readable_count == 1
    stream.feed(data_frame(b"!"))
    assert events.readable_count == 1  # only after ``read`` returned None
    assert exchange.read() == b"more!"
    assert exchange.read() is None
    assert not exchange.is_complete
    stream.feed(fin=True)
    assert events.readable_count == 2
    assert exchange.read() == b""
    assert exchange.is_complete
    assert exchange.read() == b""
    exchange.respond(200, [], fin=True)
    assert stream.stop_sent is None
    assert events.ends == [None]


def test_only_what_is_read_gives_credit() -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.open(extra=data_frame(b"x" * 100_000))
    consumed = stream._consumed
    assert exchange.read(1000) == b"x" * 1000
    assert stream._consumed == consumed + 1000 + len(data_frame(b"x" * 100_000)) - 100_000


def test_the_end_is_known_with_the_last_piece() -> None:
    bed = ExchangeBed()
    exchange, _, _ = bed.open(extra=data_frame(b"abc"), fin=True)
    assert not exchange.is_complete
    assert exchange.read() == b"abc"
    assert exchange.is_complete


def test_a_body_byte_by_byte() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.open(lines=[("content-length", "300")])
    body = bytes(range(256)) + b"x" * 44
    found = bytearray()

    def read() -> None:
        while data := exchange.read():
            found.extend(data)

    events.on_readable = read
    read()
    trailers = bed.headers([("sum", "1")])
    for number in data_frame(body) + varint(0x21) + varint(70) + bytes(70) + trailers:
        stream.feed(bytes([number]))
    stream.feed(fin=True)
    assert found == body
    assert exchange.is_complete


def test_small_frames_become_one_piece() -> None:
    bed = ExchangeBed()
    exchange, _, _ = bed.open(extra=data_frame(b"x") * 1000)
    assert exchange.read() == b"x" * 1000


def test_a_body_with_frames_of_unknown_types_and_trailers() -> None:
    bed = ExchangeBed()
    unknown = varint(0x21) + varint(5) + b"abcde" + varint(0x40) + b"\0"
    trailers = bed.headers([("sum", "1")])
    exchange, _, _ = bed.open(
        lines=[("content-length", "2")],
        extra=unknown + data_frame(b"a") + unknown + data_frame(b"b") + trailers + unknown,
        fin=True,
    )
    assert exchange.read() == b"ab"
    assert exchange.read() == b""
    assert exchange.is_complete


def test_reading_gives_other_work_its_turn() -> None:
    bed = ExchangeBed()
    exchange, events, _ = bed.open(extra=data_frame(b"x") * 20, fin=True)
    bed.turns.slice = 0
    sizes = []
    while data := exchange.read():
        sizes.append(len(data))
    assert max(sizes) < 20
    assert sum(sizes) == 20
    # Frames without a part of the body are put off, too.
    exchange, events, _ = bed.open(extra=(varint(0x21) + b"\0") * 20, fin=True)
    events.on_readable = exchange.read
    assert exchange.read() is None
    bed.clock.advance(0)
    assert events.readable_count >= 2
    assert exchange.is_complete


def test_early_data_behind_the_header_stays_in_the_stream() -> None:
    """Whatever way the header comes, bytes after it are not taken."""
    bed = ExchangeBed()
    header = bed.headers(request_fields("POST"))
    for cut in range(1, len(header)):
        stream = bed.quic.peer_open(False, header[:cut])
        stream.feed(header[cut:] + data_frame(b"abc"))
        assert stream.buffered == 5
        assert bed.exchanges[-1].read() == b"abc"
    large = bed.headers(request_fields("POST", lines=[("x", "y" * 9000)]))
    stream = bed.quic.peer_open(False, large + data_frame(b"abc"))
    assert stream.buffered == 5


def test_expecting_clients() -> None:
    bed = ExchangeBed()
    exchange, _, stream = bed.open(lines=[("expect", "100-continue")])
    assert exchange.awaits_body
    stream.feed(b"\0")
    assert not exchange.awaits_body
    exchange, _, stream = bed.open(lines=[("expect", "100-continue")])
    stream.feed(fin=True)
    assert not exchange.awaits_body
    exchange, _, stream = bed.open(extra=data_frame(b"abc"))
    assert exchange.read() == b"abc"
    assert not exchange.awaits_body


# Ends.


def test_a_response_before_the_end_of_the_request() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.open(extra=data_frame(b"abc"))
    exchange.respond(413, [], b"no", fin=True)
    assert stream.fin_sent
    assert stream.stop_sent == H3Error.NO_ERROR
    assert bed.quic.frames == [("fin", 0), ("stop", 0)]
    assert events.ends == [None]
    assert stream.released


def test_a_request_that_is_reset() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.open(extra=data_frame(b"abc"))
    exchange.respond(200, [], b"x")
    stream.feed_reset(H3Error.REQUEST_CANCELLED)
    assert isinstance(events.end, StreamResetError)
    assert events.end.details["code"] == H3Error.REQUEST_CANCELLED
    assert exchange.read() is None
    assert stream.reset_sent == H3Error.REQUEST_CANCELLED
    assert stream.released
    assert bed.h3.exchanges == {}
    with pytest.raises(StreamError, match="over"):
        exchange.send(b"x")


def test_a_response_that_is_stopped() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.get()
    exchange.respond(200, [], b"x")
    stream.feed_stop(H3Error.REQUEST_CANCELLED)
    assert isinstance(events.end, StreamStoppedError)
    assert exchange.is_over


def test_a_request_that_was_stopped_with_its_header_is_never_seen() -> None:
    bed = ExchangeBed()
    stream = bed.quic.peer_stream(False)
    stream.is_stopped, stream.stop_code, stream.reset_sent = True, 0x10C, 0x10C
    stream.feed(bed.headers(request_fields()), True)
    assert bed.exchanges == []
    assert stream.released


def test_cancelling() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.open()
    exchange.cancel()
    assert stream.reset_sent == stream.stop_sent == H3Error.INTERNAL_ERROR
    assert isinstance(events.end, StreamError)
    assert events.end.error_code == H3Error.INTERNAL_ERROR
    exchange, events, stream = bed.open()
    exchange.cancel(H3Error.REQUEST_REJECTED)
    assert stream.reset_sent == H3Error.REQUEST_REJECTED
    assert len(events.ends) == 1


def test_the_end_of_the_connection() -> None:
    bed = ExchangeBed()
    exchange, events, _ = bed.open()
    error = ClientError("gone")
    bed.h3.connection_closed(error)
    assert events.ends == [error]
    assert exchange.is_over
    assert exchange.read() is None
    assert bed.h3.exchanges == {}
    assert bed.h3.exchange_requested is None
    bed = ExchangeBed()
    exchange, events, _ = bed.open()
    bed.h3.close()
    assert isinstance(events.end, ClientError)
    assert bed.clock.pending == 0


def test_an_exchange_may_end_from_within_its_events() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.open()
    events.on_readable = exchange.cancel
    assert exchange.read() is None
    stream.feed(data_frame(b"x"))
    assert len(events.ends) == 1


def test_room_for_writers() -> None:
    bed = ExchangeBed(options=H3Options(write_high_water=1000))
    exchange, events, stream = bed.get()
    stream.block = True
    assert exchange.respond(200, [], b"x" * 500) > 500
    assert not exchange.is_full
    assert exchange.send(b"x" * 600) > 1000
    assert exchange.is_full
    assert events.writable_count == 0
    stream.block = False
    stream.flush()
    assert events.writable_count == 1
    assert not exchange.is_full
    exchange.send(b"x", fin=True)
    assert events.ends == [None]


def test_a_crowded_connection_makes_writers_wait() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.get()
    stream.is_crowded = True
    exchange.respond(200, [], b"x")
    assert not exchange.is_full  # it all went out
    assert events.writable_count == 0
    stream.block = True
    exchange.send(b"x")
    assert exchange.is_full
    stream.feed_stop(0x10C)
    assert exchange.is_over
    assert not exchange.is_full


# What becomes an exchange.


def test_without_an_application_requests_are_answered_here() -> None:
    bed = ServerBed()
    assert bed.status(bed.request(request_fields("GET"), fin=True)) == "404"
    assert bed.status(bed.request(request_fields("POST"))) == "405"


def test_requests_do_not_wait_for_settings() -> None:
    bed = ExchangeBed(None)
    exchange, _, stream = bed.get()
    exchange.respond(200, [], fin=True)
    assert bed.status(stream) == "200"
    session = bed.request(CONNECT)
    assert bed.status(session) is None


def test_connect_is_no_exchange() -> None:
    bed = ExchangeBed()
    plain = bed.request([(":method", "CONNECT"), (":authority", "example.org:80")])
    assert bed.status(plain) == "501"
    unknown = bed.request(request_fields("CONNECT", protocol="magic"))
    assert bed.status(unknown) == "501"
    websocket = bed.request(request_fields("CONNECT", protocol="websocket"))
    assert bed.status(websocket) == "501"
    assert bed.exchanges == []


def test_requests_and_sessions_are_counted_separately() -> None:
    bed = ExchangeBed(options=H3Options(max_sessions=1))
    for _ in range(5):
        bed.open()
    session, _, _ = bed.session()
    assert len(bed.h3.exchanges) == 5
    assert list(bed.h3.sessions.values()) == [session]
    refused = bed.request(CONNECT)
    assert refused.reset_sent == H3Error.REQUEST_REJECTED
    bed.open()
    assert len(bed.h3.exchanges) == 6


def test_a_websocket_is_an_exchange() -> None:
    bed = ExchangeBed(None, websockets=True)
    stream = bed.request(request_fields("CONNECT", protocol="websocket"), data_frame(b"\x81\0"))
    (exchange,) = bed.exchanges
    assert exchange.request.protocol == "websocket"
    exchange.respond(200, [(b"content-length", b"0"), (b"sec-websocket-protocol", b"chat")])
    header, _ = bed.response(stream)
    assert header == {":status": "200", "sec-websocket-protocol": "chat"}
    exchange.send(b"\x81\0")
    assert exchange.read() == b"\x81\0"
    stream.feed(fin=True)
    assert exchange.read() == b""
    exchange.send(b"bye", fin=True)
    assert bed.recorders[0].ends == [None]


def test_a_refused_websocket_has_a_body_of_known_length() -> None:
    bed = ExchangeBed(websockets=True)
    stream = bed.request(request_fields("CONNECT", protocol="websocket"))
    bed.exchanges[0].respond(403, [(b"content-length", b"2")], b"no", fin=True)
    assert bed.response(stream) == ({":status": "403", "content-length": "2"}, b"no")
    assert stream.stop_sent == H3Error.NO_ERROR


def test_requests_after_goaway() -> None:
    bed = ExchangeBed()
    exchange, events, stream = bed.open()
    bed.h3.finish_goaway()
    late = bed.request(request_fields(), fin=True)
    assert late.reset_sent == H3Error.REQUEST_REJECTED
    assert len(bed.exchanges) == 1
    exchange.respond(200, [], b"still", fin=True)
    assert bed.response(stream)[1] == b"still"
    assert events.ends == [None]


def test_goaway_of_the_client_changes_nothing() -> None:
    bed = ExchangeBed()
    exchange, events, _ = bed.open()
    bed.send_control(b"\x07\x01\x00")
    assert events.ends == []
    exchange.respond(200, [], fin=True)
    assert events.ends == [None]


def test_waiting_for_quiet() -> None:
    bed = ExchangeBed()
    quiet: list[int] = []
    bed.h3.when_quiet = lambda: quiet.append(len(bed.h3.exchanges))
    first, _, stream = bed.open()
    second, _, _ = bed.get()
    first.respond(200, [], fin=True)
    assert quiet == []
    second.cancel()
    assert quiet == [0]
    assert bed.h3.unacknowledged_responses() == [stream]
    stream.is_acked = True
    assert bed.h3.unacknowledged_responses() == []


def test_finished_responses_are_not_remembered_for_ever() -> None:
    bed = ExchangeBed()
    for _ in range(100):
        exchange, _, stream = bed.get()
        exchange.respond(200, [], fin=True)
        stream.is_acked = True
    assert len(bed.h3.admission._sent) <= 16
