"""Objects that emit events.

:class:`EventEmitter` is the base class of connections, sessions, streams and datagram transports.
It costs almost nothing without listeners: an emitter has one empty slot until the first listener is
added, and the library calls :meth:`EventEmitter._has_listeners` before it creates an event.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import logging
import sys
from abc import ABCMeta
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .._states import EventData, EventType, Timeout
from ..constants import DEFAULT_CLOSE_TIMEOUT
from ..exceptions import TimeoutError, WebTransportError
from ..utils._checks import check_callable, check_integer, check_text, check_timeout
from ..utils._closing import AsyncCloseable
from ..utils._failures import log_application_error, name_of, session_among
from ..utils._logs import shared_log
from ..utils._stuck import end_tasks
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable
from ..utils._turns import Turns
from ._event import Event, EventHandler

__all__ = ["EventEmitter", "create_event_emitter", "event_handler"]

F = TypeVar("F", bound=Callable[..., Any])

logger = logging.getLogger("pywebtransport.events")

DEFAULT_MAX_LISTENERS = 100
MAX_HISTORY = 1000
"""Events remembered per emitter."""
MAX_QUEUE = 1000
"""Events kept per paused emitter; the oldest is dropped and counted."""
MAX_TASKS = 1000
"""Asynchronous handlers running at a time per emitter, started by the library."""

_SLOT = "_emitter"
_Waiter = Callable[[Event], None]
_Watcher = Callable[[Event], object]
# Exceptions of a handler, including the cancellation of something that it waited for.
_FAILURES = (Exception, asyncio.CancelledError)


class _State:
    """The state of an emitter once it has listeners."""

    __slots__ = (
        "any_handlers",
        "closed",
        "drain_task",
        "dropped",
        "handlers",
        "history",
        "max_listeners",
        "once",
        "paused",
        "queue",
        "tasks",
        "waiters",
        "waiting",
        "watchers",
    )

    def __init__(self) -> None:
        self.handlers: dict[str, list[EventHandler]] = {}
        self.once: dict[str, list[EventHandler]] = {}
        self.any_handlers: list[EventHandler] = []
        # Watchers of the library, which users of the emitter can neither remove nor delay.
        self.watchers: dict[str, list[_Watcher]] = {}
        # Callers of wait_for: their conditions by event type, and their futures.
        self.waiters: dict[str, list[_Waiter]] = {}
        self.waiting: set[asyncio.Future[Event]] = set()
        self.history: deque[Event] = deque(maxlen=MAX_HISTORY)
        # Events held back, and whether waiting callers were told of them already.
        self.queue: deque[tuple[Event, bool]] = deque()
        self.dropped = 0
        self.paused = False
        self.closed = False
        self.max_listeners = DEFAULT_MAX_LISTENERS
        self.tasks: set[asyncio.Task[Any]] = set()
        self.drain_task: asyncio.Task[None] | None = None

    def take_handlers(self, event_type: str) -> list[EventHandler]:
        """Return the handlers for one event; those of ``once`` are removed."""
        return [
            *self.handlers.get(event_type, ()),
            *self.once.pop(event_type, ()),
            *self.any_handlers,
        ]

    def tell_watchers(self, event: Event) -> None:
        for watcher in tuple(self.watchers.get(event.type, ())):
            watcher(event)

    def wake_waiters(self, event: Event) -> None:
        for waiter in tuple(self.waiters.get(event.type, ())):
            waiter(event)

    def hold_back(self, event: Event) -> bool:
        """Queue the event when the emitter is paused or still delivers older ones."""
        if not self.paused and self.drain_task is None:
            return False
        if len(self.queue) >= MAX_QUEUE:
            self.queue.popleft()
            self.dropped += 1
            if self.dropped == 1:
                shared_log(logger).tell(
                    "paused",
                    logging.WARNING,
                    "a paused emitter dropped its oldest event (%d kept)",
                    MAX_QUEUE,
                )
        # A handler that gets older events right now may wait for this one.
        if not self.paused:
            self.wake_waiters(event)
        self.queue.append((event, not self.paused))
        return True


class _EmitterType(ABCMeta):
    """Gives emitters that use ``__slots__`` the slot that they need.

    ``EventEmitter`` itself has none: it is also next to compiled bases, which have it already,
    and Python allows only one base with members of its own.
    """

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> _EmitterType:
        slots = namespace.get("__slots__")
        is_emitter = any(isinstance(base, _EmitterType) for base in bases)
        if slots is not None and is_emitter and not any(hasattr(one, _SLOT) for one in bases):
            names = (slots,) if isinstance(slots, str) else tuple(slots)
            if _SLOT not in names:
                namespace = {**namespace, "__slots__": (*names, _SLOT)}
        return super().__new__(mcs, name, bases, namespace, **options)

    if not TYPE_CHECKING:  # type checkers look at __init__

        def __call__(cls, *args: Any, **options: Any) -> Any:
            made = _PlainEmitter if cls is EventEmitter else cls
            return super(_EmitterType, made).__call__(*args, **options)


class EventEmitter(AsyncCloseable, metaclass=_EmitterType):
    """Lets others listen to the events of an object.

    Handlers are functions or coroutine functions of one :class:`Event`. A
    handler that raises is logged and does not keep the others from running.
    All methods belong to the thread of the event loop.

    Your own subclass may have further base classes: other arguments are passed to their
    ``__init__``. Leaving ``async with`` closes an emitter.

    Args:
        max_listeners: Handlers per event type; 0: no limit.
    """

    __slots__ = ()

    _emitter: _State | None  # empty until there is a listener

    def __init__(
        self, *args: Any, max_listeners: int = DEFAULT_MAX_LISTENERS, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._emitter = None  # type: ignore[misc]  # a slot of each subclass
        if max_listeners != DEFAULT_MAX_LISTENERS:
            EventEmitter.set_max_listeners(self, max_listeners=max_listeners)

    async def close(self) -> None:
        """Remove all handlers, end all waiting calls, cancel running handlers. Idempotent.

        Callers of :meth:`wait_for` get :class:`WebTransportError`. Events
        emitted later are ignored. A handler that continues for 5 seconds after its cancellation is
        named in the log, and no longer waited for.

        Cancellation: safe; handlers are cancelled even when the caller does
        not wait for their end.
        """
        await self._emitter_close(DEFAULT_CLOSE_TIMEOUT)

    async def _emitter_close(self, timeout: float) -> None:
        """As ``close``, with this many seconds for the handlers."""
        state = self._emitter_state()
        state.closed = True
        self._forget_listeners()
        state.queue.clear()
        state.paused = False
        for future in state.waiting:
            if not future.done():
                future.set_exception(WebTransportError("the emitter was closed while waiting"))
        await end_tasks(state.tasks, timeout=timeout, logger=logger, what="event handlers")

    def pause(self) -> None:
        """Hold events back until :meth:`resume`.

        At most 1000 are kept; then the oldest is dropped, counted in
        ``get_stats()["dropped_events"]``, and a warning is logged once.
        """
        state = self._emitter_state()
        state.paused = not state.closed

    def resume(self) -> asyncio.Task[None] | None:
        """Deliver events again, those held back first and in order.

        Returns:
            The task that delivers them, which you may await; None if there are none.

        Raises:
            RuntimeError: Events were held back and no event loop is running.
        """
        state = self._emitter
        if state is None or not state.paused:
            return None
        if state.queue and state.drain_task is None:
            loop = asyncio.get_running_loop()
            state.drain_task = loop.create_task(self._emitter_drain(state))
            state.tasks.add(state.drain_task)
            state.drain_task.add_done_callback(state.tasks.discard)
        state.paused = False
        return state.drain_task

    async def emit(
        self,
        event_type: EventType | str,
        data: EventData | None = None,
        source: Any = None,
    ) -> None:
        """Call all handlers of an event type, one after the other, and wait for them.

        Args:
            event_type: What happened.
            data: Value of :attr:`Event.data`.
            source: Value of :attr:`Event.source`; None: this object.

        Cancellation: the running handler is cancelled, later ones are not called.
        """
        await self._emit(
            Event(type=event_type, data=data, source=self if source is None else source)
        )

    def off(self, event_type: EventType | str, handler: EventHandler | None = None) -> None:
        """Remove one handler of an event type, or all of them."""
        check_text("event_type", event_type)
        state = self._emitter
        if state is None:
            return
        for table in (state.handlers, state.once):
            handlers = table.get(event_type)
            if handlers is None:
                continue
            if handler is None:
                handlers.clear()
            elif handler in handlers:
                handlers.remove(handler)
            if not handlers:
                del table[event_type]

    def off_any(self, handler: EventHandler | None = None) -> None:
        """Remove one handler of all events, or all such handlers."""
        state = self._emitter
        if state is None:
            return
        if handler is None:
            state.any_handlers.clear()
        elif handler in state.any_handlers:
            state.any_handlers.remove(handler)

    def on(self, event_type: EventType | str, handler: EventHandler) -> None:
        """Call ``handler`` for each event of a type. Adding it again has no effect.

        Raises:
            WebTransportError: The emitter is closed or has ``max_listeners``
                handlers for this type.
        """
        self._emitter_add(self._emitter_state().handlers, event_type, handler)

    def on_any(self, handler: EventHandler) -> None:
        """Call ``handler`` for each event of every type.

        Raises:
            WebTransportError: As for :meth:`on`.
        """
        self._emitter_add(None, "any event", handler)

    def once(self, event_type: EventType | str, handler: EventHandler) -> None:
        """Call ``handler`` only for the next event of a type.

        Raises:
            WebTransportError: As for :meth:`on`.
        """
        self._emitter_add(self._emitter_state().once, event_type, handler)

    async def wait_for(
        self,
        event_type: EventType | str,
        timeout: Timeout | None = None,
        condition: Callable[[Event], bool] | None = None,
    ) -> Event:
        """Wait for the next event of a type.

        Args:
            event_type: What to wait for.
            timeout: Longest wait in seconds; None: no limit.
            condition: Events for which it returns False are skipped.

        Returns:
            The event.

        Raises:
            TimeoutError: There was no such event in time.
            WebTransportError: The emitter was closed.
            Exception: Any exception of ``condition``.

        Cancellation: safe; nothing stays registered.
        """
        check_text("event_type", event_type)
        seconds = check_timeout("timeout", timeout)
        if condition is not None:
            check_callable("condition", condition)
        state = self._emitter_state()
        if state.closed:
            raise WebTransportError("the emitter is closed")
        limit = asyncio.timeout(seconds)
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def look(event: Event) -> None:
            if future.done():
                return
            try:
                if condition is None or condition(event):
                    future.set_result(event)
            except Exception as error:
                future.set_exception(error)

        state.waiters.setdefault(event_type, []).append(look)
        state.waiting.add(future)
        self._listener_added(event_type)
        try:
            async with limit:
                return await future
        except builtins.TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"no '{printable(event_type)}' event within {timeout} seconds",
                timeout_duration=timeout,
                operation=f"wait_for('{printable(event_type)}')",
            ) from error
        finally:
            state.waiting.discard(future)
            if future.done() and not future.cancelled():
                # Mark it as seen: this task may be cancelled in the same turn.
                future.exception()
            waiters = state.waiters[event_type]
            waiters.remove(look)
            if not waiters:
                del state.waiters[event_type]

    def clear_history(self) -> None:
        """Forget past events."""
        if self._emitter is not None:
            self._emitter.history.clear()

    def get_event_history(
        self, event_type: EventType | str | None = None, limit: int = 100
    ) -> list[Event]:
        """Past events, oldest first.

        An emitter remembers its last 1000 events, starting with its first listener.

        Args:
            event_type: Only events of this type; None: all.
            limit: Return at most this many, the newest ones.
        """
        check_integer("limit", limit, -sys.maxsize, sys.maxsize)
        if self._emitter is None or limit <= 0:
            return []
        history = [
            event
            for event in self._emitter.history
            if event_type is None or event.type == event_type
        ]
        return history[-limit:]

    def get_stats(self) -> dict[str, Any]:
        """Return counters of handlers and events."""
        state = self._emitter or _State()
        return {
            "total_handlers": sum(map(len, state.handlers.values())),
            "total_once_handlers": sum(map(len, state.once.values())),
            "wildcard_handlers": len(state.any_handlers),
            "event_types": len(state.handlers.keys() | state.once.keys()),
            "history_size": len(state.history),
            "queued_events": len(state.queue),
            "dropped_events": state.dropped,
            "paused": state.paused,
        }

    def listener_count(self, event_type: EventType | str) -> int:
        """Number of handlers of an event type, without handlers of all events."""
        return len(self.listeners(event_type))

    def listeners(self, event_type: EventType | str) -> list[EventHandler]:
        """The handlers of an event type, without handlers of all events."""
        check_text("event_type", event_type)
        state = self._emitter
        if state is None:
            return []
        return [*state.handlers.get(event_type, ()), *state.once.get(event_type, ())]

    def register_handlers(self, target: object) -> None:
        """Add every method of ``target`` that is marked with :func:`event_handler`.

        Raises:
            WebTransportError: As for :meth:`on`.
        """
        for name in dir(type(target)):
            # Names from dir() may not exist, such as __annotations__ of the type of functions.
            event_type = getattr(getattr(type(target), name, None), "__event_type__", None)
            if event_type is not None:
                EventEmitter.on(self, event_type, getattr(target, name))

    def remove_all_listeners(self, event_type: EventType | str | None = None) -> None:
        """Remove the handlers of an event type, or all handlers of this emitter."""
        if event_type is None:
            self._forget_listeners()
        else:
            self.off(event_type)

    def set_max_listeners(self, max_listeners: int) -> None:
        """Limit the handlers per event type; 0: no limit.

        Raises:
            ConfigurationError: Not a whole number of at least 0.
        """
        check_integer("max_listeners", max_listeners, 0, sys.maxsize)
        self._emitter_state().max_listeners = max_listeners

    # For the library itself.

    def _has_listeners(self, event_type: EventType | str) -> bool:
        """Whether an event of this type has listeners; cheap: check before creating its data."""
        state = self._emitter
        return state is not None and (
            event_type in state.handlers
            or event_type in state.once
            or event_type in state.waiters
            or event_type in state.watchers
            or bool(state.any_handlers)
        )

    def add_watcher(self, event_type: EventType, watcher: _Watcher) -> None:
        """Advanced: call a function for each event of a type, even if handlers are removed.

        For libraries. Unlike a handler, a watcher is also called while the emitter is paused,
        stays when all listeners are removed, and does not count for ``max_listeners``.

        Args:
            event_type: The type to watch for.
            watcher: Called in the turn in which the event happens; must not block or raise.
                Adding it again has no effect.
        """
        watchers = self._emitter_state().watchers.setdefault(event_type, [])
        if watcher not in watchers:
            watchers.append(watcher)
            self._listener_added(event_type)

    def remove_watcher(self, event_type: EventType, watcher: _Watcher) -> None:
        """Advanced: undo ``add_watcher``; an unknown function is ignored."""
        state = self._emitter
        watchers = None if state is None else state.watchers.get(event_type)
        if state is not None and watchers and watcher in watchers:
            watchers.remove(watcher)
            if not watchers:
                del state.watchers[event_type]

    def _listener_added(self, event_type: str | None) -> None:
        """Hook for subclasses: a type, or all types (None), now have a listener."""

    def _emit_nowait(self, event_type: EventType | str, data: EventData | None = None) -> None:
        """Call handlers without waiting: functions now, coroutines in new tasks.

        Does nothing without listeners.
        """
        state = self._emitter
        if state is None or not self._has_listeners(event_type):
            return
        event = Event(type=event_type, data=data, source=self)
        state.history.append(event)
        state.tell_watchers(event)
        if state.hold_back(event):
            return
        state.wake_waiters(event)
        for handler in state.take_handlers(event.type):
            try:
                result = handler(event)
            except _FAILURES as error:
                _report(handler, event, error)
                continue
            if inspect.isawaitable(result):
                self._emitter_start(state, handler, event, result)

    async def _emit(self, event: Event) -> int:
        """Call all handlers and wait for them; return how many failed."""
        state = self._emitter_state()
        if state.closed:
            return 0
        state.history.append(event)
        state.tell_watchers(event)
        if state.hold_back(event):
            return 0
        state.wake_waiters(event)
        return await self._emitter_deliver(state, event)

    def _emitter_start(
        self, state: _State, handler: EventHandler, event: Event, result: Awaitable[None]
    ) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            why = "no event loop is running"
        else:
            if len(state.tasks) < MAX_TASKS:
                task = loop.create_task(_finish(handler, event, result))
                state.tasks.add(task)
                task.add_done_callback(state.tasks.discard)
                if asyncio.iscoroutine(result):
                    # A task that is cancelled before its first step never awaits it.
                    task.add_done_callback(lambda _: result.close())
                return
            why = f"{MAX_TASKS} handlers are still running"
        if asyncio.iscoroutine(result):
            result.close()
        state.dropped += 1
        shared_log(logger).tell(
            "not run",
            logging.ERROR,
            "handler %s was not run for %s: %s",
            name_of(handler),
            printable(event.type),
            why,
        )

    async def _emitter_deliver(self, state: _State, event: Event) -> int:
        failed = 0
        for handler in state.take_handlers(event.type):
            try:
                result = handler(event)
            except _FAILURES as error:
                _report(handler, event, error)
                failed += 1
                continue
            if inspect.isawaitable(result) and not await _finish(handler, event, result):
                failed += 1
        return failed

    async def _emitter_drain(self, state: _State) -> None:
        turns = Turns.of()
        try:
            while state.queue and not state.paused:
                event, told = state.queue.popleft()
                if not told:
                    state.wake_waiters(event)
                await self._emitter_deliver(state, event)
                # Many events may have been held back, and handlers may never wait for anything.
                await turns.pause()
        finally:
            state.drain_task = None

    def _emitter_state(self) -> _State:
        if self._emitter is None:
            self._emitter = _State()  # type: ignore[misc]  # a slot of each subclass
        return self._emitter

    def _forget_listeners(self) -> None:
        state = self._emitter
        if state is not None:
            state.handlers.clear()
            state.once.clear()
            state.any_handlers.clear()

    def _emitter_add(
        self,
        table: dict[str, list[EventHandler]] | None,
        event_type: str,
        handler: EventHandler,
    ) -> None:
        check_text("event_type", event_type)
        state = self._emitter_state()
        handlers = state.any_handlers if table is None else table.get(event_type, [])
        if handler in handlers:
            return
        why = ""
        given: object = handler  # callers without a type checker may pass anything
        if not callable(given):
            why = f"{printable(given)} is not callable"
        elif state.closed:
            why = "the emitter is closed"
        elif 0 < state.max_listeners <= len(handlers):
            why = (
                f"there are {len(handlers)} already; see set_max_listeners, or remove "
                "handlers that are no longer needed"
            )
        if why:
            raise WebTransportError(f"no handler for '{printable(event_type)}' can be added: {why}")
        handlers.append(handler)
        if table is not None:
            table[event_type] = handlers
        self._listener_added(None if table is None else event_type)


class _PlainEmitter(EventEmitter):
    """What ``EventEmitter()`` creates."""

    __slots__ = ()


def create_event_emitter(*, max_listeners: int = DEFAULT_MAX_LISTENERS) -> EventEmitter:
    """Create an emitter.

    Args:
        max_listeners: Handlers per event type; 0: no limit.
    """
    return EventEmitter(max_listeners=max_listeners)


def event_handler(event_type: EventType | str) -> Callable[[F], F]:
    """Mark a method as a handler; :meth:`EventEmitter.register_handlers` adds it.

    Args:
        event_type: The type of its events.
    """

    check_text("event_type", event_type)

    def mark(function: F) -> F:
        function.__event_type__ = event_type  # type: ignore[attr-defined]
        return function

    return mark


async def _finish(handler: EventHandler, event: Event, result: Awaitable[None]) -> bool:
    """Wait for a handler; return False if it failed."""
    try:
        await result
        return True
    except _FAILURES as error:
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        _report(handler, event, error)
    return False


def _report(handler: EventHandler, event: Event, error: BaseException) -> None:
    data = event.data
    session = session_among(event.source, data.get("session") if isinstance(data, dict) else None)
    what = f"handler {name_of(handler)} failed for event {printable(event.type)}: it"
    log_application_error(logger, what, error, session=session)
