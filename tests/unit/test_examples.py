"""Rules for the examples with a page, and for their pictures."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "browser"
PROGRAMS = sorted(path for path in EXAMPLES.glob("*.py") if path.name != "browser_echo.py")
FRAMEWORKS = sorted((ROOT / "examples" / "frameworks").glob("*.py"))
PAGES = [path.with_suffix(".html") for path in PROGRAMS if not path.name.startswith("_")]
TEXTS = [*EXAMPLES.iterdir(), *(ROOT / "examples" / "js").rglob("*.js")]
PICTURES = ROOT / "docs" / "_static" / "examples"
# Comments may show addresses; these are what a browser would fetch.
FETCHED = re.compile(
    r"""(?:src|href)=["'](?!data:)(?:\w+:)?//|(?:import|from|fetch\()\s*["'`]\w*:?//|url\(["']?\w*:?//"""
)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 150


@pytest.mark.parametrize("path", FRAMEWORKS, ids=lambda path: path.name)
def test_applications_are_one_short_file(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 80
    assert f"`{path.name}`" in (ROOT / "examples" / "README.md").read_text()
    pages = (ROOT / "docs" / "howto").glob("*.md")
    assert any(f"examples/frameworks/{path.name}" in page.read_text() for page in pages)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_fit_phones_and_share_their_colors(path: Path) -> None:
    page = path.read_text()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert '<link rel="stylesheet" href="style.css">' in page
    assert 'id="status"' in page


@pytest.mark.parametrize("path", [path for path in TEXTS if path.is_file()], ids=lambda p: p.name)
def test_nothing_is_fetched_from_elsewhere(path: Path) -> None:
    assert FETCHED.findall(path.read_text()) == []


def test_pictures_are_small_and_shown() -> None:
    shown = set(
        re.findall(r"_static/examples/([\w-]+\.webp)", (ROOT / "docs/examples.md").read_text())
    )
    assert {path.name for path in PICTURES.iterdir()} == shown
    assert [path.name for path in PICTURES.iterdir() if path.stat().st_size >= 60_000] == []


def test_every_example_is_in_both_lists() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    documented = (ROOT / "docs" / "examples.md").read_text()
    for path in PAGES:
        program = path.with_suffix(".py").name
        assert f"browser/{program}" in listed
        assert f"$ python examples/browser/{program}" in documented
    for path in (ROOT / "examples").glob("*.py"):
        assert f"`{path.name}`" in listed
