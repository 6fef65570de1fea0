"""Limits on the work that a peer can cause: in one turn, and without any use.

The owner of the event loop limits the work of a turn, see :class:`Turns`. Items that carry
nothing (empty or unknown frames and capsules, needless limits, cancelled requests) are counted.
The count falls with time. If a peer makes it grow beyond the limit, the connection is closed
with H3_EXCESSIVE_LOAD.
"""

from __future__ import annotations

from typing import Final, Protocol

from .._transport import CallLater, TimerHandle, Turns
from ._constants import H3Error
from ._errors import H3ConnectionError

__all__ = ["Load"]

_FREE: Final = 7  # items between two readings of the clock, minus one
_SMALL: Final = 32  # bytes of a DATA frame that is hardly more than its header
_PERIOD: Final = 1.0
# An honest peer has a few (GREASE, a limit that is announced twice): no timer for those.
_FEW: Final = 64
# Items handled without checking the time when the connection has ended.
_LAST: Final = 256


class _Limits(Protocol):
    @property
    def max_idle_items(self) -> int: ...
    @property
    def idle_items_per_second(self) -> int: ...


class Load:
    """The load of one connection.

    Args:
        options: Limits on useless items.
        call_later: Lets the count fall with time.
        turns: Tells when other work gets its turn.
    """

    __slots__ = (
        "_call_later",
        "_count",
        "_is_small",
        "_last",
        "_limit",
        "_per_second",
        "_timer",
        "later",
        "turns",
    )

    def __init__(self, options: _Limits, call_later: CallLater, turns: Turns) -> None:
        self._call_later = call_later
        self._limit = options.max_idle_items
        self._per_second = options.idle_items_per_second
        self._count = 0
        self._is_small = False
        self._last = 0
        self._timer: TimerHandle | None = None
        self.turns = turns
        self.later = turns.later

    def is_over(self, done: int) -> bool:
        """Return whether the rest has to wait for a later turn; call it after each item.

        Args:
            done: Items handled since the caller was called, 1 or more.
        """
        if done & _FREE:
            return False
        if self._last:
            self._last -= 1
            return self._last == 0
        return self.turns.is_over

    def idle(self, reason: str, items: int = 1) -> None:
        """Count something that carries nothing.

        Args:
            reason: A description for the peer, used if this exceeds the limit.
            items: How much it counts.

        Raises:
            H3ConnectionError: H3_EXCESSIVE_LOAD.
        """
        self._count = count = self._count + items
        if count > _FEW and self._timer is None:
            if count > self._limit:
                raise self.excessive(reason)
            self._timer = self._call_later(_PERIOD, self._fall)
        elif count > self._limit:
            raise self.excessive(reason)

    def data_frame(self, size: int) -> None:
        """A DATA frame, or a piece of it, arrived; a small frame has to carry something useful.

        Args:
            size: Size of the frame in bytes; -1 for a later piece of it.

        Raises:
            H3ConnectionError: as :meth:`idle`.
        """
        if size < 0:
            return
        self._is_small = size < _SMALL
        if self._is_small:
            self.idle("frames that carry nothing")

    def useful(self) -> None:
        """The last DATA frame carried something useful."""
        if self._is_small:
            self._is_small = False
            self._count -= 1

    def hurry(self) -> None:
        """The connection has ended: handle postponed work now, up to a limit."""
        self._last = _LAST // (_FREE + 1)

    def close(self) -> None:
        """The connection has ended: nothing arrives any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def excessive(self, reason: str) -> Exception:
        """Return the error for a peer that exceeds the limit."""
        return H3ConnectionError(H3Error.EXCESSIVE_LOAD, f"too many {reason}")

    def _fall(self) -> None:
        self._timer = None
        self._count = max(0, self._count - self._per_second)
        if self._count > _FEW:
            self._timer = self._call_later(_PERIOD, self._fall)
