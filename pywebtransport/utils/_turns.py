"""Splits work on behalf of peers into slices, so that all of them get turns of the event loop."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import ClassVar, Final, Protocol, TypeAlias, TypeVar

from . import _clock as clock

__all__ = ["SLICE", "STEP_SLICE", "Turns", "finish", "for_each"]

_T = TypeVar("_T")
_Work: TypeAlias = "Callable[[], object] | asyncio.Future[None]"

SLICE: Final = 0.0005
"""Seconds of a turn of the event loop for work that can be postponed."""
STEP_SLICE: Final = 4 * SLICE
"""Seconds of a coroutine that continues after a pause.

As long as what an endpoint with a single connection delivers in a turn. With less, large messages
would arrive faster than they are decoded.
"""

_SLICE_NS: Final = int(SLICE * 1e9)
_STEP_NS: Final = int(STEP_SLICE * 1e9)
_STEP: Final = 8
"""Items handled between two checks of ``is_over``."""
_WOKEN: Final = 32
"""Coroutines that may be woken in one turn: all of them run in the next turn."""
_MOST_OWED: Final = 16
"""Largest number of turns left to others after long work."""
_BEFORE_OWN: Final = 2
"""So many peers go before work that belongs to none, however many peers wait."""


class _Line:
    """The work that waits for a later turn of one event loop: peer by peer, in turn."""

    __slots__ = ("__weakref__", "_deadline", "_loop", "_owed", "_peers", "_woken", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak, because the table of all loops would keep this loop alive.
        self._loop: Final = weakref.ref(loop)
        self._deadline = 0  # of the slice; 0: no slice was begun in this turn
        self._peers: deque[Turns] = deque()  # those with waiting work
        self.waiting = 0  # pieces of work
        self._woken = 0  # coroutines, in this turn
        self._owed = 0  # turns without a slice for waiting work

    def is_over(self, slices: int = 1) -> bool:
        now = clock.monotonic_ns()
        if self._deadline:
            end = self._deadline + (slices - 1) * _SLICE_NS
            return now >= end or self._woken >= _WOKEN
        self._begin(now)
        return False

    def woke(self, count: int) -> None:
        if not self._deadline:
            self._begin(clock.monotonic_ns())
        self._woken += count

    def took(self, nanoseconds: int) -> None:
        if not self._deadline:
            self._begin(clock.monotonic_ns())
        owed = nanoseconds // _STEP_NS - 1
        if owed > self._owed:
            self._owed = min(owed, _MOST_OWED)

    def put_off(self, peer: Turns, work: _Work) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            # There is no later turn, and postponed work would keep its connection alive.
            self.clear()
            return
        if not self._deadline:
            self._begin(clock.monotonic_ns())
        if peer._work is None:
            # Created when needed: an empty deque takes more than 600 bytes per connection.
            peer._work = deque()
            self._line_up(peer)
        peer._work.append(work)
        self.waiting += 1

    def go_on(self, nanoseconds: int) -> None:
        """A coroutine that waited continues now, for so long."""
        # Its slice begins here, later in the turn than the call that woke it.
        now = clock.monotonic_ns()
        if not self._deadline:
            self._begin(now)
        if self._deadline:
            self._deadline = now + nanoseconds

    def clear(self) -> None:
        for peer in self._peers:
            peer._work = None
        self._peers.clear()
        self.waiting = 0

    def _begin(self, now: int) -> None:
        self._woken = 0
        if self._schedule():
            self._deadline = now + _SLICE_NS

    def _schedule(self) -> bool:
        """Run after everything in this turn, at the start of the next one."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return False
        loop.call_soon(self._next_turn)
        return True

    def _next_turn(self) -> None:
        self._deadline = self._woken = 0
        if not self._peers:
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
            # Work that is postponed again now runs in the turn after this one.
            for done in range(self.waiting):
                if done and self.is_over():
                    break
                work = self._take()
                if not isinstance(work, asyncio.Future):
                    work()
                elif not work.done():
                    # The coroutine runs after this call and gets the rest of the slice.
                    work.set_result(None)
                    break
        finally:
            # After that step, when its duration is known.
            if not self._schedule():
                self._deadline = 0

    def _take(self) -> _Work:
        """Return the next work of the first peer, which then goes behind the others."""
        peer = self._peers.popleft()
        waiting = peer._work
        assert waiting is not None
        work = waiting.popleft()
        self.waiting -= 1
        if waiting:
            self._line_up(peer)
        else:
            peer._work = None
        return work

    def _line_up(self, peer: Turns) -> None:
        if peer._is_own:
            self._peers.insert(_BEFORE_OWN, peer)
        else:
            self._peers.append(peer)


class Turns:
    """Shares the turns of an event loop among all work that peers can make long.

    Code that handles what a peer sent (frames, capsules, messages, a list of subscribers) checks
    :attr:`is_over` from time to time. Once it is True, pass the rest to :meth:`later`, or, in a
    coroutine, ``await pause()``. Such work continues for a slice of each turn, so that sockets and
    timers are served between two slices.

    Each connection has its own object, ``connection.turns``, and the event loop has one for work
    that belongs to no peer, see :meth:`of`. Objects with waiting work take turns, with one piece
    of work each, however much of it they have. The work of one object continues in the order in
    which it was put off.

    Handle a few items before the first check (some tens of microseconds). Then work that is short
    does not wait behind work that is long.
    """

    __slots__ = ("__weakref__", "_is_own", "_line", "_work")

    _all: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self, line: _Line, *, is_own: bool = False) -> None:
        self._line: Final = line
        self._is_own: Final = is_own
        self._work: deque[_Work] | None = None

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop | None = None) -> Turns:
        """Return the object of an event loop, for work that belongs to no peer.

        Args:
            loop: The event loop; None: the running one.

        Raises:
            RuntimeError: ``loop`` is None and no loop runs.
        """
        if loop is None:
            loop = asyncio.get_running_loop()
        turns = cls._all.get(loop)
        if turns is None:
            # Postponed work refers to its loop, which would stay in the table after its end.
            # Other threads add and remove loops meanwhile.
            for reference in cls._all.keyrefs():
                one = reference()
                ended = cls._all.pop(one, None) if one is not None and one.is_closed() else None
                if ended is not None:
                    ended._line.clear()
            turns = cls._all[loop] = cls(_Line(loop), is_own=True)
        return turns

    def for_peer(self) -> Turns:
        """Return a new object of the same event loop, for the work of one peer."""
        return type(self)(self._line)

    @property
    def is_over(self) -> bool:
        """Whether the slice of this turn is used up; the first check begins the slice."""
        return self._line.is_over()

    @property
    def waiting(self) -> int:
        """How many pieces of work wait, those of all peers of the event loop together."""
        return self._line.waiting

    def woke(self, count: int = 1) -> None:
        """Count woken coroutines: their next steps use time, too."""
        self._line.woke(count)

    def took(self, nanoseconds: int) -> None:
        """Count the time of work that cannot be interrupted, such as that of a parser.

        For each ``STEP_SLICE`` after the first one, postponed work leaves a turn to others. So a
        peer whose packets pass through several turns does not wait in each of them.
        """
        self._line.took(nanoseconds)

    def later(self, work: Callable[[], object]) -> None:
        """Call ``work`` in a later turn, after work that was postponed before.

        Dropped when the event loop is closed.
        """
        self._line.put_off(self, work)

    async def pause(self, slices: int = 1, *, small: bool = False) -> None:
        """Wait for a later turn, if the slice of this one is used up.

        Args:
            slices: How many slices to use up first, for work that is seldom longer and that a
                pause makes more expensive.
            small: The work consists of small pieces: it continues for ``SLICE`` after a pause,
                not for ``STEP_SLICE``.

        Cancellation:
            Safe.
        """
        if not self._line.is_over(slices):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.put_off(self, future)
        await future
        self._line.go_on(_SLICE_NS if small else _STEP_NS)


def finish(steps: Generator[None, None, _T]) -> _T:
    """Run all steps of a generator immediately, and return its result."""
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
    """Call a function for each of many items, with one slice in each turn.

    If they are few, all are done when this returns.

    Args:
        turns: Of the event loop.
        items: The items; each reference is dropped once the item is done.
        action: Called with each item. If it raises, the others follow later.
        then: Called once all are done.

    Returns:
        True if all are done; otherwise the rest is done in later turns.
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
