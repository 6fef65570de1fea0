"""The client's side of publish/subscribe."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any, Self

from .._states import Timeout
from ..exceptions import (
    ConfigurationError,
    SessionClosedError,
    WebTransportError,
    invalid_config,
)
from ..rpc import RpcError, RpcManager
from ..serializer._messages import MessageCodec
from ..serializer._protocol import Serializer
from ..serializer._rebuild import check_type
from ..session import WebTransportSession
from ..stream import StructuredStream, WebTransportReceiveStream
from ..utils._checks import check_callable, check_instance, check_integer
from ..utils._closing import AsyncCloseable
from ..utils._text import printable
from ._exceptions import PubSubError, PubSubErrorCode, pubsub_error
from ._messages import (
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    WIRE_REGISTRY,
    BackpressurePolicy,
    Opening,
)
from ._publisher import Publisher
from ._room import DEFAULT_MAX_SESSION_BYTES, ReceivedRoom
from ._subscription import Subscription
from ._topics import check_pattern, check_topic
from ._wire import CALL_ROOM, DEFAULT_MAX_MESSAGE_SIZE, MAX_FRAME, MAX_SUBSCRIPTION_NUMBER

__all__ = ["PubSubManager"]

OPENING_TIMEOUT = 10.0
"""Seconds that the broker may take to identify a stream it opened."""

_A_YEAR = 31_536_000.0
CLOSE_TIMEOUT = 5.0
"""Seconds to wait until the broker confirms the end of a subscription."""

logger = logging.getLogger("pywebtransport.pubsub")


class PubSubManager(AsyncCloseable):
    """Publishes and subscribes at the broker on the other end of a session.

    It accepts all incoming unidirectional streams of the session; its ``RpcManager`` accepts the
    bidirectional ones.

    ::

        async with PubSubManager(session) as pubsub:
            await pubsub.publish("rooms.python", {"text": "hello"})
            async with pubsub.subscribe("rooms.*") as subscription:
                async for message in subscription:
                    print(message.topic, message.data)
    """

    def __init__(
        self,
        session: WebTransportSession | None = None,
        *,
        rpc: RpcManager | None = None,
        serializer: Serializer | None = None,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_session_bytes: int | None = None,
    ) -> None:
        """Create a manager; enter it to start it.

        Args:
            session: A session with a broker; not needed with ``rpc``.
            rpc: An ``RpcManager`` of the session, to use both. Enter it first; it stays open when
                this manager is closed. Default: a new one.
            serializer: The serializer of the broker; default ``JSONSerializer``, or that of
                ``rpc``.
            max_message_size: Largest message, in bytes.
            max_session_bytes: Bytes that may wait here for all subscriptions together. They
                are part of the session's ``max_session_memory``. Default: 4 MiB, or one message
                of ``max_message_size`` when that is more.

        Raises:
            ConfigurationError: There is neither ``session`` nor ``rpc``, or they do not match.
        """
        if max_session_bytes is None:
            max_session_bytes = DEFAULT_MAX_SESSION_BYTES
            if type(max_message_size) is int:
                max_session_bytes = max(max_session_bytes, max_message_size)
        check_integer("max_session_bytes", max_session_bytes, 1, sys.maxsize)
        check_integer("max_message_size", max_message_size, 1, MAX_FRAME - CALL_ROOM)
        if rpc is not None:
            check_instance("rpc", rpc, RpcManager)
        if rpc is None:
            if session is None:
                raise invalid_config(
                    key="session",
                    value=None,
                    reason="PubSubManager needs a session or an RpcManager",
                )
            rpc = RpcManager(
                session, serializer=serializer, max_message_size=max_message_size + CALL_ROOM
            )
            self._own_rpc = True
        else:
            if session not in (None, rpc.session):
                raise ConfigurationError("rpc belongs to another session", config_key="rpc")
            if serializer not in (None, rpc.serializer):
                raise ConfigurationError("rpc has another serializer", config_key="serializer")
            self._own_rpc = False
        self._rpc = rpc
        self._session = rpc.session
        self.max_message_size = max_message_size
        self.room = ReceivedRoom(max_session_bytes, self._session.memory_budget)
        self.codec = MessageCodec(rpc.serializer, WIRE_REGISTRY)
        self._publisher = Publisher(self._session, rpc.serializer, max_message_size)
        self._last_number = 0
        self._subscriptions: dict[int, Subscription] = {}
        self._reader: asyncio.Task[None] | None = None
        self._has_all_streams = False
        self._closed = False

    # ---------------------------------------------------------------- properties

    @property
    def session(self) -> WebTransportSession:
        """The session below."""
        return self._session

    @property
    def rpc(self) -> RpcManager:
        """The ``RpcManager`` below; you may use it for other methods, too."""
        return self._rpc

    @property
    def is_over(self) -> bool:
        """Whether no more streams will come: closed here, or the session has ended."""
        return self._closed or self._has_all_streams

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The open subscriptions."""
        return tuple(self._subscriptions.values())

    # ---------------------------------------------------------------- life cycle

    async def start(self) -> None:
        """Start to listen. Idempotent.

        Raises:
            ConfigurationError: The manager was closed before.
        """
        if self._closed:
            raise ConfigurationError("a PubSubManager cannot be started again; create another one")
        if self._reader is None:
            if self._own_rpc:
                await self._rpc.start()
            self._reader = asyncio.create_task(self._read_streams(), name="pubsub reader")

    async def close(self) -> None:
        """End all subscriptions; the session stays open. Idempotent.

        Takes at most about 5 seconds in total.

        Cancellation: everything is stopped anyway; only the waiting ends.
        """
        if self._closed:
            return
        self._closed = True
        ended = self.subscriptions
        readers = [
            self._reader,
            self._publisher.end(),
            *(subscription.reader for subscription in ended),
        ]
        tasks = [task for task in readers if task is not None]
        for subscription in ended:
            subscription.end()
        if self._reader is not None:
            self._reader.cancel()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOSE_TIMEOUT
        try:
            # Its streams were stopped, which the broker notices; this is for those that it has not
            # opened yet. The answer does not matter.
            for subscription in ended:
                left = deadline - loop.time()
                if left > 0:
                    await self._rpc.notify(UNSUBSCRIBE, subscription.number, timeout=left)
            if tasks:
                await asyncio.wait(tasks)
        except WebTransportError as error:
            logger.debug("unsubscribing failed: %s", printable(error))
        finally:
            if self._own_rpc:
                await self._rpc.close_within(deadline - loop.time())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    # ------------------------------------------------------------------ publishing

    async def publish(self, topic: str, data: Any = None, *, timeout: Timeout = None) -> None:
        """Send a message to all subscribers of a topic; returns when the broker has it.

        Messages of this manager arrive in order when each ``publish`` is awaited
        before the next one.

        Small messages share one stream, and one answer may be for many of them: publishing many
        at a time costs least. This needs a broker of this version with its default backend and
        without an ``async`` ``authorize``, and managers without interceptors. Otherwise each
        message is a remote call.

        Args:
            topic: Levels joined by dots, no wildcards.
            data: Anything that the serializer can encode.
            timeout: Seconds; None: the timeout of calls.

        Raises:
            InvalidTopicError: The topic is malformed.
            TopicForbiddenError: This session may not publish there.
            PubSubError: The broker cannot distribute it, or it is too large.
            RpcError, SerializationError, SessionClosedError: As ``RpcManager.call``.

        Cancellation: the message may have been sent, or not.
        """
        check_topic(topic)
        rpc = self._rpc
        limit = rpc.default_timeout if timeout is None else timeout
        if (
            self._reader is not None
            and not rpc.is_closed
            and not rpc.has_interceptors
            and _is_seconds(limit)
            and await self._publisher.publish(topic, data, limit)
        ):
            return
        try:
            await rpc.call(PUBLISH, topic, data, timeout=timeout)
        except RpcError as error:
            limits = error.data if error.remote and isinstance(error.data, dict) else {}
            if any(str(name).startswith("max_") for name in limits):
                # The broker did not read the call.
                raise PubSubError(
                    error.message,
                    error_code=PubSubErrorCode.TOO_LARGE,
                    data=error.data,
                    topic=topic,
                    remote=True,
                ) from None
            raise pubsub_error(error, topic) from None

    # ----------------------------------------------------------------- subscribing

    def subscribe(
        self,
        topic: str,
        *,
        policy: BackpressurePolicy | str = BackpressurePolicy.DROP_OLDEST,
        max_queue: int | None = None,
        data_type: Any = None,
        on_gap: Callable[[Subscription], object] | None = None,
    ) -> Subscription:
        """Subscribe to a topic or a pattern.

        Args:
            topic: A topic or a pattern: the level ``*`` matches any one level, a last level ``**``
                one or more levels.
            policy: What to do when a queue of this subscription is full.
            max_queue: Messages that may wait, at the broker and here; None: as many as the broker
                allows, and 256 here.
            data_type: Type to rebuild each message's data as, for instance a dataclass.
            on_gap: Called with the subscription when messages may have been lost between
                servers (``Broker`` with a backend that lost its connection), once they
                arrive again. Runs on the event loop and must not block.

        Returns:
            The subscription. Enter or await it to subscribe; this raises the same exceptions as
            ``publish``, and SubscriptionLimitError.

        Raises:
            InvalidTopicError: It is malformed.
            ConfigurationError: The policy is unknown, ``max_queue`` is out of range, ``data_type``
                is not a type for messages, or ``on_gap`` is not a plain function.
        """
        check_pattern(topic)
        try:
            chosen = BackpressurePolicy(policy)
        except ValueError:
            known = ", ".join(BackpressurePolicy)
            raise invalid_config(
                key="policy", value=policy, reason=f"expected one of {known}"
            ) from None
        if on_gap is not None:
            check_callable("on_gap", on_gap)
            if inspect.iscoroutinefunction(on_gap):
                raise invalid_config(
                    key="on_gap", value=on_gap, reason="expected a plain function, not 'async def'"
                )
        if data_type is not None:
            check_type("data_type", data_type)
        if max_queue is not None and (
            isinstance(max_queue, bool) or not isinstance(max_queue, int) or max_queue < 1
        ):
            raise invalid_config(
                key="max_queue", value=max_queue, reason="expected a whole number >= 1"
            )
        return Subscription(
            self,
            self._next_number(),
            topic,
            policy=chosen,
            max_queue=max_queue,
            data_type=data_type,
            on_gap=on_gap,
        )

    async def unsubscribe(self, topic: str) -> None:
        """Close all subscriptions of exactly this topic or pattern, as ``Subscription.close`` does.

        Raises:
            InvalidTopicError: It is malformed.
        """
        check_pattern(topic)
        for subscription in self.subscriptions:
            if subscription.topic == topic:
                await subscription.close()

    # -------------------------------------------------------------------- internal

    def _next_number(self) -> int:
        """Return an unused subscription number; numbers are reused in long sessions."""
        number = self._last_number
        while True:
            number = number + 1 if number < MAX_SUBSCRIPTION_NUMBER else 1
            if number not in self._subscriptions:
                self._last_number = number
                return number

    async def announce(self, subscription: Subscription) -> None:
        """Advanced: ask the broker for a subscription.

        Raises and cancellation: as awaiting the subscription.
        """
        if self._closed or self._reader is None:
            raise ConfigurationError("the PubSubManager is not running; enter it first")
        number = subscription.number
        # Before the call: the stream may arrive before the answer.
        self._subscriptions[number] = subscription
        try:
            await self._rpc.call(
                SUBSCRIBE,
                number,
                subscription.topic,
                subscription.policy.value,
                subscription.max_queue,
                # A broker of an earlier version does not know the last one.
                *(() if subscription.on_gap is None else (True,)),
            )
        except RpcError as error:
            raise pubsub_error(error, subscription.topic) from None
        if subscription.is_closed:  # during the call
            await self.withdraw(number)

    async def withdraw(self, number: int) -> None:
        """Advanced: tell the broker that a subscription ended. Never raises.

        Args:
            number: Number of the subscription.
        """
        if self._session.is_closed or self._rpc.is_closed:
            return
        try:
            await self._rpc.call(UNSUBSCRIBE, number, timeout=CLOSE_TIMEOUT)
        except WebTransportError as error:
            logger.debug("unsubscribing was not confirmed: %s", printable(error))

    def session_error(self) -> SessionClosedError | None:
        """The error for the end of the session; None while it is open."""
        info = self._session.close_info
        if info is None:
            return None
        return SessionClosedError(
            code=info.code,
            reason=info.reason,
            remote=info.remote,
            session_id=self._session.session_id,
        )

    def forget(self, number: int) -> None:
        """Advanced: forget a subscription that gets nothing more from the broker."""
        self._subscriptions.pop(number, None)

    async def _read_streams(self) -> None:
        """Pass each stream of the broker to its subscription."""
        turns = self._session.turns
        async for stream in self._session.incoming_unidirectional_streams():
            structured: StructuredStream[Any] = StructuredStream(
                stream=stream,
                serializer=self._rpc.serializer,
                registry=WIRE_REGISTRY,
                max_message_size=self.max_message_size,
            )
            try:
                # One stream after the other: the broker writes each opening immediately.
                async with asyncio.timeout(OPENING_TIMEOUT):
                    opening = await structured.receive_obj()
            except (WebTransportError, builtins.TimeoutError) as error:
                logger.debug("stream %d has no opening: %s", stream.stream_id, printable(error))
                opening = None
            if not self._hand_over(opening, stream, structured):
                stream.stop_sending(PubSubErrorCode.INVALID_SUBSCRIPTION)
            await turns.pause()
        self._has_all_streams = True
        for subscription in self.subscriptions:
            subscription.look_again()

    def _hand_over(
        self,
        opening: object,
        stream: WebTransportReceiveStream,
        structured: StructuredStream[Any],
    ) -> bool:
        if not isinstance(opening, Opening):
            return False
        subscription = self._subscriptions.get(opening.subscription)
        return subscription is not None and subscription.deliver_from(stream, structured)


def _is_seconds(timeout: object) -> bool:
    """Whether this is a timeout for certain; a call checks whatever else it is."""
    if timeout is None:
        return True
    return type(timeout) in (int, float) and 0 < timeout < _A_YEAR  # type: ignore[operator]


def publisher_of(manager: PubSubManager) -> Publisher:
    """What publishes for a manager; tests look at it."""
    return manager._publisher
