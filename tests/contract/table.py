"""Which tests use what programs were promised.

``python -m tests.contract.table`` prints it as Markdown. A test uses a name when its text, or
that of a function or class of its own module that it names, has it. A member counts for a class
only in modules that name the class, or one derived from it.
"""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
SURFACE: dict[str, dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "surface.toml").read_text()
)
# What Python calls when it runs these statements.
CALLED_BY: dict[type[ast.AST], tuple[str, ...]] = {
    ast.AsyncWith: ("__aenter__",),
    ast.AsyncFor: ("__aiter__", "__anext__"),
}
# Checks names only, or does not use the package as a program does.
NOT_USES = ("contract/test_contract.py", "contract/test_coverage.py")


def promises() -> dict[str, list[str]]:
    """Each export, function and class, and ``class.member`` of its methods and properties.

    Returns:
        By its name, the modules that have it.
    """
    found: dict[str, list[str]] = {}

    def promise(name: str, module: str) -> None:
        found.setdefault(name, []).append(module)

    for module, surface in SURFACE.items():
        for name in surface.get("exports", ()):
            promise(name, module)
        for text in surface.get("functions", ()):
            promise(name_of(text), module)
        for name, described in surface.get("classes", {}).items():
            promise(name, module)
            for text in (*described.get("methods", ()), *described.get("properties", ())):
                # The constructor and the call of an instance have no name of their own.
                if name_of(text) not in ("__init__", "__call__"):
                    promise(f"{name}.{name_of(text)}", module)
    return found


def name_of(text: str) -> str:
    """The name in a signature or declaration."""
    return text.split("(")[0].split(":")[0].split(" = ")[0].split()[-1]


@functools.cache
def derived(name: str) -> frozenset[str]:
    """A class of the surface and those under it."""
    found = {name}
    for surface in SURFACE.values():
        for other, described in surface.get("classes", {}).items():
            if name in (base.strip() for base in described["bases"].split(",")):
                found |= derived(other)
    return frozenset(found)


def identifiers(node: ast.AST, renamed: dict[str, str]) -> set[str]:
    """Every name in a piece of a program, and what its statements call."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            found.add(renamed.get(inner.id, inner.id))
        elif isinstance(inner, ast.Attribute):
            found.add(inner.attr)
        elif isinstance(inner, ast.alias):
            found.add(inner.name)
        found.update(CALLED_BY.get(type(inner), ()))
    return found


def tests_of(path: Path) -> Iterator[tuple[str, set[str], set[str]]]:
    """Name of each test of a module, what the test names, what the module names."""
    tree = ast.parse(path.read_text())
    renamed = {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    defined = {
        node.name: identifiers(node, renamed)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    everything = identifiers(tree, renamed)
    for name in defined:
        if name.startswith("test_"):
            used: set[str] = set()
            waiting = [name]
            seen = {name}
            while waiting:
                names = defined[waiting.pop()]
                used |= names
                new = (names & defined.keys()) - seen
                seen |= new
                waiting += new
            yield name, used, everything


def users() -> dict[str, list[str]]:
    """By promised name, the tests that use it: ``file::test``."""
    found: dict[str, list[str]] = {name: [] for name in promises()}
    for path in sorted(TESTS.rglob("test_*.py")):
        file = path.relative_to(TESTS).as_posix()
        if file in NOT_USES:
            continue
        for test, used, everything in tests_of(path):
            for name, tests in found.items():
                owner, _, member = name.partition(".")
                if member:
                    uses = member in used and not derived(owner).isdisjoint(everything)
                else:
                    uses = owner in used
                if uses:
                    tests.append(f"{file}::{test}")
    return found


def rows(shown: int = 3) -> Iterator[str]:
    """Lines of a Markdown table; programs come first, and ``shown`` tests at most are named."""
    yield "| name | tests that use it |"
    yield "|---|---|"
    for name, tests in sorted(users().items()):
        ordered = sorted(tests, key=lambda test: not test.startswith("contract/"))
        text = ", ".join(f"`{test}`" for test in ordered[:shown])
        more = len(ordered) - shown
        yield f"| `{name}` | {text}{f' and {more} more' if more > 0 else ''} |"


if __name__ == "__main__":
    print("\n".join(rows()))
