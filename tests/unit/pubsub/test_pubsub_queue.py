"""The bounded queue and its policies."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.pubsub import BackpressurePolicy
from pywebtransport.pubsub._queue import MessageQueue

OLDEST, NEWEST, CLOSE = BackpressurePolicy


def filled(policy: BackpressurePolicy, sizes: Sequence[int], **limits: int) -> MessageQueue[int]:
    """A queue into which messages of these sizes were put, numbered from 0."""
    queue: MessageQueue[int] = MessageQueue(
        policy, limits.get("messages", 3), limits.get("size", 100)
    )
    for number, size in enumerate(sizes):
        assert queue.push(number, size)
    return queue


def contents(queue: MessageQueue[int]) -> list[int]:
    return [queue.pop() for _ in range(len(queue))]


def test_first_in_first_out() -> None:
    queue = filled(OLDEST, [10, 20, 30])
    assert (len(queue), queue.size, queue.dropped) == (3, 60, 0)
    assert contents(queue) == [0, 1, 2]
    assert (len(queue), queue.size) == (0, 0)


@pytest.mark.parametrize(("policy", "kept"), [(OLDEST, [2, 3, 4]), (NEWEST, [0, 1, 2])])
def test_too_many_messages(policy: BackpressurePolicy, kept: list[int]) -> None:
    queue = filled(policy, [1] * 5)
    assert (queue.dropped, queue.size) == (2, 3)
    assert contents(queue) == kept


@pytest.mark.parametrize(("policy", "kept", "lost"), [(OLDEST, [2], 2), (NEWEST, [0, 1], 1)])
def test_too_many_bytes(policy: BackpressurePolicy, kept: list[int], lost: int) -> None:
    queue = filled(policy, [40, 40, 90])
    assert queue.dropped == lost
    assert contents(queue) == kept


@pytest.mark.parametrize("policy", [OLDEST, NEWEST])
def test_a_message_larger_than_all_room_is_lost(policy: BackpressurePolicy) -> None:
    queue = filled(policy, [101, 5])
    assert queue.dropped == 1
    assert contents(queue) == [1]


def test_the_policy_that_wants_the_end() -> None:
    queue = filled(CLOSE, [10, 10, 10])
    assert not queue.push(9, 1)
    assert (len(queue), queue.dropped) == (3, 0)
    queue.clear()
    assert (len(queue), queue.size, queue.dropped) == (0, 0, 0)
    assert not queue.push(9, 101)
    assert queue.push(9, 100)


@given(
    st.sampled_from(BackpressurePolicy),
    st.integers(1, 5),
    st.integers(1, 50),
    st.lists(st.one_of(st.none(), st.integers(0, 60))),
)
def test_limits_hold_and_nothing_is_lost_uncounted(
    policy: BackpressurePolicy, messages: int, size: int, steps: list[int | None]
) -> None:
    """A step is a message of that size, or the taking of one."""
    queue: MessageQueue[int] = MessageQueue(policy, messages, size)
    pushed = popped = refused = 0
    for step in steps:
        if step is not None:
            refused += not queue.push(step, step)
            pushed += 1
        elif queue:
            queue.pop()
            popped += 1
        assert len(queue) <= messages
        assert 0 <= queue.size <= size
        assert pushed == popped + len(queue) + queue.dropped + refused
    assert refused == 0 or policy is CLOSE
    assert queue.dropped == 0 or policy is not CLOSE
