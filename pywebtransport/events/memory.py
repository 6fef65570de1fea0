"""Messages between the buses of one process."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any, Self

from ..exceptions import ConnectionError
from ..utils._closing import AsyncCloseable
from ..utils.checks import check_callable, check_count, check_text
from .backend import (
    DEFAULT_MAX_PAYLOAD_SIZE,
    DEFAULT_MAX_SUBSCRIPTIONS,
    Deliver,
    Handing,
    check_channel,
    check_payload,
    check_room,
)

__all__ = ["MemoryBackend"]


@dataclass(frozen=True, slots=True)
class _Subscription:
    """Somebody who wants the messages of one pattern."""

    id: str
    pattern: str
    parts: list[str]
    deliver: Deliver


class MemoryBackend(AsyncCloseable):
    """An :class:`EventBackend` within the process: no server, no copies, no queue.

    A message is handed to its subscribers before ``publish`` returns; when they are many, over
    several turns of the event loop. Share one
    between the buses that shall hear each other.

    Args:
        max_payload_size: Bytes of one message.
        max_subscriptions: Subscriptions at a time.

    Raises:
        ConfigurationError: A limit is not a whole number from 1 up.
    """

    def __init__(
        self,
        *,
        max_payload_size: int = DEFAULT_MAX_PAYLOAD_SIZE,
        max_subscriptions: int = DEFAULT_MAX_SUBSCRIPTIONS,
    ) -> None:
        self._max_payload_size = check_count("max_payload_size", max_payload_size)
        self._max_subscriptions = check_count("max_subscriptions", max_subscriptions)
        self._started = False
        self._ids = itertools.count(1)
        self._subscriptions: dict[str, _Subscription] = {}
        # The same ones by channel, and those whose pattern has a "*".
        self._exact: dict[str, dict[str, _Subscription]] = {}
        self._globs: dict[str, _Subscription] = {}
        self._published = 0
        self._handing = Handing()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Accept messages from now on; idempotent."""
        self._started = True

    async def close(self) -> None:
        """End every subscription; idempotent. It may be started again."""
        self._started = False
        self._subscriptions.clear()
        self._exact.clear()
        self._globs.clear()

    async def publish(self, channel: str, payload: bytes) -> None:
        """Hand ``payload`` to the subscribers of ``channel``.

        Gives others a turn of the loop afterwards, so that a publisher in a
        loop does not keep the receivers from running.

        Raises:
            ConfigurationError: ``channel`` is no name for a channel.
            ConnectionError: The backend is not started.
            SerializationError: The payload is larger than ``max_payload_size``.

        Cancellation: the message was handed on all the same.
        """
        check_channel("channel", channel)
        check_payload(payload, self._max_payload_size)
        self._check_started()
        self._published += 1

        def deliver_of(subscription: _Subscription) -> Deliver | None:
            known = self._subscriptions.get(subscription.id)
            if known is None or ("*" in known.pattern and not _matches(known.parts, channel)):
                return None
            return known.deliver

        subscribers = (*self._exact.get(channel, {}).values(), *self._globs.values())
        await self._handing.hand_over(subscribers, deliver_of, channel, payload)
        await asyncio.sleep(0)

    async def subscribe(self, pattern: str, deliver: Deliver) -> str:
        """Call ``deliver`` for each message on the channels that ``pattern`` names.

        Args:
            pattern: A channel; ``*`` in it stands for any run of characters.
            deliver: What to call; must not block.

        Returns:
            An identifier for :meth:`unsubscribe`.

        Raises:
            ConfigurationError: ``pattern`` is no name for a channel, or ``deliver`` cannot
                be called.
            ConnectionError: The backend is not started.
            WebTransportError: There are ``max_subscriptions`` already.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        check_channel("pattern", pattern)
        check_callable("deliver", deliver)
        self._check_started()
        check_room(len(self._subscriptions), self._max_subscriptions)
        subscription = _Subscription(str(next(self._ids)), pattern, pattern.split("*"), deliver)
        self._subscriptions[subscription.id] = subscription
        if "*" in pattern:
            self._globs[subscription.id] = subscription
        else:
            self._exact.setdefault(pattern, {})[subscription.id] = subscription
        return subscription.id

    async def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; an unknown identifier is ignored.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        check_text("subscription_id", subscription_id)
        subscription = self._subscriptions.pop(subscription_id, None)
        if subscription is None or self._globs.pop(subscription_id, None) is not None:
            return
        same = self._exact[subscription.pattern]
        del same[subscription_id]
        if not same:
            del self._exact[subscription.pattern]

    def get_stats(self) -> dict[str, Any]:
        """Counts: subscriptions, published, delivered, and errors of subscribers."""
        return {
            "subscriptions": len(self._subscriptions),
            "published": self._published,
            "delivered": self._handing.delivered,
            "errors": self._handing.errors,
        }

    def _check_started(self) -> None:
        if not self._started:
            raise ConnectionError("The backend is not started; see MemoryBackend.start()")


def _matches(parts: list[str], channel: str) -> bool:
    """Whether ``channel`` has all the parts between the stars of a pattern, in their order.

    Patterns may come from clients, so that it must not backtrack: the leftmost
    place of a part leaves most room for the next ones.
    """
    first, *middle, last = parts
    if not channel.startswith(first):
        return False
    position = len(first)
    for part in middle:
        position = channel.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return len(channel) - len(last) >= position and channel.endswith(last)
