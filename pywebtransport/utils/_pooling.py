"""The common part of all pools: lends items, queues callers, and lets idle items expire."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from enum import Enum, auto
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from .._states import EventType
from ..exceptions import TimeoutError
from ._slots import Slots

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
        self.idle: list[ItemT] = []  # last returned item last
        self.slots = Slots(size)  # taken: one per item that is lent or being created


class Lender(Generic[KeyT, ItemT]):
    """Lends each item to one borrower at a time and keeps returned items.

    Items are kept by key, at most ``size`` per key. When all items of a key are in use, callers
    wait in order. The item that was returned last is lent first, so that items that are not needed
    stay idle long enough to expire. An item that ends is removed at once.

    Attributes:
        size: Items per key, idle or lent.
        idle: Items that are not in use, in the order in which they were returned.
        lent: Items in use.
        closed: Whether the pool is closed: it lends nothing any more.
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
        max_idle_time: float = math.inf,
    ) -> None:
        """Create a lender without items.

        Args:
            size: Items per key, idle or lent.
            noun: Name of the items in messages.
            size_name: Name of the pool's parameter for ``size``, in messages.
            ending: The event that an item emits when it ends.
            left: Called when an item has left the pool, before its slot is free.
            closed_error: Creates the exception for callers of a closed pool.
            max_idle_time: Seconds after which an idle item is removed.
        """
        self.size = size
        # Each with its expiry time. All have the same lifetime, so the first expires first.
        self.idle: dict[ItemT, tuple[_Shelf[KeyT, ItemT], float]] = {}
        self.lent: dict[ItemT, _Shelf[KeyT, ItemT]] = {}
        self.closed = False
        self._noun = noun
        self._size_name = size_name
        self._ending = ending
        self._left = left
        self._closed_error = closed_error
        self._max_idle_time = max_idle_time
        self._shelves: dict[KeyT, _Shelf[KeyT, ItemT]] = {}
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
        """Raise ``closed_error`` if the pool is closed."""
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
        """Lend an idle item, or else a new one.

        Args:
            key: Of the item.
            timeout: Longest wait for an item, in seconds.
            where: Text after the noun in the message of a timeout.
            limit: The timeout in that message.
            reuse: Returns whether an idle item can be lent; if it raises, the item stays idle.
            create: Creates a new item.

        Raises:
            TimeoutError: No item became free in time.
            Exception: ``closed_error``; what ``reuse`` and ``create`` raise.

        Cancellation: safe; no item and no slot in the pool is lost.
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
                self.require_open()  # it may have been closed meanwhile
                item = self._take_idle(shelf, reuse) or await self._create(shelf, create)
            except BaseException:
                shelf.slots.release()
                raise
        except BaseException:
            self._tidy(shelf)
            raise
        self.lent[item] = shelf
        return item

    def give_back(self, item: ItemT, *, fit: bool) -> None:
        """Take back a lent item; remove it if it is not fit to be lent again."""
        if not fit:
            self.remove(item)
            return
        shelf = self.lent.pop(item)
        self.idle[item] = (shelf, asyncio.get_running_loop().time() + self._max_idle_time)
        shelf.idle.append(item)
        self._arm()
        shelf.slots.release()

    def remove(self, item: ItemT, why: Leaving = Leaving.UNFIT) -> None:
        """Remove an item, idle or lent; nothing happens if it is not in the pool."""
        if item in self.idle:
            shelf = self._unshelve(item)
            self._leave(item, shelf, why)
        elif item in self.lent:
            shelf = self.lent.pop(item)
            self._leave(item, shelf, why)
            shelf.slots.release()
        else:
            return
        self._tidy(shelf)

    def fail(self, error: Callable[[], Exception]) -> None:
        """Fail every waiting caller with its own exception, created by ``error``."""
        for shelf in self._shelves.values():
            shelf.slots.fail(error)

    def close(self) -> None:
        """Stop lending. Idempotent. The pool itself has to close the items."""
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
            if item in self.idle:  # reuse() may have ended it
                self._unshelve(item)
                if is_fit:
                    return item
                self._leave(item, shelf, Leaving.UNFIT)
        return None

    async def _create(
        self, shelf: _Shelf[KeyT, ItemT], create: Callable[[], Awaitable[ItemT]]
    ) -> ItemT:
        item = await create()
        item.add_watcher(self._ending, self._item_ended)
        if self.closed:
            self._leave(item, shelf, Leaving.UNFIT)
            raise self._closed_error()
        return item

    def _unshelve(self, item: ItemT) -> _Shelf[KeyT, ItemT]:
        shelf, _ = self.idle.pop(item)
        shelf.idle.remove(item)
        if not self.idle:
            self._disarm()
        return shelf

    def _leave(self, item: ItemT, shelf: _Shelf[KeyT, ItemT], why: Leaving) -> None:
        item.remove_watcher(self._ending, self._item_ended)
        self._left(item, shelf.key, why)

    def _item_ended(self, event: Event) -> None:
        item: ItemT = event.source  # type: ignore[assignment]
        self.remove(item, Leaving.LOST if item in self.lent else Leaving.ENDED)

    def _tidy(self, shelf: _Shelf[KeyT, ItemT]) -> None:
        """Forget a key without items and callers."""
        # By the time a caller gives up, others may have created a new shelf for the key.
        if not shelf.idle and shelf.slots.unused and self._shelves.get(shelf.key) is shelf:
            del self._shelves[shelf.key]

    def _arm(self) -> None:
        """Set the timer for the item that expires first."""
        if self._timer is None and self.idle and not self.closed:
            _, deadline = next(iter(self.idle.values()))
            if deadline < math.inf:
                self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """Remove the items that were idle for too long."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        for item, (_, deadline) in tuple(self.idle.items()):
            if deadline > now:
                break
            self.remove(item, Leaving.EXPIRED)
        self._arm()
