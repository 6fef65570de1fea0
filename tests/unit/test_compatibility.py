"""The page of compatibility names is true: what it lists is marked, and nothing inside uses it."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.contract.test_contract import SURFACE
from tests.support.pages import DOCS, ROOT

PAGE = DOCS / "reference" / "compatibility.md"
PACKAGE = ROOT / "pywebtransport"
ONE, SEVERAL = "Compatibility name: ", "Compatibility names: "
PATH = "Compatibility path of "
BEHIND = "Behind compatibility names: "

# The contract asks for these uses.
PROMISED = {
    # The type of ``WebTransportServer.session_manager``.
    "pywebtransport.session.manager.SessionManager": {
        "pywebtransport.server.server",
        "pywebtransport.server._sessions",
    },
}
# Modules of the contract that nothing inside uses, but that programs have no shorter way for.
SERVICES = {
    "pywebtransport.client.proxy": "sessions through a CONNECT-UDP proxy",
    "pywebtransport.datagram.broadcaster": "one datagram for many sessions",
    "pywebtransport.datagram.reliability": "datagrams that are sent again",
    "pywebtransport.serializer.protobuf": "a message format",
    "pywebtransport.server.utils": "servers for development and tests",
    "pywebtransport.types": "names for annotations",
}


class Row(NamedTuple):
    """One line of a table."""

    names: list[str]
    instead: str
    module: str


def defining(name: str, module: str) -> str:
    """The private module behind a package that the page names; any other module stays."""
    place = getattr(importlib.import_module(module), name).__module__
    return place if place.startswith(f"{module}._") else module


def rows(heading: str) -> list[Row]:
    """The table below a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    assert lines, heading
    found = []
    for line in lines:
        names, instead, module = (cell.strip() for cell in line.strip("|").split("|"))
        listed = re.findall(r"`(\w+)`", names)
        found.append(Row(listed, instead, defining(listed[0], module.strip("`"))))
    return found


MODULES: dict[str, set[str]] = defaultdict(set)
for each in rows("Modules"):
    MODULES[each.module] |= set(each.names)
SINGLE = [(name, row.module) for row in rows("Single names") for name in row.names]
PATHS = rows("Import paths")


def docstring(module: str) -> str:
    """That of a module, from its file."""
    path = ROOT / module.replace(".", "/")
    return ast.get_docstring(ast.parse(path.with_suffix(".py").read_text())) or ""


def all_docstrings() -> Iterator[tuple[str, str]]:
    """Every module below the package, and its docstring."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__init__.py":
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield module, docstring(module)


@pytest.fixture(scope="module")
def uses() -> dict[str, list[str]]:
    """By module and by name, the modules of the package that use it."""
    finished = subprocess.run(
        [sys.executable, ROOT / "scripts" / "structure.py", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, list[str]] = json.loads(finished.stdout)["uses"]
    return result


def home(name: str, module: str) -> str:
    """The full name of what a module has, where it is defined or first assigned."""
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            parts = module.split(".")
            base = [*parts[: len(parts) - node.level], node.module or ""]
            return home(name, ".".join(base))
    return f"{module}.{name}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_says_that_its_names_are_for_compatibility(module: str) -> None:
    assert docstring(module).startswith(ONE if len(MODULES[module]) == 1 else SEVERAL)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_all_names_of_a_module_are_listed(module: str) -> None:
    assert set(importlib.import_module(module).__all__) == MODULES[module]


def test_modules_that_say_so_are_listed() -> None:
    marked = {name for name, text in all_docstrings() if text.startswith((ONE, SEVERAL))}
    assert marked == set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_inside_uses_a_module(module: str, uses: dict[str, list[str]]) -> None:
    promised = set().union(*(PROMISED.get(f"{module}.{name}", ()) for name in MODULES[module]))
    assert set(uses.get(module, ())) - promised == set()


@pytest.mark.parametrize(("name", "module"), SINGLE, ids=lambda value: value.split(".")[-1])
def test_nothing_inside_uses_a_single_name(
    name: str, module: str, uses: dict[str, list[str]]
) -> None:
    assert hasattr(importlib.import_module(module), name)
    assert module not in MODULES
    assert set(uses.get(home(name, module), ())) <= {module}


def test_a_name_has_one_row() -> None:
    listed = [(name, module) for module, names in MODULES.items() for name in names] + SINGLE
    assert len(listed) == len(set(listed))
    assert sum(map(len, MODULES.values())) == sum(len(row.names) for row in rows("Modules"))


def test_unused_modules_of_the_contract_are_listed(uses: dict[str, list[str]]) -> None:
    paths = {row.module for row in PATHS}
    modules = {name for name, _ in all_docstrings()}
    unused = (modules & set(SURFACE)) - set(uses)
    assert unused - set(MODULES) - paths == set(SERVICES)


@pytest.mark.parametrize("row", PATHS, ids=lambda row: row.module)
def test_import_path_defines_nothing(row: Row, uses: dict[str, list[str]]) -> None:
    assert docstring(row.module).startswith(PATH)
    shorter = row.instead.strip("`")
    assert shorter in docstring(row.module)
    module, package = importlib.import_module(row.module), importlib.import_module(shorter)
    assert sorted(row.names) == sorted(module.__all__)
    for name in row.names:
        assert getattr(module, name) is getattr(package, name)
    tree = ast.parse((ROOT / row.module.replace(".", "/")).with_suffix(".py").read_text())
    assert {type(node) for node in tree.body} == {ast.Expr, ast.ImportFrom, ast.Assign}
    assert row.module not in uses


def test_paths_that_say_so_are_listed() -> None:
    marked = {name for name, text in all_docstrings() if text.startswith(PATH)}
    assert marked == {row.module for row in PATHS}


def test_what_is_behind_compatibility_names_is_used_by_them_only(
    uses: dict[str, list[str]],
) -> None:
    behind = {name for name, text in all_docstrings() if text.startswith(BEHIND)}
    assert behind
    allowed = behind | set(MODULES)
    for module in behind:
        users = set(uses[module])
        assert users - allowed <= set().union(*PROMISED.values()), module
        assert users


def test_every_name_says_what_to_use_instead() -> None:
    for row in [*rows("Modules"), *rows("Single names")]:
        assert row.instead.strip("`")
        assert not set(row.names) & set(re.findall(r"`(\w+)`", row.instead)), row
