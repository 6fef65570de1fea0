"""The tables of docs/howto/browsers.md say what the tests hold."""

import re
from pathlib import Path

from .driver import Browser
from .kinds import KINDS, Kind

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "browsers.md").read_text()
NAMES = {"Chrome": "Chromium"}


def test_browser_and_its_dialect(browser: Browser, kind: Kind) -> None:
    assert re.search(rf"^\| {re.escape(kind.title)} \| [\d.]+ \| {kind.dialect} \|$", PAGE, re.M)
    name = browser.version.split()[0]
    assert kind.title.startswith(NAMES.get(name, name))


def test_what_is_a_browsers_own() -> None:
    for name in KINDS[0].limits():
        cells = [name, *(kind.limits()[name] for kind in KINDS)]
        assert f"\n| {' | '.join(cells)} |\n" in PAGE
