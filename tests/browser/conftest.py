"""Browsers for all tests of this directory, a site with one page, and sessions with it."""

from __future__ import annotations

import asyncio
import functools
import http.server
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import WebTransportSession
from tests.support.certificates import Certificates
from tests.support.endpoints import Served

from .driver import Browser, Page
from .kinds import KINDS, Kind

PAGE = Path(__file__).parent / "page"
JAVASCRIPT = Path(__file__).resolve().parents[2] / "examples" / "js"


class _Files(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        """A file of the page, or below ``/js/`` one of the JavaScript helper."""
        if path.startswith("/js/"):
            return str(JAVASCRIPT / path.removeprefix("/js/"))
        return super().translate_path(path)

    def log_message(self, format: str, *args: object) -> None:
        """The tests speak, not the site."""


class Visit:
    """A server, and a page that talks to it.

    Attributes:
        served: The server.
        sessions: The sessions that its application was given, if the test brought no handler.
        url: Where the page connects to.
        hash: SHA-256 of the server's certificate.
    """

    def __init__(self, page: Page, served: Served, certificate_hash: bytes) -> None:
        self._page = page
        self.served = served
        self.sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
        self.url = served.url("/wt")
        self.hash = certificate_hash

    async def run(self, function: str, *args: Any) -> Any:
        """Call a function of ``checks.js``; it gets the URL and hash, then ``args``."""
        target = {"url": self.url, "hash": self.hash.hex()}
        return await self._page.run(function, target, *args)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the pairs of browser and event loop that ``KINDS`` names."""

    def wanted(item: pytest.Item) -> bool:
        # pytest hands in the tests of all directories.
        params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        kind, loop = params.get("kind"), params.get("loop_name")
        return loop is None or not isinstance(kind, Kind) or loop in kind.loops

    items[:] = filter(wanted, items)


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which browser it is."""
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="session")
def browser(kind: Kind) -> Iterator[Browser]:
    """The browser; one process serves all of its tests."""
    with kind.start() as started:
        yield started


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The origin of a site that serves ``page/``; localhost is a secure context."""
    handler = functools.partial(_Files, directory=str(PAGE))
    # With threads: a browser opens connections that it has no request for yet.
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="site")
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A fresh tab with the page in it."""
    tab = browser.open_page(f"{site}/index.html")
    try:
        yield tab
    finally:
        tab.close()


@pytest.fixture
def visit(
    page: Page, certs: Certificates, serving: Callable[..., Any]
) -> Callable[..., AbstractAsyncContextManager[Visit]]:
    """``async with visit(handler, **fields) as it``: fields are those of ServerConfig.

    Without a handler, sessions wait in ``it.sessions``.
    """

    @asynccontextmanager
    async def visiting(handler: Any = None, **fields: Any) -> AsyncIterator[Visit]:
        visits: list[Visit] = []

        async def keep(session: WebTransportSession) -> None:
            await visits[0].sessions.put(session)

        routes = {"/wt": keep if handler is None else handler}
        async with serving(routes, **(certs.self_signed.files | fields)) as served:
            visits.append(Visit(page, served, certs.self_signed.hash))
            yield visits[0]

    return visiting
