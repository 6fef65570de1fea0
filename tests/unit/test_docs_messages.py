"""The error messages that the troubleshooting page explains are messages of the package."""

import ast
import re

import pytest

from tests.support.pages import DOCS, ROOT

PAGE = DOCS / "howto" / "troubleshooting.md"
ROWS = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)


def strings() -> str:
    """Every string of the package, the parts of a formatted one joined by a mark."""
    found = []
    for path in (ROOT / "pywebtransport").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )
                found.append("".join(map(str, parts)))
    for pattern in ("*.c", "*.h", "*.pyx", "*.pxi"):
        for path in (ROOT / "pywebtransport" / "_quic").rglob(pattern):
            if path.name != "_core.c":
                found.append(re.sub(r'"\s*\n\s*"', "", path.read_text()))
    return "\n".join(found)


@pytest.fixture(scope="module")
def text() -> str:
    return strings()


def test_the_page_explains_messages() -> None:
    assert len(ROWS) >= 20


@pytest.mark.parametrize("message", ROWS)
def test_a_message_is_one_of_the_package(message: str, text: str) -> None:
    # Numbers in the page stand for those that the program fills in.
    for part in re.split(r"\s*…[:,;]?\s*|\s*\b\d+\b\s*", message):
        assert part in text, part
