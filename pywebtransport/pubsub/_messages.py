"""The messages between a broker and its clients.

Clients ask with remote calls: ``pubsub.subscribe(subscription, pattern, policy, max_queue, gaps)``,
``pubsub.unsubscribe(subscription)`` and ``pubsub.publish(topic, data)``. The client chooses the
number of a subscription. For each one the broker opens a unidirectional stream: first an
:class:`Opening`, then :class:`PubSubMessage`, :class:`Dropped` and, if the client asked for it,
:class:`Gap`. They are framed as by ``StructuredStream``.

A client that publishes many small messages calls ``pubsub.publications()`` instead, and does not
finish the stream of this call: it sends each message as a :class:`PubSubMessage` on it, and the
broker answers there with :class:`Published` and :class:`Refused`. A broker that does not offer this
answers as for any unknown method.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..rpc._messages import Failure

__all__ = [
    "DROPPED_TYPE",
    "GAP_TYPE",
    "MESSAGE_TYPE",
    "PUBLICATIONS",
    "PUBLISH",
    "PUBLISHING_REGISTRY",
    "REGISTRY",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "WIRE_REGISTRY",
    "BackpressurePolicy",
    "Dropped",
    "Gap",
    "Opening",
    "PubSubMessage",
    "Published",
    "Refused",
]

SUBSCRIBE = "pubsub.subscribe"
UNSUBSCRIBE = "pubsub.unsubscribe"
PUBLISH = "pubsub.publish"
PUBLICATIONS = "pubsub.publications"


class BackpressurePolicy(StrEnum):
    """What the broker does when a subscriber's queue is full.

    The publisher never waits: a slow subscriber must not hold up others.
    """

    DROP_OLDEST = "drop_oldest"
    """Drop the oldest waiting message."""
    DROP_NEWEST = "drop_newest"
    """Drop the new message."""
    CLOSE = "close"
    """End the subscription: the subscriber needs every message."""


@dataclass(slots=True)
class Opening:
    """The first message on a delivery stream: its subscription."""

    subscription: int


@dataclass(slots=True)
class PubSubMessage:
    """One message.

    Attributes:
        topic: The topic to which it was published; no wildcards.
        data: The published data.
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

    Sent only to clients that asked for it (the fifth parameter of ``pubsub.subscribe``).
    """

    total: int


@dataclass(slots=True)
class Published:
    """How many messages of this stream the broker has handled; those it refused count, too."""

    total: int


@dataclass(slots=True)
class Refused:
    """A message that the broker did not publish; sent before the ``Published`` that counts it.

    Attributes:
        number: Which message of the stream, from 1.
        code: As of a call that failed, and so are the others.
        message: The reason.
        data: More about it.
    """

    number: int
    code: int
    message: str = ""
    data: Any = None


MESSAGE_TYPE = 17
DROPPED_TYPE = 18
GAP_TYPE = 19
REGISTRY: dict[int, type[Any]] = {
    16: Opening,
    MESSAGE_TYPE: PubSubMessage,
    DROPPED_TYPE: Dropped,
}
"""Type IDs on the wire; IDs below 16 belong to calls."""
WIRE_REGISTRY: dict[int, type[Any]] = {**REGISTRY, GAP_TYPE: Gap}
"""Includes messages that are sent only to subscribers that requested them."""
PUBLISHING_REGISTRY: dict[int, type[Any]] = {
    3: Failure,
    MESSAGE_TYPE: PubSubMessage,
    20: Published,
    21: Refused,
}
"""What a stream of publications carries."""
