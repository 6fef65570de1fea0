"""Which packets the relay of the benchmarks loses."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmark.relay import DropSequence, keep, split

PACKETS = 200_000


def lost(loss: float, seed: str, trains: list[int]) -> list[int]:
    """Numbers of the lost packets when they come in trains of these lengths."""
    drops, numbers, start = DropSequence(loss, seed), [], 0
    for length in trains:
        numbers += [start + index for index in drops.take(length)]
        start += length
    return numbers


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60), st.sampled_from([0.01, 0.3, 0.9]))
def test_the_same_packets_are_lost_however_they_come(trains: list[int], loss: float) -> None:
    assert lost(loss, "seed", trains) == lost(loss, "seed", [1] * sum(trains))


@pytest.mark.parametrize("loss", [0.001, 0.01, 0.5])
def test_the_share_is_the_one_that_was_asked_for(loss: float) -> None:
    share = len(lost(loss, "7", [PACKETS])) / PACKETS
    assert share == pytest.approx(loss, rel=0.15)


def test_neighbours_can_both_be_lost() -> None:
    numbers = lost(0.5, "1", [1000])
    assert any(b - a == 1 for a, b in itertools.pairwise(numbers))


def test_another_seed_loses_other_packets() -> None:
    assert lost(0.01, "1", [10_000]) == lost(0.01, "1", [10_000])
    assert lost(0.01, "1", [10_000]) != lost(0.01, "2", [10_000])


def test_nothing_is_lost_without_loss() -> None:
    assert lost(0.0, "1", [PACKETS]) == []


@pytest.mark.parametrize("loss", [-0.1, 1.0])
def test_an_impossible_loss_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match=rf"loss must be in \[0, 1\), got {loss}"):
        DropSequence(loss, "1")


@pytest.mark.parametrize(
    ("numbers", "runs"),
    [
        ([], [(0, 5)]),
        ([0], [(1, 5)]),
        ([4], [(0, 4)]),
        ([1, 2], [(0, 1), (3, 5)]),
        ([0, 1, 2, 3, 4], []),
    ],
)
def test_runs_between_lost_packets(numbers: list[int], runs: list[tuple[int, int]]) -> None:
    assert keep(5, numbers) == runs


def test_a_train_is_cut_at_its_lost_packets() -> None:
    assert split(b"aabbccd", 2, []) == [b"aabbccd"]
    assert split(b"aabbccd", 2, [1]) == [b"aa", b"ccd"]
    assert split(b"aabbccd", 2, [3]) == [b"aabbcc"]
    assert split(b"aa", 2, [0]) == []
