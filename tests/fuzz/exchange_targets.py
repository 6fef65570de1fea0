"""A target for HTTP exchanges: a client and an application that do what the input says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from pywebtransport.exceptions import WebTransportError
from pywebtransport.h3._exchange import H3Exchange
from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._varint import encode_varint
from tests.fuzz.reader import Reader
from tests.unit.h3.bed import DRAFT16, data_frame
from tests.unit.h3.exchange_bed import ExchangeBed, request_fields
from tests.unit.h3.fake_quic import FakeStream

__all__ = ["SEEDS", "exchanges"]

Cut = Callable[[bytes], Iterator[bytes]]

_MAX_TURNS = 10_000
_STATUSES = (200, 204, 304, 404, 205, 500, 103)
_METHODS = ("POST", "GET", "HEAD", "CONNECT")


def whole(data: bytes) -> Iterator[bytes]:
    """Bytes as they come."""
    yield data


def in_bytes(data: bytes) -> Iterator[bytes]:
    """The same bytes one at a time."""
    for number in range(len(data)):
        yield data[number : number + 1]


class Application:
    """Reads a body as soon as it comes, if it reads it."""

    def __init__(self, exchange: H3Exchange, *, reads: bool) -> None:
        self.exchange = exchange
        self.reads = reads
        self.body = b""
        self.ends: list[Exception | None] = []
        exchange.events = self
        if reads:
            self.readable()

    def readable(self) -> None:
        assert not self.ends
        while data := self.exchange.read(100):
            assert len(data) <= 100
            self.body += data
        self.exchange.read(100)

    def writable(self) -> None:
        assert not self.ends

    def exchange_over(self, error: Exception | None) -> None:
        self.ends.append(error)
        assert self.exchange.is_over

    def check(self) -> None:
        exchange = self.exchange
        assert len(self.ends) == exchange.is_over
        if exchange.is_complete and self.reads:
            length = exchange.request.content_length
            assert length is None or length == len(self.body)


def exchanges(data: bytes) -> None:
    """However the bytes of the client are cut, and whenever work is put off: the same result."""
    expected = _play(data, whole)
    assert _play(data, in_bytes) == expected
    assert _play(data, whole, slices=True) == expected


def _play(data: bytes, cut: Cut, *, slices: bool = False) -> list[Any]:
    reader = Reader(data)
    mode = reader.byte()
    bed = ExchangeBed(
        DRAFT16 if mode & 1 else None,
        H3Options(
            qpack_max_table_capacity=4096 if mode & 2 else 0,
            qpack_blocked_streams=4 if mode & 2 else 0,
            max_field_section_size=1024,
            write_high_water=100,
            peer_bidi_streams=8 if mode & 4 else None,
        ),
        websockets=bool(mode & 8),
    )
    if mode & 1 == 0:
        bed.control = bed.quic.peer_open(True, b"\0\x04\0")
    if slices:
        bed.turns.slice = 0
    served: list[Application] = []
    bed.on_exchange = lambda exchange: served.append(
        Application(exchange, reads=bool(mode & 16) or len(served) % 2 == 0)
    )
    turns = 0
    while reader and bed.quic.closed is None:
        turns += 1
        assert turns < _MAX_TURNS
        _act(bed, served, reader, cut)
        bed.clock.advance(0)
        assert set(bed.h3.exchanges) == {
            one.exchange.stream_id for one in served if not one.exchange.is_over
        }
    bed.clock.advance(60)
    result: list[Any] = [bed.close_code, len(served)]
    for one in served:
        one.check()
        complete = one.exchange.is_complete
        result.append((complete, one.body if complete else None, [str(e) for e in one.ends]))
    result += [
        (
            stream.stream_id,
            stream.reset_sent,
            stream.stop_sent,
            stream.send_order,
            bytes(stream.sent),
        )
        for _, stream in sorted(bed.quic.streams.items())
    ]
    bed.h3.connection_closed(None)
    bed.clock.advance(0)
    assert bed.clock.pending == 0
    assert bed.h3.exchanges == {}
    assert all(len(one.ends) == 1 for one in served)
    assert not any(
        stream.stream_id % 4 == 0 and stream.sink != bed.quic.default_sink
        for stream in bed.quic.unreleased
    )
    return result


def _act(bed: ExchangeBed, served: list[Application], reader: Reader, cut: Cut) -> None:
    """One action of the client or of the application."""
    what = reader.byte() % 16
    if what <= 2:  # a request in good order
        _request(bed, reader, cut)
    elif what <= 4:  # a request of any kind
        _feed(bed.quic.peer_stream(False), reader.some(), cut, fin=reader.flag())
    elif what == 5 and bed.control is not None:
        value = b"u=%d" % (reader.byte() % 9)
        update = encode_varint(4 * (reader.byte() % 20)) + value
        _feed(bed.control, encode_frame(0xF0700, update), cut)
    elif what == 6:
        bed.clock.advance(reader.byte() / 16)
    elif what <= 11:
        stream = _stream(bed, reader)
        if stream is None:
            return
        if what == 7:
            _feed(stream, reader.some(), cut, fin=reader.flag())
        elif what == 8:
            _feed(stream, data_frame(reader.some()), cut, fin=reader.flag())
        elif what == 9:
            trailers = bed.headers([("sum" if reader.flag() else ":path", "1")])
            _feed(stream, trailers, cut, fin=reader.flag())
        elif what == 10:
            stream.feed_reset(reader.byte())
        elif stream.sends and stream.sink != bed.quic.default_sink:
            stream.feed_stop(reader.byte())
    elif served:
        _answer(reader.choice(served), reader)


def _request(bed: ExchangeBed, reader: Reader, cut: Cut) -> None:
    choice = reader.byte()
    method = _METHODS[choice & 3]
    lines = [("content-length", str(reader.byte() % 40))] if choice & 4 else []
    if choice & 8:
        lines.append(("priority", f"u={choice >> 5}"))
    protocol = "websocket" if method == "CONNECT" else None
    header = bed.headers(request_fields(method, lines=lines, protocol=protocol))
    body = data_frame(reader.some()) if choice & 16 else b""
    _feed(bed.quic.peer_stream(False), header + body, cut, fin=reader.flag())


def _answer(application: Application, reader: Reader) -> None:
    """The application does something, which the state may forbid."""
    exchange = application.exchange
    what = reader.byte() % 8
    with contextlib.suppress(WebTransportError):
        if what <= 2:
            size = reader.byte()
            lines = [(b"content-length", b"%d" % (reader.byte() % 40))] if size & 1 else []
            exchange.respond(reader.choice(_STATUSES), lines, bytes(size % 40), what == 0)
        elif what == 3:
            exchange.send(bytes(reader.byte() % 40), reader.flag())
        elif what == 4:
            exchange.send_trailers([(b"x", b"1")])
        elif what == 5:
            exchange.inform(103)
        elif what == 6:
            exchange.cancel(reader.byte())
        else:
            application.reads = True
            if not exchange.is_over:
                application.readable()
    assert exchange.awaits_body in (True, False)


def _stream(bed: ExchangeBed, reader: Reader) -> FakeStream | None:
    """A request stream on which the client may still send."""
    streams = [
        stream
        for number, stream in sorted(bed.quic.streams.items())
        if number % 4 == 0 and not (stream.fin_received or stream.is_reset)
    ]
    return reader.choice(streams) if streams else None


def _feed(stream: FakeStream, data: bytes, cut: Cut, *, fin: bool = False) -> None:
    for piece in cut(data):
        if stream.quic.closed is None:
            stream.feed(piece)
    if fin and stream.quic.closed is None:
        stream.feed(b"", True)


SEEDS: dict[str, list[bytes]] = {
    "exchanges": [
        bytes([1, 0, 1, 1, 12, 0, 0, 5, 3, 0]),
        bytes([1, 0, 4 + 16, 3, 3]) + b"abc" + bytes([1, 12, 0, 1, 3, 0, 0]),
        bytes([17, 0, 4, 6, 0, 8, 0, 3])
        + b"abc"
        + bytes([0, 8, 0, 3])
        + b"def"
        + bytes([1, 12, 0]),
        bytes([9, 0, 3, 0, 12, 0, 1, 4, 0, 8, 0, 2]) + b"\x81\0" + bytes([0, 10, 0, 12]),
        bytes([5, 5, 3, 1, 0, 8 + 32, 0, 5, 7, 0, 9, 0, 1, 1, 13, 0, 4]),
        bytes([3, 3, 4]) + b"\1\2\0\0" + bytes([1, 0, 0, 0, 7, 0, 2]) + b"\0\5" + bytes([1]),
    ],
}
