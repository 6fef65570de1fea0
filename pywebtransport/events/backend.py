"""What carries messages between the event buses of one or of many processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

__all__ = ["Deliver", "EventBackend"]

Deliver: TypeAlias = Callable[[str, bytes], None]
"""Takes the channel and the payload of one message. Runs on the event loop and must not block."""


@runtime_checkable
class EventBackend(Protocol):
    """Carries payloads from publishers to subscribers of a channel, at most once.

    Messages of one publisher on one channel arrive in order. What is published
    while a subscriber is not connected is lost to it. A message comes back to the
    process that published it when that process subscribes, and only this way: a
    bus never delivers its own messages besides the backend.
    """

    async def start(self) -> None:
        """Connect; idempotent.

        Raises:
            ConnectionError: The backend cannot be reached.
        """

    async def close(self) -> None:
        """End every subscription and release everything; idempotent."""

    async def publish(self, channel: str, payload: bytes) -> None:
        """Send ``payload`` to the subscribers of ``channel``; returns when it was handed on.

        Raises:
            ConnectionError: The backend is not connected now, so nobody gets it.
        """

    async def subscribe(self, pattern: str, deliver: Deliver) -> str:
        """Call ``deliver`` for each message on the channels that ``pattern`` names.

        Args:
            pattern: A channel; ``*`` in it stands for any run of characters.
            deliver: What to call.

        Returns:
            An identifier for ``unsubscribe``. The subscription is in force then.
        """

    async def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; an unknown identifier is ignored."""
