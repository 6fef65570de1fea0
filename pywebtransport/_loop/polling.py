"""Busy polling: an event loop that does not sleep for a short time after packets."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

__all__ = ["BusyPoll"]

_IDLE_TURN: Final = 20_000
"""Nanoseconds; a turn of the loop that took longer had something to do."""
_LONG_YIELD: Final = 20_000
"""Nanoseconds; if yielding takes longer, others used the processor."""
_HIT: Final = 1
"""What packets that come during a poll add to the score."""
_MISS: Final = -1
"""What the end of a poll adds: the time since its last packets was spent in vain."""
_TAKEN: Final = -2
"""The same, if the processor was wanted by others."""
_BEST: Final = 16
"""The highest score."""
_WORST: Final = -4
"""The lowest score with which each turn is followed by a poll."""
_FEWEST_SKIPPED: Final = 16
"""Turns without a poll after the first score below that; twice as many each further time."""
_MOST_SKIPPED: Final = 1024


class BusyPoll:
    """Keeps an event loop awake for a short time after the turns of one endpoint.

    A loop that sleeps takes a while to wake up, often longer than the peer takes to answer. During
    a poll, the loop looks at all its sockets without waiting, turn after turn, because there is
    always one more callback. So everything else of the loop is served as usual: callbacks, timers
    and other sockets do not wait for a poll.

    Each idle turn of a poll offers the processor to other threads and processes; if they take it,
    the poll ends: with a processor that is awake, waking up is cheap. After a turn in which the
    loop had work, nothing is offered, because that work would wait for them.

    Polls continue while they pay, as a score tells: packets that come during a poll raise it, and
    each end of a poll lowers it. If it gets too low, turns are skipped, more and more of them,
    until polls are successful again.

    Args:
        loop: The event loop of the endpoint.
        microseconds: How long one poll takes, from the last turn of the endpoint.
    """

    __slots__ = (
        "_deadline",
        "_handle",
        "_last",
        "_longer",
        "_loop",
        "_score",
        "_skip",
        "_span",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, microseconds: int) -> None:
        self._loop: Final = loop
        self._span: Final = microseconds * 1000
        self._handle: asyncio.Handle | None = None  # of the poll that runs
        self._deadline = 0
        self._last = 0  # when the last turn of the poll ended
        self._score = 0
        self._skip = 0  # turns that are not followed by a poll
        self._longer = _FEWEST_SKIPPED  # how many the next time

    @property
    def is_active(self) -> bool:
        """The loop does not sleep now."""
        return self._handle is not None

    def received(self) -> None:
        """The endpoint received packets, which others may follow soon."""
        if self._handle is not None:
            self._score = min(self._score + _HIT, _BEST)
            if self._score > 0:
                self._longer = _FEWEST_SKIPPED
        self._go_on()

    def sent(self) -> None:
        """The endpoint sent packets, which its peer may answer soon."""
        self._go_on()

    def close(self) -> None:
        """Stop. Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _go_on(self) -> None:
        """Begin a poll, or let the present one begin again."""
        if self._handle is None:
            if self._skip:
                self._skip -= 1
                return
            self._last = time.monotonic_ns()
            self._handle = self._loop.call_soon(self._turn)
            self._deadline = self._last + self._span
        else:
            self._deadline = time.monotonic_ns() + self._span

    def _turn(self) -> None:
        now = time.monotonic_ns()
        if now >= self._deadline:
            self._end(_MISS)
            return
        if now - self._last < _IDLE_TURN:
            os.sched_yield()
            before, now = now, time.monotonic_ns()
            if now - before > _LONG_YIELD:
                self._end(_TAKEN)
                return
        self._last = now
        self._handle = self._loop.call_soon(self._turn)

    def _end(self, points: int) -> None:
        self._handle = None
        self._score += points
        if self._score < _WORST:
            self._score = _WORST  # the next poll decides
            self._skip = self._longer
            self._longer = min(2 * self._longer, _MOST_SKIPPED)
