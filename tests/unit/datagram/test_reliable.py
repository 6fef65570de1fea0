"""Reliable datagrams without I/O: both halves over a simulated path and a virtual clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pywebtransport.datagram._reliable_frames import (
    INITIAL_LIMIT,
    MAX_WINDOW,
    PROBE,
    Ack,
    Data,
    FrameError,
    Probe,
    decode,
    encode_ack,
    encode_data,
)
from pywebtransport.datagram._reliable_receiver import ReliableReceiver
from pywebtransport.datagram._reliable_sender import ReliableSender

DELAY = 0.02
NUMBERS = st.integers(0, (1 << 62) - 1)


class Simulation:
    """A sender and a receiver with a lossy path between them, under a virtual clock."""

    def __init__(
        self,
        *,
        seed: int,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        window: int = 64,
        ordered: bool = True,
        max_retries: int = 3,
        reads: Callable[[float], bool] = lambda now: True,
    ) -> None:
        self.random = random.Random(seed)
        self.loss, self.duplicate, self.reorder = loss, duplicate, reorder
        self.sender = ReliableSender(window=window, ack_timeout=1.0, max_retries=max_retries)
        self.sender.expect(2 * DELAY)
        self.receiver = ReliableReceiver(window=window, ordered=ordered)
        self.window = window
        self.reads = reads
        self.now = 0.0
        self.path: list[tuple[float, int, bytes]] = []
        self.frames = 0
        self.got: list[bytes] = []
        self.most_waiting = 0

    def run(self, payloads: list[bytes], until: float = 1000.0) -> bool:
        """Send all; False when the sender gave up."""
        rest = list(reversed(payloads))
        while rest or self.sender.unacknowledged or len(self.got) < len(payloads):
            while rest and self.sender.has_room:
                self.sender.submit(rest.pop())
            self.sender.wanted = bool(rest)
            assert self.sender.unacknowledged <= self.window
            assert self.sender.transmit(self.now, lambda frame: self._put(True, frame))
            times = [self.path[0][0]] if self.path else []
            deadline = self.sender.deadline(self.now)
            if deadline is not None:
                times.append(deadline)
            assert times or not self.sender.unacknowledged, "nothing would ever happen"
            before = self.now
            # A reader that wakes up by itself does so within a second.
            self.now = max(self.now, min([*times, self.now + 1.0]))
            assert self.now < until
            self._deliver()
            if not self.sender.timeout(self.now):
                return False
            assert self.now > before or self.frames < 1_000_000
        return True

    def _deliver(self) -> None:
        acknowledge = False
        while self.path and self.path[0][0] <= self.now:
            _, _, frame = heapq.heappop(self.path)
            message = decode(frame)
            if isinstance(message, Ack):
                self.sender.acknowledge(message, self.now)
                continue
            acknowledge = True
            if isinstance(message, Data):
                self.receiver.accept(message.sequence, message.payload)
        self.most_waiting = max(self.most_waiting, self.receiver.waiting)
        if self.reads(self.now):
            while (data := self.receiver.take()) is not None:
                self.got.append(data)
        if acknowledge or self.receiver.should_announce:
            self._put(False, self.receiver.acknowledgement())

    def _put(self, to_receiver: bool, frame: bytes) -> bool:
        self.frames += 1
        for _ in range(1 + (self.random.random() < self.duplicate)):
            if self.random.random() < self.loss:
                continue
            delay = DELAY
            if self.random.random() < self.reorder:
                delay += self.random.random() * 2 * DELAY
            heapq.heappush(self.path, (self.now + delay, self.frames, frame))
        return True


def numbered(count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(count)]


# --------------------------------------------------------------------- delivery


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.floats(0, 0.25),
    duplicate=st.floats(0, 0.2),
    reorder=st.floats(0, 0.5),
    window=st.sampled_from([32, 64, 256]),
    count=st.integers(1, 300),
    ordered=st.booleans(),
)
def test_everything_arrives_once(
    seed: int,
    loss: float,
    duplicate: float,
    reorder: float,
    window: int,
    count: int,
    ordered: bool,
) -> None:
    simulation = Simulation(
        seed=seed,
        loss=loss,
        duplicate=duplicate,
        reorder=reorder,
        window=window,
        ordered=ordered,
        max_retries=20,
    )
    assert simulation.run(numbered(count))
    assert (simulation.got if ordered else sorted(simulation.got)) == numbered(count)
    assert simulation.receiver.received == count == simulation.sender.acknowledged


def test_twenty_percent_loss_does_not_exhaust_the_retries() -> None:
    """With three retries, on 300 seeds and single datagrams, where there is least to go by."""
    for seed in range(300):
        simulation = Simulation(seed=seed, loss=0.2, duplicate=0.1, reorder=0.2)
        assert simulation.run(numbered(1 + seed % 3)), seed


def test_a_clean_path_needs_no_retransmission() -> None:
    simulation = Simulation(seed=1)
    assert simulation.run(numbered(1000))
    assert simulation.sender.retransmitted == simulation.sender.timeouts == 0
    assert simulation.sender.rtt == pytest.approx(2 * DELAY)
    assert simulation.receiver.duplicates == 0


def test_lost_acknowledgements_do_not_matter() -> None:
    """Each tells everything, so one of many is enough."""
    simulation = Simulation(seed=1)
    count = 0

    def lossy(to_receiver: bool, frame: bytes) -> bool:
        nonlocal count
        count += not to_receiver
        if not to_receiver and count % 3:
            return True
        return put(to_receiver, frame)

    put, simulation._put = simulation._put, lossy  # type: ignore[method-assign]
    assert simulation.run(numbered(200))
    assert simulation.got == numbered(200)


def test_one_lost_datagram_is_sent_again_without_the_timer() -> None:
    simulation = Simulation(seed=1)
    dropped = []

    def lossy(to_receiver: bool, frame: bytes) -> bool:
        if to_receiver and not dropped and decode(frame) == Data(5, numbered(6)[5]):
            dropped.append(frame)
            return True
        return put(to_receiver, frame)

    put, simulation._put = simulation._put, lossy  # type: ignore[method-assign]
    assert simulation.run(numbered(30))
    assert simulation.sender.retransmitted == 1
    assert simulation.sender.timeouts == 0
    assert simulation.got == numbered(30)


def test_a_silent_peer_is_given_up_in_time() -> None:
    simulation = Simulation(seed=1, loss=1.0, max_retries=3)
    assert simulation.run(numbered(5)) is False
    assert simulation.now == pytest.approx(4.0)
    assert simulation.sender.unacknowledged == 5
    # Retransmissions slow down: they are no flood.
    assert 3 <= simulation.sender.timeouts <= 12


def test_a_slow_reader_stops_the_sender_without_breaking_it() -> None:
    """It reads for a moment every ten seconds, longer than a silent peer would be given."""
    simulation = Simulation(seed=3, loss=0.2, window=32, reads=lambda now: now % 10 < 0.6)
    assert simulation.run(numbered(200))
    assert simulation.got == numbered(200)
    assert simulation.most_waiting <= 32
    assert simulation.receiver.beyond_window == 0


def test_a_refused_frame_stays_due() -> None:
    sender = ReliableSender(window=32, ack_timeout=1.0, max_retries=1)
    for payload in numbered(3):
        sender.submit(payload)
    room = 2
    sent: list[bytes] = []

    def send(frame: bytes) -> bool:
        if len(sent) < room:
            sent.append(frame)
            return True
        return False

    assert sender.transmit(0.0, send) is False
    assert sender.unacknowledged == 3
    room = 3
    assert sender.transmit(100.0, send) is True
    assert sent == [encode_data(number, payload) for number, payload in enumerate(numbered(3))]


def test_waiting_for_room_below_is_not_the_peers_silence() -> None:
    sender = ReliableSender(window=32, ack_timeout=1.0, max_retries=1)
    sender.submit(b"x")
    assert sender.transmit(0.0, lambda frame: False) is False
    assert sender.deadline(0.0) is None
    assert sender.timeout(1000.0) is True
    assert sender.transmit(1000.0, lambda frame: True) is True
    assert sender.deadline(1000.0) == 1001.0
    assert sender.timeout(1001.0) is True
    assert sender.timeout(1002.0) is False


def test_a_closed_window_is_probed_while_somebody_waits() -> None:
    sender = ReliableSender(window=64, ack_timeout=1.0, max_retries=3)
    for payload in numbered(INITIAL_LIMIT):
        sender.submit(payload)
    frames: list[bytes] = []

    def send(frame: bytes) -> bool:
        frames.append(frame)
        return True

    sender.transmit(0.0, send)
    sender.acknowledge(Ack(INITIAL_LIMIT, INITIAL_LIMIT, 0), 0.1)
    assert not sender.has_room
    assert sender.deadline(0.1) is None
    sender.wanted = True
    due = sender.deadline(0.1)
    assert due is not None
    frames.clear()
    assert sender.timeout(due)
    assert sender.transmit(due, lambda frame: False) is False
    assert sender.transmit(due, send)
    assert frames == [PROBE, PROBE]  # one may be lost
    sender.acknowledge(Ack(INITIAL_LIMIT, INITIAL_LIMIT + 1, 0), due + 0.1)
    assert sender.has_room
    assert sender.deadline(due + 0.1) is None
    # Nobody waits any more: no more probes.
    sender.submit(b"x")
    sender.transmit(due + 1, send)
    sender.acknowledge(Ack(INITIAL_LIMIT + 1, INITIAL_LIMIT + 1, 0), due + 1.1)
    due = sender.deadline(due + 1.1)
    assert due is not None
    sender.wanted = False
    assert sender.timeout(due)
    assert sender.deadline(due) is None


# ------------------------------------------------------------------------ hostile


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_refused(frame: bytes) -> None:
    try:
        message = decode(frame)
    except FrameError:
        return
    assert frame[0] in (0x11, 0x12, 0x13)
    assert isinstance(message, Data | Ack | Probe)


@given(NUMBERS, st.binary(max_size=50))
def test_data_frames_are_decoded_as_encoded(sequence: int, payload: bytes) -> None:
    assert decode(encode_data(sequence, payload)) == Data(sequence, payload)


@given(NUMBERS, NUMBERS, st.integers(0, (1 << MAX_WINDOW) - 1))
def test_ack_frames_are_decoded_as_encoded(expected: int, limit: int, beyond: int) -> None:
    assert decode(encode_ack(expected, limit, beyond)) == Ack(expected, limit, beyond)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x11",
        b"\x11\x40",
        b"\x12",
        b"\x12\x00",
        b"\x12\x00\xc0\x00",
        b"\x12\x00\x00" + bytes(MAX_WINDOW // 8 + 1),
        b"\x13\x00",
        b"\x14",
        b"\x21\x00",
    ],
    ids=bytes.hex,
)
def test_malformed_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(FrameError, match=f": {frame[:16].hex()}$"):
        decode(frame)


@given(st.lists(st.tuples(NUMBERS | st.integers(0, 200), st.booleans()), max_size=300))
def test_a_receiver_is_bounded_whatever_comes(arrivals: list[tuple[int, bool]]) -> None:
    for ordered in (True, False):
        receiver = ReliableReceiver(window=32, ordered=ordered)
        for sequence, take in arrivals:
            receiver.accept(sequence, b"x")
            if take:
                receiver.take()
            assert receiver.waiting + len(receiver._held) <= 32
            assert receiver._arrived.bit_length() <= 32
            assert len(receiver.acknowledgement()) <= 1 + 8 + 8 + 4


@given(
    st.lists(
        st.tuples(
            NUMBERS | st.integers(0, 100),
            NUMBERS | st.integers(0, 100),
            st.integers(0, (1 << MAX_WINDOW) - 1) | st.integers(0, 1 << 40),
        ),
        max_size=100,
    )
)
def test_a_sender_survives_any_acknowledgement(acks: list[tuple[int, int, int]]) -> None:
    sender = ReliableSender(window=64, ack_timeout=1.0, max_retries=3)
    now, submitted = 0.0, 0
    for expected, limit, beyond in acks:
        while sender.has_room and submitted < 1000:
            sender.submit(b"x")
            submitted += 1
        sender.transmit(now, lambda frame: True)
        try:
            sender.acknowledge(Ack(expected, limit, beyond), now)
        except FrameError:
            assert expected + beyond.bit_length() >= submitted
        now += 0.1
        sender.timeout(now)
        assert sender.unacknowledged <= 64
        assert sender.acknowledged + sender.unacknowledged == submitted
        assert len(sender._lost) + len(sender._fresh) <= 128


def test_an_acknowledgement_of_the_future_is_refused() -> None:
    sender = ReliableSender(window=64, ack_timeout=1.0, max_retries=3)
    sender.submit(b"x")
    for ack in (Ack(2, 64, 0), Ack(0, 64, 1), Ack(1, 64, 1)):
        with pytest.raises(FrameError, match="beyond"):
            sender.acknowledge(ack, 0.0)
    assert sender.unacknowledged == 1
    sender.acknowledge(Ack(1, 64, 0), 0.0)
    assert sender.unacknowledged == 0
    # An old one that comes late changes nothing.
    sender.acknowledge(Ack(0, 0, 0), 0.0)
    assert sender.has_room
