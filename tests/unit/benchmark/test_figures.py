"""Statistics, ratios and targets of the benchmarks."""

from typing import Any

import pytest

from tests.benchmark.figures import (
    Key,
    Summary,
    best_peer,
    metric_of,
    outcomes,
    ratio,
    summarise,
    verdicts,
)
from tests.benchmark.scenarios import SCENARIOS, TARGETS, Target


def cell(scenario: str, library: str, loop: str = "asyncio", **figures: float) -> dict[str, Any]:
    return {"scenario": scenario, "library": library, "loop": loop, "figures": figures}


def failed(scenario: str, library: str, reason: str) -> dict[str, Any]:
    return {"scenario": scenario, "library": library, "loop": "asyncio", "error": reason}


def test_summary_is_median_and_range() -> None:
    assert summarise([3.0, 1.0, 10.0]) == Summary(3.0, 1.0, 10.0, 3)
    assert summarise([1.0, 2.0]) == Summary(1.5, 1.0, 2.0, 2)


def test_summary_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 number, got 0"):
        summarise([])


def test_repetitions_of_a_line_are_put_together() -> None:
    lines = outcomes(
        [
            cell("upload", "ours", rate=10.0),
            cell("upload", "aioquic", rate=1.0),
            cell("upload", "ours", rate=30.0),
            failed("upload", "ours", "no answer"),
        ]
    )
    mine = lines[Key("upload", "ours", "asyncio")]
    assert mine.metrics["rate"] == Summary(20.0, 10.0, 30.0, 2)
    assert mine.failures == ["no answer"]
    assert [key.library for key in lines] == ["ours", "aioquic"]


def test_congestion_controls_are_lines_of_their_own() -> None:
    lines = outcomes(
        [
            {**cell("upload-loss-1", "ours", rate=1.0), "congestion": "cubic"},
            {**cell("upload-loss-1", "ours", rate=9.0), "congestion": "bbr"},
        ]
    )
    assert [key.congestion for key in lines] == ["cubic", "bbr"]


def test_a_line_that_always_failed_has_no_figures() -> None:
    lines = outcomes([failed("upload", "ours", "a"), failed("upload", "ours", "b")])
    outcome = lines[Key("upload", "ours", "asyncio")]
    assert outcome.metrics == {}
    assert outcome.to_dict()["failures"] == ["a", "b"]


def test_best_peer_follows_the_direction_of_the_metric_and_leaves_us_out() -> None:
    lines = outcomes(
        [
            cell("ping-pong", "ours", rate=99.0, p50=1.0),
            cell("ping-pong", "aioquic", rate=10.0, p50=20.0),
            cell("ping-pong", "aiopquic", rate=30.0, p50=30.0),
            cell("ping-pong", "aioquic", loop="uvloop", rate=50.0, p50=40.0),
        ]
    )

    def best(metric: str, loop: str | None) -> tuple[str, float]:
        found = best_peer(lines, "ping-pong", metric_of("ping-pong", metric), loop)
        assert found is not None
        return found[0].library, found[1].median

    assert best("rate", "asyncio") == ("aiopquic", 30.0)
    assert best("p50", "asyncio") == ("aioquic", 20.0)
    assert best("rate", None) == ("aioquic", 50.0)
    assert best_peer(lines, "upload", metric_of("upload", "rate")) is None


def test_a_server_with_the_client_of_this_project_is_a_peer_in_memory_only() -> None:
    lines = outcomes(
        [
            cell("ping-pong", "aioquic", rate=10.0),
            cell("ping-pong", "peregrine-server", rate=50.0),
            cell("idle-sessions", "aioquic", rss=40.0),
            cell("idle-sessions", "peregrine-server", rss=30.0),
        ]
    )

    def best(scenario: str, metric: str) -> str:
        found = best_peer(lines, scenario, metric_of(scenario, metric))
        assert found is not None
        return found[0].library

    assert best("ping-pong", "rate") == "aioquic"
    assert best("idle-sessions", "rss") == "peregrine-server"


def test_ratio_is_ours_by_theirs() -> None:
    assert ratio(Summary(6, 1, 9, 3), Summary(4, 1, 9, 3)) == 1.5
    assert ratio(Summary(6, 1, 9, 3), Summary(0, 0, 0, 3)) is None


@pytest.mark.parametrize(("ours", "met"), [(40.0, True), (39.0, False)])
def test_more_is_better_for_a_rate(ours: float, met: bool) -> None:
    lines = outcomes([cell("upload", "ours", rate=ours), cell("upload", "aioquic", rate=10.0)])
    (verdict,) = verdicts(lines, [Target(scenario="upload", metric="rate", ratio=4.0)], "asyncio")
    assert verdict.met is met
    assert verdict.sign == ">="


@pytest.mark.parametrize(("ours", "met"), [(5.0, True), (5.1, False)])
def test_less_is_better_for_a_latency(ours: float, met: bool) -> None:
    target = Target(scenario="ping-pong", metric="p99", against="p50", ratio=0.5)
    lines = outcomes(
        [cell("ping-pong", "ours", p99=ours), cell("ping-pong", "aioquic", p50=10.0, p99=1.0)]
    )
    (verdict,) = verdicts(lines, [target], "asyncio")
    assert verdict.met is met
    assert verdict.sign == "<="


@pytest.mark.parametrize(("lost", "met"), [(0.0, True), (1.0, False)])
def test_a_loss_misses_a_target_that_forbids_it(lost: float, met: bool) -> None:
    target = Target(scenario="datagrams", metric="rate", ratio=4.0, no_loss=True)
    lines = outcomes(
        [
            cell("datagrams", "ours", rate=50.0, lost=0.0),
            cell("datagrams", "ours", rate=50.0, lost=lost),
            cell("datagrams", "aioquic", rate=10.0, lost=0.0),
        ]
    )
    (verdict,) = verdicts(lines, [target], "asyncio")
    assert verdict.met is met
    assert verdict.note == f"{lost:.0f} lost at most"


def test_the_ratio_to_peers_on_another_loop_stands_beside() -> None:
    target = Target(scenario="upload", metric="rate", ratio=4.0)
    lines = outcomes(
        [
            cell("upload", "ours", rate=40.0),
            cell("upload", "aioquic", rate=10.0),
            cell("upload", "aioquic", loop="uvloop", rate=20.0),
        ]
    )
    (verdict,) = verdicts(lines, [target], "asyncio")
    assert (verdict.ratio, verdict.ratio_any_loop, verdict.met) == (4.0, 2.0, True)


def test_without_a_peer_there_is_no_verdict() -> None:
    lines = outcomes([cell("upload", "ours", rate=40.0)])
    (verdict,) = verdicts(lines, [Target(scenario="upload", metric="rate", ratio=4.0)], "asyncio")
    assert (verdict.ratio, verdict.met, verdict.note) == (None, None, "not measured")


def test_targets_that_were_not_measured_are_left_out() -> None:
    assert verdicts(outcomes([cell("upload", "ours", rate=1.0)]), TARGETS, "uvloop") == []


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.scenario}-{t.metric}")
def test_every_target_names_metrics_that_its_scenario_shows(target: Target) -> None:
    names = [metric.name for metric in SCENARIOS[target.scenario].metrics]
    assert target.metric in names
    assert target.other in names
