"""Targets for what a peer sends: HTTP/3 frames and streams, capsules, SETTINGS, field sections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from pywebtransport.exceptions import WebTransportError
from pywebtransport.h3._capsules import (
    FLOW_CONTROL_CAPSULES,
    PROHIBITED_CAPSULES,
    SESSION_CAPSULES,
    SKIPPED,
    CapsuleParser,
    encode_capsule,
    parse_close,
    parse_number,
)
from pywebtransport.h3._constants import CapsuleType
from pywebtransport.h3._control import ControlReader
from pywebtransport.h3._errors import CapsuleError, H3ConnectionError, MessageError
from pywebtransport.h3._fields import encode_fields, parse_request, parse_response
from pywebtransport.h3._frames import SKIP, STREAM, FrameParser, encode_frame
from pywebtransport.h3._frames import SKIPPED as SKIPPED_FRAME
from pywebtransport.h3._load import Load
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._qpack import FieldSectionTooLarge, Qpack
from pywebtransport.h3._settings import encode_settings, parse_settings
from pywebtransport.h3._varint import decode_varint, encode_varint
from tests.fuzz.reader import Reader
from tests.unit.h3.bed import (
    CONNECT,
    DRAFT07,
    DRAFT14,
    DRAFT16,
    SERVER_ONLY,
    Bed,
    ClientBed,
    ServerBed,
    SessionRecorder,
    data_frame,
    forget_recorders,
    recorder,
)
from tests.unit.h3.fake_quic import FakeClock, FakeStream, FakeTurns

Cut = Callable[[bytes], Iterator[bytes]]

_SETTINGS: tuple[dict[int, int], ...] = (DRAFT16, DRAFT14, DRAFT07, {})
_KNOWN = SESSION_CAPSULES | FLOW_CONTROL_CAPSULES | PROHIBITED_CAPSULES
_MAX_TURNS = 10_000


def whole(data: bytes) -> Iterator[bytes]:
    """Bytes as they come."""
    yield data


def in_bytes(data: bytes) -> Iterator[bytes]:
    """The same bytes one at a time."""
    for number in range(len(data)):
        yield data[number : number + 1]


# Parsers: however the bytes are split, what they find is the same.


def capsules(data: bytes) -> None:
    """Payload of DATA frames on a CONNECT stream."""
    found = _capsules(data, whole)
    assert found == _capsules(data, in_bytes)
    if not isinstance(found[-1], str):
        again = b"".join(encode_capsule(kind, value) for kind, value in found[:-1])
        assert _capsules(again, whole) == [*found[:-1], True]


def _capsules(data: bytes, cut: Cut) -> list[Any]:
    """Capsules in order; whether the last one ended; or the error."""
    parser = CapsuleParser(_KNOWN, 100)
    found: list[Any] = []
    try:
        for piece in cut(data):
            parser.feed(piece)
            while (capsule := parser.next()) is not None:
                if capsule is SKIPPED:
                    continue
                found.append((capsule.type, capsule.value))
                if capsule.type == CapsuleType.WT_CLOSE_SESSION:
                    parse_close(capsule.value)
                elif capsule.type in FLOW_CONTROL_CAPSULES:
                    parse_number(capsule.type, capsule.value)
            assert parser.pending <= len(data)
    except CapsuleError as error:
        return [*found, str(error)]
    return [*found, parser.at_boundary]


def frames(data: bytes) -> None:
    """Frames, some collected, some passed on in pieces, some skipped."""
    found = _frames(data, whole)
    assert found == _frames(data, in_bytes)


def _frames(data: bytes, cut: Cut) -> list[Any]:
    parser = FrameParser(lambda kind: (SKIP, STREAM, 20, 0)[kind % 4])
    found: list[Any] = []
    for piece in cut(data):
        parser.feed(piece)
        while (frame := parser.next()) is not None:
            if frame is SKIPPED_FRAME:
                continue
            streamed = frame.type % 4 == 1
            if streamed and found and found[-1][0] == frame.type and found[-1][2]:
                found[-1] = (frame.type, found[-1][1] + (frame.payload or b""), True)
            else:
                found.append((frame.type, frame.payload, streamed))
    return [*found, parser.at_boundary]


class _Control:
    """Hears what a control stream says."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def on_settings(self, settings: Any) -> None:
        self.log.append(("settings", dict(settings)))

    def on_goaway(self, last_id: int) -> None:
        self.log.append(("goaway", last_id))

    def on_priority(self, stream_id: int, value: bytes) -> None:
        self.log.append(("priority", stream_id, value))


def control(data: bytes) -> None:
    """A peer's control stream."""
    is_client = bool(data[:1] and data[0] & 1)
    found = _control(data[1:], whole, is_client)
    assert found == _control(data[1:], in_bytes, is_client)


def _control(data: bytes, cut: Cut, is_client: bool) -> list[Any]:
    events = _Control()
    clock = FakeClock()
    load = Load(H3Options(), clock.call_later, FakeTurns(clock))
    reader = ControlReader(events, load, is_client=is_client, max_frame_size=100)
    try:
        for piece in cut(data):
            done = reader.take(piece)
            while not done:
                done = reader.take(b"")
    except H3ConnectionError as error:
        events.log.append((error.code, error.reason))
    return events.log


def settings(data: bytes) -> None:
    """The payload of a SETTINGS frame."""
    try:
        found = parse_settings(data)
    except H3ConnectionError:
        return
    assert parse_settings(encode_settings(found)) == found


def field_sections(data: bytes) -> None:
    """QPACK: instructions and field sections, and the requests and responses they make."""
    reader = Reader(data)
    qpack = Qpack(4096, 10, 2000) if reader.flag() else Qpack(0, 0, 2000)
    qpack.send_decoder = lambda _: None
    stream_id = 0
    while reader:
        kind = reader.byte() % 4
        try:
            if kind == 0:
                for waiting in qpack.feed_encoder(reader.some()):
                    _messages(qpack.resume(waiting))
            elif kind == 1:
                qpack.feed_decoder(reader.some())
            else:
                stream_id += 4
                _messages(qpack.decode(stream_id, reader.some()))
                if kind == 3:
                    qpack.cancel(stream_id)
        except FieldSectionTooLarge:
            qpack.cancel(stream_id)
        except H3ConnectionError:
            return


def _messages(fields: Any) -> None:
    if fields is None:
        return
    assert sum(len(name) + len(value) + 32 for name, value in fields) <= 2000
    for parse in (parse_request, parse_response):
        try:
            message = parse(fields)
        except MessageError:
            continue
        encode_fields({}, message.headers)  # what was accepted can be sent on


# A whole connection, with the fuzzer as its peer.


def h3_server(data: bytes) -> None:
    """A client does what the input says; the server must hold, and not care how bytes are cut."""
    _compare(data, server=True)


def h3_client(data: bytes) -> None:
    """A server does what the input says."""
    _compare(data, server=False)


def _compare(data: bytes, *, server: bool) -> None:
    expected = _play(data, whole, server=server)
    assert _play(data, in_bytes, server=server) == expected
    # The same when work is put off whenever it can be.
    assert _play(data, whole, server=server, slices=True) == expected


def _play(data: bytes, cut: Cut, *, server: bool, slices: bool = False) -> list[Any]:
    reader = Reader(data)
    mode = reader.byte()
    options = H3Options(
        qpack_max_table_capacity=4096 if mode & 4 else 0,
        qpack_blocked_streams=4 if mode & 4 else 0,
        max_early_streams=4,
        max_early_bytes=1024,
    )
    bed = _bed(_SETTINGS[mode & 3], options, server=server)
    if slices:
        bed.turns.slice = 0
    heard: list[SessionRecorder] = []
    if server:
        bed.events.on_request = lambda session: heard.append(recorder(session))
        if not mode & 8:
            bed.quic.peer_open(False, bed.headers(CONNECT))
    else:
        assert isinstance(bed, ClientBed)
        for _ in range(2):
            _quietly(lambda: heard.append(bed.open()[1]))
        if not mode & 8:
            for stream in list(bed.quic.local(False)):
                stream.feed(bed.headers([(":status", "200")]))
    turns = 0
    while reader and bed.quic.closed is None:
        turns += 1
        assert turns < _MAX_TURNS
        _act(bed, reader, cut)
        bed.clock.advance(0)
    bed.clock.advance(60)
    result: list[Any] = [bed.close_code, bed.events.dropped, bed.events.goaways]
    result += [[_comparable(entry) for entry in events.log] for events in heard]
    result += [
        (stream.stream_id, stream.reset_sent, stream.stop_sent, bytes(stream.sent))
        for _, stream in sorted(bed.quic.streams.items())
    ]
    bed.h3.connection_closed(None)
    bed.clock.advance(0)  # many sessions hear of it in several turns
    assert bed.clock.pending == 0
    forget_recorders()
    return result


def _bed(settings: dict[int, int], options: H3Options, *, server: bool) -> Bed:
    if server:
        return ServerBed(settings, options)
    return ClientBed({**SERVER_ONLY, **settings}, options)


def _act(bed: Bed, reader: Reader, cut: Cut) -> None:
    """One action of the peer, or of the application at our end."""
    what = reader.byte() % 12
    stream: FakeStream | None
    if what <= 1:
        stream = bed.quic.peer_stream(what == 1)
        _feed(stream, reader, cut)
    elif what <= 4:
        stream = _stream(bed, reader)
        if stream is not None:
            _feed(stream, reader, cut)
    elif what == 5:
        stream = _stream(bed, reader)
        if stream is not None:
            stream.feed_reset(reader.byte())
    elif what == 6:
        stream = _any_stream(bed, reader)
        # Before it is known what the stream is, the stop and a mistake in later bytes race.
        if stream is not None and stream.sends and stream.sink != bed.quic.default_sink:
            stream.feed_stop(reader.byte())
    elif what == 7:
        bed.quic.datagrams(reader.some())
    elif what == 8:
        bed.clock.advance(reader.byte() / 16)
    elif what == 9:  # a request, or an answer, in good order
        if bed.quic.is_client:
            stream = _stream(bed, reader)
            if stream is not None:
                _feed_bytes(stream, bed.headers([(":status", "200")]), cut)
        else:
            stream = bed.quic.peer_stream(False)
            _feed_bytes(stream, bed.headers(CONNECT), cut)
    elif what == 10:  # a DATA frame around the next bytes
        stream = _stream(bed, reader)
        if stream is not None:
            _feed_bytes(stream, data_frame(reader.some()), cut)
    else:
        _decide(bed, reader)


def _decide(bed: Bed, reader: Reader) -> None:
    """The application answers, closes or opens something."""
    sessions = [*bed.events.requested, *bed.h3.sessions.values()]
    if not sessions:
        return
    session = reader.choice(sessions)
    what = reader.byte() % 6
    if what == 0:
        _quietly(session.accept)
    elif what == 1:
        _quietly(lambda: session.reject(403))
    elif what == 2:
        _quietly(lambda: session.close(7, "over"))
    elif what == 3:
        _quietly(lambda: session.open_stream(reader.flag()))
    elif what == 4:
        _quietly(session.drain)
    else:
        for stream in session_streams(bed):
            stream.read(100)


def session_streams(bed: Bed) -> list[FakeStream]:
    """Streams of the peer that belong to a session and can be read."""
    return [
        stream
        for stream in bed.quic.streams.values()
        if stream.group is not None and stream.receives and not stream.is_reset
    ]


def _stream(bed: Bed, reader: Reader) -> FakeStream | None:
    """A stream on which the peer may still send."""
    streams = [
        stream
        for _, stream in sorted(bed.quic.streams.items())
        if stream.receives and not (stream.fin_received or stream.is_reset)
    ]
    return reader.choice(streams) if streams else None


def _any_stream(bed: Bed, reader: Reader) -> FakeStream | None:
    streams = [stream for _, stream in sorted(bed.quic.streams.items())]
    return reader.choice(streams) if streams else None


def _feed(stream: FakeStream, reader: Reader, cut: Cut) -> None:
    fin = reader.flag()
    _feed_bytes(stream, reader.some(), cut, fin=fin)


def _feed_bytes(stream: FakeStream, data: bytes, cut: Cut, *, fin: bool = False) -> None:
    for piece in cut(data):
        if stream.quic.closed is None:
            stream.feed(piece)
    if fin and stream.quic.closed is None:
        stream.feed(b"", True)


def _quietly(action: Callable[[], object]) -> None:
    """Do something that the state may forbid."""
    with contextlib.suppress(WebTransportError):
        action()


def _comparable(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        (type(part).__name__, str(part)) if isinstance(part, Exception) else part for part in entry
    )


def varints(data: bytes) -> None:
    """Variable-length integers, at any place."""
    decoded = decode_varint(data)
    if decoded is not None:
        value, end = decoded
        assert decode_varint(b"xx" + data, 2) == (value, end + 2)
        assert decode_varint(encode_varint(value)) is not None
        assert len(encode_varint(value)) <= end
    found = encode_frame(len(data), data)
    assert found.endswith(data)


SEEDS: dict[str, list[bytes]] = {
    "capsules": [
        encode_capsule(CapsuleType.WT_CLOSE_SESSION, b"\0\0\0\7over"),
        encode_capsule(CapsuleType.WT_DRAIN_SESSION, b"") * 3,
        encode_capsule(CapsuleType.DATAGRAM, b"abc") + encode_capsule(0x21, bytes(70)),
        encode_capsule(CapsuleType.WT_MAX_DATA, encode_varint(1 << 30)),
    ],
    "frames": [encode_frame(n, b"payload" * n) + encode_frame(n + 1, b"") for n in range(8)],
    "control": [
        bytes([n]) + encode_frame(4, encode_settings(known)) + encode_frame(7, b"\0")
        for n, known in enumerate(_SETTINGS)
    ],
    "settings": [encode_settings(known) for known in _SETTINGS],
    "field_sections": [
        bytes([0, 2, len(section)]) + section
        for section in (
            Qpack(0, 0, 2000).encode(0, [(n.encode(), v.encode()) for n, v in CONNECT]),
            Qpack(0, 0, 2000).encode(0, [(b":status", b"200"), (b"a", b"b")]),
        )
    ],
    "h3_server": [
        bytes([0, 10, 0, 4]) + b"\x80\x00\x78\xae" + bytes([0, 0, 5]) + b"\x40\x41\0hi",
        bytes([8, 9, 11, 0, 0, 7, 2]) + b"\0x" + bytes([1, 1, 4]) + b"\x40\x54\0a",
        bytes([3, 0, 1, 3]) + b"\1\0\0" + bytes([5, 0, 1, 8, 200]),
    ],
    "h3_client": [
        bytes([8, 9, 0, 11, 0, 3, 0, 7, 2]) + b"\0x",
        bytes([0, 10, 0, 9]) + encode_capsule(CapsuleType.WT_CLOSE_SESSION, b"\0\0\0\1x")[:9],
    ],
    "varints": [b"\0", b"\x40\1", b"\xc0" + bytes(7)],
}
