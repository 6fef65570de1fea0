"""Turns of an event loop, counted; and a clock for their slices that only work moves on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pywebtransport.utils import _turns as turns


class Clock:
    """Stands in for ``time`` in ``pywebtransport.utils._turns``."""

    def __init__(self) -> None:
        self._now = time.monotonic_ns()

    def monotonic_ns(self) -> int:
        return self._now

    def work(self, seconds: float) -> None:
        """Let this much time pass as work."""
        self._now += int(seconds * 1e9)

    @classmethod
    def installed(cls, patch: pytest.MonkeyPatch) -> Clock:
        """One that the slices are measured by."""
        clock = cls()
        patch.setattr(turns, "clock", clock)
        return clock


class Meter:
    """Notes how much work is done in each turn of the event loop.

    Attributes:
        turns: Work of each turn that had any.
    """

    def __init__(self) -> None:
        self.turns: list[float] = []
        self._now = 0.0
        self._handle: asyncio.Handle | None = None

    def work(self, amount: float = 1) -> None:
        """Something was done."""
        self._now += amount

    @contextmanager
    def running(self) -> Iterator[Meter]:
        """Look at each turn until the block is left."""
        self._now = 0.0
        self._look()
        try:
            yield self
        finally:
            assert self._handle is not None
            self._handle.cancel()
            self._note()

    def _look(self) -> None:
        self._note()
        self._handle = asyncio.get_running_loop().call_soon(self._look)

    def _note(self) -> None:
        if self._now:
            self.turns.append(self._now)
            self._now = 0.0
