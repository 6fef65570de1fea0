"""The records that are sent: their size, and what is in them when the link takes little."""

import pytest

from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._parameters import Parameters, encode_parameters
from tests.unit.qmux.bed import End, Pair, read_all


def end_with(record_size: int, *, is_client: bool = True) -> End:
    parameters = Parameters(
        max_data=1 << 30,
        max_stream_data_uni=1 << 30,
        max_stream_data_bidi_local=1 << 30,
        max_streams_uni=5000,
        max_datagram_frame_size=1 << 20,
        max_record_size=record_size,
    )
    end = End(is_client=is_client).greet(encode_parameters(parameters))
    end.sent()
    return end


@pytest.mark.parametrize(
    ("announced", "largest"), [(16382, 16382), (20000, 20000), (1 << 30, 65535)]
)
def test_no_record_is_larger_than_the_peer_accepts(announced: int, largest: int) -> None:
    end = end_with(announced)
    for number in range(30):
        stream = end.open(unidirectional=True)
        assert stream is not None
        stream.write(bytes(1000 * number + 1), fin=number % 2 == 0)
        end.connection.send_datagram(b"", bytes(end.connection.max_datagram_size - number))
    records = end.link.take()
    assert max(map(len, records)) <= largest
    assert sum(map(len, records)) > 30 * largest
    assert max(map(len, records)) > largest - 2000
    assert end.connection.stats()["packets_sent"] == len(records) + 1
    assert end.connection.stats()["bytes_sent"] != 0


def test_one_large_stream_fills_records() -> None:
    end = end_with(1 << 16)
    stream = end.open(unidirectional=True)
    assert stream is not None
    stream.write(bytes(1 << 20))
    assert len(end.link.take()) <= 17


def test_many_resets_are_split() -> None:
    end = end_with(16382)
    for _ in range(5000):
        stream = end.open(unidirectional=True)
        assert stream is not None
        stream.reset((1 << 62) - 1)
    records = end.link.take()
    assert max(map(len, records)) <= 16382
    assert len(records) > 3
    assert end.connection.stats()["streams_alive"] == 0


def test_a_small_message_is_not_cut_at_the_end_of_a_record() -> None:
    end = end_with(16382)
    for _ in range(40):
        stream = end.open(unidirectional=True)
        assert stream is not None
        stream.write(bytes(900), fin=True)
    end.link.take()
    # One frame for each stream: no message needed two.
    assert end.connection.stats()["bytes_sent"] == 40 * (900 + 9) + len(_parameters())


def _parameters() -> bytes:
    return End(is_client=True).sent()


def test_a_link_that_takes_nothing_bounds_what_waits() -> None:
    """The peer sends as much as it can and reads nothing; a little waits for it in the end."""
    limits = QMuxLimits(max_streams_bidi=20, max_streams_uni=20, max_idle_items=1 << 20)
    end = End(limits=limits).greet()
    end.sent()
    head = "f48c67529ef8c7bd"
    for number in range(20):
        end.connection.receive(bytes.fromhex(f"0b{4 * number | 0x4000:04x}0161"))
        end.connection.receive(bytes.fromhex(f"05{4 * number | 0x4000:04x}09"))
        end.connection.receive(bytes.fromhex(f"0a{4 * number + 2 | 0x4000:04x}0162"))
        for ping in range(50):
            end.connection.receive(bytes.fromhex(head + f"{50 * number + ping | 0x4000:04x}"))
    for stream in end.handler.streams:
        assert read_all(stream)
        if not stream.at_eof:
            stream.stop_sending(5)
        stream.release()
    end.clock.turn()
    # No room for another stream before the answers have left.
    assert end.connection.stats()["streams_alive"] == 40
    waiting = end.sent()
    assert len(waiting) < 40 * 16 + 40
    # The answers end the bidirectional streams; the others wait for their peer.
    assert end.connection.stats()["streams_alive"] == 20


def test_frames_of_a_record_are_delivered_in_one_phase() -> None:
    """An answer to many small requests leaves as one record."""
    pair = Pair()
    pair.server.handler.on_stream = lambda stream: stream.write(read_all(stream), fin=True)
    for _ in range(50):
        stream = pair.client.open(unidirectional=False)
        assert stream is not None
        stream.write(b"hello", fin=True)
    before = pair.records
    pair.pump()
    assert [read_all(stream) for stream in pair.client.opened] == [b"hello"] * 50
    assert pair.records - before <= 4
