"""The history of the benchmarks: what is kept, what is refused, and ratios out of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.benchmark.__main__ import main, record
from tests.benchmark.figures import metric_of
from tests.benchmark.history import HISTORY, HistoryError, append, entry_of, load, ratio_of
from tests.benchmark.libraries import LIBRARIES
from tests.benchmark.scenarios import SCENARIOS, TARGETS, Target

ROOT = Path(__file__).resolve().parents[3]


def cell(scenario: str, library: str, congestion: str = "", **figures: float) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "library": library,
        "loop": "asyncio",
        "congestion": congestion,
        "figures": figures,
    }


def document(*cells: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "machine": {
            "date": "2026-12-01T10:00:00+00:00",
            "commit": "0123456789ab",
            "cpu": "Z80",
            "cpus": 2,
            "kernel": "6.1",
            "libraries": {"libngtcp2": "1.11.0"},
            "load": 0.1,
        },
        "settings": {"repetitions": 5, "quick": False},
        "libraries": {
            "ours": {"title": "this", "version": "1.2", "python": "3.13.0"},
            "aioquic": {"title": "aioquic", "version": "1.3", "python": "3.13.0"},
            "aiopquic": {"title": "aiopquic", "error": "no wheel"},
        },
        "complete": True,
        "cells": list(cells),
        **fields,
    }


PAIR = (
    cell("upload", "ours", rate=10.0, cpu_per_gib=2.0, client_cpu=9.0),
    cell("upload", "ours", rate=30.0, cpu_per_gib=4.0, client_cpu=9.0),
    cell("upload", "aioquic", rate=5.0, cpu_per_gib=8.0, client_cpu=9.0),
)


def test_an_entry_has_medians_versions_and_surroundings() -> None:
    entry = entry_of(document(*PAIR))
    assert entry["medians"] == {
        "asyncio": {
            "upload": {
                "ours": {"rate": 20.0, "cpu_per_gib": 3.0},
                "aioquic": {"rate": 5.0, "cpu_per_gib": 8.0},
            }
        }
    }
    assert entry["versions"] == {
        "python": "3.13.0",
        "libngtcp2": "1.11.0",
        "ours": "1.2",
        "aioquic": "1.3",
    }
    assert entry["commit"] == "0123456789ab"
    assert entry["machine"] == "2 x Z80, Linux 6.1"
    assert entry["settings"] == {"repetitions": 5, "load": 0.1}


def test_of_paths_with_loss_the_default_congestion_control_is_kept() -> None:
    lines = (
        cell("upload-loss-1", "ours", "cubic", rate=1.0),
        cell("upload-loss-1", "ours", LIBRARIES["ours"].congestion[0], rate=200.0),
    )
    medians = entry_of(document(*lines))["medians"]
    assert medians == {"asyncio": {"upload-loss-1": {"ours": {"rate": 200.0}}}}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"complete": False}, "interrupted"),
        ({"settings": {"repetitions": 1, "quick": True}}, "quick mode"),
        ({"cells": [PAIR[2]]}, "no figures of this project"),
    ],
)
def test_a_run_that_says_little_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(HistoryError, match=reason):
        entry_of(document(*PAIR, **fields))


def test_entries_are_appended_in_the_order_of_their_dates(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    first = entry_of(document(*PAIR))
    append(first, path)
    append({**first, "date": "2026-12-02T10:00:00+00:00"}, path)
    assert [entry["date"][:10] for entry in load(path)] == ["2026-12-01", "2026-12-02"]
    with pytest.raises(HistoryError, match="the last entry is of 2026-12-02"):
        append(first, path)
    assert len(load(path)) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "no JSON"), ("{}", "expected a list"), ('[{"date": "x"}]', "expected the fields")],
)
def test_a_file_that_is_no_history_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "history.json"
    path.write_text(text)
    with pytest.raises(HistoryError, match=reason):
        load(path)
    with pytest.raises(HistoryError, match=reason):
        append(entry_of(document(*PAIR)), path)
    assert path.read_text() == text


def test_ratio_is_ours_to_the_best_peer_of_the_run() -> None:
    target = Target(scenario="upload", metric="rate", ratio=4.0)
    lines = (*PAIR, cell("upload", "aiopquic", rate=8.0))
    assert ratio_of(entry_of(document(*lines)), target) == 2.5
    assert ratio_of(entry_of(document(*PAIR[:2])), target) is None
    other = Target(scenario="download", metric="rate", ratio=4.0)
    assert ratio_of(entry_of(document(*lines)), other) is None


def test_ratio_leaves_out_libraries_that_are_not_compared_any_more() -> None:
    entry = entry_of(document(*PAIR))
    entry["medians"]["asyncio"]["upload"]["gone"] = {"rate": 99.0}
    assert ratio_of(entry, Target(scenario="upload", metric="rate", ratio=4.0)) == 4.0


def test_recording_says_where_or_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.json"
    assert record(document(*PAIR), path, Console()) == 0
    assert record(document(*PAIR), path, Console()) == 1
    assert "not recorded: history.json: the last entry is of" in capsys.readouterr().out
    assert len(load(path)) == 1


@pytest.mark.parametrize("mode", ["--quick", "--here"])
def test_short_runs_cannot_be_recorded(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([mode, "--record-history"])
    assert "--record-history needs the full mode" in capsys.readouterr().err


def test_the_recorded_history_names_what_exists() -> None:
    entries = load()
    assert entries
    dates = [entry["date"] for entry in entries]
    assert dates == sorted(dates)
    for entry in entries:
        for loop in entry["medians"].values():
            for scenario, libraries in loop.items():
                assert libraries.keys() <= LIBRARIES.keys()
                for values in libraries.values():
                    assert all(metric_of(scenario, name) for name in values)
    assert HISTORY.read_text() == json.dumps(entries, indent=1) + "\n"


def test_the_plot_has_a_panel_for_every_target(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "folder" / "history.svg"
    # Another process: matplotlib keeps its fonts open.
    command = [sys.executable, "-m", "tests.benchmark.history", "--output", str(path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    entries = load()
    assert done.stdout == f"{path}: {len(entries)} runs\n"
    text = path.read_text()
    for target in TARGETS:
        assert f">{target.scenario}, {target.metric}<" in text
    for entry in entries:
        assert f">{entry['date'][:10]}<" in text
        assert f">{entry['commit'][:7]}<" in text


def test_every_scenario_that_a_library_leaves_out_exists() -> None:
    for library in LIBRARIES.values():
        assert library.left_out.keys() <= SCENARIOS.keys()
        assert all(library.left_out.values())
