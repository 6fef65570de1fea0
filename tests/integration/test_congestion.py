"""The default congestion control, by the figures that it was chosen for: tests/benchmark/paths."""

from __future__ import annotations

import subprocess
from pathlib import Path
from statistics import median

import pytest

from pywebtransport import ClientConfig, ServerConfig
from tests.benchmark.paths.run import Outcome, Route, build, simulate
from tests.benchmark.paths.tables import TABLES, Table, render


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("paths"))


def run(program: Path, route: Route, *flows: str, seconds: int = 15, **more: float) -> Outcome:
    return simulate(program, route, flows, seconds=seconds, seed=1, more=more)


def test_the_default_is_the_same_at_both_ends() -> None:
    assert ClientConfig().congestion_control_algorithm == "bbr"
    assert ServerConfig.create(certfile="a", keyfile="b").congestion_control_algorithm == "bbr"


@pytest.mark.parametrize("rtt", [20, 100, 300])
def test_without_loss_the_default_is_about_as_fast(program: Path, rtt: int) -> None:
    seconds = 15 if rtt < 300 else 30  # the start takes a part of it
    rates = {
        name: run(program, Route(rtt=rtt), name, seconds=seconds).rate()
        for name in ("bbr", "cubic")
    }
    assert rates["bbr"] > 0.85 * rates["cubic"]


@pytest.mark.parametrize(
    ("rtt", "loss", "factor"), [(20, 0.01, 1.2), (100, 0.01, 8), (300, 0.03, 8)]
)
def test_under_loss_the_default_is_much_faster(
    program: Path, rtt: int, loss: float, factor: float
) -> None:
    """On a short path, a run of 15 s differs much from the next one, above all with ngtcp2 1.24."""
    route = Route(rtt=rtt, loss=loss)
    rates = [run(program, route, "bbr").rate() for _ in range(3)]
    assert median(rates) > factor * run(program, route, "cubic").rate()


def test_beside_a_bulk_stream_datagrams_wait_for_less_than_the_buffer(program: Path) -> None:
    route = Route(rtt=100, buffer=4)
    waits = {name: run(program, route, name, small=1).delay_p50 for name in ("bbr", "cubic")}
    assert 50 <= waits["bbr"] < 100 < 250 < waits["cubic"]


@pytest.mark.parametrize("flows", [("bbr", "bbr"), ("cubic", "bbr"), ("bbr", "cubic")])
def test_two_flows_share_a_path(program: Path, flows: tuple[str, str]) -> None:
    outcome = run(program, Route(rtt=20), *flows, seconds=40, late=10)
    shares = [outcome.rate(flow, -15) for flow in (0, 1)]
    assert sum(shares) > 40
    assert min(shares) > 10


def test_a_run_says_why_it_failed(program: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        simulate(program, Route(rtt=20), ["bbr"] * 9, seconds=1, seed=1)
    assert "too many flows" in caught.value.stderr


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_can_be_filled(program: Path, table: Table) -> None:
    line = table.lines[0]
    columns = [
        [
            table.figures(
                simulate(program, line.route, flows, seconds=line.seconds, seed=1, more=line.more)
            )
        ]
        for flows in line.runs
    ]
    text = render(table, [columns for _ in table.lines])
    assert text.count("\n") == 2 + len(table.lines)
    assert f"| {line.name} |" in text
