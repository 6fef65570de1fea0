"""Exceptions of publishing and subscribing.

::

    RpcError
    `-- PubSubError
        |-- InvalidTopicError
        |-- SlowSubscriberError
        |-- SubscriptionLimitError
        `-- TopicForbiddenError
"""

from __future__ import annotations

from enum import IntEnum

from .._declared import declared
from ..exceptions import SerializationError
from ..rpc import RpcError, RpcErrorCode

__all__ = [
    "InvalidTopicError",
    "PubSubError",
    "PubSubErrorCode",
    "SlowSubscriberError",
    "SubscriptionLimitError",
    "TopicForbiddenError",
    "bad_request",
    "pubsub_error",
    "too_large",
]


class PubSubErrorCode(IntEnum):
    """Why a broker refused; also the code of the reset when it ends a subscription's stream."""

    INVALID_TOPIC = 1
    FORBIDDEN = 2
    LIMIT_REACHED = 3
    UNAVAILABLE = 4
    """The backend that connects the servers cannot be reached."""
    TOO_SLOW = 5
    """The subscriber did not keep up, and its policy is ``close``."""
    INVALID_SUBSCRIPTION = 6
    TOO_LARGE = 7


@declared
class PubSubError(RpcError, category="pubsub"):
    """The broker refused a request; ``error_code`` says why."""

    default_code = PubSubErrorCode.UNAVAILABLE
    topic: str | None = None  #: The topic or pattern of the request.


class InvalidTopicError(PubSubError):
    """A topic or pattern is malformed."""

    default_code = PubSubErrorCode.INVALID_TOPIC


class TopicForbiddenError(PubSubError):
    """``authorize`` of the broker refused."""

    default_code = PubSubErrorCode.FORBIDDEN


class SubscriptionLimitError(PubSubError):
    """The session has reached the limit of subscriptions."""

    default_code = PubSubErrorCode.LIMIT_REACHED


class SlowSubscriberError(PubSubError):
    """The subscription ended because its queue overflowed and its policy is ``close``."""

    default_code = PubSubErrorCode.TOO_SLOW


_BY_CODE: dict[int, type[PubSubError]] = {
    kind.default_code: kind
    for kind in (
        InvalidTopicError,
        TopicForbiddenError,
        SubscriptionLimitError,
        SlowSubscriberError,
    )
}


def pubsub_error(error: RpcError, topic: str) -> RpcError:
    """Convert a refusal of the broker to its class; errors of the call itself are unchanged."""
    code = error.error_code
    if not error.remote or code is None or code not in set(PubSubErrorCode):
        return error
    kind = _BY_CODE.get(code, PubSubError)
    return kind(
        error.message,
        error_code=code,
        data=error.data,
        method=error.method,
        topic=topic,
        remote=True,
    )


def bad_request(message: str) -> RpcError:
    """Create the error for a request that the broker cannot understand."""
    return RpcError(message, error_code=RpcErrorCode.INVALID_REQUEST)


def too_large(error: SerializationError, topic: str) -> PubSubError:
    """Create the error for a message that the broker cannot encode, or that is too large."""
    return PubSubError(error.message, error_code=PubSubErrorCode.TOO_LARGE, topic=topic)
