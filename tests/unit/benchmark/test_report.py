"""The report of the benchmarks."""

from pathlib import Path
from typing import Any

import pytest

from tests.benchmark.figures import outcomes
from tests.benchmark.plots import advantages, bars, panels
from tests.benchmark.report import number, report

USED = {"client_cpu": 1.0, "server_cpu": 2.0, "client_peak": 1 << 20, "server_peak": 2 << 20}


def cell(library: str, rate: float, **fields: Any) -> dict[str, Any]:
    figures = {"rate": rate, "cpu_per_gib": 100.0 / rate, **USED}
    return {
        "scenario": "upload",
        "library": library,
        "loop": "asyncio",
        "figures": figures,
    } | fields


def document(*cells: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "machine": {
            "date": "2026-01-02T03:04:05+00:00",
            "commit": "abc",
            "cpu": "Z80",
            "cpus": 2,
            "memory_gib": 1.0,
            "kernel": "6.1",
            "system": "Debian",
            "libraries": {"libngtcp2": "1.11.0", "gnutls": ""},
            "load": 0.1,
        },
        "settings": {"repetitions": 2, "quick": False},
        "libraries": {
            "ours": {"title": "pywebtransport (this)", "version": "1.2", "python": "3.13.0"},
            "aioquic": {"title": "aioquic", "error": "no wheel"},
        },
        "seconds": 90.0,
        "complete": True,
        "extras": {},
        "cells": list(cells),
        **fields,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (99.94, "99.9"), (9.876, "9.88"), (0.1234, "0.123")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_report_shows_medians_ranges_ratios_and_targets(tmp_path: Path) -> None:
    cells = [cell("ours", 100.0), cell("ours", 300.0), cell("aioquic", 20.0)]
    text = report(document(*cells), tmp_path)
    assert "| upload, 64 KiB writes: speed | 200 MiB/s | 20.0 MiB/s (aioquic) | >= 4x " in text
    assert "| 10.00x | 10.00x | yes |" in text
    assert "| **pywebtransport (this)** | asyncio | 200 (100 to 300) |" in text
    assert (
        "| aioquic | asyncio | 20.0 | 5.00 | 10.00x | 1.00 + 2.00 | 1.00 + 2.00 | 1 of 1 |" in text
    )


def test_report_says_where_and_with_what(tmp_path: Path) -> None:
    text = report(document(cell("ours", 1.0)), tmp_path)
    assert "| machine | 2 x Z80, 1.0 GiB |" in text
    assert "| libngtcp2 | 1.11.0 |" in text
    assert "gnutls" not in text
    assert "| pywebtransport (this) | 1.2, Python 3.13.0 |" in text
    assert "| aioquic | not measured: no wheel |" in text
    assert "Interrupted" not in text


def libraries(*pythons: str) -> dict[str, Any]:
    names = ("ours", "aioquic", "aiopquic")
    return {
        name: {"title": name, "version": "1", "python": python}
        for name, python in zip(names, pythons, strict=False)
    }


@pytest.mark.parametrize(
    ("pythons", "row"),
    [
        ((), "| Python | nothing was measured |"),
        (("3.13.0", "3.13.0"), "| Python | 3.13.0 for every library |"),
        (
            ("3.11.7", "3.13.0", "3.13.0"),
            "| Python | **3.11.7, 3.13.0: ratios compare libraries on different versions** |",
        ),
    ],
)
def test_report_says_whether_one_python_ran_everything(
    tmp_path: Path, pythons: tuple[str, ...], row: str
) -> None:
    text = report(document(cell("ours", 1.0), libraries=libraries(*pythons)), tmp_path)
    assert row in text


def test_targets_show_the_cpu_time_of_both(tmp_path: Path) -> None:
    text = report(document(cell("ours", 100.0), cell("aioquic", 20.0)), tmp_path)
    assert "| 5.00x | 5.00x | yes | 1.00 and 5.00 s/GiB |" in text


def test_cpu_time_of_a_library_that_failed_is_left_out(tmp_path: Path) -> None:
    failed = cell("ours", 1.0) | {"error": "it hangs"}
    del failed["figures"]
    text = report(document(failed, cell("aioquic", 20.0)), tmp_path)
    assert "| >= 4x |  |  | - (not measured) |  |" in text


def test_report_says_what_was_left_out_and_why(tmp_path: Path) -> None:
    entry = {"webtransport-py": {"title": "webtransport-py", "version": "1", "python": "3.13.0"}}
    text = report(document(cell("ours", 1.0), libraries=entry), tmp_path)
    assert "## What was left out" in text
    (line,) = [one for one in text.splitlines() if "congestion window" in one]
    assert line.startswith("| webtransport-py | streams-100, datagrams | sending never returns")
    assert "left out" not in report(document(cell("ours", 1.0)), tmp_path)


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    assert "Interrupted" in report(document(cell("ours", 1.0), complete=False), tmp_path)


def test_failures_are_listed_with_their_reason(tmp_path: Path) -> None:
    failure = cell("aioquic", 1.0) | {"error": "the client gave no answer | in time"}
    del failure["figures"]
    text = report(document(cell("ours", 1.0), failure, failure), tmp_path)
    assert "| aioquic | asyncio | failed | failed |  |  |  | 0 of 2 |" in text
    line = "| aioquic | upload, 64 KiB writes | asyncio | the client gave no answer / in time | 2 |"
    assert line in text


def test_some_failures_beside_figures_are_counted(tmp_path: Path) -> None:
    failure = {"scenario": "upload", "library": "ours", "loop": "asyncio", "error": "hang"}
    text = report(document(cell("ours", 1.0), failure), tmp_path)
    assert "| 1 of 2 |" in text


def test_comparison_tells_real_changes_from_noise(tmp_path: Path) -> None:
    old = document(cell("ours", 10.0), cell("ours", 20.0), cell("aioquic", 5.0))
    new = document(cell("ours", 30.0), cell("ours", 40.0), cell("aioquic", 7.0))
    text = report(new, tmp_path, old)
    assert "## Before and after" in text
    assert "15.0 (10.0 to 20.0) | 35.0 (30.0 to 40.0) | +133% (better) | 3.00x | 5.00x |" in text
    assert "CPU of both ends, s/GiB" in text
    assert "(better)" in report(new, tmp_path, old)
    assert "(worse)" in report(old, tmp_path, new)
    noise = document(cell("ours", 19.0), cell("ours", 40.0))
    assert "(ranges overlap)" in report(noise, tmp_path, old)


def test_comparison_without_common_lines_is_left_out(tmp_path: Path) -> None:
    new, old = document(cell("ours", 1.0)), document(cell("ours", 1.0, loop="uvloop"))
    assert "Before and after" not in report(new, tmp_path, old)


def test_plots_and_growth_are_shown_when_they_are_there(tmp_path: Path) -> None:
    (tmp_path / "bulk.svg").touch()
    (tmp_path / "growth-streams.svg").touch()
    (tmp_path / "growth.md").write_text("| series | flat |\n")
    (tmp_path / "growth.json").touch()
    text = report(document(cell("ours", 1.0), extras={"growth": ""}), tmp_path)
    assert "![Bulk transfer](bulk.svg)" in text
    assert "![growth-streams](growth-streams.svg)" in text
    assert "| series | flat |" in text
    assert "[growth.json](growth.json)" in text
    assert "growth" not in report(document(cell("ours", 1.0)), tmp_path)


def test_growth_that_failed_says_why(tmp_path: Path) -> None:
    text = report(document(cell("ours", 1.0), extras={"growth": "out of files"}), tmp_path)
    assert "Failed: out of files" in text


def test_bars_have_a_line_each_and_name_the_loop_when_there_are_two() -> None:
    one = outcomes([cell("ours", 10.0), cell("ours", 30.0)])
    ((scenario, metric), _) = panels(one, "bulk")
    assert bars(one, scenario, metric) == [("pywebtransport (this)", "ours", 20.0, 10.0, 30.0)]
    both = outcomes([cell("ours", 1.0), cell("ours", 2.0, loop="uvloop")])
    labels = [bar[0] for bar in bars(both, scenario, metric)]
    assert labels == ["pywebtransport (this), asyncio", "pywebtransport (this), uvloop"]


def test_cpu_time_stands_beside_latencies_and_both_kinds_of_memory_are_shown() -> None:
    lines = outcomes(
        [
            cell("ours", 1.0, scenario="ping-pong"),
            cell("ours", 1.0, scenario="datagrams"),
            cell("ours", 1.0, scenario="connect"),
            cell("ours", 1.0, scenario="idle-sessions"),
        ]
    )

    def shown(group: str) -> list[str]:
        return [metric.name for _, metric in panels(lines, group)]

    assert shown("requests") == ["rate", "p50", "p99", "cpu_per_operation"]
    assert shown("datagrams") == ["rate", "cpu_per_operation"]
    assert shown("connect") == ["rate"]
    assert shown("memory") == ["rss", "pss"]


def test_panels_of_a_group_that_was_not_measured_are_none() -> None:
    assert panels(outcomes([cell("ours", 1.0)]), "lossy") == []


def test_the_overview_has_how_many_times_better_the_first_metric_is() -> None:
    lines = outcomes(
        [
            cell("ours", 30.0),
            cell("aioquic", 10.0),
            cell("aiopquic", 15.0),
            cell("ours", 1.0, scenario="datagram-echo", figures={"p50": 5.0}),
            cell("aioquic", 1.0, scenario="datagram-echo", figures={"p50": 10.0}),
            cell("ours", 5.0, scenario="connect"),
        ]
    )
    assert [factor for _, factor in advantages(lines)] == [2.0, 2.0]
