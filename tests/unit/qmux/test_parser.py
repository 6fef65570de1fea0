"""Properties of the parser, with bytes and frames that hypothesis makes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pywebtransport._qmux._errors import QMuxConnectionError
from pywebtransport._qmux._frames import MAX_VARINT, encode_number, encode_varint, stream_header
from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._parameters import Parameters, encode_parameters, parse_parameters
from tests.unit.qmux.bed import PARAMETERS_01, PARAMETERS_02, End, Pair, read_all

NUMBERS = st.one_of(
    st.integers(0, 70), st.integers(0, 1 << 16), st.integers(0, 1 << 32), st.integers(0, MAX_VARINT)
)
LIMITS = QMuxLimits(max_streams_bidi=10, max_streams_uni=10)


def sized(value: int, size: int) -> bytes:
    """An integer in at least this many bytes."""
    shortest = encode_varint(value)
    if len(shortest) >= size:
        return shortest
    prefix = {2: 0x40, 4: 0x80, 8: 0xC0}[size]
    return bytes((prefix,)) + value.to_bytes(size - 1, "big")


@given(
    st.builds(
        Parameters,
        max_idle_timeout=NUMBERS,
        max_data=NUMBERS,
        max_stream_data_bidi_local=NUMBERS,
        max_stream_data_bidi_remote=NUMBERS,
        max_stream_data_uni=NUMBERS,
        max_streams_bidi=st.integers(0, 1 << 60),
        max_streams_uni=st.integers(0, 1 << 60),
        max_datagram_frame_size=NUMBERS,
        max_record_size=st.integers(16382, MAX_VARINT),
        reset_stream_at=st.booleans(),
        drain=st.booleans(),
    )
)
def test_parameters_round_trip(parameters: Parameters) -> None:
    frame = encode_parameters(parameters)
    body = frame[9:] if frame[8] < 0x40 else frame[10:]
    assert parse_parameters(body, 2) == parameters


@given(st.binary(max_size=200))
def test_any_parameters_are_parsed_or_refused(body: bytes) -> None:
    code, found = 0, Parameters()
    try:
        found = parse_parameters(body, 2)
    except QMuxConnectionError as error:
        code = error.code
    assert code in (0, 8)
    again = encode_parameters(found)
    assert parse_parameters(again[9:] if again[8] < 0x40 else again[10:], 2) == found


@given(NUMBERS, NUMBERS, st.integers(0, (1 << 30) - 1), st.booleans())
def test_stream_header_round_trip(stream_id: int, offset: int, length: int, fin: bool) -> None:
    header = stream_header(stream_id, offset, length, fin)
    assert len(header) <= 25
    numbers = []
    pos = 1
    while pos < len(header):
        size = 1 << (header[pos] >> 6)
        numbers.append(int.from_bytes(header[pos : pos + size], "big") & (1 << (8 * size - 2)) - 1)
        pos += size
    expected = [stream_id, offset, length] if header[0] & 4 else [stream_id, length]
    assert numbers == expected
    assert header[0] & 4 or offset == 0
    assert header[0] & 0xFB == (0x0B if fin else 0x0A)


FRAME_TYPES = [
    *range(0x32),
    0x48C67529EF8C7BD,
    0x348C67529EF8C7BD,
    0x348C67529EF8C7BE,
    0x3F5153300D0A0D0A,
    0x2D1F8A6BC94E7035,
]
# Bytes that look like frames get further than random ones.
PIECES = st.one_of(
    st.binary(max_size=30),
    st.builds(
        lambda kind, numbers, tail: encode_number(kind, *numbers) + tail,
        st.sampled_from(FRAME_TYPES),
        st.lists(st.one_of(st.integers(0, 8), NUMBERS), max_size=4),
        st.binary(max_size=8),
    ),
)
RECORDS = st.lists(st.lists(PIECES, max_size=4).map(b"".join), max_size=10)


@settings(max_examples=300)
@given(RECORDS, st.sampled_from([0, 1, 2]), st.booleans(), st.booleans())
def test_any_bytes_are_processed_or_end_the_connection(
    records: list[bytes], draft: int, greet: bool, is_client: bool
) -> None:
    end = End(limits=LIMITS, draft=draft, is_client=is_client and draft > 0)
    end.clock.turn()
    if greet and draft:
        end.greet(PARAMETERS_02 if draft == 2 else PARAMETERS_01)
    for unidirectional in (False, True):
        stream = end.connection.open_stream(unidirectional)
        if stream is not None:
            stream.write(b"hello")
    for record in records:
        sent = end.feed(record)
        assert len(sent) < 1000
    assert end.errors == []
    closed = end.handler.closed
    if closed is not None and not closed.remote:
        assert closed.kind == "transport"
        assert closed.code in (3, 4, 5, 6, 7, 8, 10)  # never INTERNAL_ERROR
    received = end.connection.stats()["stream_bytes_received"]
    assert sum(stream.buffered for stream in end.handler.streams) <= (received or 0)
    if closed is None:
        end.connection.close(0)
        end.clock.turn()
    assert end.handler.closed is not None
    assert all(stream.is_closed for stream in end.handler.streams)
    assert end.clock.waiting == 0


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Valid frames of several streams, of every kind that a peer may send in any order."""
    sizes = st.sampled_from([1, 2, 4, 8])
    frames = []
    offsets: dict[int, int] = {}
    ended: set[int] = set()
    limit = 1 << 20
    ping = 0
    for _ in range(draw(st.integers(0, 40))):
        kind = draw(st.sampled_from("ddddddrmspgbo"))
        stream_id = draw(st.sampled_from([0, 2, 4, 6, 8, 10]))
        if kind == "d" and stream_id not in ended:
            data = draw(st.binary(max_size=40))
            fin = draw(st.integers(0, 5)) == 0
            offset = offsets.get(stream_id, 0)
            header = bytes((0x0E | fin,)) + sized(stream_id, draw(sizes))
            header += sized(offset, draw(sizes)) + sized(len(data), draw(sizes))
            offsets[stream_id] = offset + len(data)
            frames.append(header + data)
            if fin:
                ended.add(stream_id)
        elif kind == "r" and stream_id not in ended:
            final = offsets.get(stream_id, 0) + draw(st.integers(0, 20))
            ended.add(stream_id)
            frames.append(b"\x04" + sized(stream_id, draw(sizes)) + sized(7, draw(sizes)))
            frames[-1] += sized(final, draw(sizes))
        elif kind == "m":
            limit += draw(st.integers(1, 5000))
            frames.append(b"\x10" + sized(limit, draw(sizes)))
        elif kind == "s" and not stream_id & 2:
            frames.append(b"\x05" + sized(stream_id, draw(sizes)) + sized(9, draw(sizes)))
        elif kind == "p":
            frames.append(bytes(draw(st.integers(1, 5))))
        elif kind == "g":
            frames.append(encode_number(0x348C67529EF8C7BD, ping))
            ping += 1
        elif kind == "b":
            frames.append(b"\x14" + sized(5, draw(sizes)))
        elif kind == "o":
            frames.append(b"\x31" + sized(3, draw(sizes)) + draw(st.binary(min_size=3, max_size=3)))
    return frames


def result(records: list[bytes]) -> tuple[object, ...]:
    """Everything that an application can see after these records."""
    end = End(limits=QMuxLimits(max_idle_items=10_000)).greet()
    end.sent()
    for record in records:
        end.connection.receive(record)
    end.clock.turn()
    sent = end.sent()
    assert end.errors == []
    assert end.handler.closed is None
    streams = sorted(end.handler.streams, key=lambda stream: stream.stream_id)
    return (
        [
            (
                stream.stream_id,
                stream.fin_received,
                stream.reset_code,
                stream.stop_code,
                stream.is_closed,
                stream.peek(10_000),
                stream.bytes_received,
            )
            for stream in streams
        ],
        end.handler.datagrams,
        end.connection.stats()["stream_bytes_received"],
        sorted(sent[-9:]) if sent else None,
    )


@settings(max_examples=200)
@given(conversations(), st.data())
def test_records_may_be_cut_anywhere_between_frames(
    frames: list[bytes], data: st.DataObject
) -> None:
    whole = result([b"".join(frames)]) if frames else result([])
    cuts = data.draw(st.lists(st.integers(0, len(frames)), max_size=10).map(sorted))
    edges = [0, *cuts, len(frames)]
    records = [b"".join(frames[a:b]) for a, b in pairwise(edges)]
    assert result(records)[:3] == whole[:3]
    assert result(list(frames))[:3] == whole[:3]


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=3000), st.booleans()), max_size=40),
    st.integers(100, 5000),
)
def test_what_one_end_writes_the_other_reads(
    writes: list[tuple[int, bytes, bool]], window: int
) -> None:
    limits = QMuxLimits(
        stream_window=window,
        max_stream_window=2 * window,
        data_window=2 * window,
        max_data_window=3 * window,
    )
    pair = Pair(server=limits)
    streams = [pair.client.connection.open_stream(number % 2 == 0) for number in range(6)]
    written: dict[int, bytes] = {}
    ended = set()
    got: dict[int, bytes] = {}
    for number, data, fin in writes:
        stream = streams[number]
        assert stream is not None
        if stream.stream_id in ended:
            continue
        stream.write(data, fin)
        written[stream.stream_id] = written.get(stream.stream_id, b"") + data
        if fin:
            ended.add(stream.stream_id)
    for _ in range(1000):
        pair.pump()
        waiting = [other for other in pair.server.handler.streams if other.buffered]
        if not waiting:
            break
        for other in waiting:
            got[other.stream_id] = got.get(other.stream_id, b"") + read_all(other)
    assert {key: value for key, value in written.items() if value} == got
    for other in pair.server.handler.streams:
        assert other.at_eof == (other.stream_id in ended)
    assert pair.client.errors == pair.server.errors == []


def test_memory_is_bounded_whatever_a_peer_sends() -> None:
    """One MiB of each kind of frame; nothing is kept but what credit allows."""
    ping = iter(range(1 << 29))
    floods: dict[str, Callable[[], bytes]] = {
        "max_stream_data": lambda: encode_number(0x11, 0, next(ping)),
        "skipped streams": lambda: encode_number(0x0A, 4 * 9, 0),
        "stop": lambda: encode_number(0x05, 0, 1),
        "ping": lambda: encode_number(0x348C67529EF8C7BD, next(ping)),
        "parameters": lambda: PARAMETERS_02,
    }
    for name, frame in floods.items():
        end = End(limits=QMuxLimits(max_streams_bidi=10, max_idle_items=1 << 29)).greet()
        end.feed("0a000161")
        record = b"".join(frame() for _ in range(1000))
        tracemalloc.start()
        for _ in range(20):
            end.connection.receive(record)
            record = b"".join(frame() for _ in range(1000))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 200_000 + 3 * len(record), name
