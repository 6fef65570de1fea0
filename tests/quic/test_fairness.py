"""A flood of packets or datagrams does not hold up another connection; counted in turns."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from pywebtransport._quic import QuicStream

from .harness import Lab, Link, Recorder, Waiter, run

FLOOD = 3000
HONEST = b"honest"


def now() -> int:
    return time.monotonic_ns()


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


def send(link: Link, data: bytes) -> None:
    """A datagram of the client is in the server's socket when this returns."""
    assert link.conn.send_datagram(b"", data)
    link.client.endpoint.process(now())


def test_one_turn_finds_the_packet_behind_a_flood(lab: Lab, stranger: socket.socket) -> None:
    with lab.link() as link:
        link.settle()
        for _ in range(FLOOD):  # of no connection
            stranger.sendto(b"\x40" + bytes(40), link.server.address)
        send(link, HONEST)
        endpoint = link.server.endpoint
        more = endpoint.receive(link.server.quic_socket, now())
        assert HONEST in link.far.datagrams
        waiting = endpoint.stats()["backlog_packets"]
        assert more
        assert 0 < waiting < FLOOD
        # It is worked off by the turns that the endpoint asks for.
        assert link.server.wants_turn
        link.run(lambda: endpoint.stats()["backlog_packets"] == 0)
        assert endpoint.stats()["backlog_dropped"] == 0


def figure(link: Link, name: str) -> int:
    """Of the server's end."""
    value = link.peer.stats()[name]
    assert value is not None
    return value


class Slow(Recorder):
    """Takes longer than a slice for each call."""

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        super().datagrams_received(datagrams)
        end = time.monotonic() + 0.003
        while time.monotonic() < end:
            pass


def test_slow_handler_of_one_does_not_stop_reading(lab: Lab) -> None:
    """Its datagrams wait for many turns; those of another take two."""
    with lab.link() as slow:
        handler = Slow()
        handler.quic = slow.peer
        slow.peer.handler = handler
        with lab.side(False) as client:
            link = Link(slow.server, client).establish()
            link.settle()
            # Bursts that are not acknowledged meanwhile, each more than one call takes.
            server = slow.server
            for number in range(1000):
                assert slow.conn.send_datagram(b"", b"%d" % number)
            slow.client.endpoint.process(now())
            server.endpoint.receive(server.quic_socket, now())
            taken = len(handler.datagrams)
            assert 0 < taken <= 256  # one call: it took longer than a turn has
            send(link, HONEST)
            for _ in range(2):
                if HONEST not in link.far.datagrams:
                    server.endpoint.receive(server.quic_socket, now())
            assert HONEST in link.far.datagrams
            assert len(handler.datagrams) - taken <= 2 * 256
            slow.run(lambda: len(handler.datagrams) == 1000)


class Client(Recorder):
    """Its end of a handshake takes no time."""

    def handshake_completed(self) -> None:
        pass


def test_a_flood_of_handshakes_does_not_hold_up_a_connection(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a whole slice to accept; what is open has its share in each turn."""
    count = 80
    tell = Recorder.handshake_completed

    def slow(self: Recorder) -> None:
        tell(self)
        end = time.monotonic() + 0.003
        while time.monotonic() < end:
            pass

    def handled() -> int:
        return sum(handler.handshakes for handler in server.handlers)

    with lab.link() as link, lab.side(False) as crowd:
        link.settle()
        server, client = link.server, crowd.endpoint
        monkeypatch.setattr(Recorder, "handshake_completed", slow)
        for _ in range(count):
            client.connect(
                crowd.quic_socket,
                server.address,
                server_name="localhost",
                handler=Client(),
                now=now(),
            )
        for _ in range(count):
            client.process(now())
            server.endpoint.receive(server.quic_socket, now())
            server.endpoint.process(now())
        assert server.endpoint.stats()["half_open"] == count
        for _ in range(count):
            client.receive(crowd.quic_socket, now())
            client.process(now())
        assert handled() == 1

        def serve_until(done: Callable[[], bool]) -> None:
            # A process that waits for the processor loses a slice; the number of turns varies.
            while not done() and handled() < count:
                server.endpoint.receive(server.quic_socket, now())
                server.endpoint.process(now())

        for number in range(3):
            word = b"%d" % number
            send(link, word)
            serve_until(lambda word=word: word in link.far.datagrams)  # type: ignore[misc]
            assert word in link.far.datagrams
        assert handled() < count
        ended = link.far
        link.conn.close(0)
        link.client.endpoint.process(now())
        serve_until(lambda: ended.closed is not None)
        assert ended.closed is not None
        assert 1 < handled() < count
        run((server, crowd), lambda: handled() == count + 1)


def test_datagrams_that_wait_for_a_slow_handler_are_bounded(lab: Lab) -> None:
    with lab.link() as link:
        handler = Slow()
        handler.quic = link.peer
        link.peer.handler = handler
        for _ in range(400):
            if figure(link, "datagrams_missed"):
                break
            while link.conn.send_datagram(b"", b""):
                pass
            link.client.endpoint.process(now())
            link.server.endpoint.receive(link.server.quic_socket, now())
            link.server.endpoint.process(now())
            link.client.endpoint.receive(link.client.quic_socket, now())
        assert figure(link, "datagrams_missed") > 0

        def waiting() -> int:
            there = figure(link, "datagrams_received") - figure(link, "datagrams_missed")
            return there - len(handler.datagrams)

        # What the calls of the last turn took is room again.
        assert 16384 - 4 * 256 <= waiting() <= 16384
        link.run(lambda: waiting() == 0)


class SlowStreams(Recorder):
    """Takes a millisecond for each stream that has news."""

    def __init__(self, log: list[Recorder]) -> None:
        super().__init__()
        self.log = log

    def stream_ready(self, stream: QuicStream) -> None:
        super().stream_ready(stream)
        self.log.append(self)
        end = time.monotonic() + 0.001
        while time.monotonic() < end:
            pass


@pytest.mark.parametrize("flooders", [1, 4])
def test_streams_of_a_flood_take_turns_with_those_of_others(lab: Lab, flooders: int) -> None:
    """Counted in calls: a stream does not wait for all those that were there before."""
    log: list[Recorder] = []
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(lab.link(server={"settings": {"max_streams_bidi": 300}}))
        server = first.server
        links = [first]
        for _ in range(flooders):
            client = stack.enter_context(lab.side(False))
            links.append(Link(server, client).establish())
        for link in links:
            link.settle()
            handler = SlowStreams(log)
            handler.quic = link.peer
            link.peer.handler = link._far = handler
        *flood, honest = links
        for link in flood:
            for _ in range(250):
                stream = link.conn.open_stream(False)
                assert stream is not None
                stream.write(b"x")
            link.client.endpoint.process(now())
        server.endpoint.receive(server.quic_socket, now())
        assert log
        stream = honest.conn.open_stream(False)
        assert stream is not None
        stream.write(HONEST)
        honest.client.endpoint.process(now())
        before, turns = len(log), 0
        while honest.far not in log:
            turns += 1
            server.endpoint.receive(server.quic_socket, now())
            server.endpoint.process(now())
        # The others may have had no share so far; that is a few streams of each, not all of them.
        assert turns <= 2 * (flooders + 1)
        assert log.index(honest.far) - before <= 16 * (flooders + 1)
        assert len(log) < 250  # the flood was not over
        # Nothing is lost, and each connection's streams are told of in their order.
        for link in flood:
            link.run(lambda link=link: len(link.far.streams) == 250)  # type: ignore[misc]
            ids = [stream.stream_id for stream in link.far.streams]
            assert ids == sorted(ids)


def work(seconds: float) -> None:
    """The processor is used for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class SteadyStreams(Recorder):
    """Takes a tenth of a millisecond for each stream that has news."""

    def stream_ready(self, stream: QuicStream) -> None:
        super().stream_ready(stream)
        work(0.0001)


def test_long_turns_of_the_event_loop_have_less_of_a_flood_in_each(lab: Lab) -> None:
    """What was delivered makes work elsewhere; a turn is as long as both together."""
    with (
        lab.link(server={"settings": {"max_streams_bidi": 1000}}) as link,
        lab.side(False) as other,
    ):
        server = link.server
        link.settle()
        Link(server, other).establish().settle()  # there is somebody to share with
        handler = SteadyStreams()
        handler.quic = link.peer
        link.peer.handler = link._far = handler
        for _ in range(900):
            stream = link.conn.open_stream(False)
            assert stream is not None
            stream.write(b"x")
        link.client.endpoint.process(now())
        server.endpoint.receive(server.quic_socket, now())
        delivered = []
        while server.endpoint.process(now()):
            delivered.append(len(handler.streams))
            work(0.004)  # coroutines that were woken, and what was put off
        each = [after - before for before, after in itertools.pairwise(delivered)]
        # At first two slices in a turn, less and less then: half of the shortest one and an
        # event more, twice.
        assert len(each) > 50
        assert max(each[10:]) <= 4
        link.run(lambda: len(handler.streams) == 900)


def test_streams_that_die_wake_some_coroutines_in_a_turn(lab: Lab) -> None:
    """Each takes its step in the next turn of the event loop: all of one peer would be many."""
    with lab.link(server={"settings": {"max_streams_bidi": 1000}}) as link:
        link.settle()
        for _ in range(1000):
            stream = link.conn.open_stream(False)
            assert stream is not None
            stream.write(b"x")
        link.run(lambda: len(link.far.streams) == 1000)
        waiters = [Waiter() for _ in range(1000)]
        for stream, waiter in zip(link.far.streams, waiters, strict=True):
            assert stream.read() == b"x"
            stream.set_read_waiter(waiter)
        link.conn.close(0)
        link.client.endpoint.process(now())
        endpoint = link.server.endpoint
        woken = [0]
        for _ in range(100):
            endpoint.receive(link.server.quic_socket, now())
            woken.append(sum(waiter.woken for waiter in waiters))
            if link.far.closed is not None:
                break
        assert woken[-1] == 1000
        assert max(b - a for a, b in itertools.pairwise(woken)) <= 128


class Owner:
    """Of a group; notes what it is told."""

    def __init__(self) -> None:
        self.told = 0

    def group_blocked(self, limit: int) -> None:
        self.told += 1

    def group_violated(self, received: int, limit: int) -> None:
        self.told += 1

    def group_credit_due(self) -> None:
        self.told += 1


def test_slow_datagrams_do_not_hold_up_the_other_kinds_of_events(lab: Lab) -> None:
    """Each call takes a whole slice; writers, groups and ends have their share in each turn."""
    with lab.link() as slow:
        handler = Slow()
        handler.quic = slow.peer
        slow.peer.handler = handler
        server = slow.server
        with lab.side(False) as client:
            link = Link(server, client).establish()
            link.settle()
            stream = link.peer.open_stream(True)
            grouped = link.peer.open_stream(True)
            assert stream is not None
            assert grouped is not None
            owner = Owner()
            group = link.peer.new_group(owner)
            group.send_limit = 1000
            grouped.write(b"head")
            grouped.join_group(group, 3, 0)
            waiter = Waiter()
            stream.write(HONEST)
            stream.set_acked_waiter(waiter)
            link.run(lambda: link.near.streams)
            for number in range(1000):
                assert slow.conn.send_datagram(b"", b"%d" % number)
            slow.client.endpoint.process(now())
            server.endpoint.receive(server.quic_socket, now())
            assert handler.datagrams

            def turns(told: Callable[[], object]) -> int:
                """How many it takes until the server's end is told."""
                client.endpoint.receive(client.quic_socket, now())
                client.endpoint.process(now())
                for number in range(40):
                    if told():
                        return number
                    server.endpoint.receive(server.quic_socket, now())
                    server.endpoint.process(now())
                return 40

            assert not waiter.woken
            link.near.streams[-1].stop_sending(7)
            assert turns(lambda: waiter.woken) <= 3
            grouped.write(bytes(2000))
            assert turns(lambda: owner.told) <= 3
            link.conn.close(0)
            assert turns(lambda: link.far.closed is not None) <= 3
            assert len(handler.datagrams) < 1000  # the flood was not over
            slow.run(lambda: len(handler.datagrams) == 1000)
