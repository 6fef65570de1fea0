"""Received bytes: slabs, partial reads, peek, skip, unread, readinto."""

from __future__ import annotations

import random

import pytest

from pywebtransport.exceptions import ConfigurationError, StreamError

from .harness import Lab, Link, Waiter, read_all

KIB = 1024


def pattern(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_a_small_message_is_read_in_one_piece(lab: Lab) -> None:
    with lab.link() as link:
        _, far = link.open(b"small")
        assert far.buffered == 5
        assert far.read() == b"small"
        assert far.buffered == 0
        assert far.read() is None


def test_unread_bulk_is_coalesced_into_few_pieces(lab: Lab) -> None:
    data = pattern(600 * KIB)
    with lab.link() as link:
        _, far = link.open(data)
        pieces = []
        while (piece := far.read()) is not None:
            pieces.append(piece)
        assert b"".join(pieces) == data
        # One packet holds less than 1.5 KiB: without slabs there were over 400.
        assert len(pieces) < 25
        assert max(len(piece) for piece in pieces) >= 60 * KIB


def test_read_returns_at_most_what_was_asked_for(lab: Lab) -> None:
    data = pattern(20 * KIB)
    with lab.link() as link:
        _, far = link.open(data)
        assert far.read(0) == b""
        got = b""
        while (piece := far.read(700)) is not None:
            assert 0 < len(piece) <= 700
            got += piece
        assert got == data


def test_peek_shows_bytes_over_piece_borders_and_consumes_none(lab: Lab) -> None:
    data = pattern(100 * KIB)
    with lab.link() as link:
        _, far = link.open(data)
        assert far.peek(10) == data[:10]
        assert far.peek(90 * KIB) == data[: 90 * KIB]
        assert far.peek(10**9) == data
        assert far.peek(0) == b""
        assert far.peek(-1) == b""
        assert far.buffered == len(data)
        assert far.bytes_received == len(data)


def test_skip_consumes_exactly_so_many_bytes(lab: Lab) -> None:
    data = pattern(100 * KIB)
    with lab.link() as link:
        _, far = link.open(data)
        far.skip(0)
        far.skip(3)
        assert far.peek(4) == data[3:7]
        far.skip(80 * KIB)
        assert far.peek(10**9) == data[80 * KIB + 3 :]
        with pytest.raises(ConfigurationError, match=r"n = 99999999 .* 0 to "):
            far.skip(99999999)
        with pytest.raises(ConfigurationError):
            far.skip(-1)


def test_unread_puts_bytes_back_at_the_front(lab: Lab) -> None:
    with lab.link() as link:
        _, far = link.open(b"0123456789")
        assert far.read(4) == b"0123"
        far.unread(b"23")
        far.unread(b"")
        far.unread(b"01")
        assert far.buffered == 10
        assert far.peek(20) == b"0123456789"
        assert far.read(1) == b"0"
        far.unread(b"zero")
        assert far.peek(20) == b"zero123456789"


def test_unread_into_an_empty_buffer_then_more_arrives(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"abc")
        data = far.read()
        assert data == b"abc"
        far.unread(data)
        near.write(b"def", True)
        assert read_all(link, far) == b"abcdef"
        assert data == b"abc"


def test_unread_bytes_are_not_credited_twice(lab: Lab) -> None:
    window = 32 * KIB
    settings = {"initial_max_stream_data": window, "max_stream_window": window}
    with lab.link(server={"settings": settings}) as link:
        near = link.conn.open_stream(False)
        assert near is not None
        near.write(bytes(4 * window))
        link.run(lambda: link.far.streams and link.far.streams[0].buffered == window)
        far = link.far.streams[0]
        for _ in range(40):
            data = far.read(KIB)
            assert data is not None
            far.unread(data)
        link.ping(link.peer, link.near)
        link.ping(link.conn, link.far)
        # One KiB was credited, once: the sender may not be far beyond.
        assert far.bytes_received <= window + KIB


def test_readinto_fills_over_piece_borders(lab: Lab) -> None:
    data = pattern(50 * KIB)
    with lab.link() as link:
        near, far = link.open(data)
        target = bytearray(30 * KIB)
        assert far.readinto(target) == len(target)
        assert target == data[: 30 * KIB]
        assert far.readinto(memoryview(target)[: 5 * KIB]) == 5 * KIB
        assert target[: 5 * KIB] == data[30 * KIB : 35 * KIB]
        assert far.readinto(bytearray(0)) == 0
        assert far.readinto(target) == 15 * KIB
        assert far.readinto(target) is None
        near.write(b"", True)
        link.run(lambda: far.fin_received)
        assert far.readinto(target) == 0
        with pytest.raises(BufferError):
            far.readinto(b"read-only")  # type: ignore[arg-type]


def test_pieces_handed_out_do_not_change_when_more_arrives(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"a" * 5000)
        first = far.read()
        assert first is not None
        copy = bytes(bytearray(first))
        near.write(b"b" * 200 * KIB)
        link.run(lambda: far.bytes_received == 5000 + 200 * KIB)
        second = far.read()
        assert second is not None
        copy2 = bytes(bytearray(second))
        near.write(b"c" * 200 * KIB, True)
        read_all(link, far)
        assert first == copy
        assert second == copy2
        assert len({hash(first), hash(copy)}) == 1


@pytest.mark.parametrize("seed", range(4))
def test_any_mix_of_operations_yields_the_bytes_sent(lab: Lab, seed: int) -> None:
    rng = random.Random(seed)
    data = pattern(1500 * KIB, seed)
    with lab.link() as link:
        near, far = link.open(data[:1])
        sent, got = 1, bytearray()

        def drain_some() -> bool:
            for _ in range(rng.randrange(1, 30) if sent < len(data) else 10**6):
                if not far.buffered:
                    break
                size = rng.choice([1, 100, 1500, 5000, 70000, -1])
                match rng.randrange(5):
                    case 0:
                        piece = far.read(size)
                        assert piece is not None
                        got.extend(piece)
                    case 1:
                        piece = far.peek(abs(size))
                        far.skip(len(piece))
                        got.extend(piece)
                    case 2:
                        target = bytearray(abs(size))
                        n = far.readinto(target)
                        assert n is not None
                        got.extend(target[:n])
                    case 3:
                        back = bytes(got[len(got) - rng.randrange(0, min(len(got), 3000) + 1) :])
                        del got[len(got) - len(back) :]
                        far.unread(back)
                    case _:
                        assert far.peek(50) == data[len(got) : len(got) + 50][: far.buffered]
            return bool(far.at_eof)

        while sent < len(data):
            size = rng.choice([1, 10, 1200, 4000, 40000, 150000])
            near.write(data[sent : sent + size], sent + size >= len(data))
            sent += size
            if rng.random() < 0.3:
                link.run(lambda: far.buffered or far.at_eof)
            drain_some()
        link.run(drain_some)
        assert bytes(got) == data
        assert far.read() == b""


def test_end_of_stream_is_told_again_and_again(lab: Lab) -> None:
    with lab.link() as link:
        _, far = link.open(b"end", fin=True)
        assert far.fin_received
        assert not far.at_eof
        assert far.read() == b"end"
        assert far.at_eof
        assert far.read() == far.read(10) == b""


def test_an_empty_stream_has_only_an_end(lab: Lab) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(True)
        assert near is not None
        near.write(b"", True)
        link.run(lambda: link.far.streams)
        far = link.far.streams[0]
        assert far.at_eof
        assert far.read() == b""


def test_reader_is_woken_once_and_at_once_when_there_is_something(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"x")
        waiter = Waiter()
        far.set_read_waiter(waiter)
        assert waiter.woken == 1
        far.read()
        waiter, replaced, cancelled = Waiter(), Waiter(), Waiter()
        far.set_read_waiter(replaced)
        far.set_read_waiter(None)
        far.set_read_waiter(waiter)
        near.write(b"y")
        near.write(b"z")
        link.run(lambda: far.buffered == 2)
        near.write(b"w")
        link.run(lambda: far.buffered == 3)
        assert waiter.woken == 1
        assert replaced.woken == 0
        far.read()
        cancelled.cancelled = True
        far.set_read_waiter(cancelled)
        near.write(b"!")
        link.run(lambda: far.buffered)
        assert cancelled.woken == 0


def test_slow_reader_bounds_what_the_sender_gets_rid_of(lab: Lab) -> None:
    window = 64 * KIB
    settings = {"initial_max_stream_data": window, "max_stream_window": window}
    with lab.link(server={"settings": settings}) as link:
        near = link.conn.open_stream(False)
        assert near is not None
        total = 20 * window
        near.write(bytes(total))
        link.run(lambda: link.far.streams and link.far.streams[0].buffered == window)
        far = link.far.streams[0]
        link.settle()
        assert far.buffered == window
        assert near.queued == total - window
        read = 0

        def drain() -> bool:
            nonlocal read
            while data := far.read(5000):
                read += len(data)
            return read == total

        link.run(drain)
        assert near.queued == 0


def test_released_stream_drops_and_credits_what_still_comes(lab: Lab) -> None:
    window = 64 * KIB
    settings = {"initial_max_stream_data": window, "max_stream_window": window}
    with lab.link(server={"settings": settings}) as link:
        near, far = link.open(b"x" * window)
        waiter = Waiter()
        far.release()
        far.release()
        assert far.buffered == 0
        near.write(bytes(10 * window), True)
        link.run(lambda: near.queued == 0)
        with pytest.raises(StreamError, match="released"):
            far.read()
        far.set_read_waiter(waiter)
        assert waiter.woken == 1
        assert far.tag is None


def test_all_streams_of_a_busy_connection_arrive_whole(lab: Lab) -> None:
    with lab.link() as link:
        sent = {}
        for number in range(80):
            stream = link.conn.open_stream(number % 2 == 0)
            assert stream is not None
            data = pattern(number * 997, number)
            stream.write(data, True)
            sent[stream.stream_id] = data
        done: dict[int, bytes] = {}

        def collect(link: Link = link) -> bool:
            for stream in link.far.streams:
                while data := stream.read():
                    done[stream.stream_id] = done.get(stream.stream_id, b"") + data
            return len(link.far.streams) == 80 and all(s.at_eof for s in link.far.streams)

        link.run(collect)
        assert {key: value for key, value in sent.items() if value} == done
