"""How long a worker that died has to wait for its successor."""

from pywebtransport.server.supervisor import RestartPolicy


def test_first_at_once_then_later_and_later_then_never() -> None:
    policy = RestartPolicy()
    delays = [policy.delay(1.0) for _ in range(8)]
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, None]


def test_worker_that_settled_counts_as_the_first() -> None:
    policy = RestartPolicy(settled=10.0, limit=3)
    assert [policy.delay(lived) for lived in (1, 9.9, 10, 0, 10, 1e6)] == [0, 0.5, 0, 0.5, 0, 0]
    assert [policy.delay(0) for _ in range(2)] == [0.5, None]
