"""The libraries that are compared, and the virtualenv of each."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.environments import Version, find_python, make_environment

__all__ = ["LIBRARIES", "OURS", "Library", "prepare", "reason"]

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-benchmark"
# Wheels of web-transport-quinn exist for Python 3.12 and 3.13 only.
PYTHON: Version = (3, 13)
OURS = "ours"

# What a build of this project reads, relative to the root.
_SOURCES = ("pywebtransport", "vendor", "setup.py", "pyproject.toml", "README.md", "LICENSE")
_PATTERNS = ("*.py", "*.pyi", "*.p[xy][xdi]", "*.[ch]", "*.toml", "*.typed", "*.md")


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library under test.

    Attributes:
        name: On the command line, and of its module in ``peers``.
        title: In tables and plots.
        requirement: What pip installs; "" for this project.
        congestion: Congestion controls to compare on paths with loss; the first is its default.
        client: Of a server without a client: the library whose client is used with it.
        left_out: Names of scenarios that are not measured, with the reason.
    """

    name: str
    title: str
    requirement: str
    congestion: tuple[str, ...] = ("",)
    client: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)


_UPLOADS = ("upload", "upload-small", "upload-large", "upload-parallel")
_LOSSY_UPLOADS = ("upload-loss-0.1", "upload-loss-1")
_LOSSY = (*_LOSSY_UPLOADS, "download-loss-0.1", "download-loss-1")

LIBRARIES = {
    library.name: library
    for library in (
        Library(
            name=OURS, title="pywebtransport (this)", requirement="", congestion=("bbr", "cubic")
        ),
        Library(
            name="aiopquic",
            title="aiopquic",
            requirement="aiopquic==0.6.1",
            congestion=("bbr1", "cubic"),
        ),
        Library(
            name="aioquic",
            title="aioquic",
            requirement="aioquic",
            congestion=("reno",),
        ),
        Library(
            name="upstream",
            title="pywebtransport 0.21.1 (PyPI)",
            requirement="pywebtransport==0.21.1",
            congestion=("cubic", "bbr"),
        ),
        Library(
            name="web-transport-quinn",
            title="web-transport-quinn",
            requirement="web-transport-quinn==0.1.0",
            congestion=("default",),
        ),
        Library(
            name="webtransport-py",
            title="webtransport-py",
            requirement="webtransport-py==2026.1.0.dev0",
            left_out={
                **dict.fromkeys(
                    (*_UPLOADS, "download", "ping-pong", *_LOSSY),
                    "a write that does not end its stream never returns in this version",
                ),
                **dict.fromkeys(
                    ("streams-100", "datagrams"),
                    "sending never returns in this version once the congestion window is full",
                ),
                "connect-50": "some sessions never become ready in this version",
            },
        ),
        Library(
            name="peregrine-server",
            title="peregrine-server, client of this",
            requirement="peregrine-server==1.2.0",
            congestion=("default",),
            client=OURS,
            left_out=dict.fromkeys(
                _LOSSY_UPLOADS, "the client of this project decides how fast it goes"
            ),
        ),
    )
}


def prepare(name: str) -> str:
    """The interpreter of the virtualenv of a library; made when it is missing or out of date.

    Raises:
        FileNotFoundError: There is no Python of the right version.
        RuntimeError: pip cannot install it; with what it wrote.
    """
    library = LIBRARIES[name]
    base = find_python(lambda version: version == PYTHON)
    if base is None and name == OURS:
        base = find_python(lambda version: version >= (3, 11))
    if base is None:
        raise FileNotFoundError(f"no Python {PYTHON[0]}.{PYTHON[1]} on PATH or in pyenv")
    directory = ENVIRONMENTS / name
    if name != OURS:
        # What has no wheel for this Python is left out: nothing is compiled for the comparison.
        wheels = ["--only-binary=:all:", library.requirement, "uvloop"]
        return make_environment(directory, base, wheels)
    source = ENVIRONMENTS / "source"
    stamp = _copy_sources(source)
    return make_environment(directory, base, [str(source), "uvloop"], stamp)


def source_files() -> list[Path]:
    """What a build of this project reads, sorted."""
    found: set[Path] = set()
    for name in _SOURCES:
        path = ROOT / name
        if path.is_file():
            found.add(path)
        for pattern in _PATTERNS:
            found.update(path.rglob(pattern))
    return sorted(path for path in found if path.name != "_core.c")


def _copy_sources(target: Path) -> str:
    """Copy what has changed, so that the next build is a short one; a hash of all of it.

    Building in the checkout would leave its own build without its intermediate files.
    """
    digest = hashlib.sha256()
    wanted = {path.relative_to(ROOT) for path in source_files()}
    for name in sorted(wanted):
        content = (ROOT / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
        copy = target / name
        if not copy.exists() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
    # What setuptools collected of files that are gone must not come back.
    shutil.rmtree(target / "build" / "lib", ignore_errors=True)
    for path in target.rglob("*"):
        name = path.relative_to(target)
        stale = path.is_file() and name.parts[0] in _SOURCES and name not in wanted
        if stale and path.name != "_core.c":
            path.unlink()
    return digest.hexdigest()


def reason(error: Exception) -> str:
    """Why a library cannot be prepared, in one line."""
    lines = [line for line in str(error).splitlines() if "error" in line.lower()]
    return lines[-1] if lines else str(error)
