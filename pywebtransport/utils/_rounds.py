"""Does something for each of many, such as subscribers of a topic or handlers of an event."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ._turns import Turns

__all__ = ["Round", "Rounds"]

_STEP = 8
"""How many are served between two checks of the clock."""


class Round:
    """An action for each of some items; await it to wait for its end.

    Cancellation: safe; it continues anyway.
    """

    __slots__ = ("_action", "_future", "_items", "is_over")

    def __init__(self, items: Iterable[Any], action: Callable[[Any], object]) -> None:
        self._items: Final[Iterator[Any]] = iter(items)
        self._action: Final = action
        self._future: asyncio.Future[None] | None = None
        self.is_over = False

    def when_over(self, callback: Callable[[], object]) -> None:
        """Call back when all have been served: at once if they have."""
        if self.is_over:
            callback()
        else:
            self._get_future().add_done_callback(lambda _: callback())

    async def wait(self) -> None:
        """Wait until all have been served."""
        if not self.is_over:
            # A waiting caller that is cancelled does not cancel it for others.
            await asyncio.shield(self._get_future())

    def _get_future(self) -> asyncio.Future[None]:
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future

    def _serve(self, turns: Turns) -> bool:
        """Serve the next ones; False if the time of this turn is used up before the end."""
        action = self._action
        for count, item in enumerate(self._items, 1):
            action(item)
            if count % _STEP == 0 and turns.is_over:
                return False
        self.is_over = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
        return True


class Rounds:
    """Rounds that run one after the other, so that all see them in the order of their begin.

    A short one is finished when :meth:`begin` returns. A long one continues in later turns of the
    event loop, a slice at a time, and rounds that begin meanwhile wait for it.
    """

    __slots__ = ("_busy", "_rounds")

    def __init__(self) -> None:
        self._rounds: deque[Round] = deque()
        self._busy = False

    def __len__(self) -> int:
        """Number of rounds that are not finished."""
        return len(self._rounds)

    def begin(self, items: Iterable[Any], action: Callable[[Any], object]) -> Round:
        """Call ``action`` for each of ``items``.

        Args:
            items: Iterated over, perhaps later if there are many: unless it is a snapshot, it must
                not change meanwhile.
            action: Must not raise.
        """
        new = Round(items, action)
        self._rounds.append(new)
        if not self._busy:
            self._go_on()
        return new

    def _go_on(self) -> None:
        turns = Turns.of()
        self._busy = True
        while self._rounds:
            try:
                is_over = self._rounds[0]._serve(turns)
            except BaseException:
                # It must not raise, but if it does, only this one fails.
                turns.later(self._go_on)
                raise
            if not is_over:
                turns.later(self._go_on)
                return
            self._rounds.popleft()
        self._busy = False
