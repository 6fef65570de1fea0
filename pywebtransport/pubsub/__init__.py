"""Publish and subscribe over a session, through a broker at the server."""

from ._broker import Authorize, Broker
from ._exceptions import (
    InvalidTopicError,
    PubSubError,
    PubSubErrorCode,
    SlowSubscriberError,
    SubscriptionLimitError,
    TopicForbiddenError,
)
from ._manager import PubSubManager
from ._messages import BackpressurePolicy, PubSubMessage
from ._subscription import Subscription

__all__ = [
    "Authorize",
    "BackpressurePolicy",
    "Broker",
    "InvalidTopicError",
    "PubSubError",
    "PubSubErrorCode",
    "PubSubManager",
    "PubSubMessage",
    "SlowSubscriberError",
    "Subscription",
    "SubscriptionLimitError",
    "TopicForbiddenError",
]
