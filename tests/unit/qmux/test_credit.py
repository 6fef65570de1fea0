"""Credit: exact to the byte, given back as the application reads, and without a storm of frames."""

from typing import Any

import pytest

from pywebtransport._qmux._credit import DataCredit, StreamCredit
from pywebtransport._qmux._frames import MAX_VARINT
from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._parameters import Parameters, encode_parameters
from pywebtransport._qmux._stream import QMuxStream
from pywebtransport.exceptions import ConfigurationError
from tests.unit.qmux.bed import End, Pair

LIMITS = QMuxLimits(
    data_window=1000,
    max_data_window=1000,
    stream_window=100,
    max_stream_window=100,
    max_streams_bidi=8,
    max_streams_uni=8,
)


def peer(**values: Any) -> bytes:
    return encode_parameters(Parameters(**values))


def opened(end: End, *, unidirectional: bool = True) -> QMuxStream:
    stream = end.connection.open_stream(unidirectional)
    assert stream is not None
    return stream


# ----------------------------------------------------------------------- sending


def test_nothing_is_sent_before_the_parameters_of_the_peer() -> None:
    end = End(is_client=True)
    assert end.connection.open_stream(unidirectional=False) is None
    assert end.connection.streams_left(unidirectional=False) == 0
    assert len(end.link.take()) == 1  # our parameters
    assert end.ready == 0
    end.connection.receive(peer(max_streams_bidi=3))
    assert (end.ready, end.connection.streams_left(unidirectional=False)) == (1, 3)


def test_sends_up_to_the_limit_of_the_stream_and_no_byte_more() -> None:
    end = End(is_client=True).greet(peer(max_streams_uni=5, max_stream_data_uni=10, max_data=1000))
    end.sent()
    stream = opened(end)
    stream.write(b"0123456789abcdef", fin=True)
    assert end.sent().endswith(b"0123456789")
    assert stream.queued == 6
    assert end.feed("11020a") == b""  # no change
    assert end.feed("11020c").endswith(b"ab")
    sent = end.feed("110210")
    assert (sent[0], sent[-4:]) == (0x0F, b"cdef")
    assert (stream.is_acked, stream.is_closed) == (True, True)


def test_sends_up_to_the_limit_of_the_connection_and_no_byte_more() -> None:
    end = End(is_client=True).greet(peer(max_streams_uni=5, max_stream_data_uni=100, max_data=15))
    end.sent()
    first, second = opened(end), opened(end)
    first.write(b"0123456789")
    second.write(b"abcdefghij")
    sent = end.sent()
    assert b"0123456789" in sent
    assert sent.endswith(b"abcde")
    assert (first.queued, second.queued) == (0, 5)
    first.write(b"", fin=True)  # needs no credit
    assert end.sent()[0] == 0x0F
    assert end.feed("1010").endswith(b"f")
    assert end.feed("1040ff").endswith(b"ghij")
    assert end.connection.stats()["stream_bytes_sent"] == 20


def test_limits_of_each_kind_of_stream() -> None:
    end = End(is_client=True).greet(
        peer(
            max_streams_uni=1,
            max_streams_bidi=1,
            max_data=1000,
            max_stream_data_uni=1,
            max_stream_data_bidi_remote=2,
            max_stream_data_bidi_local=3,
        )
    )
    end.sent()
    end.feed("0a010161")  # the peer, a server, opens one
    streams = [opened(end), opened(end, unidirectional=False), *end.handler.streams]
    for stream in streams:
        stream.write(b"0123456789")
    end.sent()
    assert [10 - stream.queued for stream in streams] == [1, 2, 3]


def test_streams_available_is_reported_when_the_limit_grows() -> None:
    end = End(is_client=True).greet(peer(max_streams_uni=1))
    end.sent()
    opened(end)
    assert end.connection.open_stream(unidirectional=True) is None
    end.feed("1301")
    assert end.handler.available == []
    end.feed("13021201")
    assert end.handler.available == [False, True]
    assert end.connection.streams_left(unidirectional=True) == 1


def test_a_stream_of_which_nothing_can_be_sent_is_announced_anyway() -> None:
    end = End(is_client=True).greet(peer(max_streams_uni=1))
    end.sent()
    stream = opened(end)
    stream.open_in(None, b"")
    stream.write(b"abc")
    sent = end.sent()
    assert sent.hex() == "0a8000000280000000"
    assert end.sent() == b""


# --------------------------------------------------------------------- receiving


def test_more_credit_when_half_of_the_window_is_read() -> None:
    end = End(limits=LIMITS).greet()
    end.sent()
    assert end.feed("0a004064" + "61" * 100) == b""
    (stream,) = end.handler.streams
    stream.read(49)
    assert (end.link.wants, end.sent()) == (False, b"")
    stream.read(1)
    assert end.link.wants
    assert end.sent().hex() == "11004096"  # 150
    stream.read(50)
    assert end.sent().hex() == "110040c8"
    # Exactly so much may come.
    end.feed("0e0040644064" + "62" * 100)
    assert end.handler.closed is None
    end.feed("0e0040c80163")
    assert end.handler.closed is not None
    assert end.handler.closed.code == 3


def test_window_grows_while_the_application_reads() -> None:
    limits = QMuxLimits(
        data_window=100, max_data_window=400, stream_window=100, max_stream_window=300
    )
    end = End(limits=limits).greet()
    end.sent()
    end.feed("0a004064" + "61" * 100)
    (stream,) = end.handler.streams
    stream.read(100)
    assert end.sent().hex() == "1100412c" + "10412c"  # 100 + 200 each
    end.feed("0e004064" + "40c8" + "61" * 200)
    stream.read(200)
    assert end.sent().hex() == "11004258" + "1042bc"  # 300 + 300, and 300 + 400


def test_no_credit_for_a_stream_whose_end_has_come() -> None:
    end = End(limits=LIMITS).greet()
    end.sent()
    end.feed("0b024064" + "61" * 100)
    (stream,) = end.handler.streams
    stream.read()
    assert end.sent() == b""


def test_no_storm_of_limits_when_bytes_are_read_one_by_one() -> None:
    pair = Pair(server=LIMITS)
    stream = opened(pair.client)
    stream.write(bytes(10_000), fin=True)
    pair.pump()
    (other,) = pair.server.handler.streams
    before = pair.records
    size = 0
    while not other.at_eof:
        assert other.read(1)
        size += 1
        pair.pump()
    assert size == 10_000
    assert pair.records - before <= 2 * 10_000 // 50 + 10


def test_stopped_stream_gives_its_bytes_back_to_the_connection() -> None:
    end = End(limits=LIMITS).greet()
    end.sent()
    for number in range(8):
        end.feed(f"0a{4 * number + 2:02x}4064" + "61" * 100)
    for stream in end.handler.streams[:4]:
        stream.stop_sending(7)
    sent = end.sent().hex()
    assert sent.startswith("05020705060705")
    assert "10" not in sent
    end.handler.streams[4].stop_sending(7)
    assert end.sent().hex() == "051207" + "1045dc"  # 500 + 1000
    # What comes later counts, and needs no room.
    end.feed("0f02406400", "0406094064")
    assert end.handler.closed is None


def test_reset_gives_the_gap_back_at_once() -> None:
    end = End(limits=LIMITS).greet()
    end.sent()
    for number in range(5):
        end.feed(f"0a{4 * number + 2:02x}0161" + f"04{4 * number + 2:02x}094064")
    # 99 bytes each were never here; the one byte waits for its reader.
    assert end.connection.stats()["stream_bytes_received"] == 500
    assert end.sent() == b""
    assert end.feed("0416094064").hex() == "10463b"  # 595 + 1000
    assert end.connection.new_group(_Nobody()).stats()["bytes_consumed"] == 595


class _Nobody:
    def group_blocked(self, limit: int) -> None: ...
    def group_violated(self, received: int, limit: int) -> None: ...
    def group_credit_due(self) -> None: ...


# ----------------------------------------------------------------------- streams


def test_peer_gets_streams_back_when_both_ends_and_the_application_are_done() -> None:
    end = End(limits=LIMITS).greet()
    end.sent()
    for number in range(8):
        end.feed(f"0b{4 * number:02x}0161")
    streams = end.handler.streams
    for stream in streams[:2]:
        stream.write(b"x", fin=True)
    sent = end.sent()
    assert all(stream.is_closed for stream in streams[:2])
    assert b"\x12" not in sent  # nobody has read them
    assert streams[0].read() == b"a"
    assert streams[0].read() == b""
    assert end.sent().hex() == "1209"  # at once: the peer may open no other one
    streams[1].release()
    assert end.sent().hex() == "120a"
    # Exactly these may be opened now.
    end.feed("0a240161")
    assert end.handler.closed is None
    end.feed("0a280161")
    assert end.handler.closed is not None
    assert end.handler.closed.code == 4


def test_a_stream_that_the_application_drops_comes_back() -> None:
    end = End(limits=LIMITS)
    end.greet().sent()
    for number in range(8):
        end.feed(f"0b{4 * number + 2:02x}0161")
    end.handler.streams.clear()
    assert "1310" in end.sent().hex()
    assert end.connection.new_group(_Nobody()).stats()["bytes_consumed"] == 8


def test_many_finished_streams_make_few_frames() -> None:
    end = End(limits=QMuxLimits(max_streams_uni=100)).greet()
    end.sent()
    records = 0
    for number in range(1000):
        end.feed(f"0b{(4 * number + 2) | 0x4000:04x}0161")
        end.handler.streams.pop().read()
        records += bool(end.sent())
    assert end.handler.closed is None
    assert records <= 25


def test_skipped_stream_ids_count_as_open() -> None:
    end = End(limits=LIMITS).greet()
    end.feed("0b1e0161")  # the eighth
    assert [stream.stream_id for stream in end.handler.streams] == [30]
    end.feed("0b060161", "0b1a0161", "050409")
    assert [stream.stream_id for stream in end.handler.streams] == [30, 6, 26, 4]
    assert end.connection.stats()["streams_opened_remote"] == 8 + 2
    assert end.feed("0b060161") == b""  # it is finished
    assert end.handler.closed is None


def test_credit_stops_at_the_largest_integer() -> None:
    credit = DataCredit(1 << 61, 1 << 62)
    credit.consumed = 1 << 61
    assert credit.announce() == MAX_VARINT
    credit.consumed = MAX_VARINT
    assert credit.consumed < credit.due_at
    streams = StreamCredit(1 << 60)
    assert streams.limit == 1 << 16  # IDs that are skipped are remembered


@pytest.mark.parametrize(
    ("name", "value"),
    [("data_window", 0), ("max_record_size", 100), ("idle_timeout", -1), ("datagram_queue", 0)],
)
def test_wrong_limits_are_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=name):
        QMuxLimits(**{name: value})
