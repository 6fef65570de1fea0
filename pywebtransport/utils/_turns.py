"""Work on behalf of peers, in slices: a turn of the event loop belongs to everybody."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import ClassVar, Final, Protocol, TypeVar

from . import _clock as clock

__all__ = ["SLICE", "STEP_SLICE", "Turns", "finish", "for_each"]

_T = TypeVar("_T")

SLICE: Final = 0.0005
"""Seconds of one turn of the event loop that may go to work which can wait."""
STEP_SLICE: Final = 4 * SLICE
"""Seconds of a coroutine that goes on after a pause.

As long as what an endpoint with a single connection hands over in a turn: with less, large messages
would arrive faster than they are decoded.
"""

_SLICE_NS: Final = int(SLICE * 1e9)
_STEP: Final = 8
"""How many items are worked off between two questions."""
_WOKEN: Final = 32
"""Coroutines that may be woken in one turn: all of them take their step in the next one."""
_MOST_OWED: Final = 16
"""Turns that are left to others after the longest work."""


class Turns:
    """Shares the turns of one event loop among all work that peers can make long.

    There is one for each loop, see :meth:`of`.

    Whoever works off what a peer sent (frames, capsules, messages, a list of subscribers) asks
    :attr:`is_over` from time to time. Once it is True, the rest is left to :meth:`later`, or, in
    a coroutine, to ``await pause()``. Such work goes on in the order in which it was put off, a
    slice in each turn, so that sockets and timers are looked at between two slices.

    A few items should be worked off before the first question (some tens of microseconds): who
    has little to do is then never put off behind those who have much.
    """

    __slots__ = ("__weakref__", "_deadline", "_loop", "_owed", "_waiting", "_woken")

    _all: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak: the table of all loops would else keep this one for ever.
        self._loop: Final = weakref.ref(loop)
        self._deadline = 0  # of the slice; 0: none was begun in this turn
        self._waiting: deque[Callable[[], object] | asyncio.Future[None]] = deque()
        self._woken = 0  # in this turn
        self._owed = 0  # turns that those who wait leave to others

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop | None = None) -> Turns:
        """The one of an event loop.

        Args:
            loop: None: the loop that runs in this thread.

        Raises:
            RuntimeError: ``loop`` is None and no loop runs.
        """
        if loop is None:
            loop = asyncio.get_running_loop()
        turns = cls._all.get(loop)
        if turns is None:
            # What waits refers to its loop, which would stay in the table after its end.
            for one in [one for one in cls._all if one.is_closed()]:
                cls._all.pop(one)._waiting.clear()
            turns = cls._all[loop] = cls(loop)
        return turns

    @property
    def is_over(self) -> bool:
        """The slice of this turn is used up; the first question begins it."""
        now = clock.monotonic_ns()
        if self._deadline:
            return now >= self._deadline or self._woken >= _WOKEN
        self._begin(now)
        return False

    @property
    def waiting(self) -> int:
        """How much work was put off."""
        return len(self._waiting)

    def woke(self, count: int = 1) -> None:
        """Coroutines were woken: what they do next counts, too."""
        if not self._deadline:
            self._begin(clock.monotonic_ns())
        self._woken += count

    def took(self, nanoseconds: int) -> None:
        """Work that cannot be interrupted, such as a parser's, took so long.

        For each step beyond the first one, what was put off leaves a turn to others: somebody
        whose packets pass through several turns does not wait in each of them.
        """
        if not self._deadline:
            self._begin(clock.monotonic_ns())
        owed = nanoseconds // (4 * _SLICE_NS) - 1
        if owed > self._owed:
            self._owed = min(owed, _MOST_OWED)

    def later(self, work: Callable[[], object]) -> None:
        """Go on with ``work`` in a later turn, behind what was put off before.

        Dropped when the event loop is closed.
        """
        self._put_off(work)

    async def pause(self) -> None:
        """Wait for a later turn, if the slice of this one is used up.

        Cancellation:
            Safe.
        """
        if not self.is_over:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put_off(future)
        await future
        # Its turn begins here: in another place than that of the call that woke it.
        now = clock.monotonic_ns()
        if not self._deadline:
            self._begin(now)
        if self._deadline:
            self._deadline = now + 4 * _SLICE_NS

    def _put_off(self, work: Callable[[], object] | asyncio.Future[None]) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            # There is no later turn; what waits for one would keep its connection.
            self._waiting.clear()
            return
        if not self._deadline:
            self._begin(clock.monotonic_ns())
        self._waiting.append(work)

    def _begin(self, now: int) -> None:
        self._woken = 0
        if self._schedule():
            self._deadline = now + _SLICE_NS

    def _schedule(self) -> bool:
        """Behind everything of this turn: the next one begins with it."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return False
        loop.call_soon(self._next_turn)
        return True

    def _next_turn(self) -> None:
        self._deadline = self._woken = 0
        waiting = self._waiting
        if not waiting:
            self._owed = 0  # others have had this turn
            return
        now = clock.monotonic_ns()
        if self._owed:
            self._owed -= 1
            if self._schedule():
                self._deadline = now  # there is no slice in this turn
            return
        self._deadline = now + _SLICE_NS
        try:
            # What is put off again now is for the turn after this one.
            for done in range(len(waiting)):
                if done and self.is_over:
                    break
                work = waiting.popleft()
                if not isinstance(work, asyncio.Future):
                    work()
                elif not work.done():
                    # The coroutine takes its step behind this call: it gets what is left.
                    work.set_result(None)
                    break
        finally:
            # Behind that step, after which it is known how long it took.
            if not self._schedule():
                self._deadline = 0


def finish(steps: Generator[None, None, _T]) -> _T:
    """Take all steps at once, and return what the generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: _T = end.value
            return value


class _Turns(Protocol):
    @property
    def is_over(self) -> bool: ...
    def later(self, work: Callable[[], object]) -> None: ...


def for_each(
    turns: _Turns,
    items: Iterable[_T],
    action: Callable[[_T], object],
    then: Callable[[], object] | None = None,
) -> bool:
    """Do something for each of many, a slice in each turn.

    Few are done before this returns.

    Args:
        turns: Of the event loop.
        items: Those that there are now; each is let go once it is done.
        action: Called with each. When it raises, the others have their turn later.
        then: Called once all were done.

    Returns:
        All were done; else the rest is for later turns.
    """
    return _go_on(turns, deque(items), action, then)


def _go_on(
    turns: _Turns,
    items: deque[_T],
    action: Callable[[_T], object],
    then: Callable[[], object] | None,
) -> bool:
    done = 0
    while items:
        if done == _STEP:
            done = 0
            if turns.is_over:
                turns.later(partial(_go_on, turns, items, action, then))
                return False
        done += 1
        try:
            action(items.popleft())
        except BaseException:
            turns.later(partial(_go_on, turns, items, action, then))
            raise
    if then is not None:
        then()
    return True
