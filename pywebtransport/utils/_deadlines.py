"""Time limits that are rarely reached, with one timer of the event loop for all of them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Final

__all__ = ["Deadline", "Deadlines"]


class Deadline:
    """One time limit, as ``Deadlines.call_later`` returns it."""

    __slots__ = ("_args", "_callback", "_group", "_handle", "_owner", "_when")

    def __init__(
        self,
        owner: Deadlines,
        group: dict[Deadline, None],
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
    ) -> None:
        self._owner = owner
        self._group = group
        self._when = when
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._handle: asyncio.Handle | None = None

    def cancel(self) -> None:
        """Do not call the function any more. Idempotent."""
        group = self._group
        if self in group:
            del group[self]
            self._callback, self._args = None, ()
            if not group:
                self._owner._group_is_empty()
        elif self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Deadlines:
    """The time limits of one event loop.

    Each connection has several limits of the same few lengths, and nearly all of them are
    cancelled within milliseconds. A timer of asyncio for each would cost more than what it
    guards. Here, limits of one length are kept in their order, and the loop has one timer. It
    stays when the limit that it was set for is cancelled: it fires once, and finds the next one.
    Without any limit there is no timer.

    There is one for each loop, see :meth:`of`.
    """

    __slots__ = ("__weakref__", "_groups", "_loop", "_timer", "_timer_at")

    _all: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak: the table of all loops would else keep this one for ever.
        self._loop: Final = weakref.ref(loop)
        self._groups: dict[float, dict[Deadline, None]] = {}  # by length
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Deadlines:
        """The one of an event loop."""
        deadlines = cls._all.get(loop)
        if deadlines is None:
            deadlines = cls._all[loop] = cls(loop)
        return deadlines

    def call_later(
        self, delay: float, callback: Callable[..., object], /, *args: Any
    ) -> Deadline | asyncio.Handle:
        """As ``loop.call_later``."""
        loop = self._loop()
        assert loop is not None  # it runs
        if delay <= 0:
            return loop.call_soon(callback, *args)
        group = self._groups.get(delay)
        if group is None:
            group = self._groups[delay] = {}
        when = loop.time() + delay
        deadline = Deadline(self, group, when, callback, args)
        group[deadline] = None
        if self._timer is None or when < self._timer_at:
            self._arm(loop, when)
        return deadline

    def _group_is_empty(self) -> None:
        if self._timer is not None and not any(self._groups.values()):
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(when, self._fire)
        self._timer_at = when

    def _fire(self) -> None:
        loop = self._loop()
        assert loop is not None
        self._timer = None
        # A loop may call a little early, by the resolution of its clock.
        now = max(loop.time(), self._timer_at)
        due: list[Deadline] = []
        following: list[float] = []
        for delay, group in list(self._groups.items()):
            passed = 0
            for deadline in group:
                if deadline._when > now:
                    following.append(deadline._when)
                    break
                due.append(deadline)
                passed += 1
            if passed == len(group):
                del self._groups[delay]
            for deadline in due[len(due) - passed :]:
                del group[deadline]
        due.sort(key=_when)
        for deadline in due:
            # By the loop: it reports exceptions, and the others are called anyway.
            assert deadline._callback is not None
            deadline._handle = loop.call_soon(deadline._callback, *deadline._args)
            deadline._callback, deadline._args = None, ()
        if following:
            self._arm(loop, min(following))


def _when(deadline: Deadline) -> float:
    return deadline._when
