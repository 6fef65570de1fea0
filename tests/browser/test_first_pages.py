"""The first pages that a reader sees work as printed: the landing page's and the tutorial's."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import runpy
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pywebtransport import serve
from pywebtransport.testing import serve as serve_app

from .driver import Browser, Page
from .examples import until
from .kinds import KINDS

pytestmark = [
    pytest.mark.loops("asyncio"),
    pytest.mark.parametrize("kind", KINDS[:1], ids=lambda kind: kind.name, indirect=True),
]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """The tests speak, not the site."""


@contextlib.contextmanager
def site(directory: Path) -> Iterator[str]:
    """As ``python -m http.server`` in a directory."""
    handler = functools.partial(_Files, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_the_two_snippets_of_the_landing_page_understand_each_other(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server's file runs itself: keep its functions instead.
    monkeypatch.setattr(asyncio, "run", lambda main: main.close())
    shout = runpy.run_path(str(EXAMPLES / "landing" / "server.py"))["shout"]
    monkeypatch.undo()
    script = (EXAMPLES / "landing" / "page.js").read_text()
    async with serve(shout, "localhost", 0, drain_timeout=0) as server:
        script = script.replace("https://localhost:4433/", server.url)
        log = script.replace("console.log(", "return (")
        digest = server.certificate_hash.hex()
        assert await page.run(f"async (hash) => {{ {log} }}", digest) == "HELLO"


async def test_voters_of_the_tutorial_see_each_other(browser: Browser) -> None:
    module = runpy.run_path(str(EXAMPLES / "tutorial" / "step5.py"))
    async with serve_app(module["app"]) as served:
        with site(EXAMPLES / "tutorial") as origin:
            pages = []
            for voter in "ann", "bob":
                url = f"{served.url}/poll/lunch?token={module['token_of'](voter)}"
                query = urlencode({"url": url, "hash": served.certificate_hash.hex()})
                pages.append(browser.open_page(f"{origin}/index.html?{query}"))
            for tab in pages:
                await until(tab, "document.querySelectorAll('button').length === 2")
                await tab.run("() => document.querySelector('[data-choice=soup]').click()")
            for tab in pages:
                await until(
                    tab, "document.querySelector('[data-choice=soup] output').value === '2'"
                )
                tab.close()
