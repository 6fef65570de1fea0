"""Backends carry messages between the event buses of one or many processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ..exceptions import SerializationError, WebTransportError, invalid_config
from ..utils._checks import check_callable, check_instance
from ..utils._failures import log_application_error, name_of
from ..utils._rounds import Round, Rounds
from ..utils._text import printable

__all__ = ["Deliver", "EventBackend"]

logger = logging.getLogger("pywebtransport.events")

Deliver: TypeAlias = Callable[[str, bytes], object]
"""Receives channel and payload of one message. Runs on the event loop and must not block."""

DEFAULT_MAX_PAYLOAD_SIZE = 1024 * 1024
"""Bytes of one message."""
DEFAULT_MAX_SUBSCRIPTIONS = 10_000
"""Subscriptions of one backend."""
MAX_CHANNEL_LENGTH = 1024
"""Characters in the name of a channel or in a pattern."""


GapListener: TypeAlias = Callable[[float | None], object]
"""Called with None when messages begin to get lost, and then with the duration in seconds."""


@runtime_checkable
class EventBackend(Protocol):
    """Carries payloads from publishers to subscribers of a channel, at most once.

    Messages of one publisher on one channel arrive in order. A subscriber does not get messages
    that are published while it is not connected. A process that subscribes to what it publishes
    gets its own messages back through the backend, and only this way.

    A backend belongs to the event loop that started it. A backend that can lose messages together
    with a connection also has ``watch_gaps``, as :class:`RedisBackend` has: buses and brokers
    report these gaps.
    """

    async def start(self) -> None:
        """Connect; idempotent.

        Raises:
            ConnectionError: The backend cannot be reached.
        """

    async def close(self) -> None:
        """End every subscription and release everything; idempotent."""

    async def publish(self, channel: str, payload: bytes) -> None:
        """Send ``payload`` to the subscribers of ``channel``; returns when it was passed on.

        Raises:
            ConfigurationError: ``channel`` is empty or longer than 1024 characters.
            ConnectionError: The backend is not connected, so nobody gets it.
            SerializationError: The payload is larger than the backend carries.
        """

    async def subscribe(self, pattern: str, deliver: Deliver) -> str:
        """Call ``deliver`` for each message on the channels that ``pattern`` names.

        Args:
            pattern: A channel; ``*`` in it matches any characters.
            deliver: The function to call.

        Returns:
            An identifier for ``unsubscribe``. The subscription is then in force.

        Raises:
            ConfigurationError: ``pattern`` is empty or longer than 1024 characters.
            ConnectionError: The backend is not connected now.
            WebTransportError: The backend has reached its limit of subscriptions.
        """

    async def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; an unknown identifier is ignored."""


def check_channel(key: str, name: str) -> str:
    """Check the name of a channel, or a pattern.

    Raises:
        ConfigurationError: Not a string of 1 to 1024 characters that UTF-8 can encode.
    """
    given: object = name  # callers without a type checker may pass anything
    if not isinstance(given, str) or not 0 < len(given) <= MAX_CHANNEL_LENGTH:
        raise invalid_config(
            key=key,
            value=given,
            reason=f"expected a string of 1 to {MAX_CHANNEL_LENGTH} characters",
        )
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise invalid_config(
            key=key, value=given, reason="expected a string that UTF-8 can encode"
        ) from error
    return given


def check_room(count: int, limit: int) -> None:
    """Check that one more subscription is allowed.

    Raises:
        WebTransportError: There are ``limit`` already.
    """
    if count >= limit:
        raise WebTransportError(
            f"the backend has {count} subscriptions already; its max_subscriptions is {limit}"
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
            f"the payload has {len(payload)} bytes; max_payload_size is {limit}",
            details={"size": len(payload), "max_payload_size": limit},
        )


def watch_gaps(backend: object, listener: GapListener) -> Callable[[], None]:
    """Watch the gaps of a backend that reports them; return a function that stops this."""
    watch: Any = getattr(backend, "watch_gaps", None)
    if watch is None:
        return lambda: None
    stop: Callable[[], None] = watch(listener)
    return stop


class GapListeners(list[GapListener]):
    """The functions that a backend tells about its gaps."""

    def add(self, listener: GapListener) -> Callable[[], None]:
        """Add a function; return one that removes it."""
        check_callable("listener", listener)
        self.append(listener)

        def stop() -> None:
            if listener in self:
                self.remove(listener)

        return stop

    def tell(self, seconds: float | None) -> int:
        """Call all functions; return how many of them raised, which is logged."""
        failed = 0
        for listener in tuple(self):
            failed += not call_listener("listener of gaps", listener, seconds)
        return failed


def call_listener(what: str, function: Callable[[Any], object], seconds: float | None) -> bool:
    """Call a function of the application; return False if it raised, which is logged."""
    try:
        function(seconds)
    except (Exception, asyncio.CancelledError) as error:
        log_application_error(logger, f"{what} {name_of(function)} failed: it", error)
        return False
    return True


class Handing:
    """Passes messages to subscribers, in the order in which they came.

    A message may have many subscribers, and each of these many members. So a publisher waits for
    the delivery, or messages would be created faster than they are delivered.

    Attributes:
        delivered: Messages that subscribers took.
        errors: Messages for which they raised.
    """

    __slots__ = ("_rounds", "delivered", "errors")

    def __init__(self) -> None:
        self._rounds = Rounds()
        self.delivered = self.errors = 0

    async def hand_over(
        self,
        subscribers: Iterable[Any],
        deliver_of: Callable[[Any], Deliver | None],
        channel: str,
        payload: bytes,
    ) -> None:
        """Deliver one message, and wait until it has arrived.

        Args:
            subscribers: A snapshot.
            deliver_of: Returns the function to call for one of them; None: not for this one.
            channel: The channel of the message.
            payload: The bytes of the message.

        Cancellation:
            It is delivered anyway.
        """
        waiting = self.begin(subscribers, deliver_of, channel, payload)
        if waiting is not None:
            await waiting

    def begin(
        self,
        subscribers: Iterable[Any],
        deliver_of: Callable[[Any], Deliver | None],
        channel: str,
        payload: bytes,
    ) -> Awaitable[None] | None:
        """Deliver one message; return what to await until it has arrived, None if it has.

        Args: as ``hand_over``.
        """
        longer: list[Round] = []

        def hand(subscriber: Any) -> None:
            # A subscriber may end the subscription of another.
            deliver = deliver_of(subscriber)
            if deliver is not None:
                self._call(deliver, channel, payload, longer)

        first = self._rounds.begin(subscribers, hand)
        return None if first.is_over and not longer else _until_over(first, longer)

    def _call(self, deliver: Deliver, channel: str, payload: bytes, longer: list[Round]) -> None:
        try:
            result = deliver(channel, payload)
        except (Exception, asyncio.CancelledError) as error:
            self.errors += 1
            what = f"subscriber {name_of(deliver)} failed for a message on '{printable(channel)}'"
            log_application_error(logger, f"{what}: it", error)
            return
        self.delivered += 1
        if isinstance(result, Round) and not result.is_over:
            longer.append(result)


async def _until_over(first: Round, others: list[Round]) -> None:
    await first.wait()  # it may add some of the others
    for one in others:
        await one.wait()
