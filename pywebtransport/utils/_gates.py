"""Limits that several users share, each with a first-come, first-served queue."""

from __future__ import annotations

import asyncio
import builtins
import itertools
from collections.abc import Callable, Hashable, Iterable
from heapq import heapify, heappop, heappush
from typing import TypeVar

from ._waiters import require_loop, running_loop

__all__ = ["ONLY", "Gates", "TooLate"]

_ItemT = TypeVar("_ItemT")

ONLY = "only"
"""The key if there is only one limit."""

# Coroutines that are told to try at a time: enough to keep a turn of the loop busy.
_MOST_TRYING = 64
# Most coroutines ahead that are counted for an error, so that a long queue costs little.
_MOST_COUNTED = 1000

_numbers = itertools.count()


class TooLate(builtins.TimeoutError):
    """The timeout of a waiting call has passed.

    Attributes:
        gate: Where it waited.
        ahead: How many calls were ahead of it; at most 1,000 are counted.
        waiting: How many others wait there.
    """

    def __init__(self, gate: Hashable, ahead: int, waiting: int) -> None:
        super().__init__()
        self.gate = gate
        self.ahead = ahead
        self.waiting = waiting


class _Place:
    """The turn of one coroutine: its number, which it keeps, and how it is told to try."""

    __slots__ = ("future", "number", "owner")

    def __init__(self, future: asyncio.Future[bool | Exception], owner: object) -> None:
        self.number = next(_numbers)
        self.future = future
        self.owner = owner


class _Gate:
    """The coroutines that wait at one limit."""

    __slots__ = ("heap", "trying", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, _Place] = {}
        self.trying: dict[int, _Place] = {}
        # Numbers of the waiting ones, the lowest first, and of some that left.
        self.heap: list[int] = []

    def add(self, place: _Place) -> None:
        self.waiting[place.number] = place
        heappush(self.heap, place.number)

    def remove(self, number: int) -> None:
        if self.waiting.pop(number, None) is not None and len(self.heap) > 64 + 2 * len(
            self.waiting
        ):
            self.heap = list(self.waiting)
            heapify(self.heap)

    def first(self) -> int | None:
        """Number of the one that waits longest."""
        heap = self.heap
        while heap and heap[0] not in self.waiting:
            heappop(heap)
        return heap[0] if heap else None

    def tell(self, count: int) -> None:
        """Let the first ones try."""
        while count > 0 and len(self.trying) < _MOST_TRYING:
            number = self.first()
            if number is None:
                return
            heappop(self.heap)
            place = self.waiting.pop(number)
            if not place.future.done():  # otherwise it gives up in this turn
                self.trying[number] = place
                place.future.set_result(True)
                count -= 1

    def is_turn_of(self, number: int) -> bool:
        """Whether no earlier caller waits or is about to try."""
        first = self.first()
        return (first is None or first > number) and min(self.trying) == number


class Gates:
    """Limits by key, with the coroutines that wait at each: first come, first served.

    An operation may have to pass several limits, each shared with different others: opening a
    stream passes the limits of its session and of its connection. A caller that finds one closed
    waits there, in the order of arrival, and keeps its place at the next closed one. Nobody passes
    while another caller waits at a limit that both have to pass, or was told to try and has not
    continued yet.

    Nothing is reserved for a waiting caller: it is told to try when it is its turn. So there is
    nothing to give back if it is cancelled at that moment; the next one is told.
    """

    __slots__ = ("_gates", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Create gates at which nobody waits.

        Args:
            loop: The event loop they belong to. None: the running one, or else that of the first
                caller that waits.
        """
        self._gates: dict[Hashable, _Gate] = {}  # those with waiting tasks
        self._loop = running_loop() if loop is None else loop

    def __bool__(self) -> bool:
        return bool(self._gates)

    def waiting(self, key: Hashable) -> int:
        """How many callers wait at a limit."""
        gate = self._gates.get(key)
        return 0 if gate is None else len(gate.waiting) + len(gate.trying)

    def held(self, keys: Iterable[Hashable]) -> Hashable | None:
        """Return one of ``keys`` at which others wait; None if there is none: then try."""
        gates = self._gates
        for key in keys:
            if key in gates:
                return key
        return None

    def open(self, key: Hashable) -> None:
        """There may be room at a limit: let the longest waiting caller try."""
        gate = self._gates.get(key)
        if gate is None:
            return
        first = gate.first()
        if first is not None and (not gate.trying or first < min(gate.trying)):
            gate.tell(1)
            self._tidy(key, gate)

    def fail(self, owner: object, error: Callable[[], Exception]) -> None:
        """Let all callers that wait for one owner continue with an error.

        Callers that were told to try do so: their attempt has to fail.

        Args:
            owner: As given to ``wait``.
            error: Creates the error of each caller.
        """
        for gate in self._gates.values():
            for place in gate.waiting.values():
                if place.owner is owner and not place.future.done():
                    place.future.set_result(error())

    async def wait(
        self,
        key: Hashable,
        owner: object,
        attempt: Callable[[], _ItemT | None],
        closed: Callable[[], Hashable] | None = None,
        timeout: float | None = None,
    ) -> _ItemT:
        """Wait at a limit, and at the next one, until ``attempt`` returns something.

        Args:
            key: The result of ``held``, or the limit that was found closed.
            owner: The object whose end makes waiting pointless; see ``fail``.
            attempt: Takes what is wanted, or returns None if a limit is closed. An exception ends
                the waiting.
            closed: Returns the key of the limit after ``attempt`` returned None. None: there is
                only one.
            timeout: Seconds; None waits without limit.

        Raises:
            TooLate: The timeout has passed.
            ConfigurationError: The caller runs on another event loop.
            Exception: The error that was passed to ``fail``.

        Cancellation: safe; nothing was taken.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            require_loop(self._loop, loop)
            self._loop = loop
        place = _Place(loop.create_future(), owner)
        deadline = None if timeout is None else loop.time() + timeout
        gate = self._join(key, place)
        try:
            while True:
                timer = None if deadline is None else loop.call_at(deadline, _expire, place.future)
                try:
                    told = await place.future
                finally:
                    if timer is not None:
                        timer.cancel()
                if isinstance(told, Exception):
                    raise told
                if not told:
                    raise self._too_late(key, gate, place)
                place.future = loop.create_future()
                if gate.is_turn_of(place.number):
                    item = attempt()
                    if item is not None:
                        # There may be more room.
                        del gate.trying[place.number]
                        gate.tell(2)
                        return item
                    del gate.trying[place.number]
                    other = key if closed is None else closed()
                    if other != key:
                        self._move_on(key, gate)
                        key = other
                        gate = self._join(key, place)
                        continue
                else:
                    del gate.trying[place.number]
                gate.add(place)
        finally:
            if gate.trying.pop(place.number, None) is not None:
                self._move_on(key, gate)  # it was told to try, and did not
            gate.remove(place.number)
            self._tidy(key, gate)

    def _join(self, key: Hashable, place: _Place) -> _Gate:
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = _Gate()
        gate.add(place)
        return gate

    def _move_on(self, key: Hashable, gate: _Gate) -> None:
        """A caller left without trying, or moved to another limit: let the next one try."""
        self.open(key)
        self._tidy(key, gate)

    def _tidy(self, key: Hashable, gate: _Gate) -> None:
        if not gate.waiting and not gate.trying and self._gates.get(key) is gate:
            del self._gates[key]

    def _too_late(self, key: Hashable, gate: _Gate, place: _Place) -> TooLate:
        ahead = 0
        for number in itertools.chain(gate.trying, gate.waiting):
            ahead += number < place.number
            if ahead >= _MOST_COUNTED:
                break
        others = len(gate.waiting) + len(gate.trying) - (place.number in gate.waiting)
        return TooLate(key, ahead, others)


def _expire(future: asyncio.Future[bool | Exception]) -> None:
    if not future.done():
        future.set_result(False)
