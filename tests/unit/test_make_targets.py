"""Each target of the Makefile installs what it needs, and nothing more."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import ROOT, load_script

requirements = load_script("requirements")
packages = load_script("system_packages")

VIRTUALENV = {"python"}
BUILD = {"python", "build"}
# Groups of system packages, and sets of requirements, of each target that installs something.
TARGETS: dict[str, tuple[set[str], set[str]]] = {
    "setup": (BUILD | {"lint", "test"}, {"base", "dev"}),
    "build": (BUILD, {"base"}),
    "debug": (BUILD, {"base"}),
    "demo": (BUILD, {"base", "demo"}),
    "demo-browser": (BUILD, {"base", "demo"}),
    "test-engine": ({"engine"}, set()),
    "test-python": (BUILD | {"test"}, {"base", "test"}),
    "test-quic": (BUILD, {"base", "test"}),
    "test-browser": (BUILD | {"test"}, {"base", "test"}),
    "test-debian12": (VIRTUALENV, set()),
    "test-debian13": (VIRTUALENV, set()),
    "test-integration": (BUILD | {"sockets"}, {"base", "test"}),
    "test-bodies": (BUILD, {"base", "test"}),
    "test-newest": (VIRTUALENV, set()),
    "test-image": (VIRTUALENV, set()),
    "screenshots": (BUILD | {"test"}, {"base", "test"}),
    "sanitize": (BUILD | {"test"}, set()),
    "lint": (BUILD | {"lint"}, {"base", "lint"}),
    "format": (VIRTUALENV, {"lint"}),
    "hooks": (VIRTUALENV, {"lint"}),
    "types": (VIRTUALENV, {"types"}),
    "fuzz": (BUILD | {"engine", "fuzz"}, {"base", "fuzz"}),
    "attack": (BUILD, {"base", "test"}),
    "soak": (BUILD, {"base", "benchmark", "test"}),
    "bench": (BUILD, {"base", "benchmark"}),
    "bench-quick": (BUILD, {"base", "benchmark"}),
    "bench-history": (VIRTUALENV, {"benchmark"}),
    "bench-lossy": (BUILD | {"engine"}, {"base"}),
    "bench-guard": (BUILD | {"guard"}, {"base"}),
    "bench-guard-record": (BUILD | {"guard"}, {"base"}),
    "docs": (BUILD, {"base", "docs"}),
    "dist": (BUILD, {"base", "dist"}),
    "one-wheel": (BUILD, {"base", "dist"}),
}
# They call the others, or install nothing.
OTHERS = {"help", "test", "test-newest-web", "test-versions", "test-wheel", "wheel", "clean"}


def make(*arguments: str, directory: Path = ROOT) -> str:
    """What make prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_target_is_here() -> None:
    listed = re.findall(r"^  ([a-z0-9-]+) ", make("help"), re.M)
    assert sorted(listed) == sorted([*TARGETS, *OTHERS])


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_installs_what_it_needs_and_nothing_more(target: str, tmp_path: Path) -> None:
    """In a fresh checkout, as make says without doing it."""
    shown = make("--dry-run", target, f"VENV={tmp_path / 'venv'}", f"PYTHON={sys.executable}")
    groups = re.findall(r"^scripts/system-packages\.sh \S+ (.*)$", shown, re.M)
    sets = re.findall(r"install --requirement \S*requirements-(\w+)\.txt", shown)
    assert (set(" ".join(groups).split()), set(sets)) == TARGETS[target]
    assert len(sets) == len(set(sets))


def test_groups_and_sets_exist() -> None:
    catalogue = packages.load_requirements().load()
    known = {group for item in catalogue.requirements for group in item.groups}
    assert set().union(*(groups for groups, _ in TARGETS.values())) <= known
    makefile = (ROOT / "Makefile").read_text()
    needs = dict(re.findall(r"^NEEDS_(\w+) +:= (.*)$", makefile, re.M))
    assert set(needs) == set().union(*(sets for _, sets in TARGETS.values()))
    for names in needs.values():
        assert requirements.requirements(names.split())


def test_setup_installs_for_every_check() -> None:
    """`make setup`, then `make test` without a network."""
    makefile = (ROOT / "Makefile").read_text()
    needs = dict(re.findall(r"^NEEDS_(\w+) +:= (.*)$", makefile, re.M))
    everything = set(requirements.requirements(needs["dev"].split()))
    for name in ("base", "demo", "lint", "types", "test", "docs", "dist"):
        assert set(requirements.requirements(needs[name].split())) <= everything


def test_what_was_installed_for_one_name_serves_those_that_need_no_more(tmp_path: Path) -> None:
    (tmp_path / ".stamp-venv").touch()
    demo = tmp_path / ".stamp-demo"
    for again in (False, True):
        make(str(tmp_path / ".stamp-test"), f"VENV={tmp_path}", f"PY={sys.executable}", "PIP=true")
        assert {path.name for path in tmp_path.glob(".stamp-*")} == {
            *(".stamp-venv", ".stamp-test", ".stamp-demo", ".stamp-dist")
        }
        # One that is older than the requirements stays so: then it is installed by itself.
        assert demo.stat().st_mtime > 1 or again
        os.utime(demo, (1, 1))
        (tmp_path / ".stamp-test").unlink()


def test_make_test_runs_every_check(tmp_path: Path) -> None:
    shown = make("--dry-run", "test", f"VENV={tmp_path / 'venv'}", f"PYTHON={sys.executable}")
    checks = ["ruff check", "mypy pywebtransport", "sphinx-build", "-C tests/engine check"]
    places = [shown.index(words) for words in (*checks, "-m pytest")]
    assert max(places) == places[-1]


def test_what_is_missing_for_a_group_is_told_with_the_packages_of_that_group() -> None:
    """Not with those of a build: Redis and Chromium are in none of them."""
    vendor = packages.load_requirements()
    catalogue = vendor.load()
    (item,) = (item for item in catalogue.requirements if item.name == "Redis")
    problem = vendor.Problem(item, "Redis is needed")
    text = vendor.message(catalogue, [problem], ROOT / "none", groups=["test"])
    assert text.splitlines()[0] == "missing for test:"
    commands = [line for line in text.splitlines() if line.startswith("    sudo ")]
    assert len(commands) == len(catalogue.distributions)
    for command in commands:
        assert "redis" in command or "valkey" in command
        assert "gcc" not in command
