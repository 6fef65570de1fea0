"""Credit that goes back to the peer: streams, connections, groups."""

from __future__ import annotations

import gc
import time

import pytest

from pywebtransport._quic import QuicGroup, QuicStream
from pywebtransport.exceptions import ConfigurationError, StreamError

from .harness import Lab, Link, Waiter

KIB = 1024
FOUR = {"settings": {"max_streams_bidi": 4, "max_streams_uni": 4}}


def fill(link: Link, unidirectional: bool, payload: bytes = b"x") -> list[QuicStream]:
    """Open as many streams as the peer allows, each with FIN."""
    streams = []
    while (stream := link.conn.open_stream(unidirectional)) is not None:
        stream.write(payload, True)
        streams.append(stream)
    return streams


@pytest.mark.parametrize("unidirectional", [False, True])
def test_limit_of_streams_answers_none_until_credit_comes(lab: Lab, unidirectional: bool) -> None:
    with lab.link(server=FOUR) as link:
        assert link.conn.streams_left(unidirectional) == 4
        assert len(fill(link, unidirectional)) == 4
        assert link.conn.streams_left(unidirectional) == 0
        link.run(lambda: len(link.far.streams) == 4)
        link.near.available.clear()
        for stream in link.far.streams[:2]:
            if not unidirectional:
                stream.write(b"", True)
            stream.read()
            assert stream.read() == b""
        link.run(lambda: link.near.available)
        assert link.near.available[0] is unidirectional
        link.run(lambda: link.conn.streams_left(unidirectional) == 2)
        assert len(fill(link, unidirectional)) == 2


@pytest.mark.parametrize("how", ["read", "skip", "readinto", "release", "reset", "stop", "drop"])
def test_every_way_to_be_done_gives_the_stream_back(lab: Lab, how: str) -> None:
    with lab.link(server=FOUR) as link:
        for _ in range(5):
            near = link.conn.open_stream(True)
            if near is None:
                link.run(lambda: link.conn.streams_left(True))
                near = link.conn.open_stream(True)
            assert near is not None
            before = len(link.far.streams)
            near.write(b"data", how != "reset")
            link.run(lambda before=before: len(link.far.streams) > before)
            far = link.far.streams[-1]
            match how:
                case "read":
                    assert far.read() == b"data"
                case "skip":
                    far.skip(4)
                case "readinto":
                    assert far.readinto(bytearray(4)) == 4
                case "release":
                    far.release()
                case "stop":
                    far.stop_sending(1)
                case "reset":
                    near.reset(1)
                    link.run(lambda far=far: far.is_reset)
                    with pytest.raises(StreamError):
                        far.read()
                case "drop":
                    link.far.streams.clear()
                    link.far.ready.clear()
                    del far
                    gc.collect()
                    # A dropped stream is noticed with the next packet.
                    link.ping(link.conn, link.far)


def test_credit_is_given_once_per_stream(lab: Lab) -> None:
    with lab.link(server=FOUR) as link:
        fill(link, True)
        link.run(lambda: len(link.far.streams) == 4)
        far = link.far.streams[0]
        assert far.read() == b"x"
        assert far.read() == b""
        assert far.read() == b""
        far.stop_sending(1)
        far.release()
        link.run(lambda: link.conn.streams_left(True))
        link.settle()
        assert link.conn.streams_left(True) == 1


def test_unread_stream_keeps_its_place(lab: Lab) -> None:
    with lab.link(server=FOUR) as link:
        fill(link, True, b"not read")
        link.run(lambda: len(link.far.streams) == 4)
        link.settle()
        assert all(stream.is_closed for stream in link.far.streams)
        assert link.conn.streams_left(True) == 0


def test_connection_window_reopens_by_reads_of_closed_streams(lab: Lab) -> None:
    """Streams that are over in the engine still owe connection credit."""
    window = 64 * KIB
    settings = {
        "initial_max_data": window,
        "max_data_window": window,
        "initial_max_stream_data": window,
        "max_stream_window": window,
    }
    with lab.link(server={"settings": settings}) as link:
        for _ in range(6):
            near = link.conn.open_stream(True)
            assert near is not None
            near.write(bytes(window // 2), True)
        got = 0

        def drain() -> bool:
            nonlocal got
            for stream in link.far.streams:
                while data := stream.read():
                    got += len(data)
            return got == 3 * window

        link.run(lambda: sum(s.buffered for s in link.far.streams) == window)
        link.run(drain)


def test_connection_window_reopens_by_dropped_streams(lab: Lab) -> None:
    window = 64 * KIB
    settings = {
        "initial_max_data": window,
        "max_data_window": window,
        "initial_max_stream_data": window,
        "max_stream_window": window,
    }
    with lab.link(server={"settings": settings}) as link:
        for _ in range(6):
            near = link.conn.open_stream(True)
            assert near is not None
            near.write(bytes(window // 4), True)
            link.run(lambda: link.far.streams and link.far.streams[-1].fin_received)
            link.far.streams.clear()
            link.far.ready.clear()
            gc.collect()
            link.ping(link.conn, link.far)


# ---------------------------------------------------------------------- groups


class Owner:
    def __init__(self) -> None:
        self.blocked: list[int] = []
        self.violations: list[tuple[int, int]] = []
        self.due = 0

    def group_blocked(self, limit: int) -> None:
        self.blocked.append(limit)

    def group_violated(self, received: int, limit: int) -> None:
        self.violations.append((received, limit))

    def group_credit_due(self) -> None:
        self.due += 1


def test_group_limits_what_its_streams_send_together(lab: Lab) -> None:
    with lab.link() as link:
        owner = Owner()
        group = link.conn.new_group(owner)
        assert group.send_limit is None
        group.send_limit = 1000
        assert group.send_limit == 1000
        streams = []
        for _ in range(2):
            stream = link.conn.open_stream(True)
            assert stream is not None
            stream.join_group(group, 3, 0)
            stream.write(b"hdr" + bytes(800))
            streams.append(stream)
        link.run(lambda: owner.blocked)
        link.settle()
        assert owner.blocked == [1000]
        assert group.stats()["bytes_sent"] == 1000
        assert sum(stream.queued for stream in streams) == 600
        group.send_limit = 1601
        link.run(lambda: sum(stream.queued for stream in streams) == 0)
        assert owner.blocked == [1000]
        assert group.stats()["send_limit"] == 1601
        group.send_limit = None
        assert group.stats()["send_limit"] is None


def joined(link: Link, group: QuicGroup, size: int, fin: bool) -> QuicStream:
    """A unidirectional stream of the client with ``size`` body bytes, in ``group`` of the peer."""
    return joined_pair(link, group, size, fin)[1]


def joined_pair(
    link: Link, group: QuicGroup, size: int, fin: bool
) -> tuple[QuicStream, QuicStream]:
    """Both ends of such a stream."""
    near = link.conn.open_stream(True)
    assert near is not None
    before = len(link.far.streams)
    near.write(b"hdr" + bytes(size), fin)
    link.run(
        lambda: (
            len(link.far.streams) > before
            and link.far.streams[-1].bytes_received == size + 3
            and link.far.streams[-1].is_closed is fin
        )
    )
    far = link.far.streams[-1]
    far.skip(3)
    far.join_group(group, 0, 3)
    return near, far


@pytest.mark.parametrize("fin", [False, True])
def test_group_counts_received_bytes_of_live_and_of_closed_streams(lab: Lab, fin: bool) -> None:
    with lab.link() as link:
        owner = Owner()
        group = link.peer.new_group(owner)
        group.recv_limit = 3000
        first = joined(link, group, 1000, fin)
        joined(link, group, 2000, fin)
        stats = group.stats()
        assert (stats["bytes_received"], stats["bytes_consumed"]) == (3000, 0)
        assert stats["recv_limit"] == group.recv_limit == 3000
        assert first.read() is not None
        assert group.stats()["bytes_consumed"] == 1000
        link.settle()
        assert owner.violations == []
        joined(link, group, 1, fin)
        link.run(lambda: owner.violations)
        joined(link, group, 1, fin)
        link.settle()
        assert owner.violations == [(3001, 3000)]


def test_limit_holds_over_closed_and_live_streams_together(lab: Lab) -> None:
    with lab.link() as link:
        owner = Owner()
        group = link.peer.new_group(owner)
        group.recv_limit = 3000
        joined(link, group, 2000, True)
        live = joined(link, group, 1000, False)
        link.settle()
        assert owner.violations == []
        assert group.stats()["bytes_received"] == 3000
        near = next(s for s in [live] if not s.is_closed)
        assert near is live
        joined(link, group, 5, False)
        link.run(lambda: owner.violations)
        assert owner.violations == [(3005, 3000)]


def test_group_tells_when_credit_is_due_once_per_limit(lab: Lab) -> None:
    with lab.link() as link:
        owner = Owner()
        group = link.peer.new_group(owner)
        group.recv_limit = 10_000
        assert group.credit_threshold == 0
        group.credit_threshold = 1500
        assert group.credit_threshold == 1500
        streams = [joined(link, group, 1000, fin) for fin in (False, True, False)]
        assert streams[0].read() is not None
        link.settle()
        assert owner.due == 0
        assert streams[1].read() is not None
        assert streams[2].read() is not None
        link.run(lambda: owner.due)
        link.settle()
        assert owner.due == 1
        assert group.stats()["bytes_consumed"] == 3000
        group.recv_limit = 20_000
        last = joined(link, group, 1500, False)
        last.release()
        link.run(lambda: owner.due == 2)


@pytest.mark.parametrize("joined_before_header", [False, True])
@pytest.mark.parametrize("how", ["read", "pieces", "release", "drop", "unread"])
def test_credit_of_a_group_follows_the_reads_of_a_stream_that_has_ended(
    lab: Lab, how: str, joined_before_header: bool
) -> None:
    with lab.link() as link:
        owner = Owner()
        group = link.peer.new_group(owner)
        group.recv_limit = 10_000
        group.credit_threshold = 1000
        near = link.conn.open_stream(True)
        assert near is not None
        near.write(b"hdr" + bytes(500))
        link.run(lambda: link.far.streams and link.far.streams[0].buffered == 503)
        far = link.far.streams[0]
        if joined_before_header:
            far.join_group(group, 0, 3)
            far.skip(3)
        else:
            far.skip(3)
            far.join_group(group, 0, 3)
        assert group.stats()["bytes_consumed"] == 0
        near.write(bytes(500), True)
        link.run(lambda: far.is_closed)
        assert group.stats()["bytes_received"] == 1000
        assert group.stats()["bytes_consumed"] == 0
        match how:
            case "read":
                while far.read():
                    pass
            case "pieces":
                far.skip(999)
                link.settle()
                assert owner.due == 0
                assert group.stats()["bytes_consumed"] == 999
                assert far.read() == b"\0"
            case "unread":
                far.unread(far.read(400) or b"")
                assert group.stats()["bytes_consumed"] == 400
                while far.read():
                    pass
            case "release":
                far.release()
            case "drop":
                link.far.streams.clear()
                link.far.ready.clear()
                del far
                gc.collect()
                assert group.stats()["bytes_consumed"] == 1000
        link.settle()
        link.run(lambda: owner.due)
        link.settle()
        assert owner.due == 1
        assert group.stats()["bytes_consumed"] == 1000


@pytest.mark.parametrize("how", ["reset", "stop"])
def test_bytes_lost_on_the_way_count_as_consumed(lab: Lab, how: str) -> None:
    with lab.link() as link:
        owner = Owner()
        group = link.peer.new_group(owner)
        group.recv_limit = 1 << 30
        group.credit_threshold = 100_000
        near, far = joined_pair(link, group, 100, False)
        if how == "stop":
            far.stop_sending(1)
            near.write(bytes(150_000))
        else:
            near.write(bytes(150_000))
            link.client.endpoint.process(time.monotonic_ns())
            near.reset(1)
        link.run(lambda: far.is_reset or far.is_closed)
        if how == "reset":
            with pytest.raises(StreamError):
                far.read()
        link.settle()
        stats = group.stats()
        assert stats["bytes_consumed"] == stats["bytes_received"]


def test_group_of_another_connection_is_refused(lab: Lab) -> None:
    with lab.link() as link:
        other = Link(link.server, link.client).establish()
        group = other.conn.new_group(Owner())
        near, _ = link.open(b"x")
        with pytest.raises(ConfigurationError, match="same connection"):
            near.join_group(group, 0, 0)
        with pytest.raises(ConfigurationError, match="same connection"):
            link.conn.send_datagram(b"", b"x", group)
        own = link.conn.new_group(Owner())
        near.join_group(own, 0, 0)
        with pytest.raises(StreamError, match="in a group already"):
            near.join_group(own, 0, 0)
        for bad in (-1, 1 << 62, "many"):
            with pytest.raises(ConfigurationError) as caught:
                own.recv_limit = bad  # type: ignore[assignment]
            assert caught.value.config_key == "recv_limit"


def test_closed_group_keeps_its_numbers_and_its_streams_go_on(lab: Lab) -> None:
    with lab.link() as link:
        owner = Owner()
        group = link.conn.new_group(owner)
        group.send_limit = 10
        stream = link.conn.open_stream(True)
        assert stream is not None
        stream.join_group(group, 0, 0)
        waiter = Waiter()
        stream.write(bytes(100), True)
        stream.set_acked_waiter(waiter)
        link.run(lambda: owner.blocked)
        assert group.stats()["bytes_sent"] == 10
        group.close()
        assert group.stats()["bytes_sent"] == 10
        link.conn.close(0)
        link.run(lambda: link.near.closed)
        assert waiter.woken == 1
