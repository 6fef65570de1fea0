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


def page_with_helper(browser: Browser, site: str) -> Iterator[Page]:
    """A fixture: a tab with the page that imports the helper."""
    tab = browser.open_page(f"{site}/helper.html")
    try:
        yield tab
    finally:
        tab.close()


def message(payload: bytes, type_id: int = 1) -> bytes:
    """A framed message."""
    return HEADER.pack(type_id, len(payload)) + payload
