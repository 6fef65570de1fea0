"""The browsers that the tests run in, and what is each one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .chromium import Chromium
from .driver import Browser
from .firefox import Firefox

__all__ = ["KINDS", "LARGEST_CODE_TOLD", "Kind"]

# The largest code of a stream that there is.
_ALL = 0xFFFFFFFF
# A larger code that a page gives for a stream leaves every one of the browsers as this one.
LARGEST_CODE_TOLD = 255


@dataclass(frozen=True)
class Kind:
    """A browser, as it is started for the tests.

    Attributes:
        name: In the names of tests.
        title: In the documentation.
        start: Starts it.
        dialect: The draft that it and this library agree on.
        loops: The event loops that the server runs on.

    What follows is the browser's own: it is the same with another server.

    Attributes:
        offers_protocols: A page can offer application protocols.
        largest_code_shown: A page sees 0 for a larger code of the server for a stream.
        keeps_pages: The session of a page that was left goes on.
        tells_cancel: The server is told when a page cancels reading.
        other_write_error: How a write may fail when the session ends, besides with the session's
            error: what writers are told of goes another way.
        tells_reset_to_reader: A read that waits when a reset comes fails with its code.
        waits_to_say_close: What a page's ``close()`` says arrives also while its streams are busy:
            the connection is not closed before it was sent.
    """

    name: str
    title: str
    start: Callable[[], Browser]
    dialect: int
    loops: tuple[str, ...]
    offers_protocols: bool = True
    largest_code_shown: int = _ALL
    keeps_pages: bool = False
    tells_cancel: bool = True
    other_write_error: str = "NetworkError"
    tells_reset_to_reader: bool = True
    waits_to_say_close: bool = True

    def limits(self) -> dict[str, str]:
        """What differs between browsers, as the table in docs/howto/browsers.md says it."""
        shown = self.largest_code_shown
        return {
            "application protocols": "yes" if self.offers_protocols else "no `protocols`",
            "stream codes that a page can send": f"up to {LARGEST_CODE_TOLD}",
            "stream codes that a page receives": (
                "all" if shown == _ALL else f"up to {shown}, others as 0"
            ),
            "`cancel()` of a reader": "STOP_SENDING" if self.tells_cancel else "nothing is sent",
            "pending read when the stream is reset": (
                "has the code" if self.tells_reset_to_reader else "`TypeError`, no code"
            ),
            "`close()` while streams are busy": (
                "code and reason arrive" if self.waits_to_say_close else "they may be lost"
            ),
            "when the user leaves the page": (
                "session goes on" if self.keeps_pages else "session ends"
            ),
        }


KINDS = (
    Kind(
        "chromium",
        "Chromium",
        Chromium,
        dialect=2,
        loops=("asyncio", "uvloop"),
    ),
    Kind(
        "chromium-draft07",
        "Chromium, `--enable-features=EnableWebTransportDraft07`",
        lambda: Chromium("EnableWebTransportDraft07"),
        dialect=7,
        loops=("uvloop",),
    ),
    Kind(
        "firefox",
        "Firefox ESR",
        Firefox,
        dialect=2,
        loops=("asyncio",),
        offers_protocols=False,
        largest_code_shown=255,
        keeps_pages=True,
        tells_cancel=False,
        other_write_error="AbortError",
        tells_reset_to_reader=False,
        waits_to_say_close=False,
    ),
)
