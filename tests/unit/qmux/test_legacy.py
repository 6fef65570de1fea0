"""The framing ``webtransport``: one frame in each message, without parameters or credit."""

import pytest

from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._stream import QMuxStream
from pywebtransport.exceptions import ConfigurationError, DatagramError
from tests.unit.qmux.bed import End, read_all

LIMITS = QMuxLimits(max_data_window=1000, data_window=1000, max_streams_bidi=4, max_idle_items=50)


def server() -> End:
    end = End(draft=0, limits=LIMITS)
    end.clock.turn()
    assert end.ready == 1
    assert end.link.take() == []
    return end


def opened(end: End, *, unidirectional: bool = True) -> QMuxStream:
    stream = end.connection.open_stream(unidirectional)
    assert stream is not None
    return stream


def test_vectors_of_the_old_client() -> None:
    end = server()
    end.feed("080068656c6c6f", "0900", "0802010203", "040200", "050400")
    first, second, third = end.handler.streams
    assert (first.stream_id, read_all(first), first.at_eof) == (0, b"hello", True)
    assert (second.stream_id, second.is_unidirectional, second.reset_code) == (2, True, 0)
    assert (third.stream_id, third.stop_code) == (4, 0)
    end.feed("1d404d62796520c3a9")
    assert end.handler.closed is not None
    info = end.handler.closed
    assert (info.kind, info.remote, info.code, info.reason) == ("application", True, 77, "bye é")
    assert end.link.closed == 1000


def test_what_is_sent() -> None:
    end = server()
    stream, other = opened(end), opened(end, unidirectional=False)
    assert (stream.stream_id, other.stream_id) == (3, 1)
    stream.open_in(None, b"")  # there is no frame for that
    other.write(b"")
    assert end.link.take() == []
    stream.write(b"hello")
    other.write(b"x", fin=True)
    assert [record.hex() for record in end.link.take()] == ["080368656c6c6f", "090178"]
    stream.write(b"", fin=True)
    assert end.sent().hex() == "0903"
    assert (stream.is_acked, stream.is_closed) == (True, True)
    more = opened(end)
    more.write(bytes(40_000), fin=True)
    records = end.link.take()
    assert [record[0] for record in records] == [8, 8, 9]
    assert max(map(len, records)) <= 16384 + 2
    third = opened(end)
    third.write(bytes(100))
    third.set_reliable_size(50)
    third.reset(5)
    other.stop_sending(6)
    assert [record.hex() for record in end.link.take()] == ["040b05", "050106"]
    end.connection.close(77, "bye é")
    assert end.sent().hex() == "1d404d62796520c3a9"
    assert end.link.closed == 1000


def test_stop_is_answered_with_a_reset() -> None:
    end = server()
    stream = opened(end)
    stream.write(bytes(10))
    end.sent()
    assert end.feed("050309").hex() == "040309"
    assert (stream.is_stopped, stream.is_closed) == (True, True)


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ("0a000161", 7),
        ("ff5153300d0a0d0a00", 7),
        ("3001", 7),
        ("08", 7),
        ("0880", 7),
        ("04020001", 7),
        ("050200", 5),
        ("0503", 7),
        ("080161", 5),
        ("080361", 5),
        ("081061", 4),
        ("1d", 7),
    ],
)
def test_violations(record: str, code: int) -> None:
    end = server()
    sent = end.feed(record)
    assert sent[:2] == bytes((0x1C, code))
    assert end.handler.closed is not None
    assert (end.handler.closed.code, end.handler.closed.reason.encode()) == (code, sent[2:])
    assert end.link.closed == 1002


@pytest.mark.parametrize("record", ["", "0800", "080421", "050821", "040821"])
def test_floods(record: str) -> None:
    end = server()
    end.feed("080061", "0904", "050821", "040821")
    count, sent = 0, b""
    while end.handler.closed is None:
        count += 1
        assert count < 100
        sent = end.feed(record)
    assert end.handler.closed is not None
    assert (end.handler.closed.code, sent[:2]) == (10, b"\x1c\x0a")
    assert count > 40


def test_reading_stops_while_the_application_does_not_read() -> None:
    end = server()
    for _ in range(10):
        end.feed(b"\x08\x00" + bytes(100))
    assert not end.link.paused
    end.feed(b"\x08\x00" + bytes(100))
    assert end.link.paused
    (stream,) = end.handler.streams
    stream.skip(549)
    end.link.take()
    assert end.link.paused
    stream.skip(1)
    end.link.take()
    assert not end.link.paused
    end.feed(b"\x08\x00" + bytes(600))
    assert end.link.paused
    stream.release()
    end.link.take()
    assert not end.link.paused


def test_streams_come_back_without_a_frame() -> None:
    end = server()
    for number in range(100):
        end.feed(f"09{(4 * number) | 0x4000:04x}61")
        stream = end.handler.streams.pop()
        assert stream.read() == b"a"
        stream.write(b"", fin=True)
        assert end.sent()[0] == 9
    assert end.handler.closed is None


def test_only_on_a_server_and_without_datagrams() -> None:
    with pytest.raises(ConfigurationError, match="draft"):
        End(draft=0, is_client=True)
    end = server()
    assert end.connection.max_datagram_size == 0
    with pytest.raises(DatagramError):
        end.connection.send_datagram(b"", b"x")
    assert not end.connection.send_drain()
    assert end.connection.streams_left(unidirectional=True) > 10**9


def test_higher_send_order_goes_first() -> None:
    end = server()
    low, high = opened(end), opened(end)
    low.set_send_order(-1)
    high.set_send_order(1)
    low.write(b"low")
    high.write(b"high")
    low.write(b"!")
    assert [record[2:] for record in end.link.take()] == [b"high", b"low!"]


def test_idle() -> None:
    end = server()
    end.clock.advance(36)
    assert end.handler.closed is not None
    assert end.handler.closed.kind == "idle"
