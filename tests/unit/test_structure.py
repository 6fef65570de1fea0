"""What ties modules together stays counted: no import circles, ever fewer underscore reaches."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "scripts" / "structure.py"

# The room whose modules may know each other.
ROOM = "pywebtransport._core."
# Put the new number here when there are fewer.
REACHES = 0


def count(package: Path) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, PROGRAM, "--json", "--package", package],
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return count(ROOT / "pywebtransport")


def test_no_module_is_in_an_import_circle(figures: dict[str, Any]) -> None:
    assert figures["circles"] == []


def test_only_the_room_has_a_circle_for_type_checkers(figures: dict[str, Any]) -> None:
    outside = [
        name
        for circle in figures["circles_with_types"]
        for name in circle
        if not name.startswith(ROOM)
    ]
    assert outside == []


def test_underscore_reaches_only_fall(figures: dict[str, Any]) -> None:
    places = "\n".join(figures["reach_list"])
    assert figures["reaches"] <= REACHES, f"new ones among:\n{places}"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A package with every kind of reach and circle."""
    package = tmp_path / "example"
    sources = {
        "__init__.py": "from .left import Left\n",
        "left/__init__.py": "from ..right.thing import Right, _helper\nclass Left: ...\n"
        "class Twin: ...\n",
        "face.py": "from .left import Left, Twin\n__all__ = ['Left', 'Twin']\nOther = Twin\n",
        "both.py": "from .face import Left as Mine\nfrom . import two\n",
        "left/own.py": "def use(self, thing):\n    self._x\n    thing._own\n"
        "    thing._replace(a=1)\nclass A:\n    __slots__ = ('_own',)\n",
        "left/reach.py": "def use(thing):\n    thing._hidden()\n    getattr(thing, '_slot')\n"
        "    thing.__class__\n    thing._of_nobody\n",
        "right/__init__.py": "",
        "right/thing.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from ..left import Left\n"
        "class Right:\n    __slots__ = ('_slot',)\n    def _hidden(self):\n"
        "        self._x = 1\n        self._hidden()\ndef _helper(): ...\n",
        "one.py": "import example.two\n",
        "two.py": "def late():\n    from . import one\n",
    }
    for name, source in sources.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return package


def test_circles_are_found(example: Path) -> None:
    found = count(example)
    assert found["circles"] == [["example.one", "example.two"]]
    assert found["circles_with_types"] == [
        ["example.left", "example.right.thing"],
        ["example.one", "example.two"],
    ]


def test_reaches_are_found(example: Path) -> None:
    found = count(example)
    assert found["reach_list"] == [
        "example/left/__init__.py:1 _helper",
        "example/left/reach.py:2 _hidden",
        "example/left/reach.py:3 _slot",
    ]
    assert found["reaches"] == 3
    assert found["reaches_by_part"] == {"left": 3}


def test_uses_are_found(example: Path) -> None:
    """What a module hands on counts for the one that defines it, unless it uses it, too."""
    uses = count(example)["uses"]
    assert uses["example.left.Left"] == ["example", "example.both", "example.right.thing"]
    assert uses["example.left.Twin"] == ["example.face"]
    assert uses["example.two"] == ["example.both", "example.one"]
    assert "example.face" not in uses
    assert "example.left.own" not in uses
