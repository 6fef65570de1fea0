"""Much data, many streams, and readers that are slow."""

import hashlib
import random

import pytest

from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._stream import QMuxStream
from tests.unit.qmux.bed import End, Pair, read_all

MIB = 1 << 20


class Pump:
    """Writes pseudo-random pieces to a stream while there is room, and hashes them."""

    def __init__(self, stream: QMuxStream, size: int, seed: int) -> None:
        self.stream = stream
        self.left = size
        self.random = random.Random(seed)
        self.hash = hashlib.sha256()

    def work(self) -> None:
        while self.left and self.stream.write_room():
            n = min(self.left, self.random.choice((1, 100, 5000, 65536, 300_000)))
            data = self.random.randbytes(n)
            self.left -= n
            self.hash.update(data)
            self.stream.write(data, fin=not self.left)


class Sink:
    """Hashes what a stream brings."""

    def __init__(self, stream: QMuxStream) -> None:
        self.hash = hashlib.sha256()
        self.size = 0
        self.ended = False
        stream.sink = self
        self(stream)

    def __call__(self, stream: QMuxStream) -> None:
        while stream.buffered:
            data = stream.read(50_000)
            assert data
            self.hash.update(data)
            self.size += len(data)
        if stream.at_eof:
            assert stream.read() == b""
            self.ended = True


def test_20_mib_each_way_arrive_byte_for_byte() -> None:
    pair = Pair()
    sinks: list[Sink] = []
    pair.server.handler.on_stream = lambda stream: sinks.append(Sink(stream))
    stream = pair.client.connection.open_stream(unidirectional=False)
    assert stream is not None
    upload = Pump(stream, 20 * MIB, 1)
    upload.work()
    download_sink = Sink(stream)
    pair.pump()
    (other,) = pair.server.connection_streams()
    download = Pump(other, 20 * MIB, 2)
    while upload.left or download.left:
        upload.work()
        download.work()
        pair.pump()
    pair.pump()
    assert sinks[0].ended
    assert download_sink.ended
    assert sinks[0].size == download_sink.size == 20 * MIB
    assert sinks[0].hash.digest() == upload.hash.digest()
    assert download_sink.hash.digest() == download.hash.digest()
    assert (stream.is_acked, stream.is_closed, other.is_closed) == (True, True, True)
    assert pair.client.errors == pair.server.errors == []


@pytest.mark.parametrize("unidirectional", [False, True])
def test_200_streams_at_the_same_time(unidirectional: bool) -> None:
    limits = QMuxLimits(max_streams_bidi=200, max_streams_uni=200, data_window=4 * MIB)
    pair = Pair(server=limits)
    sinks: dict[int, Sink] = {}
    pair.server.handler.on_stream = lambda stream: sinks.update({stream.stream_id: Sink(stream)})
    pumps = []
    for number in range(200):
        stream = pair.client.connection.open_stream(unidirectional)
        assert stream is not None
        pumps.append(Pump(stream, 30_000 + number, number))
    assert pair.client.connection.open_stream(unidirectional) is None
    while any(pump.left for pump in pumps):
        for pump in pumps:
            pump.work()
        pair.pump()
    for pump in pumps:
        sink = sinks[pump.stream.stream_id]
        assert sink.ended
        assert sink.hash.digest() == pump.hash.digest()
    assert pair.server.connection.stats()["streams_opened_remote"] == 200


def test_a_slow_reader_bounds_what_is_kept() -> None:
    limits = QMuxLimits(
        data_window=200_000, max_data_window=300_000, stream_window=60_000, max_stream_window=90_000
    )
    pair = Pair(server=limits)
    streams = []
    for _ in range(10):
        stream = pair.client.connection.open_stream(unidirectional=True)
        assert stream is not None
        stream.write(bytes(500_000))
        streams.append(stream)
    pair.pump()
    others = pair.server.handler.streams
    assert sum(other.buffered for other in others) == 200_000
    assert max(other.buffered for other in others) <= 60_000
    # Each of them reads a little from time to time.
    rng = random.Random(3)
    total = 0
    while total < 4_000_000:
        other = rng.choice(others)
        total += len(other.read(20_000) or b"")
        pair.pump()
        assert sum(other.buffered for other in others) <= 300_000
        assert max(other.buffered for other in others) <= 90_000


def test_a_stream_that_nobody_reads_does_not_stop_the_others() -> None:
    pair = Pair()
    stuck = pair.client.connection.open_stream(unidirectional=True)
    assert stuck is not None
    stuck.write(bytes(2 * MIB))
    pair.pump()
    (kept,) = pair.server.handler.streams
    assert kept.buffered == QMuxLimits().stream_window
    stream = pair.client.connection.open_stream(unidirectional=False)
    assert stream is not None
    stream.write(b"hello", fin=True)
    pair.pump()
    assert read_all(pair.server.handler.streams[1]) == b"hello"
    # Its end, which needs no credit, passes as well when the connection has none left.
    more = pair.client.connection.open_stream(unidirectional=True)
    assert more is not None
    more.write(b"", fin=True)
    pair.pump()
    assert pair.server.handler.streams[2].at_eof


def test_streams_share_records_fairly() -> None:
    end = End(is_client=True).greet()
    end.sent()
    streams = []
    for _ in range(3):
        stream = end.connection.open_stream(unidirectional=True)
        assert stream is not None
        stream.write(bytes(200_000))
        streams.append(stream)
    end.link.take(6)
    sent = [200_000 - stream.queued for stream in streams]
    assert max(sent) - min(sent) <= 16384
    assert sum(sent) > 6 * 16_000


def test_higher_send_order_goes_first() -> None:
    end = End(is_client=True).greet()
    end.sent()
    low, high, middle = (end.connection.open_stream(unidirectional=True) for _ in range(3))
    assert low is not None
    assert high is not None
    assert middle is not None
    for stream, order in ((low, -5), (high, 7), (middle, 0)):
        stream.set_send_order(order)
        stream.write(bytes(40_000))
    end.link.take(2)
    assert (middle.queued, low.queued) == (40_000, 40_000)
    assert high.queued < 10_000
    end.link.take(2)
    assert (high.queued, low.queued) == (0, 40_000)
    low.set_send_order(9)  # also while it waits
    end.link.take(1)
    assert low.queued < 40_000
    end.link.take()
    assert (high.queued, middle.queued, low.queued) == (0, 0, 0)


def test_small_frames_share_a_record() -> None:
    end = End(is_client=True).greet()
    end.sent()
    for number in range(100):
        stream = end.connection.open_stream(unidirectional=True)
        assert stream is not None
        stream.write(bytes([number]) * 100, fin=True)
    records = end.link.take()
    assert len(records) == 1
    assert len(records[0]) < 100 * 115
