"""What the benchmarks send, and that the receiver notices everything else."""

import itertools

import pytest

from tests.benchmark.peers.shared.payload import (
    Checker,
    ContentError,
    DatagramCounter,
    blocks,
    datagrams,
)

SIZES = [1 << 10, 1 << 16, 1 << 20]


def stream(size: int, count: int) -> bytes:
    return b"".join(itertools.islice(itertools.cycle(blocks(size)), count))


@pytest.mark.parametrize("size", SIZES)
def test_blocks_of_every_size_are_one_stream(size: int) -> None:
    longest = stream(1 << 20, 8)
    assert stream(size, (8 << 20) // size) == longest
    assert {len(block) for block in blocks(size)} == {size}


@pytest.mark.parametrize("piece", [1000, 65_536, 3 << 20])
def test_the_expected_stream_is_accepted_in_any_pieces(piece: int) -> None:
    data = stream(1 << 16, 64)
    checker = Checker()
    for start in range(0, len(data), piece):
        checker.feed(memoryview(data)[start : start + piece])
    assert checker.size == len(data)


def test_a_changed_byte_is_noticed() -> None:
    data = bytearray(stream(1 << 16, 4))
    data[100_000] ^= 1
    with pytest.raises(ContentError, match="wrong bytes between 0 and"):
        Checker().feed(data)


@pytest.mark.parametrize("size", SIZES)
def test_a_block_that_is_missing_is_noticed(size: int) -> None:
    first, _, third = itertools.islice(itertools.cycle(blocks(size)), 3)
    checker = Checker()
    checker.feed(first)
    with pytest.raises(ContentError):
        checker.feed(third)


def test_datagrams_are_counted_once_each() -> None:
    sent = list(itertools.islice(datagrams(100), 5))
    counter = DatagramCounter(100)
    counter.add(sent[:3])
    counter.add([memoryview(sent[4]), sent[4]])
    assert (counter.arrived, counter.distinct, counter.wrong) == (5, 4, 0)


@pytest.mark.parametrize("data", [bytes(100), bytes(99), bytes(101)])
def test_a_datagram_that_was_not_sent_is_wrong(data: bytes) -> None:
    counter = DatagramCounter(100)
    counter.add([data])
    assert counter.wrong == 1
