"""Work on behalf of peers, in slices: a turn of the event loop belongs to everybody."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import ClassVar, Final, Protocol, TypeAlias, TypeVar

from . import _clock as clock

__all__ = ["SLICE", "Turns", "finish", "for_each"]

_T = TypeVar("_T")
_Work: TypeAlias = "Callable[[], object] | asyncio.Future[None]"

SLICE: Final = 0.002
"""Seconds of one turn of the event loop that may go to work which can wait."""

_SLICE_NS: Final = int(SLICE * 1e9)
_STEP: Final = 8
"""How many items are worked off between two questions."""
_WOKEN: Final = 32
"""Coroutines that may be woken in one turn: all of them take their step in the next one."""
_MOST_OWED: Final = 16
"""Turns that are left to others after the longest work."""


class _Line:
    """The work that waits for a later turn of one event loop: peer by peer, in turn."""

    __slots__ = ("__weakref__", "_deadline", "_loop", "_owed", "_peers", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak, because the table of all loops would keep this loop alive.
        self._loop: Final = weakref.ref(loop)
        self._deadline = 0  # of the slice; 0: no slice was begun in this turn
        self._peers: deque[Turns] = deque()  # those with waiting work
        self._woken = 0  # coroutines, in this turn
        self._owed = 0  # turns without a slice for waiting work

    def is_over(self, slices: int = 1) -> bool:
        now = clock.monotonic_ns()
        if self._deadline:
            end = self._deadline + (slices - 1) * _SLICE_NS
            return now >= end or self._woken >= _WOKEN
        self._begin(now)
        return False

    def count(self) -> int:
        return sum(len(peer._work) for peer in self._peers if peer._work is not None)

    def woke(self, count: int) -> None:
        if not self._deadline:
            self._begin(clock.monotonic_ns())
        self._woken += count

    def took(self, nanoseconds: int) -> None:
        if not self._deadline:
            self._begin(clock.monotonic_ns())
        owed = nanoseconds // _SLICE_NS - 1
        if owed > self._owed:
            self._owed = min(owed, _MOST_OWED)

    def put_off(self, peer: Turns, work: _Work) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            # There is no later turn; what waits for one would keep its connection.
            self.clear()
            return
        if not self._deadline:
            self._begin(clock.monotonic_ns())
        if peer._work is None:
            # Created when needed: an empty deque takes more than 600 bytes per connection.
            peer._work = deque()
            self._peers.append(peer)
        peer._work.append(work)

    def go_on(self) -> None:
        """A coroutine that waited continues now."""
        # Its slice begins here, later in the turn than the call that woke it.
        if self._deadline:
            self._deadline = clock.monotonic_ns() + _SLICE_NS
        else:
            self._begin(clock.monotonic_ns())

    def clear(self) -> None:
        for peer in self._peers:
            peer._work = None
        self._peers.clear()

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
            # What is put off again now is for the turn after this one.
            for done in range(self.count()):
                if done and self.is_over():
                    break
                work = self._take()
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

    def _take(self) -> _Work:
        """Return the next work of the first peer, which then goes behind the others."""
        peer = self._peers.popleft()
        waiting = peer._work
        assert waiting is not None
        work = waiting.popleft()
        if waiting:
            self._peers.append(peer)
        else:
            peer._work = None
        return work


class Turns:
    """Shares the turns of one event loop among all work that peers can make long.

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

    __slots__ = ("__weakref__", "_line", "_work")

    _all: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self, line: _Line) -> None:
        self._line: Final = line
        self._work: deque[_Work] | None = None

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop | None = None) -> Turns:
        """Return the object of an event loop, for work that belongs to no peer.

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
                cls._all.pop(one)._line.clear()
            turns = cls._all[loop] = cls(_Line(loop))
        return turns

    def for_peer(self) -> Turns:
        """Return a new object of the same event loop, for the work of one peer."""
        return type(self)(self._line)

    @property
    def is_over(self) -> bool:
        """The slice of this turn is used up; the first question begins it."""
        return self._line.is_over()

    @property
    def waiting(self) -> int:
        """How many pieces of work wait, those of all peers of the event loop together."""
        return self._line.count()

    def woke(self, count: int = 1) -> None:
        """Coroutines were woken: what they do next counts, too."""
        self._line.woke(count)

    def took(self, nanoseconds: int) -> None:
        """Work that cannot be interrupted, such as a parser's, took so long.

        For each slice beyond the first one, what was put off leaves a turn to others: somebody
        whose packets pass through several turns does not wait in each of them.
        """
        self._line.took(nanoseconds)

    def later(self, work: Callable[[], object]) -> None:
        """Go on with ``work`` in a later turn, behind what was put off before.

        Dropped when the event loop is closed.
        """
        self._line.put_off(self, work)

    async def pause(self, slices: int = 1) -> None:
        """Wait for a later turn, if the slice of this one is used up.

        Args:
            slices: How many slices to use up first, for work that is seldom longer and that a
                pause makes more expensive.

        Cancellation:
            Safe.
        """
        if not self._line.is_over(slices):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.put_off(self, future)
        await future
        self._line.go_on()


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
