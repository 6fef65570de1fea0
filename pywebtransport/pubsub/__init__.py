"""Publish and subscribe over a session, through a broker at the server."""

from .broker import Authorize, Broker
from .exceptions import (
    InvalidTopicError,
    PubSubError,
    PubSubErrorCode,
    SlowSubscriberError,
    SubscriptionLimitError,
    TopicForbiddenError,
)
from .manager import PubSubManager
from .messages import BackpressurePolicy, PubSubMessage
from .subscription import Subscription

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
