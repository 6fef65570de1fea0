"""The server's side of publish/subscribe."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Self, TypeAlias

from .._core.opening import ReachedLimit, reached_limit
from .._core.structured_stream import MESSAGE_HEADER
from ..constants import DEFAULT_CLOSE_TIMEOUT
from ..events import EventBackend, LocalBackend
from ..events._backend import watch_gaps
from ..events._memory import begin_publishing_of
from ..exceptions import (
    AuthenticationError,
    ConfigurationError,
    ConnectionError,
    SerializationError,
    StreamLimitError,
    TimeoutError,
    WebTransportError,
    invalid_config,
)
from ..rpc import RpcManager
from ..serializer import JSONSerializer
from ..serializer._protocol import Serializer
from ..session import WebTransportSession
from ..stream import WebTransportSendStream, WebTransportStream
from ..utils._async_functions import unwrapped
from ..utils._budget import PROCESS, ByteBudget
from ..utils._checks import check_instance, check_integer, check_signature
from ..utils._closing import AsyncCloseable
from ..utils._logs import SHARED_BURST, BoundedLog
from ..utils._rounds import Rounds
from ..utils._stuck import LAST_WORDS, end_tasks, run_within
from ..utils._text import printable
from ..utils._turns import for_each
from ._delivery import Delivery
from ._exceptions import (
    PubSubError,
    PubSubErrorCode,
    SubscriptionLimitError,
    TopicForbiddenError,
    bad_request,
    too_large,
)
from ._group import Group
from ._intake import refuse_publications, take_publications
from ._messages import (
    MESSAGE_TYPE,
    PUBLICATIONS,
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    BackpressurePolicy,
    Opening,
    PubSubMessage,
)
from ._queue import DEFAULT_MAX_QUEUE, DEFAULT_MAX_QUEUE_BYTES, queue_bytes
from ._room import (
    DEFAULT_MAX_SESSION_BYTES,
    DEFAULT_MAX_TOTAL_BYTES,
    SessionRoom,
    Totals,
)
from ._shares import AddressShares
from ._topics import check_pattern, check_topic
from ._wire import (
    CALL_ROOM,
    DEFAULT_MAX_MESSAGE_SIZE,
    MAX_FRAME,
    MAX_SUBSCRIPTION_NUMBER,
    FrameCodec,
)

__all__ = ["Authorize", "Broker"]

DEFAULT_MAX_SUBSCRIPTIONS = 100
DEFAULT_MAX_SUBSCRIPTIONS_PER_ADDRESS = 20_000
# A quarter of the default limit of a backend.
DEFAULT_MAX_PATTERNS_PER_ADDRESS = 2_500
MAX_PREFIX_LENGTH = 512
"""Characters before a topic in the name of a channel."""

Authorize: TypeAlias = Callable[[WebTransportSession, str, str], bool | Awaitable[bool]]
"""``authorize(session, action, topic)``: is ``"subscribe"`` or ``"publish"`` allowed?"""

# The backend is not connected, or its server refuses this one.
_UNAVAILABLE = (AuthenticationError, ConnectionError)

_MAX_PUBLICATIONS = 4
"""Streams of publications of one session; a client needs one, and another while that one ends."""
_CREDIT_GRACE = 0.1
"""Seconds to wait for the room that an ended stream leaves."""

logger = logging.getLogger("pywebtransport.pubsub")


class Broker(AsyncCloseable):
    """Connects the publishers and subscribers of many sessions, and of many servers.

    Create one per application. Messages go through a backend: by default to all workers of the
    server, with ``RedisBackend`` to all servers that use the same Redis. Entering the broker starts
    the backend, and leaving it closes the backend.

    ::

        broker = Broker()

        @app.route("/events")
        async def events(session):
            await broker.serve(session)

        app.on_startup(broker.start)
        app.on_shutdown(broker.close)

    A message is encoded once, by the server at which it was published; all servers and subscribers
    get these bytes. Delivery is at most once: a slow subscriber loses messages according to its
    policy (and is told how many), and a subscriber that is not connected gets none.
    """

    def __init__(
        self,
        backend: EventBackend | None = None,
        *,
        authorize: Authorize | None = None,
        prefix: str = "pubsub:",
        serializer: Serializer | None = None,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_subscriptions: int = DEFAULT_MAX_SUBSCRIPTIONS,
        max_subscriptions_per_address: int | None = DEFAULT_MAX_SUBSCRIPTIONS_PER_ADDRESS,
        max_patterns_per_address: int | None = DEFAULT_MAX_PATTERNS_PER_ADDRESS,
        max_queue: int = DEFAULT_MAX_QUEUE,
        max_queue_bytes: int | None = None,
        max_session_bytes: int | None = None,
        max_total_bytes: int = DEFAULT_MAX_TOTAL_BYTES,
    ) -> None:
        """Create a broker without sessions.

        Args:
            backend: What connects the servers. Default: a ``LocalBackend``, which connects the
                workers of this server, or this process alone if there are none.
            authorize: Called before each subscription and publication of a session; plain or
                ``async``. Default: everything is allowed.
            prefix: Prefix of the backend's channels, before the topic.
            serializer: The same for all servers and clients; default ``JSONSerializer``.
            max_message_size: Largest delivered message, in bytes.
            max_subscriptions: Subscriptions per session.
            max_subscriptions_per_address: Subscriptions of all sessions of one client address (for
                IPv6: of its /64); see ``WebTransportConnection.client_network``. None: no limit.
            max_patterns_per_address: Different patterns of these subscriptions, whose number is
                limited in a backend. None: no limit.
            max_queue: Messages that may wait for one subscriber; it may ask for fewer.
            max_queue_bytes: Bytes that may wait for one subscriber; a message larger than
                this is never delivered. Default: 1 MiB, or one message of
                ``max_message_size`` when that is more.
            max_session_bytes: Bytes that may wait for all subscriptions of one session together,
                including those that its streams have not sent yet. Default: 4 MiB, or
                ``max_queue_bytes`` when that is more.
            max_total_bytes: Bytes that may wait for all sessions together. A message that waits for
                many subscribers counts once. The bytes are part of the ``max_memory`` of the
                process.

        Raises:
            ConfigurationError: An argument is of another type, or out of range.
        """
        chosen = DEFAULT_MAX_QUEUE_BYTES if max_queue_bytes is None else max_queue_bytes
        check_integer("max_total_bytes", max_total_bytes, 1, sys.maxsize)
        if max_session_bytes is not None:
            check_integer("max_session_bytes", max_session_bytes, 1, sys.maxsize)
        for key, value in (
            ("max_message_size", max_message_size),
            ("max_subscriptions", max_subscriptions),
            ("max_subscriptions_per_address", max_subscriptions_per_address),
            ("max_patterns_per_address", max_patterns_per_address),
            ("max_queue", max_queue),
            ("max_queue_bytes", chosen),
        ):
            if value is None and key.endswith("_per_address"):
                continue
            if type(value) is not int or not 1 <= value <= MAX_FRAME - CALL_ROOM:
                raise invalid_config(
                    key=key,
                    value=value,
                    reason=f"expected a whole number from 1 to {MAX_FRAME - CALL_ROOM}",
                )
        if not isinstance(prefix, str) or "*" in prefix or len(prefix) > MAX_PREFIX_LENGTH:
            raise invalid_config(
                key="prefix",
                value=prefix,
                reason=f"expected a string of at most {MAX_PREFIX_LENGTH} characters, no wildcard",
            )
        if backend is not None and (
            isinstance(backend, type) or not isinstance(backend, EventBackend)
        ):
            raise invalid_config(key="backend", value=backend, reason="expected an EventBackend")
        if authorize is not None:
            check_signature(
                "authorize",
                authorize,
                "a function of (session, action, topic)",
                None,
                "subscribe",
                "topic",
            )
        if backend is None:
            # Other brokers of this process have their own.
            backend = LocalBackend(f"broker {prefix}")
        self._backend: EventBackend = backend
        self._begin_publishing = begin_publishing_of(self._backend)
        self._authorize = authorize
        self._prefix = prefix
        if serializer is None:
            # Sizes are limited here and by the streams.
            serializer = JSONSerializer(max_size=MAX_FRAME)
        self._serializer: Serializer = serializer
        self._max_size = max_message_size
        self._frames = FrameCodec(self._serializer, max_message_size)
        self._max_subscriptions = max_subscriptions
        self._max_queue = max_queue
        if max_queue_bytes is None:
            chosen = queue_bytes(max_message_size + MESSAGE_HEADER.size)
        self._max_queue_bytes = chosen
        self._addresses = AddressShares(max_subscriptions_per_address, max_patterns_per_address)
        self._log = BoundedLog(logger, burst=SHARED_BURST)
        if max_session_bytes is None:
            max_session_bytes = max(DEFAULT_MAX_SESSION_BYTES, chosen)
        self._max_session_bytes = max_session_bytes
        self._memory = ByteBudget("max_total_bytes", max_total_bytes, PROCESS)
        self._totals = Totals()
        self._rounds = Rounds()
        self._groups: dict[str, Group] = {}
        self._clients: set[_Client] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._published = 0
        self._unwatch: Callable[[], None] = lambda: None
        self._closed = False

    # ---------------------------------------------------------------- life cycle

    async def start(self) -> None:
        """Start the backend. Idempotent.

        Raises:
            ConnectionError: The backend cannot be reached.
            ConfigurationError: The broker was closed before.
        """
        if self._closed:
            raise ConfigurationError("a Broker cannot be started again; create another one")
        await self._backend.start()
        self._unwatch()
        self._unwatch = watch_gaps(self._backend, self._tell_gap)

    async def close(self) -> None:
        """End all subscriptions and close the backend; sessions stay open. Idempotent.

        Takes at most about 5 seconds in total; a backend that takes longer is cancelled.
        """
        self._closed = True
        self._unwatch()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEFAULT_CLOSE_TIMEOUT
        await self._rounds.begin(tuple(self._clients), _Client.end).wait()
        self._log.flush()
        if self._leaving:
            await asyncio.wait(tuple(self._leaving), timeout=DEFAULT_CLOSE_TIMEOUT / 2)
            await end_tasks(
                self._leaving, timeout=LAST_WORDS, logger=logger, what="subscriptions of a backend"
            )
        await run_within(
            self._backend.close,
            timeout=deadline - loop.time(),
            logger=logger,
            what="closing the backend of a broker",
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    # ------------------------------------------------------------------- serving

    async def serve(self, session: WebTransportSession, *, rpc: RpcManager | None = None) -> None:
        """Serve one session until it ends.

        Args:
            session: The session of a client.
            rpc: An ``RpcManager`` of this session, to offer methods of the application as well. It
                must have the serializer of the broker, and is entered and closed here. Default: a
                new one.

        Raises:
            ConfigurationError: The broker is closed, or ``rpc`` belongs to another session.

        Cancellation: ends the subscriptions of the session.
        """
        check_instance("session", session, WebTransportSession)
        if rpc is not None:
            check_instance("rpc", rpc, RpcManager)
        if self._closed:
            raise ConfigurationError("the broker is closed")
        if rpc is None:
            rpc = RpcManager(
                session, serializer=self._serializer, max_message_size=self._max_size + CALL_ROOM
            )
        elif rpc.session is not session:
            raise ConfigurationError("rpc belongs to another session", config_key="rpc")
        client = _Client(self, session, takes_publications=self._takes_publications(rpc))
        self._clients.add(client)
        try:
            rpc.register(client.subscribe, name=SUBSCRIBE)
            rpc.register(client.unsubscribe, name=UNSUBSCRIBE)
            rpc.register(client.publish, name=PUBLISH)
            rpc.register_conversation(PUBLICATIONS, client.publications)
            await rpc.serve()
        finally:
            self._clients.discard(client)
            client.end()

    async def publish(self, topic: str, data: Any) -> None:
        """Send a message to all subscribers of a topic, on all servers.

        Args:
            topic: Without wildcards.
            data: Any object that the serializer supports.

        Raises:
            InvalidTopicError: The topic is malformed.
            SerializationError: The data cannot be sent, or is larger than ``max_message_size``.
            PubSubError: The backend is not connected (UNAVAILABLE).

        Cancellation: the message may have been published, or not.
        """
        check_topic(topic)
        frame = self._frames.encode(PubSubMessage(topic, data))
        try:
            await self._backend.publish(self._prefix + topic, frame)
        except _UNAVAILABLE as error:
            raise self._unavailable(topic, error) from error
        self._published += 1

    def get_stats(self) -> dict[str, int]:
        """Counters: sessions, subscriptions, patterns, published, delivered, dropped, waiting.

        ``limited``: subscriptions that were refused because of a limit per client address.
        ``delivered``, ``dropped`` and ``waiting`` count the subscriptions that exist now;
        ``waiting_bytes`` counts against ``max_total_bytes``.
        """
        totals = self._totals
        return {
            "sessions": len(self._clients),
            "subscriptions": totals.subscriptions,
            "patterns": len(self._groups),
            "published": self._published,
            "delivered": totals.delivered,
            "dropped": totals.dropped,
            "waiting": totals.waiting,
            "waiting_bytes": self._memory.used,
            "limited": self._log.counts.get("limited", 0),
        }

    # ------------------------------------------------------------------ internal

    async def _check_allowed(self, session: WebTransportSession, action: str, topic: str) -> None:
        waiting = self._begin_check(session, action, topic)
        if waiting is not None:
            await waiting

    def _begin_check(
        self, session: WebTransportSession, action: str, topic: str
    ) -> Awaitable[None] | None:
        """Check that a session may do something; return what to await for the answer, if any."""
        if self._authorize is None:
            return None
        answer = self._authorize(session, action, topic)
        if inspect.isawaitable(answer):
            return _checked(answer, action, topic)
        _check_answer(answer, action, topic)
        return None

    def _takes_publications(self, rpc: RpcManager) -> bool:
        """Whether clients may publish on a stream.

        Its messages are published one after the other. So nothing that every message waits for
        may be slow, and interceptors would not see them.
        """
        slow = inspect.iscoroutinefunction(unwrapped(self._authorize))
        return self._begin_publishing is not None and not slow and not rpc.has_interceptors

    def _publish_encoded(
        self, session: WebTransportSession, type_id: int, payload: bytes
    ) -> Awaitable[object] | None:
        """Publish a message as a client encoded it; return what to wait for, if anything.

        The subscribers get the bytes that were checked here.
        """
        try:
            message = self._frames.decode(type_id, payload) if type_id == MESSAGE_TYPE else None
        except SerializationError as error:
            raise bad_request(error.message) from error
        if not isinstance(message, PubSubMessage):
            raise bad_request(f"type ID {type_id} is not that of a message to publish")
        topic = check_topic(message.topic)
        waiting = self._begin_check(session, "publish", topic)
        if waiting is not None:
            return self._publish_later(waiting, topic, type_id, payload)
        return self._begin(topic, type_id, payload)

    async def _publish_later(
        self, allowed: Awaitable[None], topic: str, type_id: int, payload: bytes
    ) -> None:
        await allowed
        waiting = self._begin(topic, type_id, payload)
        if waiting is not None:
            await waiting

    def _begin(self, topic: str, type_id: int, payload: bytes) -> Awaitable[object] | None:
        assert self._begin_publishing is not None  # else no stream is accepted
        try:
            frame = self._frames.framed(type_id, payload)
            waiting = self._begin_publishing(self._prefix + topic, frame)
        except SerializationError as error:
            raise too_large(error, topic) from error
        except _UNAVAILABLE as error:
            raise self._unavailable(topic, error) from error
        self._published += 1
        return waiting

    def _unavailable(self, topic: str, error: Exception) -> PubSubError:
        self._log.tell(
            "publish", logging.WARNING, "publishing is not possible: %s", printable(error)
        )
        return PubSubError("the message bus is not available", topic=topic)

    def _tell_gap(self, seconds: float | None) -> None:
        """The backend is losing messages (None), or lost messages for this many seconds."""
        if seconds is not None:
            clients = tuple(self._clients)
            self._rounds.begin(
                (one for client in clients for one in tuple(client.subscriptions.values())),
                Delivery.tell_gap,
            )

    def _delivery(
        self,
        room: SessionRoom,
        policy: BackpressurePolicy,
        max_queue: int,
        wants_gaps: bool,
        on_end: Callable[[], None],
    ) -> Delivery:
        return Delivery(
            policy=policy,
            max_queue=max_queue,
            max_bytes=self._max_queue_bytes,
            room=room,
            totals=self._totals,
            encode=self._frames.encode,
            wants_gaps=wants_gaps,
            on_end=on_end,
        )

    async def _join(self, pattern: str, delivery: Delivery) -> None:
        """Subscribe a delivery to a pattern; messages arrive once this returns."""
        group = self._groups.get(pattern)
        if group is None:
            group = self._groups[pattern] = Group(
                self._prefix, pattern, self._frames, self._memory, self._log
            )
        group.members.add(delivery)
        try:
            async with group.lock:
                if group.backend_id is None:
                    group.backend_id = await self._backend.subscribe(group.channels, group.deliver)
        except BaseException as error:
            self._leave(pattern, delivery)
            if isinstance(error, _UNAVAILABLE):
                self._log.tell(
                    "subscribe",
                    logging.WARNING,
                    "subscribing is not possible: %s",
                    printable(error),
                )
                raise PubSubError("the message bus is not available", topic=pattern) from error
            if isinstance(error, WebTransportError):
                raise SubscriptionLimitError(
                    "the server has reached its limit of subscriptions", topic=pattern
                ) from error
            raise

    def _leave(self, pattern: str, delivery: Delivery) -> None:
        """Remove a subscription; the last one of a pattern ends the subscription of the backend."""
        group = self._groups.get(pattern)
        if group is None or delivery not in group.members:
            return
        group.members.discard(delivery)
        if not group.members:
            # In a task of the broker, because the caller is often being cancelled.
            task = asyncio.create_task(self._drop(group), name="pubsub unsubscribe")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _drop(self, group: Group) -> None:
        async with group.lock:
            # Another subscription may have joined meanwhile, or another task was first.
            if group.members or self._groups.get(group.pattern) is not group:
                return
            del self._groups[group.pattern]
            if group.backend_id is not None:
                try:
                    await self._backend.unsubscribe(group.backend_id)
                except WebTransportError as error:
                    self._log.tell(
                        "unsubscribe",
                        logging.WARNING,
                        "unsubscribing '%s' failed: %s",
                        printable(group.pattern),
                        printable(error),
                    )


class _Client:
    """One session at the broker: its subscriptions, and the methods it calls."""

    __slots__ = (
        "_broker",
        "_ended",
        "_network",
        "_publications",
        "_room",
        "_takes_publications",
        "session",
        "subscriptions",
    )

    def __init__(
        self, broker: Broker, session: WebTransportSession, *, takes_publications: bool
    ) -> None:
        self._broker = broker
        self._takes_publications = takes_publications
        self.session = session
        connection = session.connection
        self._network = "" if connection is None else connection.client_network
        self._ended = False
        self._publications = 0  # streams
        self._room = SessionRoom(broker._max_session_bytes, self._settle)
        self.subscriptions: dict[int, Delivery] = {}

    async def subscribe(
        self,
        subscription: int,
        pattern: str,
        policy: str = BackpressurePolicy.DROP_OLDEST,
        max_queue: int | None = None,
        gaps: bool = False,
    ) -> dict[str, int]:
        """Remote method: start delivery; returns the limits that apply."""
        broker = self._broker
        check_pattern(pattern)
        self._check_number(subscription)
        chosen = _policy(policy)
        room = broker._max_queue if max_queue is None else max_queue
        if isinstance(room, bool) or not isinstance(room, int) or room < 1:
            raise _invalid(f"max_queue must be a whole number >= 1, got {max_queue!r:.40}")
        if self._ended or broker._closed:
            raise PubSubError("the broker is closed", topic=pattern)
        if len(self.subscriptions) >= broker._max_subscriptions:
            raise SubscriptionLimitError(
                f"a session may have {broker._max_subscriptions} subscriptions", topic=pattern
            )

        self._check_share(pattern)

        def forget() -> None:
            self.subscriptions.pop(subscription, None)
            broker._addresses.remove(self._network, pattern)
            broker._leave(pattern, delivery)

        limit = min(room, broker._max_queue)
        delivery = broker._delivery(self._room, chosen, limit, gaps, forget)
        self.subscriptions[subscription] = delivery
        broker._addresses.add(self._network, pattern)
        try:
            await broker._check_allowed(self.session, "subscribe", pattern)
            stream = await self._open_stream(pattern)
            try:
                await stream.write(broker._frames.encode(Opening(subscription)))
                await broker._join(pattern, delivery)
                if delivery.ended:
                    raise PubSubError("the subscription was ended meanwhile", topic=pattern)
            except BaseException:
                stream.reset(PubSubErrorCode.UNAVAILABLE)
                raise
            delivery.attach(stream)
        except BaseException:
            delivery.end()
            broker._leave(pattern, delivery)
            raise
        return {"max_queue": delivery.queue.max_messages}

    def _check_share(self, pattern: str) -> None:
        """Check the limits per client address."""
        broker = self._broker
        reason = broker._addresses.refusal(self._network, pattern)
        if reason is not None:
            broker._log.tell(
                "limited",
                logging.WARNING,
                "refused a subscription of session %s (client %s): %s",
                self.session.session_id,
                self._network,
                reason,
            )
            raise SubscriptionLimitError(reason, topic=pattern)

    async def _open_stream(self, pattern: str) -> WebTransportSendStream:
        """Open the stream of another subscription without waiting for a stream limit.

        Sessions share the streams of their connection, so fewer than ``max_subscriptions`` may be
        left for this session.
        """
        session = self.session
        # The peer returns the credit of a subscription that has just ended within a round trip.
        grace = _CREDIT_GRACE + 2 * (session.rtt or 0.0)
        try:
            return await session.create_unidirectional_stream(timeout=grace)
        except (StreamLimitError, TimeoutError) as error:
            raise SubscriptionLimitError(
                f"there is no stream for subscription {len(self.subscriptions)} of this session: "
                + _reached(reached_limit(session, True)),
                topic=pattern,
            ) from error

    async def unsubscribe(self, subscription: int) -> None:
        """Remote method: stop delivering; an unknown subscription is ignored."""
        if isinstance(subscription, int) and subscription in self.subscriptions:
            self.subscriptions[subscription].unsubscribe()

    async def publish(self, topic: str, data: Any = None) -> None:
        """Remote method: send a message to all subscribers."""
        check_topic(topic)
        await self._broker._check_allowed(self.session, "publish", topic)
        try:
            await self._broker.publish(topic, data)
        except SerializationError as error:
            raise too_large(error, topic) from error

    async def publications(self, stream: WebTransportStream) -> None:
        """Take over a stream with messages to publish."""
        if not self._takes_publications:
            await refuse_publications(stream, self._broker._serializer)
            return
        if self._publications >= _MAX_PUBLICATIONS:
            raise bad_request(f"a session may have {_MAX_PUBLICATIONS} streams of publications")
        broker = self._broker
        self._publications += 1
        try:
            publish = partial(broker._publish_encoded, self.session)
            await take_publications(self.session, stream, broker._serializer, publish)
        finally:
            self._publications -= 1

    def end(self) -> None:
        """Forget everything about the session, over several turns if it has many subscriptions."""
        self._ended = True
        for_each(self.session.turns, tuple(self.subscriptions.values()), Delivery.end)

    def _settle(self) -> None:
        """Release the room of bytes that have left the streams."""
        for delivery in self.subscriptions.values():
            delivery.settle()

    def _check_number(self, number: object) -> None:
        if (
            isinstance(number, bool)
            or not isinstance(number, int)
            or not 0 <= number <= MAX_SUBSCRIPTION_NUMBER
        ):
            raise _invalid(
                f"subscription must be 0 to {MAX_SUBSCRIPTION_NUMBER}, got {number!r:.40}"
            )
        if number in self.subscriptions:
            raise _invalid(f"subscription {number} exists already")


def _reached(limit: ReachedLimit) -> str:
    """Describe a limit from the view of the subscriber, whose peer is this server."""
    if limit.name.islower():
        return f"the server has {limit.open} open, and {limit.name}={limit.value}"
    shared = "" if limit.name.startswith("WT_") else ", shared by its sessions"
    return (
        f"the client's connection allows no further unidirectional stream ({limit.name} is "
        f"{limit.value}, {limit.open} are open: its initial_max_streams_uni{shared})"
    )


def _policy(name: object) -> BackpressurePolicy:
    try:
        return BackpressurePolicy(name)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(BackpressurePolicy)
        raise _invalid(f"policy must be one of {known}, got {name!r:.40}") from None


def _invalid(message: str) -> PubSubError:
    return PubSubError(message, error_code=PubSubErrorCode.INVALID_SUBSCRIPTION)


async def _checked(answer: Awaitable[bool], action: str, topic: str) -> None:
    _check_answer(await answer, action, topic)


def _check_answer(answer: bool, action: str, topic: str) -> None:
    if not answer:
        raise TopicForbiddenError(f"this session may not {action} {topic!r}", topic=topic)
