"""What travels between a broker and its clients.

Clients ask with remote calls: ``pubsub.subscribe(subscription, pattern, policy,
max_queue, gaps)``, ``pubsub.unsubscribe(subscription)`` and ``pubsub.publish(topic,
data)``. The client chooses the number of a subscription. For each one the
broker opens a unidirectional stream: first an :class:`Opening`, then
:class:`PubSubMessage`, :class:`Dropped` and, for those who asked, :class:`Gap`, framed as
by ``StructuredStream``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "DROPPED_TYPE",
    "GAP_TYPE",
    "MESSAGE_TYPE",
    "PUBLISH",
    "REGISTRY",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "WIRE_REGISTRY",
    "BackpressurePolicy",
    "Dropped",
    "Gap",
    "Opening",
    "PubSubMessage",
]

SUBSCRIBE = "pubsub.subscribe"
UNSUBSCRIBE = "pubsub.unsubscribe"
PUBLISH = "pubsub.publish"


class BackpressurePolicy(StrEnum):
    """What the broker does when a subscriber's queue is full.

    There is no way to make the publisher wait: a slow subscriber must not hold
    up anybody else.
    """

    DROP_OLDEST = "drop_oldest"
    """Make room by dropping the message that waits longest."""
    DROP_NEWEST = "drop_newest"
    """Drop the message that does not fit."""
    CLOSE = "close"
    """End the subscription: the subscriber wants all messages or to know that it cannot."""


@dataclass(slots=True)
class Opening:
    """First on a delivery stream: whose it is."""

    subscription: int


@dataclass(slots=True)
class PubSubMessage:
    """One message.

    Attributes:
        topic: What it was published to; no wildcards.
        data: What was published.
    """

    topic: str
    data: Any = None


@dataclass(slots=True)
class Dropped:
    """How many messages of this subscription were dropped since it began."""

    total: int


@dataclass(slots=True)
class Gap:
    """How often messages may have been lost between servers since the subscription began.

    Sent only to those who asked (the fifth parameter of ``pubsub.subscribe``).
    """

    total: int


MESSAGE_TYPE = 17
DROPPED_TYPE = 18
GAP_TYPE = 19
REGISTRY: dict[int, type[Any]] = {
    16: Opening,
    MESSAGE_TYPE: PubSubMessage,
    DROPPED_TYPE: Dropped,
}
"""Type IDs on the wire; those below 16 are the calls'."""
WIRE_REGISTRY: dict[int, type[Any]] = {**REGISTRY, GAP_TYPE: Gap}
"""With what only those get who asked for it."""
