"""New streams of a session: ordinary ones are taken at once, all others are left to HTTP/3."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pywebtransport._quic import QuicStream, StreamRoutes

from .harness import Lab, Link

BIDI = b"\x40\x41"
UNI = b"\x40\x54"


class Owner:
    """Of the group of a session."""

    def group_blocked(self, limit: int) -> None:
        pass

    def group_violated(self, received: int, limit: int) -> None:
        pass

    def group_credit_due(self) -> None:
        pass


class Events:
    """Gets streams, as a session does."""

    def __init__(self) -> None:
        self.streams: list[tuple[QuicStream, bool]] = []

    def stream_received(self, stream: QuicStream, unidirectional: bool) -> None:
        self.streams.append((stream, unidirectional))


class Room:
    """One session at the server of a link, and what comes to it and past it."""

    def __init__(self, link: Link, *, session_id: int = 0, limit: int | None = None) -> None:
        self.link = link
        self.others: list[QuicStream] = []
        self.events = Events()
        self.streams: dict[int, QuicStream] = {}
        self.bidi, self.uni = (
            SimpleNamespace(limit=limit, window=limit, increment=100, received=0, finished=0)
            for _ in range(2)
        )
        self.settled: list[int] = []
        self.ids = SimpleNamespace(next_id=0, settle=self.settled.append)
        group = link.peer.new_group(Owner())
        way = (link.peer, group, (b"", b""), (), (self.bidi, self.uni), self.streams, [-4, -4])
        self.session = SimpleNamespace(stream_way=(*way, self.ids, self.events), sweep_at=64)
        self.sessions: dict[int, Any] = {session_id: self.session}
        routes = StreamRoutes(self.sessions, self.others.append)
        link.far.stream_ready = routes  # type: ignore[method-assign]

    def send(self, data: bytes, *, unidirectional: bool = False) -> QuicStream:
        """Open a stream at the client; wait until it came here."""
        stream = self.link.conn.open_stream(unidirectional)
        assert stream is not None
        stream.write(data)
        seen = len(self.others) + len(self.events.streams)
        self.link.run(lambda: len(self.others) + len(self.events.streams) > seen)
        return stream


@pytest.mark.parametrize("unidirectional", [False, True])
@pytest.mark.parametrize(("session_id", "size"), [(0, 1), (60, 1), (64, 2), (16380, 2)])
def test_ordinary_streams_are_taken(
    lab: Lab, session_id: int, size: int, unidirectional: bool
) -> None:
    with lab.link() as link:
        room = Room(link, session_id=session_id)
        number = session_id if size == 1 else session_id | 0x4000
        header = (UNI if unidirectional else BIDI) + number.to_bytes(size, "big")
        near = room.send(header + b"body", unidirectional=unidirectional)
        [(stream, was_unidirectional)] = room.events.streams
        assert was_unidirectional == unidirectional
        assert stream.stream_id == near.stream_id
        assert stream.sink is None
        assert stream.read() == b"body"
        assert room.streams == {stream.stream_id: stream}
        assert (room.bidi.received, room.uni.received) == (not unidirectional, unidirectional)
        assert room.ids.next_id == (0 if unidirectional else 4)
        assert not room.others


def test_all_others_are_left_as_they_are(lab: Lab) -> None:
    with lab.link() as link:
        room = Room(link)
        for data, unidirectional in (
            (b"\x00\x04head", False),  # a request
            (b"\x00\x04\x00", True),  # the control stream
            (UNI + b"\x00body", False),
            (BIDI + b"\x00body", True),
            (BIDI + b"\x04body", False),  # another session
            (BIDI + b"\x80\x00\x00\x00body", False),  # a long form of the number
            (b"\x80\x00\x00\x41\x00body", False),  # a long form of the type
            (BIDI + b"\x00", False),  # nothing behind the header
            (BIDI, False),
            (b"\x40", False),
        ):
            room.send(data, unidirectional=unidirectional)
            stream = room.others.pop()
            assert stream.peek(100) == data
            assert stream.sink is not None
        assert not room.events.streams
        assert room.bidi.received == room.uni.received == room.ids.next_id == 0


def test_a_session_without_a_way_takes_no_streams(lab: Lab) -> None:
    with lab.link() as link:
        room = Room(link)
        room.session.stream_way = None
        room.send(BIDI + b"\x00body")
        assert len(room.others) == 1
        assert not room.events.streams


def test_streams_out_of_order_are_settled_by_the_one_who_counts(lab: Lab) -> None:
    with lab.link() as link:
        room = Room(link)
        room.ids.next_id = 40
        room.send(BIDI + b"\x00body")
        assert (room.settled, room.ids.next_id) == ([0], 40)


def test_limits_and_announcements_are_left_to_the_session(lab: Lab) -> None:
    with lab.link() as link:
        room = Room(link, limit=8)
        room.bidi.received = 8  # one more is too many
        room.send(BIDI + b"\x00body")
        assert (len(room.others), room.bidi.received) == (1, 8)
        room.bidi.received, room.bidi.finished = 4, 2  # 2 of 3 are left: time to announce
        room.send(BIDI + b"\x00body")
        assert (len(room.others), room.bidi.received) == (2, 4)
        room.bidi.received, room.bidi.finished = 0, 2  # 7 are left: not yet
        room.send(BIDI + b"\x00body")
        assert (len(room.others), room.bidi.received) == (2, 1)
        room.bidi.increment = 2  # so many are enough
        room.send(BIDI + b"\x00body")
        assert (len(room.others), room.bidi.received) == (3, 1)


def test_ended_streams_are_forgotten_by_the_session(lab: Lab) -> None:
    with lab.link() as link:
        room = Room(link)
        room.streams.update({-number: link.conn for number in range(1, 65)})  # type: ignore[misc]
        room.send(BIDI + b"\x00body")
        assert len(room.others) == 1
        room.session.sweep_at = 128
        room.send(BIDI + b"\x00body")
        assert len(room.events.streams) == 1


def test_errors_of_the_session_are_reported_and_stop_no_other_stream(lab: Lab) -> None:
    with lab.link() as link:
        room = Room(link)

        def fail(stream: QuicStream, unidirectional: bool) -> None:
            del room.events.stream_received  # type: ignore[attr-defined]
            raise OSError("no room")

        room.events.stream_received = fail  # type: ignore[method-assign]
        streams = [link.conn.open_stream(False) for _ in range(2)]
        for stream in streams:
            assert stream is not None
            stream.write(BIDI + b"\x00body")
        link.run(lambda: room.events.streams)
        assert [str(error) for error in link.server.errors] == ["no room"]
        link.server.errors.clear()
