"""A bounded queue with an overflow policy."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from ._messages import BackpressurePolicy

__all__ = ["DEFAULT_MAX_QUEUE", "DEFAULT_MAX_QUEUE_BYTES", "MessageQueue", "Room", "queue_bytes"]

DEFAULT_MAX_QUEUE = 256
"""Messages that may wait for one subscription, at the broker and at the client."""
DEFAULT_MAX_QUEUE_BYTES = 1_048_576
"""Bytes that may wait for one subscription, at the broker and at the client."""

T = TypeVar("T")


def queue_bytes(message_size: int) -> int:
    """Default limit of waiting bytes: at least the size of the largest message."""
    return max(DEFAULT_MAX_QUEUE_BYTES, message_size)


T_contra = TypeVar("T_contra", contravariant=True)


class Room(Protocol[T_contra]):
    """The room that several queues share.

    ``take`` returns None if there is no room, and dropping messages of this queue would not help.
    """

    def take(self, item: T_contra, size: int, /) -> bool | None: ...

    def give_back(self, item: T_contra, size: int, /) -> None: ...


class MessageQueue(Generic[T]):
    """Messages that wait, limited in number and in bytes.

    Args:
        policy: What to do when there is no room.
        max_messages: Messages that may wait.
        max_bytes: Bytes that may wait.
        room: Bytes that this queue and others may hold together; None: no shared limit.

    Attributes:
        dropped: Messages that were dropped so far.
        max_bytes: Bytes that may wait; a larger message never fits.
        max_messages: Messages that may wait.
        size: Bytes that wait now.
    """

    __slots__ = ("_items", "_policy", "_room", "dropped", "max_bytes", "max_messages", "size")

    def __init__(
        self,
        policy: BackpressurePolicy,
        max_messages: int,
        max_bytes: int,
        room: Room[T] | None = None,
    ) -> None:
        self.max_messages = max_messages
        self.dropped = 0
        self.size = 0
        self._policy = policy
        self.max_bytes = max_bytes
        self._room = room
        self._items: deque[tuple[T, int]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def push(self, item: T, size: int) -> bool:
        """Add a message, or drop one according to the policy. Never waits.

        Args:
            item: The message.
            size: Its size in bytes. One that is larger than the limit never fits.

        Returns:
            False if there is no room and the policy is to end the subscription.
        """
        items = self._items
        while not (fits := self._has_room(item, size)):
            if self._policy is BackpressurePolicy.CLOSE:
                return False
            self.dropped += 1
            if self._policy is BackpressurePolicy.DROP_NEWEST or not items or fits is None:
                return True
            self.pop()
        items.append((item, size))
        self.size += size
        return True

    def pop(self) -> T:
        """Take the oldest message; there must be one."""
        item, size = self._items.popleft()
        self.size -= size
        if self._room is not None:
            self._room.give_back(item, size)
        return item

    def put_back(self, item: T, size: int) -> None:
        """Put a message back as the next one."""
        if self._room is None or self._room.take(item, size):
            self._items.appendleft((item, size))
            self.size += size
        else:
            self.dropped += 1

    def _has_room(self, item: T, size: int) -> bool | None:
        """Reserve room for one more message; return whether it fits."""
        if len(self._items) >= self.max_messages or self.size + size > self.max_bytes:
            return False
        return self._room is None or self._room.take(item, size)

    def clear(self) -> None:
        """Remove all messages; they do not count as dropped."""
        while self._items:
            self.pop()
