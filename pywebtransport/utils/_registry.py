"""A registry of objects by ID, until they close."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .._states import EventType
from ._turns import Turns

if TYPE_CHECKING:
    from ..events import Event

__all__ = ["Registry", "count_states"]


class _Registered(Protocol):
    """The attributes of its objects that a registry uses."""

    @property
    def is_closed(self) -> bool: ...

    @property
    def state(self) -> Any: ...

    def add_watcher(self, event_type: EventType, watcher: Callable[[Event], object], /) -> None: ...

    def remove_watcher(
        self, event_type: EventType, watcher: Callable[[Event], object], /
    ) -> None: ...


# Objects that are handled between two checks of the clock.
_STEP = 100

ItemT = TypeVar("ItemT", bound=_Registered)


class Registry(Generic[ItemT]):
    """Keeps objects by ID. An object that closes emits an event and is dropped at once.

    Attributes:
        items: The objects, in the order in which they were added.
        stats: ``total_created`` (added), ``total_closed`` (dropped or removed),
            ``current_count`` and ``max_concurrent``.
    """

    __slots__ = ("_closing", "_id_of", "items", "stats")

    def __init__(self, closing: EventType, id_of: Callable[[ItemT], str]) -> None:
        """Create an empty registry.

        Args:
            closing: The event that an object emits at its end.
            id_of: Returns the ID of an object.
        """
        self._closing = closing
        self._id_of = id_of
        self.items: dict[str, ItemT] = {}
        self.stats = {
            "total_created": 0,
            "total_closed": 0,
            "current_count": 0,
            "max_concurrent": 0,
        }

    def add(self, item: ItemT) -> str:
        """Keep ``item`` until it closes; adding it again changes nothing."""
        key = self._id_of(item)
        if key not in self.items:
            item.add_watcher(self._closing, self._item_closed)
            self.items[key] = item
            stats = self.stats
            stats["total_created"] += 1
            stats["current_count"] = len(self.items)
            stats["max_concurrent"] = max(stats["max_concurrent"], len(self.items))
        return key

    def remove(self, key: str) -> ItemT | None:
        """Remove an object, without closing it."""
        item = self.items.pop(key, None)
        if item is not None:
            item.remove_watcher(self._closing, self._item_closed)
            self.stats["total_closed"] += 1
            self.stats["current_count"] = len(self.items)
        return item

    def remove_closed(self) -> int:
        """Remove closed objects; there are none, unless one is just closing."""
        closed = [key for key, item in self.items.items() if item.is_closed]
        for key in closed:
            self.remove(key)
        return len(closed)

    async def states(self) -> dict[str, int]:
        """Count the objects in each state."""
        return await count_states(list(self.items.values()))

    def _item_closed(self, event: Event) -> None:
        self.remove(self._id_of(event.source))  # type: ignore[arg-type]


async def count_states(items: list[Any]) -> dict[str, int]:
    """Count the objects in each state; with many, this takes several turns of the event loop."""
    counts: Counter[str] = Counter()
    turns = Turns.of()
    for start in range(0, len(items), _STEP):
        counts.update(str(item.state) for item in items[start : start + _STEP])
        await turns.pause()
    return dict(counts)
