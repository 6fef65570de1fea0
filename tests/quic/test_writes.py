"""Bytes to send: pinning, copies, backpressure, waiters, the end of a stream."""

from __future__ import annotations

import gc
import sys
import time

import pytest

from pywebtransport._quic import QuicStream
from pywebtransport.exceptions import (
    ConfigurationError,
    StreamError,
    StreamStoppedError,
)

from .harness import SECOND, Lab, Link, Recorder, Waiter, read_all

KIB = 1024


def test_large_bytes_are_pinned_until_acknowledged(lab: Lab) -> None:
    data = bytes(bytearray(100 * KIB))
    with lab.link() as link:
        before = sys.getrefcount(data)
        near = link.conn.open_stream(False)
        assert near is not None
        near.write(data)
        near.write(data)
        assert sys.getrefcount(data) == before + 2
        link.run(lambda: near.unacked == 0)
        assert sys.getrefcount(data) == before


def test_small_bytes_are_copied(lab: Lab) -> None:
    data = bytes(bytearray(500))
    with lab.link() as link:
        before = sys.getrefcount(data)
        near = link.conn.open_stream(False)
        assert near is not None
        near.write(data)
        assert sys.getrefcount(data) == before


def test_large_views_of_bytes_are_pinned_as_a_part(lab: Lab) -> None:
    data = bytes(bytearray(range(256)) * 400)
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        view = memoryview(data)[1000:91_000]
        before = sys.getrefcount(data)
        near.write(view)
        near.write(view[:100])  # copied: it is small
        near.write(memoryview(bytearray(data))[:5000], True)  # copied: it can change
        del view
        assert sys.getrefcount(data) == before
        link.run(lambda: link.far.streams)
        received = read_all(link, link.far.streams[0])
        assert received == data[1000:91_000] + data[1000:1100] + data[:5000]
        link.run(lambda: near.unacked == 0)
        assert sys.getrefcount(data) == before - 1
        other = link.conn.open_stream(True)
        assert other is not None
        other.write(memoryview(data))
        assert sys.getrefcount(data) == before
        other.reset(5)
        link.run(lambda: other.is_closed)
        assert sys.getrefcount(data) == before - 1


def test_pinned_bytes_are_released_by_a_reset(lab: Lab) -> None:
    data = bytes(bytearray(5000 * KIB))
    with lab.link() as link:
        before = sys.getrefcount(data)
        near = link.conn.open_stream(False)
        assert near is not None
        near.write(data)
        link.run(lambda: link.far.streams)
        assert sys.getrefcount(data) == before + 1
        near.reset(5)
        link.run(lambda: link.far.streams[0].is_reset)
        link.far.streams[0].reset(6)
        link.run(lambda: near.is_closed)
        assert sys.getrefcount(data) == before


def test_pinned_bytes_are_released_by_the_end_of_the_connection(lab: Lab) -> None:
    data = bytes(bytearray(100 * KIB))
    before = sys.getrefcount(data)
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        near.write(data)
        assert sys.getrefcount(data) == before + 1
        link.conn.abandon()
        assert sys.getrefcount(data) == before


def test_pinned_bytes_are_released_by_closing_the_endpoint(lab: Lab) -> None:
    data = bytes(bytearray(100 * KIB))
    before = sys.getrefcount(data)
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        near.write(data)
    assert sys.getrefcount(data) == before


def test_pinned_bytes_outlive_the_caller_and_the_stream_object(lab: Lab) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(True)
        assert near is not None
        near.write(b"".join(b"%08d" % i for i in range(30000)), True)
        del near
        gc.collect()
        link.run(lambda: link.far.streams)
        got = read_all(link, link.far.streams[0])
        assert got == b"".join(b"%08d" % i for i in range(30000))


@pytest.mark.parametrize("size", [10, 100 * KIB])
def test_mutable_buffers_are_copied_at_once(lab: Lab, size: int) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        data = bytearray(b"1" * size)
        near.write(data)
        data[:] = b"2" * size
        data.extend(b"not exported any more")
        view = memoryview(bytearray(b"3" * size))
        near.write(view[1:-1])
        view.release()
        near.write(b"", True)
        link.run(lambda: link.far.streams)
        assert read_all(link, link.far.streams[0]) == b"1" * size + b"3" * (size - 2)


def test_subclass_of_bytes_is_copied(lab: Lab) -> None:
    class Tagged(bytes):
        pass

    data = Tagged(5000)
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        before = sys.getrefcount(data)
        near.write(data)
        assert sys.getrefcount(data) == before


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("text", TypeError),
        (None, TypeError),
        (5, TypeError),
        (memoryview(b"abcdef")[::2], BufferError),
    ],
)
def test_what_is_no_contiguous_buffer_is_refused(
    lab: Lab, data: object, error: type[Exception]
) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        with pytest.raises(error):
            near.write(data)  # type: ignore[arg-type]
        assert near.bytes_written == 0


def test_writer_is_woken_at_the_low_water_mark(lab: Lab) -> None:
    with lab.link(client={"settings": {"stream_write_low": 32 * KIB}}) as link:
        near = link.conn.open_stream(False)
        assert near is not None
        assert near.write(bytes(500 * KIB)) == 500 * KIB
        assert near.queued == 500 * KIB
        waiter = Waiter()
        near.set_write_waiter(waiter)
        assert waiter.woken == 0
        link.run(lambda: waiter.woken)
        assert near.queued <= 32 * KIB
        link.run(lambda: near.queued == 0)
        assert waiter.woken == 1


def test_writer_below_the_mark_is_woken_at_once(lab: Lab) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        waiter = Waiter()
        near.set_write_waiter(waiter)
        assert waiter.woken == 1
        near.set_write_waiter(None)


def test_acknowledged_end_is_told_once(lab: Lab) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(True)
        assert near is not None
        near.write(b"x" * 5000, True)
        assert near.fin_written
        assert not near.is_acked
        waiter, late = Waiter(), Waiter()
        near.set_acked_waiter(waiter)
        link.run(lambda: waiter.woken)
        assert near.is_acked
        assert near.unacked == 0
        near.set_acked_waiter(late)
        assert late.woken == 1


def test_nothing_follows_the_end(lab: Lab) -> None:
    with lab.link() as link:
        near, _ = link.open(b"all", fin=True)
        for data in (b"more", bytearray(b"more")):
            with pytest.raises(StreamError, match="nothing can be written after FIN") as caught:
                near.write(data)
            assert caught.value.stream_id == near.stream_id
        assert near.bytes_written == 3


def test_empty_write_sends_nothing(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"one")
        assert near.write(b"") == near.queued
        assert near.write(bytearray()) == near.queued
        link.settle()
        assert far.bytes_received == 3


def test_unidirectional_streams_have_one_direction(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"one way", unidirectional=True)
        assert near.is_unidirectional
        assert near.is_local
        assert far.is_unidirectional
        assert not far.is_local
        with pytest.raises(StreamError, match="can only send"):
            near.read()
        with pytest.raises(StreamError, match="can only send"):
            near.readinto(bytearray(1))
        for data in (b"x", bytearray(b"x")):
            with pytest.raises(StreamError, match="can only receive"):
                far.write(data)
        far.reset(1)
        near.stop_sending(1)
        link.settle()
        assert not near.is_stopped


def test_write_after_stop_sending_raises_with_the_code(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"x" * 3000)
        waiter, acked = Waiter(), Waiter()
        near.write(bytes(4000 * KIB))
        near.set_write_waiter(waiter)
        near.set_acked_waiter(acked)
        far.stop_sending(0x1234)
        assert far.buffered == 0
        link.run(lambda: near.is_stopped)
        assert near.stop_code == 0x1234
        assert waiter.woken == acked.woken == 1
        for data in (b"x", bytearray(b"x")):
            with pytest.raises(StreamStoppedError) as caught:
                near.write(data)
            assert caught.value.details["code"] == 0x1234
            assert caught.value.stream_id == near.stream_id
        with pytest.raises(StreamError, match="stopped by this end"):
            far.read()
        late = Waiter()
        near.set_write_waiter(late)
        near.set_acked_waiter(late)
        assert late.woken == 1
        near.reset(1)


def test_send_order_decides_who_goes_first(lab: Lab) -> None:
    with lab.link() as link:
        low = link.conn.open_stream(True)
        high = link.conn.open_stream(True)
        assert low is not None
        assert high is not None
        high.set_send_order(5)
        low.set_send_order(-5)
        low.write(bytes(200 * KIB), True)
        high.write(bytes(200 * KIB), True)
        link.run(lambda: high.queued == 0)
        assert low.queued > 0
        link.run(lambda: low.queued == 0)


@pytest.mark.parametrize("order", [1 << 63, -(1 << 63) - 1, "high", 1.5])
def test_send_order_out_of_range_is_refused(lab: Lab, order: object) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(True)
        assert near is not None
        near.set_send_order((1 << 63) - 1)
        near.set_send_order(-(1 << 63))
        with pytest.raises(ConfigurationError) as caught:
            near.set_send_order(order)  # type: ignore[arg-type]
        assert caught.value.config_key == "order"


def test_writes_of_one_turn_ask_for_one_flush(lab: Lab) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        link.settle()
        before = link.client.flushes
        for _ in range(10):
            near.write(b"part")
        link.conn.send_datagram(b"", b"x")
        assert link.client.flushes == before + 1


# Without a pause between packets, what leaves does not depend on the speed of the machine.
EARLY_SETTINGS = {"cc": "cubic", "pacing": 0}
EARLY = {"early_clock": time.monotonic_ns, "settings": EARLY_SETTINGS}


def sent_by(link: Link) -> int:
    return int(link.client.endpoint.stats()["packets_sent"])


def test_enough_small_writes_leave_within_the_turn(lab: Lab) -> None:
    """At 8 KiB, and again when 64 KiB more are queued; process() starts anew."""
    with lab.link(client=EARLY) as link:
        streams = [link.conn.open_stream(False) for _ in range(80)]
        for _ in range(2):
            link.settle()
            before = sent_by(link)
            flushes = link.client.flushes
            left = []
            for stream in streams:
                assert stream is not None
                assert stream.write(bytes(KIB)) <= KIB
                left.append(sent_by(link) > before)
                before = sent_by(link)
            assert [at for at, sent in enumerate(left) if sent] == [7, 71]
            assert link.client.flushes == flushes + 1
        link.run(
            lambda: (
                len(link.far.streams) == 80
                and all(far.bytes_received == 2 * KIB for far in link.far.streams)
            )
        )


def test_other_writes_wait_for_the_end_of_the_turn(lab: Lab) -> None:
    with lab.link(client=EARLY) as link:
        near = link.conn.open_stream(False)
        assert near is not None
        link.settle()
        before = sent_by(link)
        for _ in range(7):
            near.write(bytearray(KIB))
        for _ in range(20):
            near.write(bytes(2 * KIB))
            near.write(bytearray(2 * KIB))
        assert sent_by(link) == before
        near.write(memoryview(bytes(KIB)))
        assert sent_by(link) > before
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        link.settle()
        before = sent_by(link)
        for _ in range(100):
            near.write(bytes(KIB))
        assert sent_by(link) == before


def test_handlers_hear_nothing_during_a_write(lab: Lab) -> None:
    """The write finds that the connection is over; its handler is told in the next turn."""
    ahead = [0]
    options = {
        "early_clock": lambda: time.monotonic_ns() + ahead[0],
        "settings": {**EARLY_SETTINGS, "keep_alive": 0, "idle_timeout": 30 * SECOND},
    }
    with lab.link(client=options) as link:
        near, other = link.conn.open_stream(False), link.conn.open_stream(False)
        assert near is not None
        assert other is not None
        other.write(b"x")
        link.settle()
        ahead[0] = 3600 * SECOND
        waiter = Waiter()
        other.write(bytes(KIB))
        other.set_acked_waiter(waiter)
        results = [near.write(bytes(KIB)) for _ in range(7)]
        assert results[-1] == 0
        assert link.near.closed is None
        assert waiter.woken == 0
        with pytest.raises(StreamError, match="connection ended"):
            near.write(b"x")
        link.run(lambda: link.near.closed)
        assert link.near.closed is not None
        assert link.near.closed.kind == "idle"
        assert waiter.woken == 1


def test_writes_of_a_handler_leave_when_all_were_told(lab: Lab) -> None:
    with lab.link(client=EARLY) as link:
        near, far = link.open(b"x")
        link.settle()
        seen = []

        def answer(stream: QuicStream) -> None:
            before = sent_by(link)
            for _ in range(20):
                stream.write(bytes(KIB))
            seen.append(sent_by(link) - before)

        near.sink = answer
        far.write(b"go")
        link.run(lambda: far.bytes_received == 1 + 20 * KIB)
        assert seen == [0]


def test_reset_waits_for_the_end_of_another_stream(lab: Lab) -> None:
    with lab.link() as link:
        head, held = link.conn.open_stream(False), link.conn.open_stream(True)
        assert head is not None
        assert held is not None
        for stream in (head, held):
            stream.write(b"begun")
        link.run(lambda: len(link.far.streams) == 2)
        far_head, far = sorted(link.far.streams, key=lambda s: s.is_unidirectional)
        waiter = Waiter()
        held.write(bytes(10_000_000))
        held.set_write_waiter(waiter)
        held.hold_for(head)
        held.reset(5)
        assert not held.can_write
        head.write(b"", True)
        link.run(lambda: far.is_reset)
        assert far.reset_code == 5
        assert far_head.fin_received
        assert waiter.woken == 1
        with pytest.raises(TypeError):
            held.hold_for(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("waits", [False, True])
def test_packets_of_a_turn_wait_for_a_task_that_a_handler_has_started(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    def answer(self: Recorder, stream: QuicStream) -> None:
        stream.write(b"part")
        if waits:
            server.endpoint.woke()

    with lab.link() as link:
        link.settle()
        server = link.server
        monkeypatch.setattr(Recorder, "stream_ready", answer)
        near = link.conn.open_stream(False)
        assert near is not None
        near.write(b"question")
        link.client.endpoint.process(time.monotonic_ns())
        sent = server.endpoint.stats()["packets_sent"]
        server.wants_turn = False
        server.endpoint.receive(server.quic_socket, time.monotonic_ns())
        assert (server.endpoint.stats()["packets_sent"] > sent) is not waits
        assert server.wants_turn or not waits
        server.endpoint.woke()  # outside of a handler it does nothing
        server.endpoint.process(time.monotonic_ns())
        assert server.endpoint.stats()["packets_sent"] > sent
        link.run(lambda: near.buffered == 4)
        monkeypatch.undo()
