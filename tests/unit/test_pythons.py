"""The Pythons that `make wheel` makes wheels for."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.scripts import load_script

pythons = load_script("pythons")


def fake(folder: Path, name: str, line: str, code: int = 0) -> Path:
    """A program of this name that prints a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{line}'\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH and a pyenv that are empty."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path


def test_the_newest_of_each_version_is_found(place: Path) -> None:
    fake(place / "bin", "python3.12", "3.12 3 12 1")
    newer = fake(place / "pyenv" / "versions" / "3.12.9" / "bin", "python3.12", "3.12 3 12 9")
    free = fake(place / "bin", "python3.14t", "3.14t 3 14 0")
    assert pythons.pythons() == {"3.12": str(newer), "3.14t": str(free)}


def test_what_is_too_old_or_does_not_run_is_left_out(place: Path) -> None:
    fake(place / "bin", "python3.10", "3.10 3 10 13")
    fake(place / "bin", "python3.13", "not found", code=127)
    fake(place / "bin", "python3.12-config", "3.12 3 12 1")
    assert pythons.pythons() == {}


def test_a_real_python_says_what_it_is(place: Path) -> None:
    free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}{free}"
    (place / "bin").mkdir()
    link = place / "bin" / f"python{version}"
    link.symlink_to(sys.executable)
    assert pythons.pythons() == {version: str(link)}
