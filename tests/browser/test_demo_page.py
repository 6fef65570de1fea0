"""The page of ``make demo-browser`` passes all of its own checks in every browser."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .driver import Browser

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


@pytest.mark.limit(120)
def test_every_check_of_the_page_passes_in(browser: Browser) -> None:
    command = [sys.executable, "-m", "examples.demo.browser", "--port", "0", "--size", "1MiB"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = next(word for word in process.stdout.readline().split() if "://" in word)
            page = browser.open_page(url)
            results = [process.stdout.readline().split()[:2] for _ in CHECKS]
            page.close()
        finally:
            process.send_signal(signal.SIGINT)
    assert results == [["ok", name] for name in CHECKS]
    assert process.returncode == 0


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
