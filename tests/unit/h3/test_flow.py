"""Counts of streams, knowledge about past sessions, and early arrivals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.h3._early import EarlyArrivals, EarlyStream
from pywebtransport.h3._errors import LimitError
from pywebtransport.h3._flow import LocalStreams, PeerStreams, check_limit
from pywebtransport.h3._ids import SettledIds
from pywebtransport.h3._options import H3Options
from tests.unit.h3.fake_quic import FakeClock, FakeQuic, FakeStream


def test_limits_must_grow() -> None:
    assert check_limit(5, 6, equal_is_error=True)
    assert not check_limit(5, 5, equal_is_error=False)
    for new in (4, 5):
        with pytest.raises(LimitError):
            check_limit(5, new, equal_is_error=True)
    with pytest.raises(LimitError):
        check_limit(5, 4, equal_is_error=False)


def test_blocked_is_reported_once_per_limit() -> None:
    streams = LocalStreams(2)
    could = [streams.can_open]
    streams.opened = 2
    could.append(streams.can_open)
    assert [streams.blocked(), streams.blocked()] == [2, None]
    assert streams.raise_limit(3, equal_is_error=True)
    could.append(streams.can_open)
    assert could == [True, False, True]
    streams.opened = 3
    assert streams.blocked() == 3


def test_a_limit_over_two_to_the_sixty_is_refused() -> None:
    assert LocalStreams(0).raise_limit(2**60, equal_is_error=True)
    with pytest.raises(LimitError):
        LocalStreams(0).raise_limit(2**60 + 1, equal_is_error=True)


def test_no_limit_needs_no_credit() -> None:
    peer, local = PeerStreams(None), LocalStreams(None)
    for _ in range(1000):
        peer.arrived()
        assert peer.done() is None
    assert local.can_open
    assert local.blocked() is None


def test_credit_is_batched_while_there_is_plenty() -> None:
    streams = PeerStreams(100)
    grants = 0
    for _ in range(1000):
        streams.arrived()
        grants += streams.done() is not None
    assert grants < 60
    assert streams.received == streams.finished == 1000


def test_credit_comes_in_increments() -> None:
    def limits(increment: int) -> list[int]:
        streams = PeerStreams(100, increment)
        announced = []
        for _ in range(20):
            streams.arrived()
            announced += [limit] if (limit := streams.done()) is not None else []
        return announced

    assert limits(1) == list(range(101, 121))
    assert limits(5) == [105, 110, 115, 120]
    assert limits(50) == []


@given(st.integers(1, 20), st.integers(1, 30), st.lists(st.booleans(), max_size=300))
def test_the_peer_never_waits_for_a_stream_that_is_over(
    window: int, increment: int, steps: list[bool]
) -> None:
    streams = PeerStreams(window, increment)
    announced, opened, finished = window, 0, 0
    for opens in steps:
        if opens and opened < announced:
            announced = streams.arrived() or announced
            opened += 1
        elif finished < opened:
            finished += 1
            announced = streams.done() or announced
        if opened == announced:
            assert opened - finished == window  # all that are allowed at once are alive
    assert announced <= finished + window


def test_one_stream_too_many() -> None:
    streams = PeerStreams(1)
    streams.arrived()
    with pytest.raises(LimitError, match="stream 2 of 1"):
        streams.arrived()


def test_blocked_peers_get_all_credit_there_is() -> None:
    streams = PeerStreams(100)
    streams.arrived()
    assert streams.done() is None
    assert streams.wanted() == 101
    assert streams.wanted() is None


@given(st.lists(st.integers(0, 40).map(lambda n: n * 4), max_size=100))
def test_settled_ids_equal_a_set(ids: list[int]) -> None:
    settled, reference = SettledIds(), set[int]()
    for stream_id in ids:
        settled.settle(stream_id)
        reference.add(stream_id)
    for stream_id in range(0, 200, 4):
        assert settled.is_settled(stream_id) == (stream_id in reference)


def test_memory_is_bounded_by_what_is_open() -> None:
    settled = SettledIds()
    settled.see(0)  # stays open for ever
    for stream_id in range(4, 400_000, 4):
        settled.settle(stream_id)
    assert settled.unsettled == 1
    assert settled.next_id == 400_000
    assert not settled.is_settled(0)
    assert not settled.is_settled(400_000)


class Early:
    def __init__(self, **options: int) -> None:
        self.clock = FakeClock()
        self.quic = FakeQuic(is_client=False)
        self.quic.handler = self
        self.expired: list[EarlyStream] = []
        self.options = H3Options(**options)  # type: ignore[arg-type]
        self.early = EarlyArrivals(
            self.options,
            self.clock.call_later,
            self.expired.extend,
        )

    def stream_ready(self, stream: FakeStream) -> None:
        """Nothing looks at these streams."""

    def stream(self, size: int = 0) -> FakeStream:
        return self.quic.peer_open(True, bytes(size))


def test_what_waits_is_taken_in_order() -> None:
    bed = Early()
    streams = [bed.stream() for _ in range(3)]
    for stream in streams:
        assert bed.early.hold_stream(4, stream, 3, known=False)
    assert bed.early.hold_datagram(4, b"x", known=False)
    assert bed.early.take(4) == ([EarlyStream(s, 3) for s in streams], [b"x"])
    assert bed.early.take(4) == ([], [])
    assert (bed.early.streams, bed.early.datagrams, bed.clock.pending) == (0, 0, 0)


def test_limits_are_per_connection() -> None:
    bed = Early(max_early_streams=2, max_early_bytes=10)
    assert not bed.early.hold_stream(0, bed.stream(11), 2, known=False)
    assert bed.early.hold_stream(0, bed.stream(10), 2, known=False)
    assert bed.early.hold_stream(4, bed.stream(), 2, known=False)
    assert not bed.early.hold_stream(8, bed.stream(), 2, known=False)
    assert bed.early.dropped == 2


def test_limit_of_a_session_is_for_streams_and_for_datagrams() -> None:
    bed = Early(max_early_per_session=1)
    assert bed.early.hold_stream(0, bed.stream(), 2, known=False)
    assert bed.early.hold_datagram(0, b"", known=False)
    assert not bed.early.hold_datagram(0, b"", known=False)
    assert not bed.early.hold_stream(0, bed.stream(), 2, known=False)
    assert bed.early.hold_datagram(4, b"", known=False)  # another session has its own
    assert bed.early.dropped == 2
    bed.early.take(0)
    assert bed.early.hold_datagram(0, b"", known=False)


def test_limit_of_a_connection_counts_all_sessions() -> None:
    bed = Early(max_early_total=2)
    assert bed.early.hold_stream(0, bed.stream(), 2, known=False)
    assert bed.early.hold_datagram(4, b"", known=False)
    assert not bed.early.hold_datagram(8, b"", known=False)
    assert not bed.early.hold_stream(8, bed.stream(), 2, known=False)
    bed.early.take(4)
    assert bed.early.hold_stream(8, bed.stream(), 2, known=False)


def test_waiting_datagrams_of_a_session_have_a_limit_in_bytes() -> None:
    bed = Early(max_early_bytes=10)
    assert bed.early.hold_datagram(0, bytes(6), known=False)
    assert not bed.early.hold_datagram(0, bytes(5), known=False)
    assert bed.early.hold_datagram(0, bytes(4), known=False)
    assert bed.early.hold_datagram(4, bytes(10), known=False)
    assert not bed.early.hold_datagram(8, bytes(11), known=False)
    bed.early.take(0)
    assert bed.early.hold_datagram(0, bytes(10), known=False)


def test_unknown_sessions_expire_and_requested_ones_do_not() -> None:
    bed = Early()
    first, second = bed.stream(), bed.stream()
    bed.early.hold_stream(0, first, 2, known=False)
    bed.early.hold_stream(4, second, 2, known=False)
    bed.early.pin(4)
    bed.early.hold_stream(8, bed.stream(), 2, known=True)
    bed.clock.advance(5)
    assert [entry.stream for entry in bed.expired] == [first]
    assert bed.early.streams == 2


def test_a_dropped_stream_leaves_nothing_behind() -> None:
    bed = Early()
    stream = bed.stream()
    bed.early.hold_stream(0, stream, 2, known=False)
    assert not bed.early.drop_if_oversized(stream)
    stream.feed(bytes(bed.options.max_early_bytes + 1))
    assert bed.early.drop_if_oversized(stream)
    assert (bed.early.streams, bed.clock.pending) == (0, 0)
    assert bed.early.clear() == []


def test_what_waits_for_an_established_session_counts_no_more() -> None:
    bed = Early(max_early_streams=1, max_early_per_session=2, max_early_bytes=10)
    first, second = bed.stream(), bed.stream()
    assert bed.early.hold_stream(0, first, 2, known=False)
    assert bed.early.hold_datagram(0, bytes(10), known=False)
    bed.early.established(0)
    assert (bed.early.streams, bed.early.datagrams, bed.clock.pending) == (0, 0, 0)
    bed.early.line_up(0, second, 2)
    first.feed(bytes(11))
    assert not bed.early.drop_if_oversized(first)
    assert bed.early.hold_stream(4, bed.stream(), 2, known=False)  # the room is free again
    assert bed.early.hold_datagram(4, bytes(10), known=False)
    assert bed.early.take_datagrams(0) == [bytes(10)]
    assert bed.early.next_stream(0) == EarlyStream(first, 2)
    assert bed.early.take(0) == ([EarlyStream(second, 2)], [])
    assert not bed.early.holds(0)
    assert (bed.early.streams, bed.early.datagrams) == (1, 1)
