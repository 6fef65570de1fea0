"""How long a worker that died has to wait for its successor."""

from pywebtransport.server._supervisor import RestartPolicy


def test_first_at_once_then_later_and_later_then_rarely() -> None:
    policy = RestartPolicy()
    delays = []
    hopeless = []
    for _ in range(9):
        delays.append(policy.delay(1.0))
        hopeless.append(policy.is_hopeless)
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 60.0, 60.0]
    assert hopeless == [False] * 7 + [True] * 2
    assert policy.delay(11.0) == 0.0
    assert not policy.is_hopeless


def test_worker_that_settled_counts_as_the_first() -> None:
    policy = RestartPolicy(settled=10.0, limit=3)
    assert [policy.delay(lived) for lived in (1, 9.9, 10, 0, 10, 1e6)] == [0, 0.5, 0, 0.5, 0, 0]
    assert [policy.delay(0) for _ in range(2)] == [0.5, 60.0]
