"""The monotonic clock of the package: the system's, or the virtual clock of an event loop.

Modules call ``clock.monotonic()`` and ``clock.monotonic_ns()`` through this module. While no event
loop has a virtual clock, both names are the functions of ``time`` themselves, so there is no
overhead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable
from weakref import WeakSet

__all__ = ["VirtualClock", "clock_of", "follow", "monotonic", "monotonic_ns", "unfollow"]


@runtime_checkable
class VirtualClock(Protocol):
    """An event loop with its own clock."""

    def time(self) -> float:
        """Seconds, as ``asyncio.AbstractEventLoop.time``."""

    def time_ns(self) -> int:
        """The same in nanoseconds. It never goes back."""


monotonic: Callable[[], float] = time.monotonic
monotonic_ns: Callable[[], int] = time.monotonic_ns

_virtual: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], int]:
    """The clock that goes with an event loop, in nanoseconds."""
    return loop.time_ns if isinstance(loop, VirtualClock) else time.monotonic_ns


def follow(loop: asyncio.AbstractEventLoop) -> None:
    """Make code that runs in ``loop``, a ``VirtualClock``, use its time."""
    global monotonic, monotonic_ns
    _virtual.add(loop)
    monotonic, monotonic_ns = _monotonic, _monotonic_ns


def unfollow(loop: asyncio.AbstractEventLoop) -> None:
    """Forget a loop. Idempotent."""
    global monotonic, monotonic_ns
    _virtual.discard(loop)
    if not _virtual:
        monotonic, monotonic_ns = time.monotonic, time.monotonic_ns


def _monotonic() -> float:
    clock = _running()
    return time.monotonic() if clock is None else clock.time()


def _monotonic_ns() -> int:
    clock = _running()
    return time.monotonic_ns() if clock is None else clock.time_ns()


def _running() -> VirtualClock | None:
    """The loop that runs in this thread, if its clock is virtual."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if isinstance(loop, VirtualClock) else None
