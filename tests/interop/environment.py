"""A virtualenv of its own for peers that do not run in this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MINIMUM", "find_python", "peer_python"]

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-peers"
REQUIREMENTS = ("aiopquic==0.6.1",)
MINIMUM = (3, 12)
_NAMES = ("python3.14", "python3.13", "python3.12")


def find_python() -> str | None:
    """An interpreter of version ``MINIMUM`` or later, or None.

    Looked for: the one that runs the tests, the PATH, and what pyenv has installed.
    """
    return next((path for path in _candidates() if _version(path) >= MINIMUM), None)


def peer_python() -> str:
    """The interpreter of an environment that holds ``REQUIREMENTS``; made once, then kept.

    Raises:
        FileNotFoundError: There is no Python of version ``MINIMUM`` or later.
        subprocess.CalledProcessError: The packages cannot be installed.
    """
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "requirements.txt"
    wanted = "\n".join(REQUIREMENTS)
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return str(python)
    base = find_python()
    if base is None:
        raise FileNotFoundError(f"no Python {MINIMUM[0]}.{MINIMUM[1]} or later")
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([base, "-m", "venv", str(ENVIRONMENT)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *REQUIREMENTS], check=True)
    stamp.write_text(wanted)
    return str(python)


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


def _version(python: str) -> tuple[int, int]:
    """(major, minor); (0, 0) for one that does not run, such as a shim without a version."""
    program = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 0, 0
