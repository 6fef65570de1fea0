"""Which tests use what programs were promised: ``python -m tests.contract.table``, as Markdown.

A test uses a name when its text has it, or that of something that its module defines and the
test names. A member counts for a class only in modules that name the class, or one derived
from it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from .test_contract import LEFT_OUT, SURFACE

TESTS = Path(__file__).resolve().parents[1]
PROGRAMS = "contract/programs/"
# They name things without using them.
NOT_USES = ("contract/test_contract.py", "contract/test_coverage.py")
# What Python calls when it runs these.
ITERATION = ("__aiter__", "__anext__")


def promises() -> set[str]:
    """Each export, function and class, and ``Class.member`` of its methods and properties."""
    found: set[str] = set()
    for module, surface in SURFACE.items():
        names = [*surface.get("exports", ()), *map(name_of, surface.get("functions", ()))]
        for name, described in surface.get("classes", {}).items():
            names.append(name)
            if f"{module}.{name}" in LEFT_OUT:
                continue
            for text in (*described.get("methods", ()), *described.get("properties", ())):
                member = name_of(text)
                # The constructor and the call of an instance have no name of their own.
                if member not in ("__init__", "__call__"):
                    names.append(f"{name}.{member}")
        found.update(name for name in names if f"{module}.{name}" not in LEFT_OUT)
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
    """Every name in a piece of a program, and what Python calls to run it."""
    found = set()
    for inner in ast.walk(node):
        match inner:
            case ast.Name(id=name):
                found.add(renamed.get(name, name))
            case ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
            case ast.AsyncWith():
                found.add("__aenter__")
            case ast.AsyncFor() | ast.comprehension(is_async=1):
                found.update(ITERATION)
    return found


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Functions, classes and values that a module defines."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node
            case ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name, node


def read_tests(text: str) -> Iterator[tuple[str, set[str], set[str]]]:
    """Of each test of a module: its name, the names that it uses, those of the whole module."""
    tree = ast.parse(text)
    renamed = {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    defined = {name: identifiers(node, renamed) for name, node in definitions(tree)}
    everything = identifiers(tree, renamed)
    for name in defined:
        if name.startswith("test_"):
            reached, waiting = {name}, [name]
            while waiting:
                new = (defined[waiting.pop()] & defined.keys()) - reached
                reached |= new
                waiting += new
            yield name, set().union(*(defined[each] for each in reached)), everything


def is_used(promised: str, used: set[str], everything: set[str]) -> bool:
    owner, _, member = promised.partition(".")
    if member:
        return member in used and not derived(owner).isdisjoint(everything)
    return owner in used


@functools.cache
def users() -> dict[str, list[str]]:
    """By promised name, the tests that use it as ``file::test``, programs first."""
    found: dict[str, list[str]] = {name: [] for name in sorted(promises())}
    files = {path.relative_to(TESTS).as_posix(): path for path in TESTS.rglob("test_*.py")}
    for file in sorted(files, key=lambda file: (not file.startswith(PROGRAMS), file)):
        if file not in NOT_USES:
            for test, used, everything in read_tests(files[file].read_text()):
                for name, tests in found.items():
                    if is_used(name, used, everything):
                        tests.append(f"{file}::{test}")
    return found


def rows(shown: int = 3) -> Iterator[str]:
    """Lines of the table; ``shown`` tests at most are named."""
    yield "| name | tests that use it |"
    yield "|---|---|"
    for name, tests in users().items():
        text = ", ".join(f"`{test}`" for test in tests[:shown])
        more = len(tests) - shown
        yield f"| `{name}` | {text}{f' and {more} more' if more > 0 else ''} |"


if __name__ == "__main__":
    print("\n".join(rows()))
