"""Targets for what a QMux peer sends: records on both sides, the older framing, parameters."""

from __future__ import annotations

import contextlib

from pywebtransport._qmux._errors import QMuxConnectionError
from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._parameters import Parameters, encode_parameters, parse_parameters
from tests.fuzz.reader import Reader
from tests.unit.qmux.bed import PARAMETERS_01, PARAMETERS_02, End, Pair

_LIMITS = QMuxLimits(
    stream_window=300,
    max_stream_window=600,
    data_window=1000,
    max_data_window=2000,
    max_streams_bidi=10,
    max_streams_uni=10,
    max_datagram_frame_size=100,
    max_idle_items=100,
)
# What a peer can be told when it broke a rule; INTERNAL_ERROR would be a defect of ours.
_TOLD = frozenset({0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0A})


def qmux_server(data: bytes) -> None:
    """Records for a server whose application echoes, resets and stops."""
    reader = Reader(data)
    older = reader.flag()
    end = End(draft=1 if older else 2, limits=_LIMITS)
    end.greet(PARAMETERS_01 if older else PARAMETERS_02)
    _serve(end, reader)


def qmux_client(data: bytes) -> None:
    """Records for a client, the parameters among them, with streams of its own."""
    end = End(is_client=True, limits=_LIMITS)
    reader = Reader(data)
    if reader.flag():
        end.greet()
    _serve(end, reader)


def qmux_legacy(data: bytes) -> None:
    """Messages of the framing ``webtransport``."""
    _serve(End(draft=0, limits=_LIMITS), Reader(data))


def qmux_parameters(data: bytes) -> None:
    """Transport parameters: what is understood is understood again when we send it."""
    with contextlib.suppress(QMuxConnectionError):
        _assert_same(parse_parameters(data, 2))


def _assert_same(found: Parameters) -> None:
    frame = encode_parameters(found)
    assert parse_parameters(frame[9:] if frame[8] < 0x40 else frame[10:], 2) == found


def qmux_writes(data: bytes) -> None:
    """What an application does at one end: the other end is always content with it."""
    reader = Reader(data)
    pair = Pair(client=_LIMITS, server=_LIMITS)
    ends = (pair.client, pair.server)
    while reader:
        end = reader.choice(ends)
        streams = [*end.handler.streams, *end.opened]
        action = reader.byte() % 8
        if action == 0 or not streams:
            end.open(reader.flag())
            continue
        stream = reader.choice(streams)
        if action == 1 and stream.can_write and (stream.is_local or not stream.is_unidirectional):
            stream.write(bytes(reader.byte() * 5), reader.flag())
        elif action == 2:
            stream.set_reliable_size(reader.byte())
            stream.reset(reader.byte())
        elif action == 3:
            stream.stop_sending(reader.byte())
        elif action == 4:
            stream.skip(min(stream.buffered, reader.byte()))
        elif action == 5:
            stream.set_send_order(reader.byte() - 128)
        elif action == 6:
            end.connection.send_datagram(b"", bytes(reader.byte() % 90))
        else:
            pair.pump()
    pair.pump()
    for end in ends:
        assert end.errors == []
        assert end.handler.closed is None, end.handler.closed
        end.connection.abandon()


def _serve(end: End, reader: Reader) -> None:
    """Give the records of the input to one end, and use what comes out of them."""
    end.clock.turn()
    for unidirectional in (False, True):
        end.open(unidirectional)
    for stream in end.opened:
        stream.write(b"hello")
    while reader and end.handler.closed is None:
        action = reader.byte()
        end.feed(reader.some())
        for stream in end.handler.streams:
            if action & 1:
                stream.skip(stream.buffered // 2)
            if action & 2 and stream.can_write and not stream.is_unidirectional:
                stream.write(b"x", fin=action & 4 != 0)
            if action & 8:
                stream.stop_sending(3)
            if action & 16:
                stream.reset(4)
            if action & 32:
                stream.release()
        assert len(end.sent()) < 20_000
    assert end.errors == []
    info = end.handler.closed
    if info is None:
        end.connection.close(0)
        end.clock.turn()
    elif not info.remote:
        assert (info.kind, info.code in _TOLD) == ("transport", True), info
    assert end.handler.closed is not None
    assert all(stream.is_closed for stream in (*end.handler.streams, *end.opened))
    assert end.clock.waiting == 0


def _records(*records: str) -> bytes:
    """An input: a flag, and before each record a byte that says what the application does."""
    found = b"\0"
    for number, record in enumerate(records):
        data = bytes.fromhex(record)
        found += bytes((number, len(data))) + data
    return found


_CONVERSATION = _records(
    "0e00000568656c6c6f",
    "0f000500",
    "0e020003010203",
    "04020903",
    "240a05020101",
    "050108",
    "3102ddee30aa",
    "f48c67529ef8c7bd00",
    "104fff",
    "110140ff" + "1240801340ff",
    "141415000516051705",
    "ed1f8a6bc94e7035",
    "0a0680000001c0000000000000010a",
    "1d404d0662796520c3a9",
)

SEEDS: dict[str, list[bytes]] = {
    "qmux_server": [_CONVERSATION, b"\1" + _CONVERSATION[1:], _records("1c07080161")],
    "qmux_client": [
        b"\1" + _CONVERSATION[1:],
        _records(PARAMETERS_02.hex(), "0a010161", "050009", "04010001"),
    ],
    "qmux_legacy": [
        _records("0068", "080068656c6c6f", "0900", "0802010203", "040200", "050103", "1d404d62")[
            1:
        ],
    ],
    "qmux_parameters": [PARAMETERS_02[9:], PARAMETERS_01[9:], b"\x3a\0\xc0\0\0\0\0\0\0\x3a\1a"],
    "qmux_writes": [
        bytes((0, 0, 0, 0, 1, 0, 200, 1, 0, 7, 1, 4, 0, 50, 0, 2, 0, 9, 9, 0, 7, 1, 6, 0, 20)),
        bytes((1, 0, 1, 1, 0, 1, 0, 255, 0, 1, 3, 0, 8, 0, 5, 0, 200, 1, 7)),
    ],
}
