"""The bare engine in C: it builds, it carries what it says, and the table shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmark.core.__main__ import main
from tests.benchmark.core.run import SCENARIOS, CoreFigures, table


def test_every_scenario_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path), "--quick"]) == 0
    found = json.loads((tmp_path / "core.json").read_text())
    assert list(found) == [scenario.name for scenario in SCENARIOS]
    assert all(len(values) == 1 and values[0]["rate"] > 0 for values in found.values())
    assert (tmp_path / "core.md").read_text() == capsys.readouterr().out


def test_table_has_medians_and_ranges() -> None:
    figures = {scenario.name: [CoreFigures(rate=1.0)] for scenario in SCENARIOS}
    figures["upload"] = [CoreFigures(rate=rate) for rate in (10.0, 30.0, 20.0)]
    figures["ping-pong"] = [CoreFigures(rate=5.0, p50=25.0, p99=40.0)]
    text = table(figures)
    assert "| upload | 20 (10 to 30) MiB/s |  |  |" in text
    assert "| ping-pong | 5 (5 to 5) /s | 25 (25 to 25) | 40 (40 to 40) |" in text
