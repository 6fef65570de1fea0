"""Bytes that wait at a broker: of each session, and of all together, a shared message once."""

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
    """Counts of the subscriptions that exist now."""

    subscriptions: int = 0
    delivered: int = 0
    dropped: int = 0
    waiting: int = 0


class Frame:
    """One message as bytes, which many queues hold; it takes its room once.

    Attributes:
        data: The bytes.
    """

    __slots__ = ("_budget", "_holders", "data")

    def __init__(self, data: bytes, budget: ByteBudget) -> None:
        self.data = data
        self._budget = budget
        self._holders = 0

    def hold(self) -> bool:
        """One queue more; False when there is no room for the bytes."""
        if not self._holders and not self._budget.take(len(self.data)):
            return False
        self._holders += 1
        return True

    def release(self) -> None:
        """One queue less."""
        self._holders -= 1
        if not self._holders:
            self._budget.give_back(len(self.data))


class SessionRoom:
    """What may wait for the subscriptions of one session, in their queues and streams.

    Args:
        limit: Bytes.
        settle: Called when there is no room: subscriptions give back what left their streams.
    """

    __slots__ = ("_settle", "budget")

    def __init__(self, limit: int, settle: Callable[[], object]) -> None:
        self.budget = ByteBudget("max_session_bytes", limit)
        self._settle = settle

    def take(self, item: Frame, size: int) -> bool | None:
        """Room for a message in a queue; False: there is none; None: not among all sessions."""
        if not self.take_bytes(size):
            return False
        if item.hold():
            return True
        # What waits in one queue waits in others, too: to drop it makes no room.
        self.budget.give_back(size)
        return None

    def give_back(self, item: Frame, size: int) -> None:
        """A message left its queue."""
        item.release()
        self.budget.give_back(size)

    def take_bytes(self, size: int) -> bool:
        """Room for bytes in a stream; False: there is none."""
        if self.budget.lacking(size) is not None:
            self._settle()
        return self.budget.take(size)


class ReceivedRoom:
    """What may wait for all subscriptions of a client's session to be taken.

    Args:
        limit: Bytes.
        parent: What the session may hold altogether.
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
