"""What all pools do: lend, take back, let callers wait in order, expire, end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from enum import Enum, auto
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from .._states import EventType
from ..exceptions import TimeoutError
from .slots import Slots

if TYPE_CHECKING:
    from ..events import Event

__all__ = ["Leaving", "Lender"]


class _Lent(Hashable, Protocol):
    """What a pool needs to know of the objects that it lends."""

    def add_watcher(self, event_type: EventType, watcher: Callable[[Event], object], /) -> None: ...

    def remove_watcher(
        self, event_type: EventType, watcher: Callable[[Event], object], /
    ) -> None: ...


KeyT = TypeVar("KeyT", bound=Hashable)
ItemT = TypeVar("ItemT", bound=_Lent)


class Leaving(Enum):
    """Why an item leaves a pool."""

    ENDED = auto()
    """It ended while it was idle."""

    LOST = auto()
    """It ended while it was lent."""

    EXPIRED = auto()
    """It was idle for too long."""

    UNFIT = auto()
    """It cannot be lent again."""


class _Shelf(Generic[KeyT, ItemT]):
    """The items of one key."""

    __slots__ = ("idle", "key", "slots")

    def __init__(self, key: KeyT, size: int) -> None:
        self.key = key
        self.idle: list[ItemT] = []  # the one that came back last is at the end
        self.slots = Slots(size)  # taken: one per item that is lent or being created


class Lender(Generic[KeyT, ItemT]):
    """Lends items to one borrower at a time and keeps those that come back.

    Items are kept by key, at most ``size`` of each. When all of a key are lent, callers wait
    in the order in which they came. The item that came back last is lent first, so that those
    that are not needed are idle long enough to expire. An item that ends leaves at once.

    Attributes:
        size: Items per key, idle or lent.
        idle: Items that nobody has, in the order in which they came back, with their keys.
        lent: Items that somebody has, with their keys.
        closed: ``close`` was called.
    """

    def __init__(
        self,
        size: int,
        *,
        noun: str,
        size_name: str,
        ending: EventType,
        left: Callable[[ItemT, KeyT, Leaving], None],
        closed_error: Callable[[], Exception],
        max_idle_time: float | None = None,
    ) -> None:
        """A lender without items.

        Args:
            size: Items per key, idle or lent.
            noun: What the items are, in messages.
            size_name: The parameter of the pool that sets ``size``, in messages.
            ending: The event with which an item tells its end.
            left: Called when an item has left the pool, before its place is free.
            closed_error: Makes the error for callers of a closed pool.
            max_idle_time: Seconds after which an idle item leaves; None: it stays.
        """
        self.size = size
        self.idle: dict[ItemT, KeyT] = {}
        self.lent: dict[ItemT, KeyT] = {}
        self.closed = False
        self._noun = noun
        self._size_name = size_name
        self._ending = ending
        self._left = left
        self._closed_error = closed_error
        self._max_idle_time = max_idle_time
        self._shelves: dict[KeyT, _Shelf[KeyT, ItemT]] = {}
        # Until when each idle item stays. All stay equally long: the first one goes first.
        self._deadlines: dict[ItemT, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def items(self) -> tuple[ItemT, ...]:
        """All items, idle or lent."""
        return (*self.idle, *self.lent)

    @property
    def keys(self) -> int:
        """How many keys have items or callers."""
        return len(self._shelves)

    @property
    def in_use(self) -> int:
        """How many items are lent or being created."""
        return sum(shelf.slots.count - shelf.slots.free for shelf in self._shelves.values())

    @property
    def waiting(self) -> int:
        """How many callers wait for an item."""
        return sum(shelf.slots.count_waiting() for shelf in self._shelves.values())

    def require_open(self) -> None:
        """Raise the error for callers of a closed pool, if it is closed."""
        if self.closed:
            raise self._closed_error()

    async def lend(
        self,
        key: KeyT,
        timeout: float,
        *,
        where: str,
        limit: str,
        reuse: Callable[[ItemT], bool],
        create: Callable[[], Awaitable[ItemT]],
    ) -> ItemT:
        """Lend an item: one that came back, or else a new one.

        Args:
            key: Of the item.
            timeout: Seconds to wait for an item of the pool at most.
            where: Follows the noun in the message of a timeout.
            limit: The timeout in that message.
            reuse: Says whether an idle item can be lent; what it raises passes, and the
                item stays.
            create: Makes a new item.

        Raises:
            TimeoutError: All stayed in use.
            Exception: The pool is closed; what ``reuse`` and ``create`` raise.

        Cancellation: safe; no item and no place in the pool is lost.
        """
        self.require_open()
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = _Shelf(key, self.size)
        try:
            if not await shelf.slots.acquire(timeout):
                raise TimeoutError(
                    f"all {self.size} {self._noun}s {where} stayed in use for {limit} s; "
                    f"return them, or raise {self._size_name}",
                    timeout_duration=timeout,
                    operation=f"wait for a pooled {self._noun}",
                )
            try:
                item = self._take_idle(shelf, reuse)
                if item is None:
                    item = await create()
                    item.add_watcher(self._ending, self._item_ended)
                    if self.closed:
                        self._leave(item, key, Leaving.UNFIT)
                        raise self._closed_error()
            except BaseException:
                shelf.slots.release()
                raise
        except BaseException:
            self._tidy(shelf)
            raise
        self.lent[item] = key
        return item

    def give_back(self, item: ItemT, *, fit: bool) -> None:
        """Take back an item that is lent.

        Args:
            item: One of ``lent``.
            fit: It can be lent again; otherwise it leaves.
        """
        key = self.lent.pop(item)
        shelf = self._shelves[key]
        if fit:
            self.idle[item] = key
            shelf.idle.append(item)
            if self._max_idle_time is not None:
                now = asyncio.get_running_loop().time()
                self._deadlines[item] = now + self._max_idle_time
                self._arm()
        else:
            self._leave(item, key, Leaving.UNFIT)
        shelf.slots.release()
        self._tidy(shelf)

    def remove(self, item: ItemT, why: Leaving = Leaving.UNFIT) -> None:
        """Let an item leave, idle or lent; one that is not in the pool is left alone."""
        was_lent = item in self.lent
        if not was_lent and item not in self.idle:
            return
        key = self.lent.pop(item) if was_lent else self.idle[item]
        shelf = self._shelves[key]
        if not was_lent:
            self._unshelve(item, shelf)
        self._leave(item, key, why)
        if was_lent:
            shelf.slots.release()
        self._tidy(shelf)

    def fail(self, error: Callable[[], Exception]) -> None:
        """Let every caller who waits go on with an error of its own.

        Args:
            error: Makes one.
        """
        for shelf in self._shelves.values():
            shelf.slots.fail(error)

    def close(self) -> None:
        """Lend nothing any more; callers who wait get ``closed_error``. Idempotent.

        The items stay, without a timer: ending them is up to the pool.
        """
        self.closed = True
        self._disarm()
        self.fail(self._closed_error)

    # ------------------------------------------------------------------ internal

    def _take_idle(
        self, shelf: _Shelf[KeyT, ItemT], reuse: Callable[[ItemT], bool]
    ) -> ItemT | None:
        while shelf.idle:
            item = shelf.idle[-1]
            is_fit = reuse(item)
            if item in self.idle:
                self._unshelve(item, shelf)
                if is_fit:
                    return item
                self._leave(item, shelf.key, Leaving.UNFIT)
        return None

    def _unshelve(self, item: ItemT, shelf: _Shelf[KeyT, ItemT]) -> None:
        del self.idle[item]
        shelf.idle.remove(item)
        self._deadlines.pop(item, None)
        if not self._deadlines:
            self._disarm()

    def _leave(self, item: ItemT, key: KeyT, why: Leaving) -> None:
        item.remove_watcher(self._ending, self._item_ended)
        self._left(item, key, why)

    def _item_ended(self, event: Event) -> None:
        item: ItemT = event.source  # type: ignore[assignment]
        self.remove(item, Leaving.LOST if item in self.lent else Leaving.ENDED)

    def _tidy(self, shelf: _Shelf[KeyT, ItemT]) -> None:
        """Forget a key that nobody uses."""
        # A caller that gives up late may find that others have begun anew.
        if not shelf.idle and shelf.slots.unused and self._shelves.get(shelf.key) is shelf:
            del self._shelves[shelf.key]

    def _arm(self) -> None:
        """Have one timer, for the item that goes first."""
        if self._timer is None and self._deadlines and not self.closed:
            deadline = next(iter(self._deadlines.values()))
            self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """Let the items go that were idle for too long."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._deadlines:
            item, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                break
            self.remove(item, Leaving.EXPIRED)
        self._arm()
