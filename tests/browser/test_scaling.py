"""The calculator of the page about scaling computes what the page says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from .driver import Browser, Page
from .examples import until
from .kinds import KINDS
from .test_first_pages import site

pytestmark = [
    pytest.mark.loops("asyncio"),
    pytest.mark.parametrize("kind", KINDS[:1], ids=lambda kind: kind.name, indirect=True),
]
STATIC = Path(__file__).resolve().parents[2] / "docs" / "_static"
PAGE = '<!doctype html><div id="scaling-calculator"></div><script src="scaling.js"></script>'
ANSWER = "() => document.querySelector('#scaling-calculator output').textContent"
SET = """(name, value) => {
  const input = document.querySelector(`#scaling-calculator [name=${name}]`);
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}"""


@pytest.fixture
def calculator(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The calculator alone on a page."""
    (tmp_path / "scaling.js").write_text((STATIC / "scaling.js").read_text())
    (tmp_path / "index.html").write_text(PAGE)
    with site(tmp_path) as url, closing(browser.open_page(f"{url}/index.html")) as page:
        yield page


async def test_the_example_of_the_page(calculator: Page) -> None:
    await until(calculator, "document.querySelector('#scaling-calculator output') !== null")
    assert await calculator.run(ANSWER) == (
        "12 workers, 5.7 GiB, 0.42 Gbit/s: 2 hosts with one to spare, 1 bus server"
    )
    await calculator.run(SET, "sessions", 1_000_000)
    assert await calculator.run(ANSWER) == (
        "120 workers, 57.2 GiB, 4.16 Gbit/s: 9 hosts with one to spare, 1 bus server"
    )
    await calculator.run(SET, "ram", 16)
    await calculator.run(SET, "publishes", 100_000)
    assert await calculator.run(ANSWER) == (
        "120 workers, 57.2 GiB, 4.16 Gbit/s: 9 hosts with one to spare, 5 bus servers"
    )
    await calculator.run(SET, "network", 1)
    assert "10 hosts" in await calculator.run(ANSWER)
