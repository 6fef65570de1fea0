"""Resets and stops, the end of a connection, and what is left after it."""

import gc
import weakref
from typing import Any

import pytest

from pywebtransport._qmux._frames import MAX_VARINT
from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._parameters import Parameters, encode_parameters
from pywebtransport._qmux._stream import QMuxStream
from pywebtransport._quic import live_objects
from pywebtransport.exceptions import (
    ConfigurationError,
    ConnectionError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)
from tests.unit.qmux.bed import PARAMETERS_01, PARAMETERS_02, End, Pair, read_all


class Waiter:
    def __init__(self) -> None:
        self.count = 0

    def done(self) -> bool:
        return self.count > 0

    def set_result(self, result: None, /) -> None:
        self.count += 1


def opened(end: End, *, unidirectional: bool = True) -> QMuxStream:
    stream = end.connection.open_stream(unidirectional)
    assert stream is not None
    return stream


def pair_of_streams(pair: Pair) -> tuple[QMuxStream, QMuxStream]:
    """Both ends of a new bidirectional stream; each has sent 5 bytes."""
    stream = opened(pair.client, unidirectional=False)
    stream.write(b"hello")
    pair.pump()
    other = pair.server.handler.streams[-1]
    other.write(b"there")
    pair.pump()
    return stream, other


# ------------------------------------------------------------------ resets and stops


def test_resets_in_both_directions() -> None:
    pair = Pair()
    stream, other = pair_of_streams(pair)
    waiter = Waiter()
    other.read()
    other.set_read_waiter(waiter)
    stream.reset(9)
    stream.reset(10)  # the first one counts
    assert not stream.can_write
    with pytest.raises(StreamError, match="reset by this end"):
        stream.write(b"more")
    pair.pump()
    assert waiter.count == 1
    assert (other.is_reset, other.reset_code, other.is_closed) == (True, 9, False)
    with pytest.raises(StreamResetError) as caught:
        other.read()
    assert caught.value.details["code"] == 9
    other.reset(MAX_VARINT)
    pair.pump()
    assert (stream.reset_code, stream.is_closed, other.is_closed) == (MAX_VARINT, True, True)
    assert pair.server.connection.stats()["resets_received"] == 1


def test_stops_in_both_directions() -> None:
    pair = Pair()
    stream, other = pair_of_streams(pair)
    stream.write(bytes(10))
    other.stop_sending(4)
    other.stop_sending(5)
    pair.pump()
    assert (stream.is_stopped, stream.stop_code, stream.queued) == (True, 4, 0)
    with pytest.raises(StreamStoppedError) as caught:
        stream.write(b"more")
    assert caught.value.details["code"] == 4
    with pytest.raises(StreamError, match="stopped by this end"):
        other.read()
    stream.stop_sending(0)
    pair.pump()
    assert (other.stop_code, stream.is_closed, other.is_closed) == (0, True, True)
    for end in (pair.client, pair.server):
        assert end.connection.stats()["streams_alive"] == 0
        assert end.connection.stats()["stream_bytes_received"] in (5, 15)


def test_a_stop_after_the_end_changes_nothing() -> None:
    pair = Pair()
    stream, other = pair_of_streams(pair)
    stream.write(b"!", fin=True)
    pair.pump()
    other.stop_sending(3)
    stream.reset(3)
    pair.pump()
    assert (stream.is_stopped, stream.is_acked) == (False, True)
    other.write(b"", fin=True)
    pair.pump()
    assert (stream.is_closed, other.is_closed) == (True, True)


def test_reset_drops_what_waits_and_wakes_the_writer() -> None:
    end = End(is_client=True).greet(encode_parameters(Parameters(max_streams_uni=1, max_data=100)))
    end.sent()
    stream = opened(end)
    stream.write(bytes(100_000))
    writer, acked = Waiter(), Waiter()
    stream.set_write_waiter(writer)
    stream.set_acked_waiter(acked)
    stream.reset(9)
    assert stream.queued == 0
    end.clock.turn()
    assert (writer.count, acked.count) == (1, 1)
    assert end.sent().hex() == "04020900"
    assert stream.is_closed


def test_writer_waits_until_the_queue_has_fallen() -> None:
    limits = QMuxLimits(write_low_water=1000)
    end = End(is_client=True, limits=limits).greet()
    end.sent()
    stream = opened(end)
    stream.write(bytes(30_000))
    waiter = Waiter()
    stream.set_write_waiter(waiter)
    assert waiter.count == 0
    end.link.take(1)
    assert (stream.queued > 1000, waiter.count) == (True, 0)
    end.link.take()
    assert waiter.count == 1


@pytest.mark.parametrize("reliable", [0, 3, 5, 40, 1000])
def test_reliable_reset(reliable: int) -> None:
    """The application gets what was promised, then the reset."""
    pair = Pair()
    stream = opened(pair.client)
    stream.write(b"hello")
    pair.pump()
    (other,) = pair.server.handler.streams
    stream.write(bytes(95))
    stream.set_reliable_size(reliable)
    stream.reset(9)
    pair.pump()
    assert stream.is_closed
    expected = min(reliable, 100)
    assert other.is_reset == (expected == 0)
    if expected:
        assert len(read_all(other)) == max(5, expected)
    with pytest.raises(StreamResetError):
        other.read()
    assert (other.reset_code, other.is_closed) == (9, True)
    assert pair.client.errors == pair.server.errors == []
    stats = pair.server.connection.stats()
    assert stats["stream_bytes_received"] == max(5, expected)


def test_reliable_reset_in_frames() -> None:
    end = End().greet()
    end.sent()
    end.feed("0a020568656c6c6f", "2402090a07")
    (stream,) = end.handler.streams
    assert (stream.is_reset, stream.is_closed) == (False, False)
    assert stream.read(4) == b"hell"
    end.feed("0e020502" + "2021")
    assert (stream.is_reset, stream.is_closed) == (False, True)
    assert read_all(stream) == b"o !"
    assert stream.is_reset
    with pytest.raises(StreamResetError):
        stream.read()
    end.feed("0e02070122")  # it is finished
    assert end.handler.closed is None


def test_a_stop_ends_a_reliable_reset_that_waits_for_credit() -> None:
    parameters = Parameters(max_streams_uni=1, max_data=100, reset_stream_at=True)
    end = End(is_client=True).greet(encode_parameters(parameters))
    end.sent()
    stream = opened(end)
    stream.write(bytes(10))
    stream.set_reliable_size(5)
    stream.reset(9)
    assert (end.sent(), stream.is_closed) == (b"", False)
    assert end.feed("05020a").hex() == "04020900"
    assert (stream.is_closed, stream.queued, end.sent()) == (True, 0, b"")


def test_reliable_size_may_fall() -> None:
    end = End().greet()
    end.feed("0a020568656c6c6f", "2402090a09", "2402090a03")
    (stream,) = end.handler.streams
    assert (stream.is_reset, stream.is_closed) == (False, True)
    assert read_all(stream) == b"hello"
    assert stream.is_reset


def test_reset_without_reliable_size_if_the_peer_does_not_know_it() -> None:
    end = End(is_client=True, draft=1).greet(PARAMETERS_01)
    end.sent()
    stream = opened(end)
    stream.write(b"hello")
    stream.set_reliable_size(5)
    stream.reset(9)
    assert end.sent().hex() == "04020900"


def test_reset_held_until_another_stream_has_ended() -> None:
    end = End(is_client=True).greet()
    end.sent()
    first, second = opened(end), opened(end)
    first.write(b"a")
    second.write(b"b")
    end.sent()
    second.hold_for(first)
    second.reset(9)
    assert not second.can_write
    assert end.sent() == b""
    first.write(b"", fin=True)
    assert end.sent().hex() == "0f800000028000000180000000" + "04060901"


def test_wrong_arguments() -> None:
    end = End(is_client=True).greet()
    stream = opened(end)
    for call in (stream.reset, stream.stop_sending, stream.set_reliable_size):
        for code in (-1, 1 << 62, "9"):
            with pytest.raises(ConfigurationError):
                call(code)  # type: ignore[arg-type]
    for order in (1 << 63, None):
        with pytest.raises(ConfigurationError, match="order"):
            stream.set_send_order(order)  # type: ignore[arg-type]
    for code in (-1, 1 << 62):
        with pytest.raises(ConfigurationError, match="code"):
            end.connection.close(code)
    with pytest.raises(ConfigurationError, match="draft"):
        end.connection.start(3)
    assert (stream.can_write, end.connection.is_closed) == (True, False)


# --------------------------------------------------------------- the connection ends


@pytest.mark.parametrize("closer", ["client", "server"])
@pytest.mark.parametrize(
    ("code", "reason"), [(0, ""), (77, "bye é"), (2**32 - 1, "x" * 1024), (MAX_VARINT, "\n")]
)
def test_close_codes_and_reasons_reach_the_other_end(closer: str, code: int, reason: str) -> None:
    pair = Pair()
    here, there = pair.client, pair.server
    if closer == "server":
        here, there = there, here
    here.connection.close(code, reason)
    assert here.connection.is_closed
    assert here.handler.closed is None  # in its deliver phase
    pair.pump()
    for end, remote in ((here, False), (there, True)):
        info = end.handler.closed
        assert info is not None
        assert (info.kind, info.code, info.reason) == ("application", code, reason)
        assert (info.remote, info.handshake_done) == (remote, True)
        assert (end.link.closed, end.link.aborted) == (1000, False)
        assert end.connection.handler is None
        assert end.connection.close_info is info
    assert pair.clock.waiting == 0


def test_long_reason_is_cut_between_characters() -> None:
    pair = Pair()
    pair.client.connection.close(1, "x" * 1023 + "é")
    pair.pump()
    assert pair.server.handler.closed is not None
    assert pair.server.handler.closed.reason == "x" * 1023


def test_transport_close_reaches_the_other_end() -> None:
    pair = Pair()
    pair.client.connection.close(1, "a fault", application=False)
    pair.pump()
    info = pair.server.handler.closed
    assert info is not None
    assert (info.kind, info.code, info.reason, info.remote) == ("transport", 1, "a fault", True)
    assert pair.client.link.closed == 1002


def test_resets_leave_before_the_close() -> None:
    end = End(is_client=True).greet()
    end.sent()
    stream = opened(end)
    stream.write(b"a")
    end.sent()
    stream.reset(9)
    end.connection.close(5)
    assert end.sent().hex() == "04020901" + "1d0500"


def test_everybody_who_waits_is_woken() -> None:
    pair = Pair()
    stream, other = pair_of_streams(pair)
    read_all(other)
    stream.write(bytes(2_000_000))
    waiters = [Waiter() for _ in range(3)]
    other.set_read_waiter(waiters[0])
    stream.set_write_waiter(waiters[1])
    stream.set_acked_waiter(waiters[2])
    ended: list[QMuxStream] = []
    stream.on_closed = other.on_closed = ended.append
    pair.client.connection.close(7, "over")
    pair.pump()
    assert [waiter.count for waiter in waiters] == [1, 1, 1]
    assert sorted(map(id, ended)) == sorted(map(id, (stream, other)))
    with pytest.raises(StreamError) as caught:
        stream.write(b"more")
    assert caught.value.details == {"connection_closed": True, "kind": "application", "code": 7}
    assert (caught.value.reason, caught.value.remote) == ("over", False)
    with pytest.raises(StreamError) as caught:
        other.read()
    assert (caught.value.reason, caught.value.remote) == ("over", True)
    late = Waiter()
    stream.set_write_waiter(late)
    assert late.count == 1


def test_what_was_received_can_be_read_after_the_end() -> None:
    pair = Pair()
    stream = opened(pair.client)
    stream.write(b"hello", fin=True)
    pair.pump()
    pair.client.connection.close(0)
    pair.pump()
    (other,) = pair.server.handler.streams
    assert (read_all(other), other.read(), other.is_closed) == (b"hello", b"", True)


@pytest.mark.parametrize("error", [None, OSError(104, "reset by peer")])
def test_link_is_lost(error: OSError | None) -> None:
    pair = Pair()
    stream, _ = pair_of_streams(pair)
    pair.client.connection.link_closed(error=error)
    info = pair.client.handler.closed
    assert info is not None
    assert (info.kind, info.remote, info.code) == ("transport", True, 0)
    assert info.errno == (104 if error else 0)
    assert stream.is_closed
    pair.client.connection.link_closed()  # once more
    assert pair.client.link.take() == []


def test_abandon_tells_nobody() -> None:
    pair = Pair()
    pair.client.connection.abandon()
    assert pair.client.handler.closed is not None
    assert (pair.client.link.aborted, pair.client.link.take()) == (True, [])
    pair.client.connection.abandon()
    assert pair.clock.waiting > 0  # those of the server
    pair.server.connection.abandon()
    assert pair.clock.waiting == 0


def test_use_after_the_end() -> None:
    pair = Pair()
    stream, _ = pair_of_streams(pair)
    connection = pair.client.connection
    connection.close(7, "over")
    connection.close(8)
    pair.pump()
    calls: list[Any] = [
        lambda: connection.open_stream(unidirectional=True),
        lambda: connection.send_datagram(b"", b"x"),
        lambda: connection.new_group(None),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(ConnectionError, match="over") as caught:
            call()
        assert caught.value.error_code == 7
    stream.reset(1)
    stream.stop_sending(1)
    stream.release()
    connection.receive(b"\x01")
    connection.handed_over()
    connection.start(2)
    assert not connection.send_drain()
    assert connection.streams_left(unidirectional=True) == 0
    assert (connection.max_datagram_size, connection.peer_max_datagram_frame_size) == (0, 0)
    assert connection.remote_address == ("192.0.2.2", 50000)
    assert (connection.alpn, connection.server_name) == ("http/1.1", "example.test")
    assert connection.stats()["smoothed_rtt"] == 7
    assert connection.stats()["stream_bytes_sent"] == 5
    assert pair.client.link.take() == []
    assert pair.client.errors == []


def test_impossible_over_tcp() -> None:
    connection = Pair().client.connection
    calls: list[Any] = [
        lambda: connection.export_keying_material(b"x", b"", 32),
        lambda: connection.initiate_key_update(0),
        lambda: connection.migrate(None, (), 0),
    ]
    for call in calls:
        with pytest.raises(ConnectionError, match="over TCP"):
            call()
    assert connection.resumed is False
    connection.take_greeting()


def test_drain_only_between_those_who_know_it() -> None:
    pair = Pair()
    told: list[str] = []
    pair.server.connection.on_drain = lambda: told.append("server")
    assert pair.client.connection.send_drain()
    pair.pump()
    assert told == ["server"]
    assert pair.client.connection.send_drain()
    pair.pump()
    assert told == ["server"]
    other = End().greet(PARAMETERS_02)
    other.sent()
    assert not other.connection.send_drain()
    assert other.sent() == b""


# ------------------------------------------------------------------ errors, cleanup


def test_exceptions_of_the_application_stay_where_they_are() -> None:
    end = End().greet()

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    end.handler.on_stream = broken
    end.handler.datagrams_received = broken  # type: ignore[method-assign,assignment]
    end.handler.streams_available = broken  # type: ignore[method-assign,assignment]
    end.handler.connection_closed = broken  # type: ignore[method-assign,assignment]
    end.connection.on_drain = broken
    end.feed("0a000161" + "0a040162" + "3101dd" + "12417f" + "ed1f8a6bc94e7035")
    assert len(end.errors) == 5
    assert [stream.read() for stream in end.handler.streams] == [b"a", b"b"]
    end.feed("0a080163")
    assert len(end.errors) == 6
    end.feed("1d0500")
    assert len(end.errors) == 7
    assert end.connection.is_closed
    assert end.connection.handler is None


def test_exception_of_on_ready_is_reported() -> None:
    end = End()

    def broken() -> None:
        raise RuntimeError("broken")

    end.connection.on_ready = broken
    end.greet()
    assert len(end.errors) == 1
    assert end.handler.closed is None


@pytest.mark.parametrize("where", ["stream", "ready", "datagram", "closed"])
def test_handler_may_close_the_connection_at_any_time(where: str) -> None:
    end = End()

    def close(*_: object) -> None:
        end.connection.close(5, "enough")

    if where == "stream":
        end.handler.on_stream = close
    elif where == "ready":
        end.connection.on_ready = close
    elif where == "datagram":
        end.handler.datagrams_received = close  # type: ignore[method-assign,assignment]
    end.link.take()
    end.feed(PARAMETERS_02 + bytes.fromhex("0a000161" + "0a040162" + "3101dd"))
    if where == "closed":
        for stream in end.handler.streams:
            stream.on_closed = close
        end.connection.close(5, "enough")
        end.clock.turn()
    assert end.handler.closed is not None
    assert (end.handler.closed.code, end.link.closed) == (5, 1000)
    assert end.errors == []


@pytest.mark.parametrize("ending", ["close", "peer", "lost", "abandon", "violation", "idle"])
def test_nothing_is_left_to_the_garbage_collector(ending: str) -> None:
    gc.collect()
    gc.disable()
    try:
        before = live_objects()["streams"]
        end = End().greet()
        end.feed("0a000161" + "0b020162" + "0a040163")
        end.handler.streams[0].write(bytes(1_000_000))
        end.handler.streams[2].reset(3)
        stream = opened(end)
        stream.write(b"x")
        group = end.connection.new_group(None)  # type: ignore[arg-type]
        if ending == "close":
            end.connection.close(3)
        elif ending == "peer":
            end.feed("1d0300")
        elif ending == "lost":
            end.connection.link_closed()
        elif ending == "abandon":
            end.connection.abandon()
        elif ending == "violation":
            end.feed("01")
        else:
            end.clock.advance(100)
        end.clock.turn()
        end.sent()
        end.connection.link_closed()
        assert end.handler.closed is not None
        assert end.clock.waiting == 0
        connection = weakref.ref(end.connection)
        del end, stream, group
        assert connection() is None
        assert live_objects()["streams"] == before
    finally:
        gc.enable()


def test_streams_are_delivered_in_slices() -> None:
    end = End().greet()
    end.clock.is_over = True
    end.connection.receive(
        bytes.fromhex("".join(f"0b{(4 * number + 2) | 0x4000:04x}0161" for number in range(50)))
    )
    assert len(end.handler.streams) == 7
    end.connection.receive(bytes.fromhex("0a000161"))
    assert len(end.handler.streams) == 14
    end.clock.is_over = False
    end.clock.turn()
    assert len(end.handler.streams) == 51
    assert [stream.stream_id for stream in end.handler.streams] == [
        *(4 * number + 2 for number in range(50)),
        0,
    ]
    assert end.clock.work == type(end.clock.work)()


def test_the_end_comes_after_all_streams() -> None:
    end = End().greet()
    for number in range(20):
        end.feed(f"0a{(4 * number + 2) | 0x4000:04x}0161")
    end.clock.is_over = True
    ended: list[QMuxStream] = []
    for stream in end.handler.streams:
        stream.on_closed = ended.append
    end.connection.receive(bytes.fromhex("1d0500"))
    assert len(ended) == 7
    assert end.handler.closed is None
    end.clock.is_over = False
    end.clock.turn()
    assert len(ended) == 20
    assert end.handler.closed is not None
