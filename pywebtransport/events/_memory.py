"""A backend for the buses of one process."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from ..exceptions import ConnectionError
from ..utils._checks import check_callable, check_count, check_text
from ..utils._closing import AsyncCloseable
from ._backend import (
    DEFAULT_MAX_PAYLOAD_SIZE,
    DEFAULT_MAX_SUBSCRIPTIONS,
    Deliver,
    Handing,
    check_channel,
    check_payload,
    check_room,
)
from ._worker_link import worker_link

__all__ = ["BeginPublishing", "MemoryBackend", "begin_publishing_of", "matches"]

logger = logging.getLogger("pywebtransport.events")

BeginPublishing: TypeAlias = Callable[[str, bytes], Awaitable[object] | None]


@dataclass(frozen=True, slots=True)
class _Subscription:
    """A subscriber to one pattern."""

    id: str
    pattern: str
    parts: list[str]
    deliver: Deliver


class MemoryBackend(AsyncCloseable):
    """An :class:`EventBackend` within the process: no server, no copies, no queue.

    A message is delivered before ``publish`` returns; to many subscribers, over several turns of
    the event loop. Use the same backend for all buses that should be connected.

    Args:
        max_payload_size: Bytes of one message.
        max_subscriptions: Subscriptions at a time.

    Raises:
        ConfigurationError: A limit is not a whole number of at least 1.
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
        # The same subscriptions by channel, and those whose pattern has a "*".
        self._exact: dict[str, dict[str, _Subscription]] = {}
        self._globs: dict[str, _Subscription] = {}
        self._published = 0
        self._handing = Handing()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Accept messages from now on; idempotent."""
        if not self._started and type(self) is MemoryBackend and worker_link() is not None:
            logger.info(
                "this MemoryBackend connects nothing outside of its worker process; "
                "a LocalBackend connects all workers"
            )
        self._started = True

    async def close(self) -> None:
        """End every subscription; idempotent. You may start it again."""
        self._started = False
        self._subscriptions.clear()
        self._exact.clear()
        self._globs.clear()

    async def publish(self, channel: str, payload: bytes) -> None:
        """Deliver ``payload`` to the subscribers of ``channel``.

        Lets other tasks run afterwards, so that a publisher in a loop does not starve the
        receivers.

        Raises:
            ConfigurationError: ``channel`` is not a valid name.
            ConnectionError: The backend is not started.
            SerializationError: The payload is larger than ``max_payload_size``.

        Cancellation: the message is delivered anyway.
        """
        waiting = self.begin_publishing(channel, payload)
        if waiting is not None:
            await waiting
        await asyncio.sleep(0)

    def begin_publishing(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """Advanced: as ``publish``, without a coroutine and without letting other tasks run.

        Returns:
            What to await until all subscribers have the message; None if they have it.

        Raises: as ``publish``.
        """
        self._check_message(channel, payload)
        self._published += 1
        return self._hand_over(channel, payload)

    def _check_message(self, channel: str, payload: bytes) -> None:
        check_channel("channel", channel)
        check_payload(payload, self._max_payload_size)
        self._check_started()

    def _hand_over(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """Deliver a message to the subscribers of this process."""
        subscribers = (*self._exact.get(channel, {}).values(), *self._globs.values())
        if not subscribers:
            return None

        def deliver_of(subscription: _Subscription) -> Deliver | None:
            known = self._subscriptions.get(subscription.id)
            if known is None or ("*" in known.pattern and not matches(known.parts, channel)):
                return None
            return known.deliver

        return self._handing.begin(subscribers, deliver_of, channel, payload)

    async def subscribe(self, pattern: str, deliver: Deliver) -> str:
        """Call ``deliver`` for each message on the channels that ``pattern`` names.

        Args:
            pattern: A channel; ``*`` in it matches any characters.
            deliver: The function to call; must not block.

        Returns:
            An identifier for :meth:`unsubscribe`.

        Raises:
            ConfigurationError: ``pattern`` is not a valid name, or ``deliver`` cannot be called.
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
        """Return counters: subscriptions, published, delivered, and errors of subscribers."""
        return {
            "subscriptions": len(self._subscriptions),
            "published": self._published,
            "delivered": self._handing.delivered,
            "errors": self._handing.errors,
        }

    def _check_started(self) -> None:
        if not self._started:
            kind = type(self).__name__
            raise ConnectionError(f"the backend is not started; call {kind}.start()")


def begin_publishing_of(backend: object) -> BeginPublishing | None:
    """Return a backend's ``begin_publishing``; None if it publishes in another way."""
    # A class of the application may have a ``publish`` of its own.
    if getattr(type(backend), "publish", None) is MemoryBackend.publish:
        found: BeginPublishing = backend.begin_publishing  # type: ignore[attr-defined]
        return found
    return None


def matches(parts: list[str], channel: str) -> bool:
    """Whether ``channel`` contains all parts between the stars of a pattern, in this order.

    Patterns may come from clients, so this must not backtrack: the leftmost match of each part
    leaves most room for the next ones.
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
