"""The browsers that the tests run in, and what is each one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .chromium import Chromium
from .driver import Browser
from .firefox import Firefox

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """A browser, as it is started for the tests.

    Attributes:
        name: In the names of tests.
        start: Starts it.
        dialect: The draft that it and this library agree on.
        loops: The event loops that the server runs on.
    """

    name: str
    start: Callable[[], Browser]
    dialect: int
    loops: tuple[str, ...]


KINDS = (
    Kind("chromium", Chromium, dialect=2, loops=("asyncio", "uvloop")),
    Kind(
        "chromium-draft07",
        lambda: Chromium("EnableWebTransportDraft07"),
        dialect=7,
        loops=("uvloop",),
    ),
    Kind("firefox", Firefox, dialect=2, loops=("asyncio",)),
)
