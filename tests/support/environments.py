"""Virtualenvs of their own for programs that do not run in this one."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Version", "find_python", "foreign_environment", "make_environment"]

Version = tuple[int, int]

_NAMES = ("python3.14", "python3.13", "python3.12", "python3.11")


def find_python(accept: Callable[[Version], bool]) -> str | None:
    """An interpreter whose (major, minor) version is accepted, or None.

    Looked for: the one that runs this, the PATH, and what pyenv has installed.
    """
    return next((path for path in _candidates() if accept(_version(path))), None)


def foreign_environment(**variables: str) -> dict[str, str]:
    """The environment for a program that does not load this project's extension.

    scripts/sanitize.sh preloads the sanitizer's library for the extension. Other programs, such as
    package managers, may hang with it.

    Args:
        variables: Set in addition.
    """
    ours = ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PYTHONMALLOC")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return {**inherited, **variables}


def make_environment(directory: Path, base: str, requirements: list[str], stamp: str = "") -> str:
    """The interpreter of a virtualenv that holds ``requirements``; made once, then kept.

    Args:
        directory: Where it is; it is made again when one of the others has changed.
        base: The interpreter to make it with.
        requirements: What pip installs.
        stamp: Tells states of a requirement apart that have one name, such as a directory.

    Raises:
        RuntimeError: The packages cannot be installed.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a parallel run may want it twice at the same time
        return _make_environment(directory, base, requirements, stamp)


def _make_environment(directory: Path, base: str, requirements: list[str], stamp: str) -> str:
    python = directory / "bin" / "python"
    record = directory / "requirements.txt"
    wanted = "\n".join([*requirements, base, stamp])
    if python.exists() and record.is_file() and record.read_text() == wanted:
        return str(python)
    shutil.rmtree(directory, ignore_errors=True)
    run(base, "-m", "venv", str(directory))
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(str(python), *install, *requirements)
    record.write_text(wanted)
    return str(python)


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Run a command that has to succeed.

    Args:
        command: The program and its arguments.
        cwd: Its working directory.
        env: All of its environment; default ``foreign_environment()``.

    Raises:
        RuntimeError: It failed; with what it wrote.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env=foreign_environment() if env is None else env,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")


def _candidates() -> Iterator[str]:
    yield sys.executable
    for name in _NAMES:
        path = shutil.which(name)
        if path is not None:
            yield path
    roots = {os.environ.get("PYENV_ROOT", ""), str(Path.home() / ".pyenv")}
    for root in sorted(filter(None, roots)):
        for name in _NAMES:
            yield from sorted(str(path) for path in Path(root).glob(f"versions/*/bin/{name}"))


def _version(python: str) -> Version:
    """(major, minor); (0, 0) for one that does not run, such as a shim without a version."""
    program = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 0, 0
