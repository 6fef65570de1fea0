"""What the pages promise has a test: ``tests/docs_promises.toml`` names it."""

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import PAGES, ROOT, prose, relative

PROMISES: dict[str, dict[str, list[str] | str]] = tomllib.loads(
    (ROOT / "tests" / "docs_promises.toml").read_text()
)
# Pages of another kind: history, rules for those who work on it, measurements with their method,
# tables whose rows name their tests, and the reference, which is made of docstrings.
OTHER_KIND = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/performance.md",
    "docs/project/",
    "docs/reference/",
    "docs/topics/benchmarks.md",
    "docs/topics/drafts.md",
    "docs/topics/engine.md",
    "docs/topics/field.md",
    "docs/topics/lossy-paths.md",
)
CHECKED = [path for path in PAGES if not relative(path).startswith(OTHER_KIND)]
STRONG = re.compile(
    r"\b(never|always|at most|bounded|at once|counted|logged|refused|dropped|in order|verified)\b"
)


@functools.cache
def flat(path: Path) -> str:
    """The running text of a page with single spaces, without the bars between its cells' rows."""
    return " ".join(prose(path).split())


def sentences(path: Path) -> Iterator[str]:
    """Sentences, rows of tables, and items of lists."""
    for block in re.split(r"\n\s*\n|\n(?=[-|#:] ?)", prose(path)):
        text = " ".join(block.split())
        yield from re.split(r"(?<=[.:]) (?=[A-Z`*])", text)


@functools.cache
def defined(file: str) -> frozenset[str]:
    """Functions of a file with tests; of a fuzz target the one that libFuzzer calls."""
    path = ROOT / file
    if not path.exists():
        return frozenset()
    text = path.read_text()
    if path.suffix == ".c":
        return frozenset(
            re.findall(
                r"^(?:static void|int) (test_\w+(?=\(void\))|LLVMFuzzerTestOneInput)", text, re.M
            )
        )
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(text)) if isinstance(node, functions))


@pytest.mark.parametrize("page", sorted(PROMISES))
def test_promises_are_in_the_page(page: str) -> None:
    text = flat(ROOT / page)
    assert [piece for piece in PROMISES[page] if piece not in text] == []


@pytest.mark.parametrize("page", sorted(PROMISES))
def test_promises_have_tests(page: str) -> None:
    missing = []
    for piece, tests in PROMISES[page].items():
        if isinstance(tests, str):
            assert tests, piece
            continue
        assert tests, piece
        for test in tests:
            file, _, name = test.partition("::")
            if name not in defined(file):
                missing.append(test)
    assert missing == []


@pytest.mark.parametrize("path", CHECKED, ids=relative)
def test_strong_words_are_promises(path: Path) -> None:
    """``never``, ``at most``, ``refused`` and the like promise something: each has an entry."""
    pieces = PROMISES.get(relative(path), {})
    uncovered = [
        sentence
        for sentence in sentences(path)
        if STRONG.search(sentence)
        and not any(
            piece in sentence or sentence in piece or overlaps(piece, sentence, path)
            for piece in pieces
        )
    ]
    assert uncovered == []


def overlaps(piece: str, sentence: str, path: Path) -> bool:
    """Whether a piece that goes over several sentences has part of this one."""
    text = flat(path)
    start, end = text.find(piece), text.find(piece) + len(piece)
    first = text.find(sentence)
    return start >= 0 and first >= 0 and first < end and start < first + len(sentence)
