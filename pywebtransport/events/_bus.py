"""An event bus, for one process or many."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

from .._states import EventData, EventType
from ..constants import DEFAULT_CLOSE_TIMEOUT
from ..exceptions import SerializationError, WebTransportError, invalid_config
from ..serializer import JSONSerializer
from ..serializer._protocol import Serializer
from ..utils._checks import check_count, check_instance, check_text
from ..utils._closing import AsyncCloseable
from ..utils._failures import log_application_error, name_of, session_among
from ..utils._rounds import Round, Rounds
from ..utils._stuck import end_tasks, run_within
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable
from ..utils._turns import Turns
from ._backend import EventBackend, check_channel, watch_gaps
from ._event import Event, EventHandler

__all__ = ["EventBus", "create_event_bus"]

logger = logging.getLogger("pywebtransport.events")

DEFAULT_MAX_QUEUE_SIZE = 1000
"""Events that wait for one subscription."""
DEFAULT_MAX_SUBSCRIPTIONS = 10_000
"""Subscriptions of one bus."""


@dataclass(frozen=True, slots=True)
class _Message:
    """An event between processes."""

    type: str
    timestamp: float
    data: Any
    event_id: str
    source: str | None


class _Subscription:
    """A handler, its waiting events, and the task in which it runs."""

    __slots__ = ("event_type", "handler", "id", "once", "queue", "task")

    def __init__(
        self, subscription_id: str, event_type: str, handler: EventHandler, once: bool
    ) -> None:
        self.id = subscription_id
        self.event_type = event_type
        self.handler = handler
        self.once = once
        self.queue: deque[Event] = deque()
        self.task: asyncio.Task[None] | None = None


class EventBus(AsyncCloseable):
    """Passes events from publishers to subscribers of their type.

    Without a backend, it serves one process (of several workers, only this one), and handlers get
    the same :class:`Event` object that was published. With a backend, every bus on it gets each
    event, in any process, including that of the publisher. This is a serialized copy, whose
    ``source`` is a string. The backend delivers each event at most once.

    A handler is a function or a coroutine function. Each subscription gets its events in order and
    one at a time. While a coroutine runs, further events wait in the queue of this subscription, so
    a slow handler does not hold up others. When the queue is full, the oldest event is dropped,
    counted and logged. If a handler raises, this is logged and counted, and it still gets the next
    event.

    With a backend that can lose messages, each gap is reported by events of type ``EventBus.GAP``
    on the buses of this process. Their ``data`` is ``{"connected": False, "seconds": None}`` when
    it begins, and has True and its duration when it is over.

    A bus belongs to one event loop. With a backend, it receives events of other buses after
    :meth:`start`, which ``async with`` and :func:`create_event_bus` call.

    Args:
        backend: What carries events to other buses; None: nothing does.
        serializer: How events travel on the backend; None: as JSON. It must
            rebuild dataclasses, as :class:`JSONSerializer` and
            :class:`MsgPackSerializer` do.
        channel_prefix: The channel in the backend is this prefix and the type of the event. Buses
            with different prefixes do not receive events of each other, unless one prefix begins
            with the other.
        close_backend: Whether :meth:`close` closes the backend too; False when
            others use it.
        max_queue_size: Events that wait for one subscription.
        max_subscriptions: Subscriptions at a time.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    GAP: ClassVar[str] = "event_bus_gap"
    """Type of the events that report lost messages."""

    _instances: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, EventBus]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(
        self,
        backend: EventBackend | None = None,
        *,
        serializer: Serializer | None = None,
        channel_prefix: str = "events:",
        close_backend: bool = True,
        max_queue_size: int = DEFAULT_MAX_QUEUE_SIZE,
        max_subscriptions: int = DEFAULT_MAX_SUBSCRIPTIONS,
    ) -> None:
        if backend is not None and (
            isinstance(backend, type) or not isinstance(backend, EventBackend)
        ):
            raise invalid_config(key="backend", value=backend, reason="expected an EventBackend")
        if serializer is not None and (
            isinstance(serializer, type) or not isinstance(serializer, Serializer)
        ):
            raise invalid_config(key="serializer", value=serializer, reason="expected a Serializer")
        self._backend = backend
        self._serializer = JSONSerializer() if serializer is None else serializer
        self._prefix = check_channel("channel_prefix", channel_prefix)
        self._close_backend = close_backend
        self._max_queue_size = check_count("max_queue_size", max_queue_size)
        self._max_subscriptions = check_count("max_subscriptions", max_subscriptions)
        self._starting = asyncio.Lock()
        self._backend_id: str | None = None
        self._unwatch: Callable[[], None] = _nothing
        self._closed = False
        self._ids = itertools.count(1)
        self._subscriptions: dict[str, _Subscription] = {}
        self._by_type: dict[str, dict[str, _Subscription]] = {}
        # Tasks of subscriptions that may be gone already.
        self._tasks: set[asyncio.Task[None]] = set()
        self._rounds = Rounds()
        self._queued = 0
        self._counts = dict.fromkeys(("published", "received", "malformed", "dropped", "errors"), 0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    @classmethod
    async def get_instance(cls) -> EventBus:
        """Return the bus that all code on this event loop shares; it has no backend.

        The first call creates it, and so does the first call after it was closed. It goes away with
        its loop.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        loop = asyncio.get_running_loop()
        bus = cls._instances.get(loop)
        if bus is None or bus._closed:
            bus = cls._instances[loop] = EventBus()
        return bus

    async def start(self) -> None:
        """Start the backend and listen to it; does nothing without a backend. Idempotent.

        Raises:
            ConnectionError: The backend cannot be reached.
            WebTransportError: The bus is closed.

        Cancellation: safe; you may call it again.
        """
        async with self._starting:
            self._check_open()
            if self._backend is not None and self._backend_id is None:
                await self._backend.start()
                self._unwatch()
                self._unwatch = watch_gaps(self._backend, self._tell_gap)
                self._backend_id = await self._backend.subscribe(f"{self._prefix}*", self._receive)

    async def close(self) -> None:
        """End all subscriptions, cancel handlers that run, release the backend. Idempotent.

        Takes at most about 5 seconds. A handler or backend that takes longer is cancelled. If it
        continues anyway, it is named in the log and no longer waited for.

        Cancellation: safe; handlers are cancelled even when the caller does
        not wait for their end. The backend may then need another ``close()``.
        """
        self._closed = True
        self.clear_all_subscriptions()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEFAULT_CLOSE_TIMEOUT
        # A handler may close its bus: it cannot wait for itself.
        await end_tasks(
            self._tasks, timeout=DEFAULT_CLOSE_TIMEOUT / 2, logger=logger, what="event handlers"
        )
        if self._backend is not None:
            await run_within(
                partial(self._release, self._backend),
                timeout=deadline - loop.time(),
                logger=logger,
                what="releasing the backend of an event bus",
            )

    async def _release(self, backend: EventBackend) -> None:
        async with self._starting:
            self._unwatch()
            if self._backend_id is not None:
                await backend.unsubscribe(self._backend_id)
                self._backend_id = None
            if self._close_backend:
                await backend.close()

    async def emit(
        self,
        event_type: EventType | str,
        data: EventData | None = None,
        source: Any = None,
    ) -> None:
        """Create an event and publish it, as :meth:`publish` does.

        Args:
            event_type: What happened.
            data: Value of :attr:`Event.data`.
            source: Value of :attr:`Event.source`.
        """
        await self.publish(Event(type=event_type, data=data, source=source))

    async def publish(self, event: Event) -> None:
        """Pass an event to all subscribers of its type, without waiting for their handlers.

        Without a backend, handlers that are functions have run when it returns, and coroutines have
        begun. If there are many, the event loop runs some in each turn. With a backend, the backend
        has the event; the bus is started if necessary.

        Raises:
            ConnectionError: The backend is not connected now.
            SerializationError: The event cannot be serialized for the backend,
                or is too large for it.
            WebTransportError: The bus is closed.

        Cancellation: the event may have been published, or not.
        """
        check_instance("event", event, Event)
        self._check_open()
        if self._backend is None:
            self._counts["published"] += 1
            await self._dispatch(event).wait()
            # Let others run, so that a publisher in a loop does not fill all queues.
            await asyncio.sleep(0)
            return
        payload = self._encode(event)
        if self._backend_id is None:
            await self.start()
        await self._backend.publish(f"{self._prefix}{event.type}", payload)
        self._counts["published"] += 1

    def subscribe(
        self, event_type: EventType | str, handler: EventHandler, once: bool = False
    ) -> str:
        """Call ``handler`` for each future event of a type.

        With a backend, events of other buses arrive after this bus was started.

        Args:
            event_type: The type of the events.
            handler: A function or coroutine function of one :class:`Event`.
            once: Call it only for the next event.

        Returns:
            An identifier for :meth:`unsubscribe`.

        Raises:
            WebTransportError: The bus is closed, or has ``max_subscriptions``, or ``handler`` is
                not callable.
        """
        check_text("event_type", event_type)
        self._check_open()
        given: object = handler  # callers without a type checker may pass anything
        if not callable(given):
            raise WebTransportError(f"{printable(given)} cannot subscribe: it is not callable")
        if len(self._subscriptions) >= self._max_subscriptions:
            raise WebTransportError(
                f"the bus has {len(self._subscriptions)} subscriptions already; "
                f"its max_subscriptions is {self._max_subscriptions}"
            )
        subscription = _Subscription(f"sub-{next(self._ids)}", str(event_type), handler, once)
        self._subscriptions[subscription.id] = subscription
        self._by_type.setdefault(subscription.event_type, {})[subscription.id] = subscription
        return subscription.id

    def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; an unknown identifier is ignored.

        Its waiting events are dropped; a coroutine that runs continues.
        """
        check_text("subscription_id", subscription_id)
        subscription = self._remove(subscription_id)
        if subscription is not None:
            self._queued -= len(subscription.queue)
            subscription.queue.clear()

    def clear_all_subscriptions(self) -> None:
        """End all subscriptions, as :meth:`unsubscribe` does with one."""
        for subscription_id in tuple(self._subscriptions):
            self.unsubscribe(subscription_id)

    def get_subscription_count(self) -> int:
        """Number of subscriptions."""
        return len(self._subscriptions)

    def get_stats(self) -> dict[str, Any]:
        """Return counters.

        ``subscriptions``, ``event_types``, ``queued`` (events that wait),
        ``running`` (coroutines), ``published``, ``received`` (from the backend),
        ``malformed`` (received and dropped), ``dropped`` (by full queues),
        ``errors`` (of handlers).
        """
        return {
            "subscriptions": len(self._subscriptions),
            "event_types": len(self._by_type),
            "queued": self._queued,
            "running": len(self._tasks),
            **self._counts,
        }

    def _check_open(self) -> None:
        if self._closed:
            raise WebTransportError("the bus is closed")

    # --------------------------------------------------------------- delivery

    def _dispatch(self, event: Event) -> Round:
        subscriptions = tuple(self._by_type.get(event.type, {}).values())
        return self._rounds.begin(subscriptions, partial(self._hand, event))

    def _hand(self, event: Event, subscription: _Subscription) -> None:
        # A handler may end the subscription of another.
        if subscription.id not in self._subscriptions:
            return
        if subscription.once:
            self._remove(subscription.id)
        if subscription.task is None:
            result = self._call(subscription, event)
            if result is not None:
                self._run(subscription, event, result)
        else:
            self._enqueue(subscription, event)

    def _enqueue(self, subscription: _Subscription, event: Event) -> None:
        if len(subscription.queue) >= self._max_queue_size:
            subscription.queue.popleft()
            self._queued -= 1
            self._counts["dropped"] += 1
            if self._counts["dropped"] == 1:
                logger.warning(
                    "handler %s is too slow for %s: its oldest event was dropped (%d kept); "
                    "further ones are only counted",
                    name_of(subscription.handler),
                    printable(event.type),
                    self._max_queue_size,
                )
        subscription.queue.append(event)
        self._queued += 1

    def _call(self, subscription: _Subscription, event: Event) -> Awaitable[None] | None:
        """Call the handler; return what has to be awaited, if anything."""
        try:
            result = subscription.handler(event)
        except (Exception, asyncio.CancelledError) as error:
            self._report(subscription, event, error)
            return None
        return result if inspect.isawaitable(result) else None

    def _run(self, subscription: _Subscription, event: Event, result: Awaitable[None]) -> None:
        task = asyncio.get_running_loop().create_task(self._work(subscription, event, result))
        subscription.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if asyncio.iscoroutine(result):
            # A task that is cancelled before its first step never awaits it.
            task.add_done_callback(lambda _: result.close())

    async def _work(
        self, subscription: _Subscription, event: Event, result: Awaitable[None] | None
    ) -> None:
        """Await the handler, then pass it the events that arrived meanwhile."""
        turns = Turns.of()
        try:
            while True:
                if result is not None:
                    try:
                        await result
                    except (Exception, asyncio.CancelledError) as error:
                        # If something that the handler waited for was cancelled, the handler
                        # failed.
                        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                            raise
                        self._report(subscription, event, error)
                if not subscription.queue:
                    return
                event = subscription.queue.popleft()
                self._queued -= 1
                await turns.pause()
                result = self._call(subscription, event)
        finally:
            subscription.task = None

    def _report(self, subscription: _Subscription, event: Event, error: BaseException) -> None:
        self._counts["errors"] += 1
        what = f"handler {name_of(subscription.handler)} failed for event {printable(event.type)}"
        log_application_error(logger, f"{what}: it", error, session=session_among(event.source))

    def _remove(self, subscription_id: str) -> _Subscription | None:
        subscription = self._subscriptions.pop(subscription_id, None)
        if subscription is not None:
            same = self._by_type[subscription.event_type]
            del same[subscription_id]
            if not same:
                del self._by_type[subscription.event_type]
        return subscription

    # ---------------------------------------------------------------- backend

    def _tell_gap(self, seconds: float | None) -> None:
        """The backend loses messages (None), or has done so for this many seconds."""
        self._dispatch(
            Event(type=self.GAP, data={"connected": seconds is not None, "seconds": seconds})
        )

    def _encode(self, event: Event) -> bytes:
        source = event.source
        message = _Message(
            type=str(event.type),
            timestamp=event.timestamp,
            data=event.data,
            event_id=event.event_id,
            source=source if source is None or isinstance(source, str) else repr(source),
        )
        try:
            return self._serializer.serialize(obj=message)
        except SerializationError:
            raise
        except Exception as error:  # a serializer of the application
            raise SerializationError(
                f"event {printable(event.type)} cannot be serialized: {printable(error)}",
                original_exception=error,
            ) from error

    def _receive(self, channel: str, payload: bytes) -> Round | None:
        self._counts["received"] += 1
        try:
            message = self._serializer.deserialize(data=payload, obj_type=_Message)
            event = Event(
                type=message.type,
                timestamp=message.timestamp,
                data=message.data,
                event_id=message.event_id,
                source=message.source,
            )
        except Exception as error:  # others may write to the backend, and serializers differ
            self._counts["malformed"] += 1
            if self._counts["malformed"] == 1:
                logger.warning(
                    "a message on '%s' is not an event and was dropped; further ones are only "
                    "counted: %s",
                    printable(channel),
                    printable(error),
                )
            return None
        return self._dispatch(event)


def _nothing() -> None:
    """Do nothing: no gaps are watched."""


async def create_event_bus(backend: EventBackend | None = None) -> EventBus:
    """Create a bus and start it.

    Args:
        backend: As for :class:`EventBus`.

    Raises:
        ConnectionError: The backend cannot be reached.

    Cancellation: safe; nothing stays open.
    """
    bus = EventBus(backend)
    try:
        await bus.start()
    except BaseException:
        await bus.close()
        raise
    return bus
