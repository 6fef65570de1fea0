"""What the tests of examples/js/pywebtransport.js share."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from pywebtransport import Serializer
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer

from .conftest import Visit
from .driver import Browser, Page
from .kinds import KINDS

__all__ = [
    "FORMATS",
    "HEADER",
    "IN_BROWSERS",
    "VisitFactory",
    "formats",
    "message",
    "page_with_helper",
]

VisitFactory = Callable[..., AbstractAsyncContextManager[Visit]]

IN_BROWSERS = [
    pytest.mark.loops("asyncio"),
    pytest.mark.parametrize(
        "kind",
        [kind for kind in KINDS if kind.name in ("chromium", "firefox")],
        ids=lambda kind: kind.name,
        indirect=True,
    ),
]
FORMATS: dict[str, Callable[[], Serializer]] = {
    "json": JSONSerializer,
    "msgpack": MsgPackSerializer,
}
formats = pytest.mark.parametrize("format", FORMATS)

HEADER = struct.Struct("!HI")


class HelperTabs:
    """The tab with the page that imports the helper; another one if the browser lost it."""

    def __init__(self, browser: Browser, site: str) -> None:
        self._browser = browser
        self._url = f"{site}/helper.html"
        self._tab = browser.open_page(self._url)

    def current(self) -> Page:
        """A tab that works."""
        if self._tab.crashed:
            self.close()
            self._tab = self._browser.open_page(self._url)
        return self._tab

    def close(self) -> None:
        """Close the tab."""
        self._tab.close()


def tabs_with_helper(browser: Browser, site: str) -> Iterator[HelperTabs]:
    """A fixture for a module: one tab serves all of its tests, as long as it lives."""
    tabs = HelperTabs(browser, site)
    try:
        yield tabs
    finally:
        tabs.close()


def page_with_helper(helper_tabs: HelperTabs) -> Page:
    """A fixture: the tab."""
    return helper_tabs.current()


def message(payload: bytes, type_id: int = 1) -> bytes:
    """A framed message."""
    return HEADER.pack(type_id, len(payload)) + payload
