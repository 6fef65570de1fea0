"""Each page of the reference has a program, which runs and prints what its comments say."""

import re
import runpy
from pathlib import Path

import pytest

from tests.support.pages import DOCS, relative

REFERENCE = DOCS / "reference"
SNIPPETS = sorted((REFERENCE / "snippets").glob("*.py"))
# They are lists and tables, not about things that one can run.
WITHOUT = {"index.md", "compatibility.md"}


@pytest.mark.parametrize("path", SNIPPETS, ids=relative)
def test_a_snippet_prints_what_it_says(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = " ".join(re.findall(r"# -> (.*)", path.read_text()))
    runpy.run_path(str(path), run_name="__main__")
    assert " ".join(capsys.readouterr().out.split("\n")).strip() == expected


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.md")), ids=relative)
def test_a_page_of_the_reference_has_a_snippet(path: Path) -> None:
    shown = f"{{literalinclude}} snippets/{path.stem}.py" in path.read_text()
    assert shown or path.name in WITHOUT
