"""A bounded queue that knows what to do when it is full."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from .messages import BackpressurePolicy

__all__ = ["DEFAULT_MAX_QUEUE", "DEFAULT_MAX_QUEUE_BYTES", "MessageQueue", "queue_bytes"]

DEFAULT_MAX_QUEUE = 256
"""Messages that may wait for one subscription, at the broker and at the client."""
DEFAULT_MAX_QUEUE_BYTES = 1_048_576
"""Bytes that may wait, likewise."""

T = TypeVar("T")


def queue_bytes(message_size: int) -> int:
    """Bytes that may wait when nobody chose a number: room for the largest message at least."""
    return max(DEFAULT_MAX_QUEUE_BYTES, message_size)


class MessageQueue(Generic[T]):
    """Messages that wait, limited in number and in bytes.

    Args:
        policy: What to do when there is no room.
        max_messages: As many may wait.
        max_bytes: So many bytes may wait.

    Attributes:
        dropped: Messages that were dropped so far.
        size: Bytes that wait now.
    """

    __slots__ = ("_items", "_max_bytes", "_policy", "dropped", "max_messages", "size")

    def __init__(self, policy: BackpressurePolicy, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages
        self.dropped = 0
        self.size = 0
        self._policy = policy
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def push(self, item: T, size: int) -> bool:
        """Add a message, or drop one as the policy says. Never waits.

        Args:
            item: The message.
            size: Its bytes. One that is larger than all the room there is does not fit.

        Returns:
            False when there is no room and the policy wants the end then.
        """
        items = self._items
        while len(items) >= self.max_messages or self.size + size > self._max_bytes:
            if self._policy is BackpressurePolicy.CLOSE:
                return False
            self.dropped += 1
            if self._policy is BackpressurePolicy.DROP_NEWEST or not items:
                return True
            self.size -= items.popleft()[1]
        items.append((item, size))
        self.size += size
        return True

    def pop(self) -> T:
        """Take the message that waits longest; there must be one."""
        item, size = self._items.popleft()
        self.size -= size
        return item

    def clear(self) -> None:
        """Forget all messages; they do not count as dropped."""
        self._items.clear()
        self.size = 0
