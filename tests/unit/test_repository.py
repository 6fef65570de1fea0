"""Rules of the house that a reader relies on, checked over the sources."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pywebtransport"

MAX_LINES = 900
MAX_COLUMNS = 100
SOURCE_SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".c", ".h"}
TEXT_SUFFIXES = SOURCE_SUFFIXES | {".md", ".toml", ".sh", ".js", ".css", ".html", ".yml", ".svg"}
GENERATED = {"_core.c"}
IGNORED_DIRECTORIES = {"build", "dist", "_build", "_generated", "node_modules"}

# Notes to oneself and switched-off tests have no place in a finished tree. The words
# are put together here, so that this file does not contain them.
UNFINISHED = re.compile(
    "|".join(
        first + second
        for first, second in (
            ("TO", "DO"),
            ("FIX", "ME"),
            ("X", "XX"),
            (r"pytest\.mark\.", "skip"),
            (r"pytest\.mark\.", "xfail"),
            (r"@unittest\.", "skip"),
        )
    )
)


def files(suffixes: set[str]) -> list[Path]:
    """Every file of the tree with one of these suffixes, none that was built."""
    found = []
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if any(part in IGNORED_DIRECTORIES or part.startswith(".") for part in parts[:-1]):
            continue
        if path.suffix in suffixes and path.name not in GENERATED and path.is_file():
            found.append(path)
    return found


SOURCES = files(SOURCE_SUFFIXES)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_source_file_is_too_long(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_LINES, f"{lines} lines; split it (one idea per file)"


@pytest.mark.parametrize("path", files({".c", ".h", ".pyx", ".pxd"}), ids=relative)
def test_c_and_cython_lines_are_at_most_100_columns(path: Path) -> None:
    wide = [
        number
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > MAX_COLUMNS
    ]
    assert wide == []


@pytest.mark.parametrize("path", files(TEXT_SUFFIXES), ids=relative)
def test_nothing_is_left_unfinished(path: Path) -> None:
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Classes, functions and methods that a user can call by a public name."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def is_overload_or_setter(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(
        ast.unparse(decorator).endswith(("overload", ".setter", ".deleter"))
        for decorator in decorators
    )


def undocumented(tree: ast.Module) -> list[str]:
    """Public definitions without a docstring.

    A method may inherit the docstring of a class of the same file, and the methods
    of a structural protocol may be covered by that of their class.
    """
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    inherited = {
        method.name
        for owner in classes
        for method in owner.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(method)
    }
    protocols = tuple(
        f"{owner.name}."
        for owner in classes
        if ast.get_docstring(owner) and any("Protocol" in ast.unparse(base) for base in owner.bases)
    )
    return [
        f"{name} (line {node.lineno})"
        for name, node in public_definitions(tree.body)
        if not ast.get_docstring(node)
        and not is_overload_or_setter(node)
        and not ("." in name and node.name in inherited)
        and not name.startswith(protocols)
    ]


PUBLIC_MODULES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not any(
        part.startswith("_") and part not in ("_core", "__init__.py", "__main__.py")
        for part in path.relative_to(PACKAGE).parts
    )
    and "h3" not in path.relative_to(PACKAGE).parts
]


@pytest.mark.parametrize("path", PUBLIC_MODULES, ids=relative)
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    missing = [] if ast.get_docstring(tree) else ["module"]
    assert missing + undocumented(tree) == []


@pytest.mark.parametrize("path", PUBLIC_MODULES, ids=relative)
def test_public_functions_are_fully_annotated(path: Path) -> None:
    missing = []
    for name, node in public_definitions(ast.parse(path.read_text()).body):
        if isinstance(node, ast.ClassDef):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        missing += [
            f"{name}({argument.arg})"
            for argument in arguments
            if argument.annotation is None and argument.arg not in ("self", "cls")
        ]
        if node.returns is None:
            missing.append(f"{name} -> ?")
    assert missing == []


def test_engine_never_aborts_or_prints() -> None:
    """The engine reports; it ends no process and writes to no terminal."""
    forbidden = re.compile(r"\b(abort|assert|exit|printf|perror|puts)\s*\(|\bstderr\b|\bstdout\b")
    found = []
    for path in sorted((PACKAGE / "_quic" / "engine").rglob("*.[ch]")):
        text = re.sub(
            r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), path.read_text(), flags=re.S
        )
        text = re.sub(r"//[^\n]*", "", text)
        text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
        for number, line in enumerate(text.splitlines(), 1):
            if (
                forbidden.search(line)
                and "static_assert" not in line
                and "_Static_assert" not in line
            ):
                found.append(f"{path.name}:{number} {line.strip()}")
    assert found == []


def test_only_the_socket_file_makes_system_calls() -> None:
    """Everything of the engine but ``udp.c`` is pure: no socket call, no clock.

    Calendar time, which certificates and tokens are checked against, is no clock in this sense.
    """
    calls = re.compile(
        r"\b(socket|sendmsg|sendto|recvmsg|recvmmsg|recvfrom|setsockopt)\s*\("
        r"|\bclock_gettime\s*\((?!CLOCK_REALTIME)"
    )
    found = []
    for path in sorted((PACKAGE / "_quic" / "engine").rglob("*.c")):
        if path.stem.startswith("udp"):
            continue
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        found += [
            f"{path.name}: {line.strip()}" for line in text.splitlines() if calls.search(line)
        ]
    assert found == []


def test_tracked_files_are_no_products() -> None:
    """Nothing that a build, a test run or a development certificate leaves is tracked."""
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    products = re.compile(r"\.(so|o|pyc|crt|key|pem|keylog|qlog)$|(^|/)__pycache__/|_core\.c$")
    tracked = listing.stdout.splitlines()
    assert [name for name in tracked if products.search(name)] == []
