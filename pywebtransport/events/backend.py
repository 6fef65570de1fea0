"""What carries messages between the event buses of one or of many processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ..exceptions import SerializationError, WebTransportError, invalid_config
from ..utils.checks import check_instance
from ..utils.failures import log_application_error, name_of
from ..utils.text import printable

__all__ = ["Deliver", "EventBackend"]

logger = logging.getLogger("pywebtransport.events")

Deliver: TypeAlias = Callable[[str, bytes], None]
"""Takes the channel and the payload of one message. Runs on the event loop and must not block."""

DEFAULT_MAX_PAYLOAD_SIZE = 1024 * 1024
"""Bytes of one message."""
DEFAULT_MAX_SUBSCRIPTIONS = 10_000
"""Subscriptions of one backend."""
MAX_CHANNEL_LENGTH = 1024
"""Characters in the name of a channel or in a pattern."""


GapListener: TypeAlias = Callable[[float | None], object]
"""Told None when messages begin to get lost, and then the seconds that it lasted."""


@runtime_checkable
class EventBackend(Protocol):
    """Carries payloads from publishers to subscribers of a channel, at most once.

    Messages of one publisher on one channel arrive in order. What is published
    while a subscriber is not connected is lost to it. A message comes back to the
    process that published it when that process subscribes, and only this way: a
    bus never delivers its own messages besides the backend.

    A backend belongs to the event loop that started it. One that can lose messages by
    losing a connection also has ``watch_gaps``, as :class:`RedisBackend` has: buses and
    brokers pass on what it tells.
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
            ConfigurationError: ``channel`` is empty or longer than 1024 characters.
            ConnectionError: The backend is not connected now, so nobody gets it.
            SerializationError: The payload is larger than the backend carries.
        """

    async def subscribe(self, pattern: str, deliver: Deliver) -> str:
        """Call ``deliver`` for each message on the channels that ``pattern`` names.

        Args:
            pattern: A channel; ``*`` in it stands for any run of characters.
            deliver: What to call.

        Returns:
            An identifier for ``unsubscribe``. The subscription is in force then.

        Raises:
            ConfigurationError: ``pattern`` is empty or longer than 1024 characters.
            ConnectionError: The backend is not connected now.
            WebTransportError: The backend has as many subscriptions as it may.
        """

    async def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; an unknown identifier is ignored."""


def check_channel(key: str, name: str) -> str:
    """Check the name of a channel, or a pattern.

    Raises:
        ConfigurationError: Not a text of 1 to 1024 characters that UTF-8 can hold.
    """
    given: object = name  # callers without a type checker may pass anything
    if not isinstance(given, str) or not 0 < len(given) <= MAX_CHANNEL_LENGTH:
        raise invalid_config(
            key=key, value=given, reason=f"expected a text of 1 to {MAX_CHANNEL_LENGTH} characters"
        )
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise invalid_config(
            key=key, value=given, reason="expected a text that UTF-8 can hold"
        ) from error
    return given


def check_room(count: int, limit: int) -> None:
    """Check that one more subscription is allowed.

    Raises:
        WebTransportError: There are ``limit`` already.
    """
    if count >= limit:
        raise WebTransportError(
            f"The backend has {count} subscriptions already; its max_subscriptions is {limit}"
        )


def check_payload(payload: bytes, limit: int) -> None:
    """Check that a payload may be sent.

    Raises:
        ConfigurationError: It is not bytes.
        SerializationError: It is longer than ``limit`` bytes.
    """
    check_instance("payload", payload, bytes, bytearray, memoryview)
    if len(payload) > limit:
        raise SerializationError(
            f"The payload has {len(payload)} bytes; max_payload_size is {limit}",
            details={"size": len(payload), "max_payload_size": limit},
        )


def watch_gaps(backend: object, listener: GapListener) -> Callable[[], None]:
    """Hear of the gaps of a backend that has any; what to call to hear no more."""
    watch: Any = getattr(backend, "watch_gaps", None)
    if watch is None:
        return lambda: None
    stop: Callable[[], None] = watch(listener)
    return stop


def call_deliver(deliver: Deliver, channel: str, payload: bytes) -> bool:
    """Hand a message to a subscriber; False when it raised, which is logged."""
    try:
        deliver(channel, payload)
    except (Exception, asyncio.CancelledError) as error:
        what = f"Subscriber {name_of(deliver)} failed for a message on '{printable(channel)}'"
        log_application_error(logger, f"{what}: it", error)
        return False
    return True
