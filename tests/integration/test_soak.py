"""``make soak`` works: every phase at a tiny scale, and the rule that says what is flat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.field.child import ROOT
from tests.soak.__main__ import main
from tests.soak.report import markdown
from tests.soak.runner import PHASES, run
from tests.soak.series import QUANTITIES, Series, judge

SCALE = {"streams": 0.001, "sessions": 0.001, "datagrams": 0.0005, "churn": 0.006, "idle": 0.001}


@pytest.mark.parametrize("name", list(PHASES))
def test_a_phase_does_its_work_and_samples_both_ends(tmp_path: Path, name: str) -> None:
    found = run(PHASES[name], SCALE[name], tmp_path)
    # Whether memory is flat is not to be seen in seconds.
    assert [fault for fault in found["faults"] if " rose by " not in fault] == []
    assert found["done"] == found["wanted"] > 0
    if name == "idle":
        assert found["counts"]["answered"] == found["counts"]["held"] == found["wanted"]
    if name == "churn":
        assert found["counts"]["streams"] > 20
    assert found["cpu"]["server"] > 0
    assert "none" in markdown([{**found, "faults": []}])


def series(values: list[float], quantity: str = "rss") -> Series:
    """One sample a second."""
    points = [(float(second), value) for second, value in enumerate(values)]
    return Series(process="server", quantity=quantity, points=points)


def test_what_grows_in_the_second_half_is_not_flat() -> None:
    (fault,) = judge([series([100.0 + 0.5 * second for second in range(100)])])
    assert "resident memory of the server rose by 24" in fault


@pytest.mark.parametrize("quantity", [one.name for one in QUANTITIES])
def test_every_quantity_is_judged(quantity: str) -> None:
    assert judge([series([1e6 * second for second in range(10)], quantity)])


@pytest.mark.parametrize(
    "values",
    [
        [],
        [100.0],
        [100.0] * 50,
        # Caches fill in the first half.
        [min(200.0, 4.0 * second) for second in range(120)],
        # A step of the allocator, and noise.
        [100.0] * 70 + [103.0] * 30,
        [100.0 + second % 7 for second in range(100)],
    ],
)
def test_what_does_not_grow_is_flat(values: list[float]) -> None:
    assert judge([series(values)]) == []


def test_the_command_keeps_phases_that_were_run_before(tmp_path: Path) -> None:
    # In a process of its own: a picture leaves the files of its fonts open.
    for name in ("sessions", "streams"):
        finished = subprocess.run(
            [sys.executable, "-m", "tests.soak", name, "--scale", "0.0005", "--output", tmp_path],
            cwd=ROOT,
            check=False,
        )
        # Whether memory is flat is not to be seen in a second.
        assert finished.returncode in (0, 1)
    assert json.loads((tmp_path / "sessions.json").read_text())["phase"] == "sessions"
    assert len((tmp_path / "soak.md").read_text().splitlines()) == 4


def test_the_command_names_its_phases(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["naps"])
    assert "no phase is called naps" in capsys.readouterr().err
