"""The tables of docs/howto/browsers.md say what the tests hold."""

from pathlib import Path

from .driver import Browser
from .kinds import KINDS, Kind

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "browsers.md"


def rows() -> dict[str, list[str]]:
    """The cells of every row of every table, by the first of them."""
    lines = [line.strip("| ") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_browsers_and_their_dialects(browser: Browser, kind: Kind) -> None:
    version, dialect = rows()[kind.title]
    assert dialect == str(kind.dialect)
    assert version.count(".") >= 2
    assert kind.title.split(",")[0].split()[0].startswith(browser.version.split()[0][:6])


def test_what_is_a_browsers_own() -> None:
    found = rows()
    for name in KINDS[0].limits():
        assert found[name] == [kind.limits()[name] for kind in KINDS]
