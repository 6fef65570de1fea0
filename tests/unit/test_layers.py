"""Imports go down only: a module may import its own layer's package and those below.

Imports under ``if TYPE_CHECKING`` count, too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pywebtransport"

BASE = {
    "_declared",
    "_header_map",
    "_plain",
    "_states",
    "_transport",
    "_version",
    "config",
    "constants",
    "events",
    "exceptions",
    "serializer",
    "utils",
}
PROTOCOLS = {"_quic", "_loop", "h3", "_qmux"}
# The contract's names, and services that use public members of the room below.
FACES = {"connection", "session", "stream", "datagram"}
# Frameworks over a session: neither a client nor a server.
MESSAGING = {"media", "rpc", "pubsub"}

# What each part may import besides itself.
ALLOWED = {
    **dict.fromkeys(BASE, BASE),
    "_quic": BASE,
    "_loop": BASE | {"_quic"},
    "h3": BASE,
    "_qmux": BASE | {"_quic", "h3"},  # of _quic only the base of streams
    "_core": BASE | PROTOCOLS,
    **dict.fromkeys(FACES, BASE | PROTOCOLS | {"_core"} | FACES),
    **dict.fromkeys(("client", "server"), BASE | PROTOCOLS | {"_core"} | FACES),
    **dict.fromkeys(MESSAGING, BASE | {"_core"} | FACES | MESSAGING),
    "asgi": BASE | {"_core", "h3", "server"} | FACES,
    "forwarder": BASE | {"_core", "client", "server"} | FACES,
    "monitoring": BASE | {"_core", "client", "server"} | FACES | MESSAGING,
    "testing": BASE | {"_core", "client", "server"} | FACES,
}
# Upward imports in functions: what they bring is loaded when it is first used.
LATE = {"server/app.py": {"asgi"}}
# The top of the package: everything may be imported here.
TOP = {"__init__", "__main__", "_cli", "types"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """Name of the layer that a module belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that can run: all but the bodies under TYPE_CHECKING."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt) and is_type_checking(child):
            continue
        yield from runtime_nodes(child)


def imported_parts(source: str, package: list[str]) -> Iterator[tuple[int, str]]:
    """Line and layer of every import of this package in a module of a package."""
    for node in ast.walk(ast.parse(source)):
        names: list[list[str]] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            names = [base] if len(base) > 1 else [[*base, alias.name] for alias in node.names]
        for name in names:
            if name[0] == "pywebtransport" and len(name) > 1:
                yield node.lineno, name[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_its_own_layer_and_those_below(path: Path) -> None:
    part = part_of(path)
    if part in TOP:
        return
    assert part in ALLOWED, (
        f"{part} is in no layer; add it to this test and to the architecture page"
    )
    allowed = ALLOWED[part] | LATE.get(str(path.relative_to(PACKAGE)), set())
    package = ["pywebtransport", *path.relative_to(PACKAGE).parts[:-1]]
    upward = [
        f"line {line}: {target}"
        for line, target in imported_parts(path.read_text(), package)
        if target != part and target not in allowed
    ]
    assert upward == []


def test_only_the_binding_imports_the_compiled_module() -> None:
    users = {
        part_of(path)
        for path in MODULES
        if part_of(path) != "_quic" and "_quic._core" in path.read_text()
    }
    assert users == set()


def test_http3_layer_does_no_io() -> None:
    """``h3`` is sans-I/O: it knows neither sockets nor an event loop."""
    forbidden = {"asyncio", "socket", "select", "selectors", "threading", "time", "uvloop"}
    found = []
    for path in sorted((PACKAGE / "h3").rglob("*.py")):
        for node in runtime_nodes(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = {(node.module or "").split(".")[0]}
            else:
                continue
            found += [f"{path.name}:{node.lineno} {name}" for name in sorted(names & forbidden)]
    assert found == []


def test_imports_anywhere_in_a_module_count() -> None:
    """At the top, for type checkers, and in functions; relative ones as well."""
    source = (
        "from typing import TYPE_CHECKING\n"
        "import pywebtransport.rpc\n"
        "if TYPE_CHECKING:\n    from pywebtransport.client import A\n"
        "def late():\n    from ..server.app import B\n    from .. import pubsub\n"
    )
    found = imported_parts(source, ["pywebtransport", "h3"])
    assert list(found) == [(2, "rpc"), (4, "client"), (6, "server"), (7, "pubsub")]
