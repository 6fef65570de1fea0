"""The Makefile's virtualenv: one that cannot serve is noticed, and nobody's is emptied."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import ROOT

SCRIPT = ROOT / "scripts" / "virtualenv.sh"
OTHER_PYTHON = """#!/bin/sh
exec "{python}" -c 'import sys; sys.version_info = (3, 99); exec(sys.argv[1])' "$2"
"""


def run(mode: str, venv: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run(
        ["bash", str(SCRIPT), mode, python, str(venv)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtualenv that the script made, with a stamp; tests work on copies."""
    venv = tmp_path_factory.mktemp("virtualenv") / "original" / ".venv"
    venv.parent.mkdir()
    done = run("make", venv)
    assert done.returncode == 0, done.stderr
    (venv / ".stamp-base").touch()
    return venv


@pytest.fixture
def venv(made: Path) -> Path:
    """It, at its place, as it was."""
    kept = made.with_name("kept")
    shutil.copytree(made, kept, symlinks=True)
    yield made
    shutil.rmtree(made, ignore_errors=True)
    kept.rename(made)


def stamps(venv: Path) -> list[str]:
    return sorted(path.name for path in venv.glob(".stamp*"))


def test_a_good_one_stays(venv: Path, tmp_path: Path) -> None:
    for name in (venv, tmp_path / "link"):
        if name != venv:
            name.symlink_to(venv)
        done = run("check", name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stamps(venv) == [".stamp-base"]
    (venv / "mine").touch()
    assert run("make", venv).returncode == 0
    assert (venv / "mine").exists()


@pytest.mark.parametrize("how", ["move", "copy"])
def test_a_moved_one_is_noticed_and_made_again(how: str, venv: Path, tmp_path: Path) -> None:
    moved = tmp_path / ".venv"
    if how == "move":
        venv.rename(moved)
    else:
        shutil.copytree(venv, moved, symlinks=True)
    done = run("check", moved)
    assert done.stderr == f"virtualenv {moved}: it was made as {venv} and moved\n"
    assert stamps(moved) == []
    done = run("make", moved)
    assert done.returncode == 0, done.stderr
    assert run("check", moved).stderr == ""
    assert str(moved) in (moved / "bin" / "pip").read_text()


def test_one_of_another_python_is_noticed(venv: Path, tmp_path: Path) -> None:
    other = tmp_path / "python3.99"
    other.write_text(OTHER_PYTHON.format(python=sys.executable))
    other.chmod(0o755)
    done = run("check", venv, str(other))
    version = "{}.{}".format(*sys.version_info[:2]).replace(".", " ")
    assert f"virtualenv {venv}: it was made by {version} " in done.stderr
    assert f"not by 3 99 {sys.base_prefix} ({other})" in done.stderr
    assert stamps(venv) == []


def test_one_whose_python_is_gone_is_noticed(venv: Path) -> None:
    for name in ("python", "python3"):
        (venv / "bin" / name).unlink()
    (venv / "bin" / "python").symlink_to("/nowhere/python3")
    assert run("check", venv).stderr == f"virtualenv {venv}: its Python does not run\n"
    assert run("make", venv).returncode == 0
    assert run("check", venv).stderr == ""


def test_one_that_make_did_not_make_is_not_emptied(venv: Path, tmp_path: Path) -> None:
    (venv / ".made-by-make").unlink()
    moved = tmp_path / ".venv"
    venv.rename(moved)
    (moved / "mine").touch()
    done = run("make", moved)
    assert done.returncode == 1
    assert "and make did not make it; remove it or choose another: make VENV=..." in done.stderr
    assert (moved / "mine").exists()


def test_a_folder_that_is_no_virtualenv_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = run("make", tmp_path)
    assert done.returncode == 1
    assert f"error: {tmp_path} is there and no virtualenv" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_active_virtualenv_makes_another_with_the_python_behind_it(
    venv: Path, tmp_path: Path
) -> None:
    done = run("make", tmp_path / "new", str(venv / "bin" / "python"))
    assert done.returncode == 0, done.stderr
    home = (tmp_path / "new" / "pyvenv.cfg").read_text()
    assert str(venv) not in home
    assert os.path.realpath(tmp_path / "new" / "bin" / "python") == os.path.realpath(sys.executable)


def test_make_looks_before_it_trusts_its_stamps(venv: Path) -> None:
    (venv / "bin" / "python").unlink()
    done = subprocess.run(
        ["make", "--dry-run", "format", f"VENV={venv}", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"virtualenv {venv}: its Python does not run" in done.stderr
    assert stamps(venv) == []
