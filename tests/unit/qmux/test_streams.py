"""What a stream and a connection say of themselves, and the order of what the peer hears."""

import pytest

from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._parameters import Parameters, encode_parameters
from pywebtransport._qmux._stream import QMuxStream
from pywebtransport.exceptions import StreamError
from tests.unit.qmux.bed import PARAMETERS_02, End, Pair, read_all


def opened(end: End, *, unidirectional: bool = True) -> QMuxStream:
    stream = end.connection.open_stream(unidirectional)
    assert stream is not None
    return stream


def client(**limits: int) -> End:
    end = End(is_client=True, limits=QMuxLimits(**limits)).greet()
    end.sent()
    return end


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_taken_when_they_are_written(kind: type) -> None:
    end = client()
    stream = opened(end)
    source = bytearray(b"hello")
    data = kind(source)
    assert stream.write(data) == 5
    if kind is not bytes:
        source[0] = 0
    assert end.sent().endswith(b"hello")
    assert (stream.bytes_written, stream.queued, stream.fin_written) == (5, 0, False)


def test_unacked_and_acked_follow_the_kernel() -> None:
    end = client()
    stream = opened(end)
    stream.write(bytes(1000), fin=True)
    assert stream.unacked == 1000
    end.link.unsent = 400
    sent = len(end.sent())
    assert (stream.queued, stream.unacked, stream.is_acked) == (0, 400, False)
    end.link.unsent = 1
    end.connection.handed_over()
    assert (stream.unacked, stream.is_acked, stream.is_closed) == (1, False, False)
    end.link.unsent = 0
    end.connection.handed_over()
    assert (stream.unacked, stream.is_acked, stream.is_closed) == (0, True, True)
    assert sent > 1000


def test_streams_are_acked_one_by_one() -> None:
    end = client()
    first, second = opened(end), opened(end)
    first.write(b"a", fin=True)
    end.link.unsent = 50
    end.link.take()
    second.write(bytes(30), fin=True)
    end.link.unsent = 39
    end.link.take()
    assert (first.is_acked, second.is_acked) == (True, False)
    end.link.unsent = 0
    end.link.take()
    assert second.is_acked


def test_acked_streams_are_noticed_by_the_next_record() -> None:
    end = client()
    stream = opened(end)
    stream.write(b"a", fin=True)
    assert end.connection.next_record() is not None
    assert end.connection.next_record() is None
    assert stream.is_acked


def test_all_streams_together_may_be_crowded() -> None:
    end = client(max_queued_data=1000)
    first, second = opened(end), opened(end)
    first.write(bytes(1000))
    assert not second.is_crowded
    second.write(b"x")
    assert (first.is_crowded, second.is_crowded) == (True, True)
    end.sent()
    assert not first.is_crowded


def test_nothing_can_be_written_to_a_unidirectional_stream_of_the_peer() -> None:
    end = End().greet()
    end.feed("0a020161")
    (stream,) = end.handler.streams
    with pytest.raises(StreamError, match="can only receive"):
        stream.write(b"x")
    stream.reset(5)
    stream.accept_in(None, 1)
    assert (stream.buffered, end.sent()) == (0, b"")
    own = opened(client())
    with pytest.raises(StreamError, match="can only send"):
        own.read()
    own.stop_sending(5)
    own.join_group(None, 0, 0)


def test_header_of_a_stream_is_reliable() -> None:
    """For HTTP/3 over QMux, whose streams begin with a header."""
    end = client()
    stream = opened(end)
    stream.open_in(None, b"\x40\x54\x00")
    stream.write(b"data")
    end.sent()
    stream.reset(9)
    assert end.sent().hex() == "2402090703"


def test_announced_streams_are_heard_of_in_order() -> None:
    pair = Pair()
    streams = []
    for number in range(6):
        stream = opened(pair.client, unidirectional=False)
        stream.open_in(None, b"")
        if number in (1, 4):
            stream.write(b"data")
        if number == 3:
            stream.write(b"", fin=True)
        streams.append(stream)
    pair.pump()
    heard = pair.server.handler.streams
    assert [stream.stream_id for stream in heard] == [stream.stream_id for stream in streams]
    assert [read_all(stream) for stream in heard] == [b"", b"data", b"", b"", b"data", b""]
    assert [stream.at_eof for stream in heard] == [False, False, False, True, False, False]


@pytest.mark.parametrize("frame", ["0a0400", "110405", "150405", "050409", "04040900"])
def test_any_frame_opens_a_stream(frame: str) -> None:
    end = End().greet()
    for _ in range(2):
        end.feed(frame)
        assert [stream.stream_id for stream in end.handler.streams] == [4]


def test_what_a_connection_knows() -> None:
    end = End()
    connection = end.connection
    assert connection.peer_parameters is None
    end.greet(PARAMETERS_02)
    assert connection.peer_parameters is not None
    assert connection.peer_parameters.max_streams_bidi == 100
    assert (connection.draft, connection.is_closed, connection.close_info) == (2, False, None)
    assert (connection.local_address, connection.peer_certificate) == (("192.0.2.1", 443), None)
    end.feed("0a000161" + "0b020162" + "3101dd")
    stats = connection.stats()
    assert stats["streams_opened_remote"] == 2
    assert stats["streams_alive"] == 1
    assert stats["stream_bytes_received"] == 2
    assert stats["packets_received"] == 2
    assert stats["bytes_received"] == len(PARAMETERS_02) + 4 + 4 + 3
    assert stats["smoothed_rtt"] == 7  # from the link
    assert stats["packets_lost"] is None


def test_a_fault_of_ours_ends_this_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    end = End().greet(encode_parameters(Parameters()))
    end.sent()

    def broken(self: object, *args: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("pywebtransport._qmux._receiving.Receiver._max_data", broken)
    sent = end.feed("1005")
    assert sent[:2] == b"\x1c\x01"
    assert [type(error) for error in end.errors] == [RuntimeError]
    assert end.handler.closed is not None
    assert end.handler.closed.code == 1
