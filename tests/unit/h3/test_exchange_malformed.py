"""Requests that break a rule of HTTP/3: what is reset or closed, and with which code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pywebtransport.exceptions import ProtocolError
from pywebtransport.h3._constants import H3Error
from pywebtransport.h3._errors import MessageError
from pywebtransport.h3._fields import parse_request
from pywebtransport.h3._options import H3Options
from tests.unit.h3.bed import data_frame, varint
from tests.unit.h3.exchange_bed import ExchangeBed, request_fields

Lines = list[tuple[str, str]]

MALFORMED: dict[str, Lines] = {
    # Pseudo-fields.
    "no method": request_fields(method=None),
    "an empty method": request_fields(""),
    "a method with a space": request_fields("GET /x"),
    "no scheme": request_fields(scheme=None),
    "an empty scheme": request_fields(scheme=""),
    "a scheme that is a URL": request_fields(scheme="https://evil.example/?"),
    "no path": request_fields(path=None),
    "an empty path": request_fields(path=""),
    "a path without a slash": request_fields(path="index.html"),
    "a path that is a URL": request_fields(path="https://example.org/"),
    "an asterisk as path of GET": request_fields(path="*"),
    "a longer asterisk": request_fields("OPTIONS", path="*/x"),
    "a path with a space": request_fields(path="/a b"),
    "a path with a tab": request_fields(path="/a\tb"),
    "a path with a delete character": request_fields(path="/\x7f"),
    "a path that is not ASCII": request_fields(path="/caf\xe9"),
    "no authority and no host": request_fields(authority=None),
    "no authority, and a scheme in upper case": request_fields(scheme="HTTPS", authority=None),
    "an empty authority": request_fields(authority=""),
    "an empty authority beside a host": request_fields(lines=[("host", "a.org")], authority=""),
    "an empty host": request_fields(lines=[("host", "")], authority=None),
    "authority and host differ": request_fields(lines=[("host", "other.org")]),
    "authority and an empty host": request_fields(lines=[("host", "")]),
    "host twice": request_fields(lines=[("host", "example.org")] * 2),
    "user information in the authority": request_fields(authority="me@example.org"),
    "a path in the authority": request_fields(authority="example.org/x"),
    "a space in the authority": request_fields(authority="a b"),
    "a space in the host": request_fields(lines=[("host", "a b")], authority=None),
    "method twice": [*request_fields(), (":method", "GET")],
    "scheme twice": [*request_fields(), (":scheme", "https")],
    "authority twice": [*request_fields(), (":authority", "example.org")],
    "path twice": [*request_fields(), (":path", "/")],
    "an unknown pseudo-field": [*request_fields(), (":magic", "1")],
    "a pseudo-field of responses": [*request_fields(), (":status", "200")],
    "a pseudo-field after a field": [("x", "1"), *request_fields()],
    "a pseudo-field between fields": [*request_fields()[:2], ("x", "1"), *request_fields()[2:]],
    "protocol without CONNECT": request_fields(protocol="websocket"),
    # Fields.
    "a name in upper case": request_fields(lines=[("X-Upper", "1")]),
    "an empty name": request_fields(lines=[("", "1")]),
    "a name with a space": request_fields(lines=[("a b", "1")]),
    "a name with a colon": request_fields(lines=[("a:b", "1")]),
    "a name with a line break": request_fields(lines=[("a\r\nb", "1")]),
    "a name that is not ASCII": request_fields(lines=[("caf\xe9", "1")]),
    "a value with CR": request_fields(lines=[("x", "a\rb")]),
    "a value with LF": request_fields(lines=[("x", "a\nb")]),
    "a value with NUL": request_fields(lines=[("x", "a\0b")]),
    "a path with CR LF": request_fields(path="/\r\nx: 1"),
    "connection": request_fields(lines=[("connection", "close")]),
    "keep-alive": request_fields(lines=[("keep-alive", "5")]),
    "proxy-connection": request_fields(lines=[("proxy-connection", "close")]),
    "transfer-encoding": request_fields("POST", lines=[("transfer-encoding", "chunked")]),
    "transfer-encoding and content-length": request_fields(
        "POST", lines=[("content-length", "3"), ("transfer-encoding", "chunked")]
    ),
    "upgrade": request_fields(lines=[("upgrade", "websocket")]),
    "te: gzip": request_fields(lines=[("te", "gzip")]),
    "te: trailers, gzip": request_fields(lines=[("te", "trailers, gzip")]),
    # Content-length.
    "content-length: nothing": request_fields("POST", lines=[("content-length", "")]),
    "content-length: negative": request_fields("POST", lines=[("content-length", "-1")]),
    "content-length: with a plus": request_fields("POST", lines=[("content-length", "+3")]),
    "content-length: hexadecimal": request_fields("POST", lines=[("content-length", "0x3")]),
    "content-length: a fraction": request_fields("POST", lines=[("content-length", "3.0")]),
    "content-length: a list": request_fields("POST", lines=[("content-length", "3, 3")]),
    "content-length: an underscore": request_fields("POST", lines=[("content-length", "1_0")]),
    "content-length: other digits": request_fields("POST", lines=[("content-length", "\xb2")]),
    "content-length: huge": request_fields("POST", lines=[("content-length", "9" * 19)]),
    "content-length: two values": request_fields(
        "POST", lines=[("content-length", "3"), ("content-length", "4")]
    ),
    "content-length: two ways to write one value": request_fields(
        "POST", lines=[("content-length", "3"), ("content-length", "03")]
    ),
    # WebSockets.
    "a websocket without a path": request_fields("CONNECT", path=None, protocol="websocket"),
    "a websocket with a length": request_fields(
        "CONNECT", lines=[("content-length", "0")], protocol="websocket"
    ),
    "a websocket over http": request_fields("CONNECT", protocol="websocket", scheme="http"),
    "an empty protocol": request_fields("CONNECT", protocol=""),
    "CONNECT with a path": request_fields("CONNECT"),
}


# No encoder takes an empty name.
@pytest.mark.parametrize("name", sorted(MALFORMED.keys() - {"an empty name"}))
def test_a_malformed_header(name: str) -> None:
    bed = ExchangeBed(websockets=True)
    stream = bed.request(MALFORMED[name], data_frame(b"abc"))
    assert stream.reset_sent == stream.stop_sent == H3Error.MESSAGE_ERROR
    assert stream.released
    assert bed.exchanges == []
    assert bed.close_code is None
    exchange, events, good = bed.get()  # the connection is as it was
    exchange.respond(200, [], fin=True)
    assert bed.status(good) == "200"
    assert events.ends == [None]


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_header_that_is_not_shared(name: str) -> None:
    """Small field sections come as tuples, large ones as lists."""
    fields = [(key.encode("latin-1"), text.encode("latin-1")) for key, text in MALFORMED[name]]
    for kind in (list, tuple):
        with pytest.raises(MessageError):
            parse_request(kind(fields))


WELL_FORMED: dict[str, Lines] = {
    "an unusual method": request_fields("M-SEARCH"),
    "a method in lower case": request_fields("get"),
    "OPTIONS for the server": request_fields("OPTIONS", path="*"),
    "http": request_fields(scheme="http"),
    "another scheme without authority": request_fields(scheme="coap+tcp", authority=None),
    "host instead of authority": request_fields(lines=[("host", "a.org")], authority=None),
    "host as authority": request_fields(lines=[("host", "example.org")]),
    "an IPv6 authority": request_fields(authority="[::1]:443"),
    "percent signs": request_fields(path="/%00%zz?%"),
    "two slashes and dots": request_fields(path="//a/../b"),
    "a value of spaces": request_fields(lines=[("x", "  ")]),
    "an empty value": request_fields(lines=[("x", "")]),
    "a value that is not ASCII": request_fields(lines=[("x", "\xff")]),
    "te: Trailers": request_fields(lines=[("te", "Trailers")]),
    "content-length: zero": request_fields(lines=[("content-length", "0")]),
    "content-length: leading zeros": request_fields(lines=[("content-length", "00")]),
    "content-length: twice": request_fields(lines=[("content-length", "0")] * 2),
    "content-length: spaces around": request_fields(lines=[("content-length", " 0 ")]),
}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_a_well_formed_header(name: str) -> None:
    bed = ExchangeBed()
    stream = bed.request(WELL_FORMED[name], fin=True)
    (exchange,) = bed.exchanges
    assert exchange.is_complete
    exchange.respond(200, [], fin=True)
    assert bed.status(stream) == "200"


def test_the_lines_of_a_request_are_kept() -> None:
    lines = [
        ("cookie", "a=1"),
        ("X", "1"),
        ("cookie", "b=2"),
        ("x", " two "),
        ("content-length", "0"),
        ("content-length", "0"),
    ]
    bed = ExchangeBed()
    lines[1] = ("y", "1")
    stream = bed.request(request_fields(lines=lines), fin=True)
    assert stream.reset_sent is None
    request = bed.exchanges[0].request
    assert request.lines == (
        (b"cookie", b"a=1"),
        (b"y", b"1"),
        (b"cookie", b"b=2"),
        (b"x", b"two"),
        (b"content-length", b"0"),
    )
    assert request.content_length == 0
    assert request.headers["cookie"] == "a=1; b=2"
    assert request.headers is request.headers


def test_requests_with_the_same_header_share_what_is_derived_from_it() -> None:
    bed = ExchangeBed()
    first, _, _ = bed.get()
    first.request.memo = ["made once"]
    second, _, _ = bed.get()
    assert second.request.memo == ["made once"]


# Frames on the request stream.

HEADERS = b"\x01"


def trailers(bed: ExchangeBed, *fields: tuple[str, str]) -> bytes:
    """A HEADERS frame."""
    return bed.headers(fields or [("sum", "1")])


CONNECTION_ERRORS: dict[str, tuple[Callable[[ExchangeBed], bytes], bool, H3Error]] = {
    "HEADERS after trailers": (
        lambda bed: trailers(bed) + trailers(bed),
        False,
        H3Error.FRAME_UNEXPECTED,
    ),
    "DATA after trailers": (
        lambda bed: trailers(bed) + data_frame(b"x"),
        False,
        H3Error.FRAME_UNEXPECTED,
    ),
    "SETTINGS in a body": (lambda _: b"\4\0", False, H3Error.FRAME_UNEXPECTED),
    "GOAWAY in a body": (lambda _: b"\7\1\0", False, H3Error.FRAME_UNEXPECTED),
    "PUSH_PROMISE in a body": (lambda _: b"\5\1\0", False, H3Error.FRAME_UNEXPECTED),
    "CANCEL_PUSH in a body": (lambda _: b"\3\1\0", False, H3Error.FRAME_UNEXPECTED),
    "MAX_PUSH_ID in a body": (lambda _: b"\x0d\1\0", False, H3Error.FRAME_UNEXPECTED),
    "PRIORITY_UPDATE in a body": (
        lambda _: varint(0xF0700) + b"\1\0",
        False,
        H3Error.FRAME_UNEXPECTED,
    ),
    "a frame of HTTP/2 in a body": (lambda _: b"\6\0", False, H3Error.FRAME_UNEXPECTED),
    "a frame of HTTP/2 whose length is missing": (
        lambda _: b"\x08",
        False,
        H3Error.FRAME_UNEXPECTED,
    ),
    "the signal of a WebTransport stream in a body": (
        lambda _: b"\x40\x41\0",
        False,
        H3Error.FRAME_ERROR,
    ),
    "FIN in DATA": (lambda _: b"\0\5abc", True, H3Error.FRAME_ERROR),
    "FIN in the header of DATA": (lambda _: b"\0", True, H3Error.FRAME_ERROR),
    "FIN in a long length": (lambda _: b"\0\x40", True, H3Error.FRAME_ERROR),
    "FIN in a type": (lambda _: b"\x80", True, H3Error.FRAME_ERROR),
    "FIN in trailers": (lambda _: b"\1\5abc", True, H3Error.FRAME_ERROR),
    "FIN before the bytes of trailers": (lambda _: b"\1\5", True, H3Error.FRAME_ERROR),
    "FIN in a frame of an unknown type": (lambda _: b"\x21\5abc", True, H3Error.FRAME_ERROR),
    "trailers that no QPACK decoder reads": (
        lambda _: b"\1\3\0\0\xff",
        False,
        H3Error.QPACK_DECOMPRESSION_FAILED,
    ),
    "trailers without bytes": (lambda _: b"\1\0", False, H3Error.QPACK_DECOMPRESSION_FAILED),
}


@pytest.mark.parametrize("in_bytes", [False, True], ids=["whole", "in bytes"])
@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_frames_that_end_the_connection(name: str, in_bytes: bool) -> None:
    bed = ExchangeBed()
    make, fin, code = CONNECTION_ERRORS[name]
    exchange, events, stream = bed.open()
    events.on_readable = exchange.read
    assert exchange.read() is None
    data = data_frame(b"a") + make(bed)
    for piece in [bytes([n]) for n in data] if in_bytes else [data]:
        if not events.ends:
            stream.feed(piece)
    if fin and not events.ends:
        stream.feed(fin=True)
    for _ in range(3):
        exchange.read()
    assert bed.close_code == code
    assert isinstance(events.end, ProtocolError)
    assert events.end.error_code == code
    assert exchange.is_over
    assert not exchange.is_complete


def test_data_before_headers() -> None:
    bed = ExchangeBed()
    bed.quic.peer_open(False, data_frame(b"abc"))
    assert bed.close_code == H3Error.FRAME_UNEXPECTED
    assert bed.exchanges == []


STREAM_ERRORS: dict[str, tuple[Lines, Callable[[ExchangeBed], bytes], bool, H3Error]] = {
    "more bytes than the content-length": (
        [("content-length", "3")],
        lambda _: data_frame(b"four"),
        False,
        H3Error.MESSAGE_ERROR,
    ),
    "more bytes than the content-length, in a second frame": (
        [("content-length", "3")],
        lambda _: data_frame(b"abc") + data_frame(b"d"),
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "a frame that would be too long, before its bytes": (
        [("content-length", "3")],
        lambda _: b"\0\xc0" + bytes(6) + b"\x04",
        False,
        H3Error.MESSAGE_ERROR,
    ),
    "a body after a content-length of 0": (
        [("content-length", "0")],
        lambda _: data_frame(b"GET /smuggled"),
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "fewer bytes than the content-length": (
        [("content-length", "3")],
        lambda _: data_frame(b"ab"),
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "no bytes where content-length promises some": (
        [("content-length", "3")],
        lambda _: b"\x21\0",
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "fewer bytes than the content-length, before trailers": (
        [("content-length", "3")],
        lambda bed: data_frame(b"ab") + trailers(bed),
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "trailers with a pseudo-field": (
        [],
        lambda bed: trailers(bed, (":path", "/")),
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "trailers with a status": (
        [],
        lambda bed: trailers(bed, (":status", "200")),
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "trailers with a name in upper case": (
        [],
        lambda bed: trailers(bed, ("Sum", "1")),
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "trailers with a field of connections": (
        [],
        lambda bed: trailers(bed, ("transfer-encoding", "chunked")),
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "trailers with a line break": (
        [],
        lambda bed: trailers(bed, ("x", "a\nb")),
        True,
        H3Error.MESSAGE_ERROR,
    ),
    "trailers that say they are too large": (
        [],
        lambda _: b"\1\x80\x02\0\0",
        False,
        H3Error.EXCESSIVE_LOAD,
    ),
    "trailers that are too large": (
        [],
        lambda bed: trailers(bed, *[("x", "y" * 60)] * 20),
        True,
        H3Error.EXCESSIVE_LOAD,
    ),
}


@pytest.mark.parametrize("in_bytes", [False, True], ids=["whole", "in bytes"])
@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_bodies_that_end_the_exchange(name: str, in_bytes: bool) -> None:
    bed = ExchangeBed(options=H3Options(max_field_section_size=1024))
    lines, make, fin, code = STREAM_ERRORS[name]
    exchange, events, stream = bed.open(lines=lines)
    found = bytearray()

    def read() -> None:
        while data := exchange.read():
            found.extend(data)

    events.on_readable = read
    read()
    data = make(bed)
    for piece in [bytes([n]) for n in data] if in_bytes else [data]:
        if not events.ends:
            stream.feed(piece)
    if fin and not events.ends:
        stream.feed(fin=True)
    assert stream.reset_sent == code
    assert stream.stop_sent == (None if stream.fin_received else code)
    assert isinstance(events.end, ProtocolError)
    assert events.end.error_code == code
    assert exchange.is_over
    assert not exchange.is_complete
    assert exchange.read() is None
    assert len(found) <= 3
    assert bed.close_code is None
    exchange, events, _ = bed.get()
    exchange.respond(200, [], fin=True)
    assert events.ends == [None]


def test_a_length_without_a_body_is_never_seen_by_the_application() -> None:
    bed = ExchangeBed()
    stream = bed.request(request_fields("POST", lines=[("content-length", "3")]), fin=True)
    assert stream.reset_sent == H3Error.MESSAGE_ERROR
    assert bed.exchanges == []


def test_what_is_in_a_body_is_no_request() -> None:
    """Nothing is smuggled: bytes of a body never begin a request, whatever they look like."""
    bed = ExchangeBed()
    inner = bed.headers(request_fields(path="/inner"))
    exchange, _, _ = bed.open(extra=data_frame(inner) + data_frame(b"GET / HTTP/1.1\r\n\r\n"))
    assert exchange.read() == inner + b"GET / HTTP/1.1\r\n\r\n"
    assert len(bed.exchanges) == 1


def test_trailers_in_a_websocket() -> None:
    bed = ExchangeBed(websockets=True)
    stream = bed.request(request_fields("CONNECT", protocol="websocket"), bed.headers([("x", "1")]))
    exchange = bed.exchanges[0]
    exchange.respond(200, [])
    assert exchange.read() is None
    assert bed.close_code == H3Error.FRAME_UNEXPECTED
    assert stream.released


def test_empty_frames_in_a_body_are_counted() -> None:
    bed = ExchangeBed(options=H3Options(max_idle_items=100))
    exchange, events, stream = bed.open(extra=(b"\0\0") * 60)
    assert exchange.read() is None
    assert bed.close_code is None
    stream.feed(b"\x21\0" * 60)
    assert exchange.read() is None
    assert bed.close_code == H3Error.EXCESSIVE_LOAD
    assert len(events.ends) == 1


def test_frames_of_one_byte_are_no_flood() -> None:
    bed = ExchangeBed(options=H3Options(max_idle_items=100))
    exchange, _, _ = bed.open(extra=data_frame(b"x") * 5000, fin=True)
    assert exchange.read() == b"x" * 5000
    assert bed.close_code is None
