"""A parallel run of the tests fails when one of its processes does, and keeps what it must."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import PORTS, free_port
from tests.support.scripts import ROOT

TESTS = """
import os, pathlib, socket, time
import pytest

{body}

def test_passes():
    pass
"""
FIGURES = """
def test_figures(record_figures):
    record_figures(answer=42)
"""
CRASH = """
def test_crashes():
    os._exit(3)
"""
STUCK = """
@pytest.mark.limit(0.1)
def test_is_stuck(monkeypatch):
    time.sleep(600)
"""
DISAGREEING = """
@pytest.mark.parametrize("process", [os.getpid()])
def test_of(process):
    pass
"""


def run(tmp_path: Path, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a file of tests in two processes, with the rules of this repository."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_it.py").write_text(TESTS.format(body=body))
    options = ["-n", "2", "--dist", "worksteal", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    own = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-c", str(ROOT / "pyproject.toml"), str(folder)],
        cwd=ROOT,
        env={**own, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )


def test_a_run_without_faults_passes_with_its_figures(tmp_path: Path) -> None:
    done = run(tmp_path, FIGURES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "test_figures: answer 42" in done.stdout


def test_a_process_that_ends_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, CRASH)
    assert done.returncode == 1
    assert "crashed while running" in done.stdout
    assert "test_crashes" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_a_test_that_is_stuck_is_shown_and_fails_the_run(tmp_path: Path) -> None:
    """The traceback of where it is stuck reaches the terminal, out of another process."""
    done = run(tmp_path, STUCK, PYWEBTRANSPORT_TEST_SLOWNESS="0.05")
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "time.sleep(600)" in done.stdout or "in test_is_stuck" in done.stderr


def test_processes_that_disagree_about_the_tests_fail_the_run(tmp_path: Path) -> None:
    """An address in an id, for example, is another one in each process."""
    done = run(tmp_path, DISAGREEING)
    assert done.returncode != 0
    assert "Different tests were collected" in done.stdout


def test_ports_are_not_those_that_the_system_gives_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert PORTS.stop <= lowest
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == len(ports)
    program = "from tests.support.ports import free_port; print(*(free_port() for _ in range(20)))"
    others = set()
    for worker in ("gw0", "gw1"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTEST_XDIST_WORKER": worker},
            capture_output=True,
            text=True,
            check=True,
        )
        found = set(done.stdout.split())
        assert not found & others
        others |= found
