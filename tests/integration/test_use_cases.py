"""The examples of use cases without a page run as programs, and print what they should."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CASES = {
    "acceleration": (
        ["--requests", "100"],
        r"HTTP/1.1.*/s.*\none session.*/s.*\nthe same answers\n",
    ),
    "augmentation": (
        ["--images", "40", "--workers", "2"],
        r"\.{40}\n40 images, the same as here\n",
    ),
    "edge": ([], r"answered by west\nwest has stopped\nanswered by east with 6\n"),
    "inference": (["--speed", "100"], r"(?s).*\n(speech from [12]\.\d\d s to 2\.\d\d s\n)+"),
    "microservices": (
        ["--orders", "60"],
        r"the price service was restarted\n60 orders for 25780 cents\n\d+ calls were repeated\n"
        r"   20 milk\n   20 sugar\n   20 tea\n",
    ),
    "telemetry": (
        ["--devices", "10", "--seconds", "1.5"],
        r"(.* of 10 devices .*\n)+\d+ readings, 0 lost\n(\d+) alarms confirmed, \2 noted\n",
    ),
    "training": (
        ["--processes", "2", "--steps", "10"],
        r"2 processes, 10 steps, accuracy (100|9\d)\.\d%\nthe same weights as one process\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.limit(90)
def test_it_runs(name: str) -> None:
    arguments, expected = CASES[name]
    finished = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / f"{name}.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert re.fullmatch(expected, finished.stdout), finished.stdout


def test_each_is_short() -> None:
    files = [ROOT / "examples" / f"{name}.py" for name in CASES]
    assert [path.name for path in files if len(path.read_text().splitlines()) >= 150] == []
