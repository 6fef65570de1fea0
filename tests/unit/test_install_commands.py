"""No page and no message has a pip command that would install something else.

The index has another project of the name pywebtransport, and no release of this one. So a command
names a checkout, the file of a wheel, or other packages.
"""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from pywebtransport.utils._extras import REQUIREMENTS
from tests.support.scripts import ROOT

FOLDERS = ("pywebtransport", "docs", "examples", "vendor", "scripts", "tests", ".github")
SUFFIXES = {".md", ".py", ".pyi", ".pxi", ".pyx", ".toml", ".txt", ".sh", ".html", ".yml", ".inc"}
INSTALL = re.compile(r"\b(?:pip3? install|pipx install|uv (?:add|pip install))\b([^\n`]*)")
# Names that pip would look up in an index: with an extra, a version, or alone.
NAME = re.compile(r"pywebtransport(\[[^\]]*\])?([<>=~!].*)?", re.IGNORECASE)


def texts() -> list[Path]:
    """Everything that people read or run."""
    found = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    plain = {"Makefile", "Dockerfile", "LICENSE"}
    return sorted(
        path
        for path in found
        if (path.suffix in SUFFIXES or path.name in plain)
        and path.is_file()
        and path != Path(__file__)
        and not {"_build", "_generated", "build"} & set(path.parts)
    )


def strings(path: Path) -> list[str]:
    """The text of a file, and of a module its strings, put together as Python does."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".py" or not INSTALL.search(text):
        return [text]
    parts = [text]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts.append("".join(_shown(value) for value in node.values))
    return parts


def _shown(value: ast.expr) -> str:
    """A part of an f-string; what is computed counts as ``{}``."""
    return str(value.value) if isinstance(value, ast.Constant) else "{}"


def wrong(text: str) -> list[str]:
    """The commands in a text that would ask an index for pywebtransport."""
    found = []
    for match in INSTALL.finditer(text):
        words = re.split(r"[\s\"'\\,;()]+", match[1])
        if any(NAME.fullmatch(word.rstrip(".:")) for word in words):
            found.append(match[0].strip())
    return found


def test_no_command_asks_an_index_for_pywebtransport() -> None:
    found = {
        str(path.relative_to(ROOT)): commands
        for path in texts()
        if (commands := [command for text in strings(path) for command in wrong(text)])
    }
    assert found == {}


@pytest.mark.parametrize(
    "command",
    [
        'pip install "pywebtransport[redis]"',
        "pip install pywebtransport",
        "pip install --upgrade pywebtransport>=0.1",
        "pip install --no-deps PyWebTransport",
        "uv add pywebtransport",
        "run pip install 'pywebtransport', then",
    ],
)
def test_such_a_command_would_be_found(command: str) -> None:
    (found,) = wrong(f"text\n$ {command}\n")
    assert command.endswith(found)


@pytest.mark.parametrize(
    "command",
    [
        'pip install ".[redis]"',
        "pip install dist/pywebtransport-0.1.0-cp311-cp311-manylinux_2_34_x86_64.whl",
        'pip install "redis>=5.0.1"` for pywebtransport',
        "pip install ./pywebtransport",
    ],
)
def test_commands_with_files_are_right(command: str) -> None:
    assert wrong(command) == []


def test_pages_show_how_to_install() -> None:
    """So the search reads the right files."""
    commands = [
        shlex.split(match[1])
        for path in texts()
        if path.suffix == ".md"
        for match in INSTALL.finditer(path.read_text())
        if match[1].count('"') % 2 == 0
    ]
    assert [".[redis,msgpack]"] in commands
    assert ["."] in commands


def test_messages_know_the_requirements_of_the_extras() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = document["project"]["optional-dependencies"]
    assert {name: list(texts) for name, texts in REQUIREMENTS.items()} == {
        name: extras[name] for name in REQUIREMENTS
    }
