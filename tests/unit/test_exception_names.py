"""Each module means the exception that it names: ours are imported, builtins are written so.

Two classes of ours have the names of builtins. A module that forgets the import works, and raises
or catches something else.
"""

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywebtransport import exceptions

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pywebtransport"
# The package, and what users copy from.
MODULES = sorted(
    path
    for folder in ("pywebtransport", "examples")
    for pattern in ("*.py", "*.pyi")
    for path in (ROOT / folder).rglob(pattern)
)
# Names that mean something else where the import is missing, and the aliases of the builtins.
OURS = frozenset(exceptions.__all__)
SHADOWED = OURS & frozenset(dir(builtins))
CATCHES = frozenset({"builtins.TimeoutError", "OSError", "Exception", "BaseException"})
ALIASES = {"asyncio": {"TimeoutError"}, "socket": {"timeout"}, "concurrent.futures": SHADOWED}


def bound_names(tree: ast.Module) -> set[str]:
    """What a module imports from the package or defines itself."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").startswith("pywebtransport")
        ):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def wrong_uses(source: str) -> Iterator[str]:
    """Each use of an exception's name that does not mean what a reader takes it for."""
    tree = ast.parse(source)
    known = bound_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in OURS - known:
            hint = f" or write builtins.{node.id}" if node.id in SHADOWED else ""
            yield f"line {node.lineno}: {node.id} is not imported{hint}"
        elif isinstance(node, ast.Attribute) and node.attr in ALIASES.get(
            ast.unparse(node.value), ()
        ):
            yield f"line {node.lineno}: {ast.unparse(node)} is builtins.TimeoutError"


def uncaught_timeouts(source: str) -> Iterator[str]:
    """Each ``asyncio.timeout`` whose builtin error would reach the caller."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        if "TimeoutError: The builtin" in (ast.get_docstring(function) or ""):
            continue  # its callers know
        caught = {
            ast.unparse(name)
            for node in ast.walk(function)
            if isinstance(node, ast.ExceptHandler) and node.type is not None
            for name in (node.type.elts if isinstance(node.type, ast.Tuple) else [node.type])
        }
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        caught |= {
            ast.unparse(name)
            for node in calls
            if ast.unparse(node.func) == "contextlib.suppress"
            for name in node.args
        }
        for node in calls:
            if ast.unparse(node.func) in (
                "asyncio.timeout",
                "asyncio.timeout_at",
                "asyncio.wait_for",
            ) and caught.isdisjoint(CATCHES):
                yield f"line {node.lineno}: {ast.unparse(node.func)} raises builtins.TimeoutError"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_exception_names_are_imported_or_builtins_are_named(path: Path) -> None:
    assert list(wrong_uses(path.read_text())) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_builtin_error_of_a_timeout_is_caught(path: Path) -> None:
    """It becomes an exception of this package that names the operation, or is not an error."""
    assert list(uncaught_timeouts(path.read_text())) == []


def test_what_counts_as_wrong() -> None:
    assert {"ConnectionError", "TimeoutError"} == SHADOWED
    assert len(list(wrong_uses("try:\n    pass\nexcept TimeoutError:\n    pass"))) == 1
    assert len(list(wrong_uses("raise ConnectionError('x')"))) == 1
    assert len(list(wrong_uses("import asyncio\nraise asyncio.TimeoutError"))) == 1
    lost = "async def f():\n    async with asyncio.timeout(1):\n        await g()"
    assert len(list(uncaught_timeouts(lost))) == 1
    assert not list(wrong_uses("import builtins\nraise builtins.TimeoutError"))
    assert not list(wrong_uses("from ..exceptions import TimeoutError\nraise TimeoutError('x')"))
