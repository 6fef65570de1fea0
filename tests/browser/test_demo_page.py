"""The page of ``make demo-browser`` passes all of its own checks in headless Chromium."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [
    "open",
    "datagrams",
    "bidirectional",
    "unidirectional",
    "ping-pong",
    "upload",
    "download",
]


@pytest.mark.limit(200)
def test_every_check_of_the_page_passes() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "examples.demo.browser", "--check", "--size", "8MiB"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=190,
        check=False,
    )
    results = [line.split()[:2] for line in finished.stdout.splitlines()]
    assert results == [["ok", name] for name in CHECKS], finished.stdout + finished.stderr
    assert finished.returncode == 0, finished.stderr


def test_missing_browser_is_named() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "examples.demo.browser", "--check"],
        cwd=ROOT,
        env={"PATH": "", "BROWSER": "no-such-browser"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert finished.returncode == 1
    assert "no browser found; looked for no-such-browser" in finished.stderr
