"""Limits of the bytes that wait at a broker, per session and in total."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..utils._budget import ByteBudget

__all__ = [
    "DEFAULT_MAX_SESSION_BYTES",
    "DEFAULT_MAX_TOTAL_BYTES",
    "Frame",
    "ReceivedRoom",
    "SessionRoom",
    "Totals",
]

DEFAULT_MAX_SESSION_BYTES = 4 * 1024 * 1024
"""Bytes that may wait for all subscriptions of one session together."""
DEFAULT_MAX_TOTAL_BYTES = 256 * 1024 * 1024
"""Bytes that may wait for all sessions of a broker together."""


@dataclass(slots=True)
class Totals:
    """Counters of the subscriptions that exist now."""

    subscriptions: int = 0
    delivered: int = 0
    dropped: int = 0
    waiting: int = 0


class Frame:
    """An encoded message that many queues can hold; it takes room only once.

    Attributes:
        data: The bytes.
    """

    __slots__ = ("_budget", "_holders", "data")

    def __init__(self, data: bytes, budget: ByteBudget) -> None:
        self.data = data
        self._budget = budget
        self._holders = 0

    def hold(self) -> bool:
        """Count another queue; return False if there is no room for the bytes."""
        if not self._holders and not self._budget.take(len(self.data)):
            return False
        self._holders += 1
        return True

    def release(self) -> None:
        """Count one queue less."""
        self._holders -= 1
        if not self._holders:
            self._budget.give_back(len(self.data))


class SessionRoom:
    """Limits the bytes that wait for the subscriptions of one session, in queues and streams.

    Args:
        limit: Bytes.
        settle: Called if there is no room; subscriptions then release bytes that left their
            streams.
    """

    __slots__ = ("_settle", "budget")

    def __init__(self, limit: int, settle: Callable[[], object]) -> None:
        self.budget = ByteBudget("max_session_bytes", limit)
        self._settle = settle

    def take(self, item: Frame, size: int) -> bool | None:
        """Take room for a message in a queue; False: none in the session; None: none in total."""
        if not self.take_bytes(size):
            return False
        if item.hold():
            return True
        # Messages in this queue wait in others too, so dropping one would make no room.
        self.budget.give_back(size)
        return None

    def give_back(self, item: Frame, size: int) -> None:
        """A message left its queue."""
        item.release()
        self.budget.give_back(size)

    def take_bytes(self, size: int) -> bool:
        """Take room for bytes in a stream; return False if there is none."""
        budget = self.budget
        if budget.lacking(size) is None:
            budget.take_anyway(size)
            return True
        self._settle()
        return budget.take(size)


class ReceivedRoom:
    """Limits the bytes that wait in a client for all subscriptions of a session.

    Args:
        limit: Bytes.
        parent: Budget of the whole session.
    """

    __slots__ = ("budget",)

    def __init__(self, limit: int, parent: ByteBudget) -> None:
        self.budget = ByteBudget("max_session_bytes", limit, parent)

    def take(self, item: object, size: int) -> bool:
        """Room for a message in a queue; False: there is none."""
        return self.budget.take(size)

    def give_back(self, item: object, size: int) -> None:
        """A message left its queue."""
        self.budget.give_back(size)
