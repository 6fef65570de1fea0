"""The stream of a transport in Python: what is compiled of it."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from pywebtransport._quic import (
    PlainStream,
    QuicStream,
    TransportStream,
    live_objects,
    unread_bytes,
)
from pywebtransport.exceptions import (
    ConfigurationError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)

from .harness import Waiter
from .plain import LOW, Plain, Wire

KIB = 1024


class Broken(Exception):
    """What a callback of a test raises."""


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A wire; no byte is left when the test is over. (The same for streams is checked always.)"""
    before = unread_bytes()
    yield Wire()
    gc.collect()  # what a caught exception kept
    assert unread_bytes() == before


def pattern(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def fail(_: object) -> None:
    raise Broken


# ------------------------------------------------------------------------- receiving


def by_read(stream: Plain, n: int) -> bytes:
    return stream.read(n) or b""


def by_readinto(stream: Plain, n: int) -> bytes:
    room = bytearray(n)
    return bytes(room[: stream.readinto(room) or 0])


def by_skip(stream: Plain, n: int) -> bytes:
    seen = stream.peek(n)
    stream.skip(len(seen))
    return seen


def by_unread(stream: Plain, n: int) -> bytes:
    data = stream.read(n) or b""
    stream.unread(data[1:])
    return data[:1]


@pytest.mark.parametrize("take", [by_read, by_readinto, by_skip, by_unread])
@pytest.mark.parametrize("seed", range(4))
def test_bytes_and_credit_come_out_as_they_went_in(
    wire: Wire, take: Callable[[Plain, int], bytes], seed: int
) -> None:
    rng = random.Random(seed)
    data = pattern(20 * KIB if take is by_unread else 300 * KIB, seed)
    stream = wire.stream()
    fed, got = 0, bytearray()
    while len(got) < len(data):
        if fed < len(data) and rng.random() < 0.5:
            size = rng.choice((1, 100, 3000, 16 * KIB))
            piece = data[fed : fed + size]
            fed += len(piece)
            form = rng.choice((bytes, bytearray, memoryview))
            stream.feed(form(piece), fed == len(data))
        elif stream.buffered:
            got += take(stream, rng.choice((1, 700, 5000, 100 * KIB)))
        assert stream.bytes_received == fed
        assert stream.buffered == fed - len(got)
        if take is not by_unread:
            assert stream.consumed_bytes == len(got)
    assert got == data
    assert stream.consumed_bytes == len(data)
    assert stream.at_eof
    assert stream.read() == b""
    assert stream.ends == 1


def test_a_part_of_a_record_is_copied(wire: Wire) -> None:
    stream = wire.stream()
    record = bytearray(b"..data..")
    stream.feed(memoryview(record)[2:6], False)
    record[:] = bytes(len(record))
    assert stream.read() == b"data"


def test_credit_of_what_was_put_back_is_given_once(wire: Wire) -> None:
    stream = wire.stream()
    stream.feed(b"abcdef", False)
    assert stream.read(4) == b"abcd"
    stream.unread(b"bcd")
    assert wire.credit == 4
    assert stream.read(2) == b"bc"
    assert wire.credit == 4
    stream.skip(3)
    assert wire.credit == 6
    stream.unread(b"z")
    assert wire.credit == 6


def test_the_end_is_seen_once(wire: Wire) -> None:
    stream = wire.stream()
    assert stream.read() is None
    stream.feed(b"x", True)
    assert stream.fin_received
    assert not stream.at_eof
    assert stream.ends == 0
    assert stream.read() == b"x"
    assert stream.at_eof
    assert (stream.read(), stream.read(5), stream.readinto(bytearray(3))) == (b"", b"", 0)
    stream.release()
    assert stream.ends == 1
    empty = wire.stream()
    empty.feed(b"", True)
    assert empty.read() == b""
    assert empty.ends == 1


def test_a_reset_drops_the_rest(wire: Wire) -> None:
    stream = wire.stream()
    stream.feed(b"half", False)
    stream.peer_reset(0x52E4A40FA8E2)
    assert stream.is_reset
    assert stream.reset_code == 0x52E4A40FA8E2
    assert stream.peek(9) == b"half"
    stream.peer_reset(5)  # only the first one counts
    for _ in range(2):
        with pytest.raises(StreamResetError) as caught:
            stream.read()
        assert caught.value.details["code"] == 0x52E4A40FA8E2
        with pytest.raises(StreamResetError):
            stream.readinto(bytearray(4))
    assert (stream.buffered, wire.credit, stream.ends) == (0, 4, 1)


def test_a_reset_after_the_end_changes_nothing(wire: Wire) -> None:
    stream = wire.stream()
    stream.feed(b"all", True)
    stream.peer_reset(5)
    assert not stream.is_reset
    assert stream.read() == b"all"
    assert stream.read() == b""


@pytest.mark.parametrize("how", ["release", "stop"])
def test_nobody_reads_any_more(wire: Wire, how: str) -> None:
    stream = wire.stream()
    stream.feed(b"waits", False)
    if how == "release":
        stream.release()
    else:
        stream.mark_stop_sent()
    assert (stream.buffered, wire.credit, stream.ends) == (0, 5, 1)
    wire.turn()
    stream.feed(b"too late", False)
    assert (stream.buffered, wire.credit, wire.news) == (0, 13, [])
    stream.feed(b"", True)
    stream.unread(b"again")
    assert (stream.bytes_received, stream.buffered, stream.ends) == (13, 0, 1)
    with pytest.raises(StreamError, match="released" if how == "release" else "stopped"):
        stream.read()
    stream.release()
    assert (wire.credit, stream.ends) == (13, 1)


# --------------------------------------------------------------------------- sending


def test_what_was_written_is_counted(wire: Wire) -> None:
    stream = wire.stream(is_local=True)
    assert stream.can_write
    assert stream.write(b"12345") == 5
    assert (stream.bytes_written, stream.fin_written) == (5, False)
    stream.write(b"", True)
    assert (stream.bytes_written, stream.fin_written) == (5, True)
    assert not stream.can_write
    with pytest.raises(StreamError, match="finished"):
        stream.write(b"6")
    stream.mark_acked()
    assert stream.is_acked


def test_a_stop_of_the_peer_ends_writing(wire: Wire) -> None:
    stream = wire.stream()
    stream.peer_stopped(9)
    stream.peer_stopped(10)
    assert (stream.is_stopped, stream.stop_code, stream.can_write) == (True, 9, False)
    with pytest.raises(StreamStoppedError) as caught:
        stream.write(b"x")
    assert caught.value.details["code"] == 9


def test_one_way_streams_refuse_the_other_way(wire: Wire) -> None:
    far = wire.stream(is_unidirectional=True)
    near = wire.stream(is_unidirectional=True, is_local=True)
    assert (far.is_local, far.is_unidirectional) == (False, True)
    assert (near.is_local, near.is_unidirectional) == (True, True)
    with pytest.raises(StreamError, match="only receive"):
        far.write(b"x")
    with pytest.raises(StreamError, match="only send"):
        near.read()
    near.reset(1)
    with pytest.raises(StreamError, match="was reset by this end"):
        near.write(b"x")


# ----------------------------------------------------------------------- the deliver phase


def test_readers_are_woken_in_the_deliver_phase(wire: Wire) -> None:
    stream, waiter = wire.stream(), Waiter()
    stream.set_read_waiter(waiter)
    stream.feed(b"a", False)
    stream.feed(b"b", False)
    assert waiter.woken == 0
    assert wire.turn() == 1
    assert waiter.woken == 1
    late, never = Waiter(), Waiter()
    stream.set_read_waiter(late)  # there is something to read
    assert late.woken == 1
    stream.skip(2)
    stream.set_read_waiter(never)
    stream.peer_stopped(3)  # no news for a reader
    wire.turn()
    assert never.woken == 0
    stream.set_read_waiter(None)
    stream.feed(b"c", False)
    wire.turn()
    assert never.woken == 0


def no_more(stream: Plain) -> None:
    stream.feed(b"", True)


@pytest.mark.parametrize(
    "end",
    [
        no_more,
        lambda stream: stream.peer_reset(1),
        PlainStream.mark_stop_sent,
        PlainStream.release,
        PlainStream.close_stream,
    ],
    ids=["fin", "reset", "stop", "release", "close"],
)
def test_every_end_wakes_a_reader_once(wire: Wire, end: Callable[[Plain], None]) -> None:
    stream, waiter, later = wire.stream(), Waiter(), Waiter()
    stream.set_read_waiter(waiter)
    end(stream)
    assert waiter.woken == 0
    wire.turn()
    assert waiter.woken == 1
    stream.set_read_waiter(later)
    assert later.woken == 1
    wire.turn()
    assert (waiter.woken, later.woken) == (1, 1)


def test_writers_wait_for_room(wire: Wire) -> None:
    stream, waiter, other = wire.stream(), Waiter(), Waiter()
    stream.set_write_waiter(waiter)
    assert waiter.woken == 1
    stream.write(bytes(3 * LOW))
    stream.set_write_waiter(other)
    wire.take(stream, LOW)
    wire.turn()
    assert other.woken == 0
    wire.take(stream, LOW)
    assert other.woken == 0
    wire.turn()
    assert other.woken == 1
    wire.take(stream)
    wire.turn()
    assert (waiter.woken, other.woken) == (1, 1)


@pytest.mark.parametrize(
    "end",
    [lambda stream: stream.peer_stopped(1), lambda stream: stream.reset(2), Plain.close_stream],
    ids=["stop", "reset", "close"],
)
def test_every_end_wakes_writers_once(wire: Wire, end: Callable[[Plain], None]) -> None:
    stream, room, acked = wire.stream(), Waiter(), Waiter()
    stream.write(bytes(5 * LOW))
    stream.set_write_waiter(room)
    stream.set_acked_waiter(acked)
    end(stream)
    assert (room.woken, acked.woken) == (0, 0)
    assert wire.turn() == 1
    assert (room.woken, acked.woken) == (1, 1)
    for again in (room, acked) * 2:
        again.woken = 0
        (stream.set_write_waiter if again is room else stream.set_acked_waiter)(again)
        assert again.woken == 1


def test_an_acknowledgement_wakes_once(wire: Wire) -> None:
    stream, waiter, gone = wire.stream(), Waiter(), Waiter()
    stream.set_acked_waiter(gone)
    stream.set_acked_waiter(waiter)
    stream.write(b"x", True)
    wire.take(stream)
    wire.turn()
    assert waiter.woken == 0
    stream.mark_acked()
    wire.turn()
    assert (waiter.woken, gone.woken) == (1, 0)


def test_a_cancelled_waiter_is_left_alone(wire: Wire) -> None:
    stream, waiter = wire.stream(), Waiter()
    stream.set_read_waiter(waiter)
    waiter.cancelled = True
    stream.feed(b"x", False)
    wire.turn()
    assert waiter.woken == 0


def test_the_sink_is_called_once_a_turn(wire: Wire) -> None:
    stream = wire.stream()
    seen: list[int] = []
    stream.sink = lambda stream: seen.append(stream.buffered)
    stream.feed(b"a", False)
    stream.feed(b"bc", False)
    stream.feed(b"", False)  # no news
    assert seen == []
    assert (wire.turn(), seen) == (1, [3])
    assert (wire.turn(), seen) == (0, [3])
    stream.peer_stopped(1)
    stream.peer_reset(2)
    assert (wire.turn(), seen) == (1, [3, 3])
    stream.sink = None


def test_the_end_is_told_last_and_once(wire: Wire) -> None:
    stream, reader = wire.stream(), Waiter()
    order: list[str] = []
    stream.sink = lambda _: order.append("sink")
    stream.on_closed = lambda _: order.append(f"closed, reader woken {reader.woken}")
    stream.set_read_waiter(reader)
    stream.close_stream()
    stream.feed(b"late", True)  # of the same turn
    stream.close_stream()
    assert stream.is_closed
    assert "closed" in repr(stream)
    assert wire.turn() == 1
    assert order == ["sink", "closed, reader woken 1"]
    assert stream.on_closed is None
    assert wire.turn() == 0
    stream.deliver()
    assert len(order) == 2
    stream.sink = None


def test_what_was_received_can_be_read_after_the_end(wire: Wire) -> None:
    stream = wire.stream()
    stream.feed(b"rest", False)
    stream.close_stream()
    wire.turn()
    assert stream.read() == b"rest"
    with pytest.raises(StreamError, match="connection ended, before the end") as caught:
        stream.read()
    error = caught.value
    assert error.details == {"connection_closed": True, "kind": "application", "code": 7}
    assert (error.reason, error.remote) == ("enough", True)
    with pytest.raises(StreamError, match="connection ended, it cannot be written"):
        stream.write(b"x")
    wire.end = {}
    with pytest.raises(StreamError) as caught:
        stream.read()
    assert caught.value.details == {"connection_closed": True}


# ---------------------------------------------------------------------------- callbacks


def test_nothing_is_lost_when_a_sink_raises(wire: Wire) -> None:
    stream, waiters = wire.stream(), [Waiter(), Waiter(), Waiter()]
    closed: list[Any] = []
    stream.write(bytes(5 * LOW))
    stream.set_read_waiter(waiters[0])
    stream.set_write_waiter(waiters[1])
    stream.set_acked_waiter(waiters[2])
    stream.sink = fail
    stream.on_closed = closed.append
    stream.feed(b"x", False)
    stream.close_stream()
    with pytest.raises(Broken):
        wire.turn()
    assert [waiter.woken for waiter in waiters] == [1, 1, 1]
    assert closed == [stream]
    stream.deliver()
    assert len(closed) == 1
    closed.clear()


def test_on_closed_that_raises_is_called_once(wire: Wire) -> None:
    stream = wire.stream()
    stream.on_closed = fail
    stream.close_stream()
    with pytest.raises(Broken):
        wire.turn()
    stream.deliver()


class BadWaiter(Waiter):
    def set_result(self, result: None, /) -> None:
        super().set_result(result)
        raise Broken


def test_a_waiter_that_raises_stops_no_other(wire: Wire) -> None:
    stream, bad, good = wire.stream(), BadWaiter(), Waiter()
    seen: list[Any] = []
    stream.set_read_waiter(bad)
    stream.set_acked_waiter(good)
    stream.sink = seen.append
    stream.feed(b"x", False)
    stream.mark_acked()
    with pytest.raises(Broken):
        wire.turn()
    assert (bad.woken, good.woken, len(seen)) == (1, 1, 1)
    seen.clear()


def test_credit_that_cannot_be_given_is_told_to_the_reader(wire: Wire) -> None:
    stream = wire.stream()
    stream.feed(b"abc", True)
    wire.on_consumed = fail
    with pytest.raises(Broken):
        stream.read(2)
    wire.on_consumed = lambda _: None
    assert stream.read() == b"c"  # it goes on behind what was counted
    assert stream.read() == b""
    assert (wire.credit, stream.ends) == (3, 1)


def test_a_callback_may_use_the_stream(wire: Wire) -> None:
    stream = wire.stream()
    stream.feed(b"abcdef", True)

    def end(stream: Plain) -> None:
        wire.on_consumed = lambda _: None
        assert stream.read(1) == b"c"
        stream.close_stream()
        stream.release()

    wire.on_consumed = end
    assert stream.read(2) == b"ab"
    assert (wire.credit, stream.buffered, stream.ends) == (6, 0, 1)
    wire.turn()


def test_news_from_a_sink_belong_to_the_next_turn(wire: Wire) -> None:
    stream = wire.stream()
    seen: list[bytes | None] = []

    def sink(stream: Plain) -> None:
        seen.append(stream.read())
        if len(seen) == 1:
            stream.feed(b"two", False)
            assert wire.news == [stream]

    stream.sink = sink
    stream.feed(b"one", False)
    wire.turn()
    assert seen == [b"one"]
    wire.turn()
    assert (seen, wire.turn()) == ([b"one", b"two"], 0)
    stream.sink = None


# ----------------------------------------------------------------------------- objects


def test_a_dropped_stream_gives_its_credit_back(wire: Wire) -> None:
    stream = wire.stream()
    stream.feed(b"unread", False)
    assert unread_bytes() >= 6
    stream.close_stream()
    wire.turn()
    stream_id = stream.stream_id
    del stream
    assert (wire.credit, wire.ended) == (6, [stream_id])
    # The transport has forgotten this one without closing it.
    other = wire.stream()
    other.feed(b"x", False)
    del other
    assert (wire.credit, wire.ended) == (7, [stream_id])


def test_streams_in_a_circle_are_collected(wire: Wire) -> None:
    stream = wire.stream()
    stream.sink = lambda _, stream=stream: None
    stream.tag = [stream]
    stream.on_closed = stream.deliver
    stream.set_read_waiter(Waiter())
    stream.write(bytes(2 * LOW))
    stream.set_write_waiter(stream.wire)  # type: ignore[arg-type]
    reference = weakref.ref(stream)
    stream.feed(b"x", False)
    del stream
    assert reference() is not None
    gc.collect()
    assert reference() is None
    assert wire.credit == 1


def test_spare_memory_of_streams_is_not_mixed_up(wire: Wire) -> None:
    before = live_objects()["streams"]
    for _ in range(3):
        streams = [wire.stream() for _ in range(200)]
        for stream in streams:
            assert (stream.buffered, stream.bytes_received, stream.tag) == (0, 0, None)
            assert (stream.sink, stream.on_closed, stream.can_write) == (None, None, True)
            stream.feed(b"x" * 2000, False)
            stream.tag = object()
            stream.sink = stream.on_closed = fail
        assert live_objects()["streams"] == before + 200
        del stream, streams


def test_a_stream_that_was_not_finished_is_freed() -> None:
    class Late(Plain):
        __slots__ = ()

        def __init__(self) -> None:
            raise Broken

    with pytest.raises(Broken):
        Late()


def test_subclasses_have_the_rest() -> None:
    bare = PlainStream(8, is_local=True, is_unidirectional=False)
    assert isinstance(bare, TransportStream)
    assert issubclass(QuicStream, TransportStream)
    assert repr(bare) == "<PlainStream 8 bidirectional local>"
    for call in (
        bare.input_done,
        bare.has_news,
        bare.write_room,
        lambda: bare.consumed(1),
        lambda: bare.write(b""),
        lambda: bare.connection_error(""),
        lambda: bare.feed(b"", True),
    ):
        with pytest.raises(NotImplementedError):
            call()
    with pytest.raises(TypeError, match="is the base of"):
        TransportStream()


def test_wrong_arguments_change_nothing(wire: Wire) -> None:
    stream = wire.stream()
    for code in (-1, 1 << 62, "1", None):
        with pytest.raises(ConfigurationError):
            stream.peer_reset(code)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            stream.peer_stopped(code)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        stream.feed("text", True)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        stream.feed(None, True)  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        stream.feed(memoryview(b"abcdef")[::2], True)
    with pytest.raises(ConfigurationError):
        stream.skip(1)
    assert (stream.is_reset, stream.is_stopped, stream.fin_received) == (False, False, False)
    assert wire.news == []


# ------------------------------------------------------------------------ in any order


@pytest.mark.parametrize("seed", range(20))
def test_in_any_order_credit_and_ends_are_told_once(wire: Wire, seed: int) -> None:
    rng = random.Random(seed)
    stream = wire.stream()
    waiters: list[Waiter] = []
    closed: list[Plain] = []
    stream.on_closed = closed.append
    put_back = 0  # bytes that are buffered, and whose credit was given before

    def read() -> None:
        nonlocal put_back
        with suppress(StreamError):
            data = stream.read(rng.randrange(1, 400)) or b""
            put_back = max(0, put_back - len(data))
            if rng.random() < 0.3:
                stream.unread(data)
                put_back += len(data)

    def wait() -> None:
        waiter = Waiter()
        waiters.append(waiter)
        rng.choice((stream.set_read_waiter, stream.set_write_waiter, stream.set_acked_waiter))(
            waiter
        )

    def write() -> None:
        if stream.can_write:
            stream.write(bytes(rng.randrange(300)), rng.random() < 0.1)

    def feed() -> None:
        if not (stream.fin_received or stream.is_reset or stream.is_closed):
            stream.feed(rng.randbytes(rng.randrange(600)), rng.random() < 0.05)

    often = [feed, read, wait, write, wire.turn, lambda: wire.take(stream)]
    seldom = [
        lambda: stream.peer_reset(1),
        lambda: stream.peer_stopped(2),
        lambda: stream.stop_sending(3),
        lambda: stream.reset(4),
        stream.mark_acked,
        stream.close_stream,
    ]
    for _ in range(rng.randrange(300)):
        rng.choice(seldom if rng.random() < 0.02 else often)()
        put_back = min(put_back, stream.buffered)  # an end drops all
        assert wire.credit == stream.bytes_received - stream.buffered + put_back
        assert stream.ends <= 1
        assert all(waiter.woken <= 1 for waiter in waiters)
    stream.close_stream()
    wire.turn()
    assert closed == [stream]
    closed.clear()
    stream.release()
    assert (wire.credit, stream.buffered, stream.ends) == (stream.bytes_received, 0, 1)
