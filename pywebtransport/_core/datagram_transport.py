"""Datagrams of one session: unreliable, unordered, bounded queues both ways."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection, Generator, Sequence
from typing import TYPE_CHECKING, Any, Self

from .._quic import DatagramPort
from .._states import Data, EventType, SessionId, SessionState
from ..events import EventEmitter
from ..exceptions import DatagramError, SessionClosedError, TimeoutError, WebTransportError
from ..utils import _clock as clock
from ..utils._awaitable import NO, YES, AwaitableBool, Awaited, awaited, compiled
from ..utils._checks import NEVER, check_interface, check_timeout
from ..utils._timing import get_timestamp
from ..utils._waiters import Line, Turn, Waiters, give_up, require_loop
from .datagram_arguments import (
    check_age,
    check_limit,
    check_payload,
    check_payloads,
    check_priority,
)
from .datagram_message import DatagramMessage, DatagramStats
from .datagram_sending import close_turns, open_turns, send_in_turn, try_submit
from .heartbeats import create_heartbeat_datagram
from .incoming_datagrams import IncomingDatagrams

if TYPE_CHECKING:
    from .._transport import LayerSession
    from .session import WebTransportSession

__all__ = ["WebTransportDatagramTransport"]

# The engine's clock can hold this many seconds; no datagram waits that long.
_NEVER = 1e9
_OVER = (SessionState.CLOSING, SessionState.CLOSED)
_CloseWatcher = Callable[["WebTransportDatagramTransport"], object]
# How many datagrams are taken without waiting before other tasks get a turn, minus one.
_IN_A_ROW = 63


class WebTransportDatagramTransport(DatagramPort, EventEmitter):
    """The datagrams of a session: ``session.datagrams``.

    Outgoing datagrams wait in a bounded queue of the connection until congestion control
    allows them to be sent; ``send`` waits while the queue is full, ``try_send`` does not.
    Incoming datagrams wait in a bounded queue of the session; if you do not read them, the
    oldest are dropped and counted.

    ``await session.datagrams`` returns the same object, for programs that expect a coroutine.
    """

    # Every session has a transport, but most never see a datagram: containers are created on first
    # use. Members that the hot paths need are in the compiled base, ``DatagramPort``.
    __slots__ = (
        "__dict__",
        "_close_watchers",
        "_created_at",
        "_heartbeats",
        "_high_water_mark",
        "_incoming_limit",
        "_send_waiters",
        "refused",
    )

    _session: WebTransportSession
    _h3: LayerSession
    _queue: IncomingDatagrams | None
    _receivers: Line | None
    _stats: DatagramStats | None

    def __new__(cls, session: WebTransportSession, **_: Any) -> Self:
        check_interface("session", session, "WebTransportSession", "incoming_streams")
        existing = session._datagrams
        if existing is None:
            return super().__new__(cls)
        if type(existing) is cls:
            return existing
        raise DatagramError(
            f"session {session.session_id} already has a datagram transport, which is "
            f"not a {cls.__name__}"
        )

    def __init__(
        self,
        session: WebTransportSession,
        *,
        high_water_mark: int | None = None,
        sender_get_timeout: float = 1.0,
    ) -> None:
        """Return ``session.datagrams``: a session has only one transport.

        Args:
            session: The session it belongs to.
            high_water_mark: How many datagrams of this session may wait in the outgoing
                queue, and in the incoming queue; default ``config.datagram_queue_size``.
            sender_get_timeout: Ignored; kept for compatibility.

        Raises:
            ConfigurationError: ``high_water_mark`` is below 1.
            DatagramError: This is a subclass, and the session already has a transport.
        """
        if high_water_mark is not None:
            check_limit("high_water_mark", high_water_mark)
        if session._datagrams is self:  # a datagram may have come before the application
            if high_water_mark is not None:
                self._set_limits(high_water_mark)
            return
        super().__init__()
        config = session._config
        self._session = session
        self._h3 = session._h3
        limit = config.datagram_queue_size if high_water_mark is None else high_water_mark
        self._high_water_mark = limit
        self._h3.datagram_limit = limit
        self._incoming_limit = limit
        self._incoming_max_age = config.datagram_max_age
        self._outgoing_max_age = config.datagram_max_age
        self._send_waiters: Waiters | None = None
        self._min_size = float("inf")
        self._close_watchers: list[_CloseWatcher] | None = None
        self.refused = 0
        self._heartbeats: set[asyncio.Task[None]] | None = None
        self._created_at = get_timestamp()
        session._datagrams = self
        # The engine's datagrams go straight to their queue.
        self._h3.route_datagrams(self._received)

    # -------------------------------------------------------------- properties

    @property
    def is_closed(self) -> bool:
        """The session has ended, or ``close`` was called."""
        return self._closed or self._session.is_closed

    @property
    def is_readable(self) -> bool:
        """Datagrams are waiting, or can still arrive."""
        return bool(self.get_receive_buffer_size()) or not self.is_closed

    @property
    def is_writable(self) -> bool:
        """The peer accepts datagrams and the session is open."""
        return not self.is_closed and self.max_datagram_size > 0

    @property
    def session(self) -> WebTransportSession:
        """The session it belongs to."""
        return self._session

    @property
    def session_id(self) -> SessionId:
        """ID of that session."""
        return self._session.session_id

    @property
    def max_datagram_size(self) -> int:
        """The largest payload of a datagram in bytes; changes with the path MTU, so reread it."""
        return 0 if self._session.is_closed else self._h3.max_datagram_size

    @property
    def bytes_received(self) -> int:
        """Payload bytes that arrived."""
        return self._bytes_received

    @property
    def bytes_sent(self) -> int:
        """Payload bytes accepted for sending."""
        return self._bytes_sent

    @property
    def datagrams_received(self) -> int:
        """Datagrams that arrived and were queued for the application."""
        return self._received_count

    @property
    def datagrams_sent(self) -> int:
        """Datagrams for which ``send`` has returned, except those dropped since."""
        return self.refresh_stats().datagrams_sent

    @property
    def incoming_max_age(self) -> float | None:
        """Seconds after which a waiting incoming datagram is dropped. Settable; None: never."""
        return self._incoming_max_age

    @incoming_max_age.setter
    def incoming_max_age(self, seconds: float | None) -> None:
        check_age("incoming_max_age", seconds, optional=True)
        self._incoming_max_age = seconds

    @property
    def outgoing_max_age(self) -> float | None:
        """Seconds after which a queued outgoing datagram is dropped. Settable; None: never."""
        return self._outgoing_max_age

    @outgoing_max_age.setter
    def outgoing_max_age(self, seconds: float | None) -> None:
        check_age("outgoing_max_age", seconds, optional=True)
        self._outgoing_max_age = seconds

    @property
    def outgoing_high_water_mark(self) -> int:
        """How many datagrams of this session the outgoing queue may hold. Settable."""
        return self._high_water_mark

    @outgoing_high_water_mark.setter
    def outgoing_high_water_mark(self, count: int) -> None:
        check_limit("outgoing_high_water_mark", count)
        self._high_water_mark = count
        self._h3.datagram_limit = count
        self._writable()

    @property
    def receive_sequence(self) -> int:
        """How many datagrams the application has taken."""
        return self._receive_sequence

    @property
    def send_sequence(self) -> int:
        """How many datagrams the application has submitted."""
        return self._send_sequence

    @property
    def stats(self) -> dict[str, Any]:
        """Live statistics, see ``DatagramStats``."""
        return self.refresh_stats().to_dict()

    # ----------------------------------------------------------------- sending

    @awaited
    @compiled(DatagramPort)
    def send(self, data: Data, *, priority: int = 0, ttl: float | None = None) -> Awaited[None]:
        """Send one datagram; wait while the outgoing queue is full.

        Waiting callers are served in the order in which they called.

        Args:
            data: At most ``max_datagram_size`` bytes; may be empty.
            priority: 0 to 2; datagrams with a higher priority leave the queue first.
            ttl: Seconds it may wait in the queue before it is dropped and
                counted as expired. Default ``outgoing_max_age``.

        Raises:
            DatagramTooLargeError: ``.max_size`` is the limit; nothing was sent.
            DatagramError: The peer accepts no datagrams, or ``close`` was called.
            SessionClosedError: The session has ended.
            ConfigurationError: An argument is invalid; nothing was sent.

        Cancellation: safe; a cancelled send was not queued.
        """
        return self._send(data, priority=priority, ttl=ttl)

    def try_send(self, data: Data, *, priority: int = 0, ttl: float | None = None) -> AwaitableBool:
        """Send one datagram if there is room now; False (and counted as dropped) if not.

        There is none while calls of ``send`` wait for it. The call acts at once; awaiting
        its result is optional.

        Raises: as ``send``. Never waits.
        """
        payload = data if isinstance(data, bytes) else check_payload(data)
        if self._session._connection._datagram_gates:  # others may wait for room
            sent = try_submit(self, payload, priority, ttl)
        else:
            sent = self.submit(payload, priority, ttl)
        if sent:
            return YES
        self.refused += 1
        return NO

    async def send_multiple(
        self, datagrams: Sequence[Data], *, priority: int = 0, ttl: float | None = None
    ) -> int:
        """Send several datagrams in order, waiting for room as needed.

        Returns:
            How many were queued: all of them.

        Raises: as ``send``; the datagrams before the one that failed were queued.
            ConfigurationError if ``datagrams`` is a single datagram, not a sequence.

        Cancellation: those already queued stay queued.
        """
        payloads = check_payloads(datagrams)
        connection = self._session._connection
        done = self._send_many(payloads) if priority == 0 and ttl is None else 0
        for payload in payloads[done:]:
            if connection._datagram_gates or not self.submit(payload, priority, ttl):
                await send_in_turn(self, payload, priority, ttl)
        return len(payloads)

    async def send_json(self, data: Any, *, priority: int = 0, ttl: float | None = None) -> None:
        """Send ``data`` as compact UTF-8 JSON in one datagram.

        Raises: DatagramError if ``data`` cannot be serialized as JSON; otherwise as ``send``.
        """
        try:
            payload = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:  # ValueError: surrogates, too
            raise DatagramError(f"cannot send as JSON: {error}") from error
        await self.send(payload, priority=priority, ttl=ttl)

    # --------------------------------------------------------------- receiving

    @awaited
    @compiled(DatagramPort)
    def receive(self, *, timeout: float | None = None) -> Awaited[bytes]:
        """Return the next datagram, waiting for one.

        Args:
            timeout: Seconds to wait; None waits until the session ends.

        Raises:
            TimeoutError: Nothing arrived in time.
            DatagramError: ``close`` was called, and nothing is queued.
            SessionClosedError: The session has ended and nothing is queued.

        Cancellation: safe, no datagram is lost.
        """
        return self._receive(timeout=timeout)

    async def receive_many(
        self, max_count: int = 64, *, timeout: float | None = None
    ) -> list[bytes]:
        """Return all waiting datagrams, at least one and at most ``max_count``.

        The fastest way to read many datagrams: the task wakes up once per batch.

        Raises and cancellation: as ``receive``.
        """
        if max_count.__class__ is not int or max_count < 1:
            check_limit("max_count", max_count)
        queue = await (
            self._wait_readable(timeout) if self._ready() is None else self._give_turn(timeout)
        )
        if self._receivers:
            # Some of them are for others.
            max_count = min(max_count, len(queue.waiting) - self._receivers.served)
        datagrams = queue.pop_many(max_count)
        self._receive_sequence += len(datagrams)
        return datagrams

    async def receive_multiple(
        self, max_count: int = 10, *, timeout: float | None = None
    ) -> list[bytes]:
        """As ``receive_many``; kept for compatibility."""
        return await self.receive_many(max_count, timeout=timeout)

    async def receive_json(self, *, timeout: float | None = None) -> Any:
        """Return the next datagram parsed as UTF-8 JSON.

        Raises: DatagramError if it is not JSON (it is consumed); otherwise as ``receive``.
        """
        data = await self.receive(timeout=timeout)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            self.refresh_stats().receive_errors += 1
            raise DatagramError(
                f"datagram of {len(data)} bytes is not JSON: {error}", datagram_size=len(data)
            ) from error

    async def receive_with_metadata(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return ``{"data": ..., "metadata": ...}`` for the next datagram.

        Raises and cancellation: as ``receive``.
        """
        queue = self._ready()
        if queue is None:
            queue = await self._wait_readable(timeout)
        arrived = queue.oldest_arrival()
        data = queue.pop()
        self._receive_sequence += 1
        message = DatagramMessage(
            data=data,
            timestamp=get_timestamp() - (clock.monotonic() - arrived),
            sequence=self._receive_sequence,
        )
        return {"data": data, "metadata": {**message.to_dict(), "receive_time": get_timestamp()}}

    def __aiter__(self) -> Self:
        """Iterate over the datagrams: ``async for datagram in session.datagrams``.

        The loop ends with the session, however that ends, or when ``close`` is called. Several
        loops, and calls of ``receive``, share the datagrams: each goes to one of them.

        Cancellation: as of ``receive``; no datagram is lost.
        """
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except (DatagramError, SessionClosedError):
            if not self.is_closed:
                raise
            raise StopAsyncIteration from None

    async def try_receive(self) -> bytes | None:
        """Return a datagram if one is queued, otherwise None. Never waits.

        Callers that wait in ``receive`` come first.
        """
        self._expire()
        queue = self._queue
        if queue is None or len(queue.waiting) <= (
            self._receivers.served if self._receivers else 0
        ):
            return None
        self._receive_sequence += 1
        return queue.pop()

    # ------------------------------------------------------------- buffers, life

    async def clear_receive_buffer(self) -> int:
        """Drop all queued incoming datagrams and count them; return how many."""
        if self._queue is None:
            return 0
        count = len(self._queue.pop_many(self._queue.limit))
        self._receive_drops += count
        return count

    async def clear_send_buffer(self) -> int:
        """Drop all queued outgoing datagrams of this session and count them; return how many."""
        return self._h3.group.clear_datagrams()

    def get_receive_buffer_size(self) -> int:
        """Return how many incoming datagrams are queued."""
        return 0 if self._queue is None else len(self._queue.waiting)

    def get_send_buffer_size(self) -> int:
        """Return how many outgoing datagrams of this session are queued."""
        return self._h3.stats().get("datagrams_queued") or 0

    def get_queue_stats(self) -> dict[str, dict[str, int]]:
        """Return the sizes and limits of both queues."""
        return {
            "outgoing": {"size": self.get_send_buffer_size(), "max_size": self._high_water_mark},
            "incoming": {
                "size": self.get_receive_buffer_size(),
                "max_size": self._incoming_limit,
            },
        }

    def start_heartbeat(self, *, interval: float = 30.0) -> asyncio.Task[None]:
        """Send a small datagram every ``interval`` seconds until the session ends.

        The peer receives it like any other datagram; ``is_heartbeat_datagram`` recognizes it.
        While the outgoing queue is full, heartbeats are dropped and counted.

        Args:
            interval: Seconds; the first heartbeat is sent at once.

        Returns:
            The task; cancel it to stop. It ends with the session.

        Raises:
            ConfigurationError: ``interval`` is not positive.
        """
        check_age("interval", interval)
        task = asyncio.get_running_loop().create_task(self._heartbeat(interval))
        if self._heartbeats is None:
            self._heartbeats = set()
        self._heartbeats.add(task)
        task.add_done_callback(self._heartbeats.discard)
        return task

    async def close(self) -> None:
        """Stop using datagrams in this session: wake waiting callers and drop the queues."""
        self._close()
        tasks = list(self._heartbeats or ())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def initialize(self) -> None:
        """Do nothing; kept for compatibility. A new transport is ready to use."""

    def __await__(self) -> Generator[Any, None, Self]:
        """Let ``await session.datagrams`` return ``session.datagrams``."""
        yield from ()
        return self

    def debug_state(self) -> dict[str, Any]:
        """Return a snapshot for logs: state, statistics, queues, configuration."""
        return {
            "transport": {
                "session_id": self.session_id,
                "is_readable": self.is_readable,
                "is_writable": self.is_writable,
                "is_closed": self.is_closed,
                "max_datagram_size": self.max_datagram_size,
            },
            "statistics": self.stats,
            "queues": self.get_queue_stats(),
            "configuration": {
                "outgoing_high_water_mark": self._high_water_mark,
                "outgoing_max_age": self._outgoing_max_age,
                "incoming_max_age": self._incoming_max_age,
            },
            "sequences": {
                "send_sequence": self._send_sequence,
                "receive_sequence": self._receive_sequence,
            },
        }

    async def diagnose_issues(self) -> list[str]:
        """Return a sentence for each problem that the statistics show; empty if there is none."""
        stats = self.refresh_stats()
        issues = []
        if not self.is_closed and self.max_datagram_size == 0:
            issues.append("the peer accepts no datagrams")
        if stats.receive_drops:
            issues.append(
                f"{stats.receive_drops} datagrams dropped: the application reads too slowly"
            )
        if stats.send_drops:
            issues.append(f"{stats.send_drops} datagrams dropped before sending")
        if stats.datagrams_sent >= 100 and stats.datagrams_lost / stats.datagrams_sent > 0.05:
            issues.append(f"{stats.datagrams_lost} of {stats.datagrams_sent} datagrams were lost")
        waiting = self.get_receive_buffer_size()
        if waiting > 0.9 * self._incoming_limit:
            issues.append(f"incoming queue nearly full: {waiting}")
        return issues

    # --------------------------------------------------------------- internal

    def submit(self, payload: bytes, priority: int, ttl: float | None) -> bool:
        """Advanced: queue one datagram now, ahead of callers that wait in ``send``.

        Args:
            payload: As for ``send``.
            priority: As for ``send``.
            ttl: As for ``send``.

        Returns:
            False if there is no room; this does not count as a drop.

        Raises: as ``send``.
        """
        if self._closed or self._session._state in _OVER:
            raise self.closed_error("no datagram can be sent")
        if priority != 0:
            check_priority(priority)
        if ttl is None:
            ttl = self._outgoing_max_age
        deadline = None
        if ttl is not None:
            check_age("ttl", ttl)
            deadline = clock.monotonic_ns() + int(min(ttl, _NEVER) * 1e9)
        try:
            if not self._h3.send_datagram(payload, priority, deadline):
                return False
        except WebTransportError as cause:
            raise self._send_failed(cause) from None
        size = len(payload)
        self._send_sequence += 1
        self._bytes_sent += size
        if size > self._max_size:
            self._max_size = size
        if size < self._min_size:
            self._min_size = size
        if self._emitter is not None and self._has_listeners(EventType.DATAGRAM_SENT):
            self._emit_nowait(EventType.DATAGRAM_SENT, {"size": size})
        return True

    def _set_limits(self, count: int) -> None:
        """Set the limit of both queues; the incoming one may already hold more."""
        self.outgoing_high_water_mark = self._incoming_limit = count
        if self._queue is not None:
            self._receive_drops += self._queue.set_limit(count)

    def _make_queue(self) -> None:
        self._queue = IncomingDatagrams(self._incoming_limit, self._session.memory_budget)

    def _make_receivers(self) -> None:
        self._receivers = Line()

    def _tell_received(self, datagrams: list[bytes]) -> None:
        if self._has_listeners(EventType.DATAGRAM_RECEIVED):
            for data in datagrams:
                self._emit_nowait(EventType.DATAGRAM_RECEIVED, {"data": data, "size": len(data)})

    def _send_failed(self, cause: WebTransportError) -> Exception:
        error = self._session._failure(cause, "no datagram can be sent")
        self.refresh_stats().send_failures += 1
        if self._has_listeners(EventType.DATAGRAM_ERROR):
            self._emit_nowait(EventType.DATAGRAM_ERROR, {"error": error})
        return error

    async def _send_other(self, data: Data, priority: int, ttl: float | None) -> None:
        """Send as ``send``: with a priority or a time limit, or in turn."""
        payload = data if isinstance(data, bytes) else check_payload(data)
        if self._session._connection._datagram_gates or not self.submit(payload, priority, ttl):
            await send_in_turn(self, payload, priority, ttl)

    async def _receive_other(self, timeout: float | None) -> bytes:
        """Receive as ``receive``: within a time limit, or after others had a turn."""
        queue = self._ready()
        if queue is None:
            queue = await self._wait_readable(timeout)
        elif not self._receive_sequence & _IN_A_ROW:
            queue = await self._give_turn(timeout)
        self._receive_sequence += 1
        return queue.pop()

    def _ready(self) -> IncomingDatagrams | None:
        """The queue, if you can take a datagram at once: none can expire, and nobody is first."""
        queue = self._queue
        if queue is None or not queue.waiting or self._receivers:
            return None
        return queue if self._incoming_max_age is None else None

    def _expire(self) -> None:
        """Drop incoming datagrams older than ``incoming_max_age``."""
        age = self._incoming_max_age
        if age is not None and self._queue is not None:
            self._receive_drops += self._queue.expire(age)

    async def _give_turn(self, timeout: float | None) -> IncomingDatagrams:
        """As ``_wait_readable``, but callers that never wait give others a turn sometimes."""
        turns = self._session.turns
        if turns.is_over:
            await turns.pause()
        queue = self._ready()
        return await self._wait_readable(timeout) if queue is None else queue

    async def _wait_readable(self, timeout: float | None) -> IncomingDatagrams:
        """Return the queue once a datagram waits in it."""
        limit = check_timeout("timeout", timeout)
        loop = asyncio.get_running_loop()
        require_loop(self._session._loop, loop)
        started = clock.monotonic()
        timer: asyncio.TimerHandle | None = None
        line = self._receivers
        if line is None:
            line = self._receivers = Line()
        is_first = False
        while True:
            self._expire()
            queue = self._queue
            if queue is not None and queue.waiting and (is_first or not line):
                break
            is_over = self._closed or self._session._is_over
            if is_over and not (queue is not None and queue.waiting):
                raise self.closed_error("no datagram can be received")
            turn: Turn = self._session._eager.create_future(loop)
            line.join(turn, first=is_first)
            if limit is not None:
                left = limit - (clock.monotonic() - started)
                timer = loop.call_later(left, give_up, turn)
            try:
                served = await turn
            except BaseException:
                line.leave(turn)
                self._serve_receivers()
                raise
            finally:
                if timer is not None:
                    timer.cancel()
            is_first = line.leave(turn)
            if line.turns:
                self._serve_receivers(1)  # callers that came meanwhile; one datagram is taken here
            if served is None:
                raise TimeoutError(
                    f"no datagram within timeout={timeout} s",
                    timeout_duration=timeout,
                    operation="receive",
                )
        waited = clock.monotonic() - started
        self._receive_time += waited
        self._max_receive_time = max(self._max_receive_time, waited)
        return queue

    def writable_future(self) -> asyncio.Future[bool]:
        """Advanced: return a future that is done when there is room again, or after the close.

        Call it in the same turn of the event loop in which ``submit`` returned False.
        """
        if self._send_waiters is None:
            self._send_waiters = Waiters()
        return self._send_waiters.add(asyncio.get_running_loop())

    def _writable(self) -> None:
        """The queue has room (deliver phase)."""
        open_turns(self)
        if self._send_waiters is not None:
            self._send_waiters.wake()

    def _close(self) -> None:
        """The session ended, or the application closed the transport."""
        if self._closed:
            return
        self.refresh_stats()
        self._closed = True
        if self._queue is not None:
            self._queue.close()
        watchers, self._close_watchers = self._close_watchers, None
        for watcher in watchers or ():
            watcher(self)
        close_turns(self)
        self._writable()
        if self._receivers is not None:
            self._receivers.serve_all()
        tasks: Collection[asyncio.Task[None]] = self._heartbeats or ()
        for task in tasks:
            task.cancel()

    def closed_error(self, consequence: str) -> WebTransportError:
        """Advanced: create the error for a call that is impossible after the close.

        Args:
            consequence: What is impossible now, such as ``no datagram can be sent``.
        """
        if self._session._state in _OVER:
            return self._session.closed_error(consequence)
        return DatagramError(f"the datagrams of this session were closed: {consequence}")

    def add_close_callback(self, watcher: _CloseWatcher) -> None:
        """Advanced: call a function once, at the moment the transport closes.

        Args:
            watcher: Called with the transport; must not block or raise.
        """
        if self._close_watchers is None:
            self._close_watchers = []
        self._close_watchers.append(watcher)

    def remove_close_callback(self, watcher: _CloseWatcher) -> None:
        """Advanced: undo ``add_close_callback``; does nothing if the callback was not added."""
        if self._close_watchers is not None and watcher in self._close_watchers:
            self._close_watchers.remove(watcher)

    def refresh_stats(self) -> DatagramStats:
        """Return the current statistics; ``stats`` has them as a dictionary."""
        stats = self._stats
        if stats is None:
            stats = self._stats = DatagramStats(
                session_id=self._session.session_id, created_at=self._created_at
            )
        stats.bytes_sent = self._bytes_sent
        stats.bytes_received = self._bytes_received
        stats.datagrams_received = self._received_count
        stats.receive_drops = self._receive_drops
        stats.total_receive_time = self._receive_time
        stats.max_receive_time = self._max_receive_time
        stats.max_datagram_size = self._max_size
        stats.min_datagram_size = self._min_size
        stats.total_datagram_size = self._bytes_sent + self._bytes_received
        figures = self._h3.stats()
        dropped = figures.get("datagrams_dropped") or 0
        expired = figures.get("datagrams_expired") or 0
        stats.datagrams_sent = self._send_sequence - dropped - expired
        stats.datagrams_transmitted = figures.get("datagrams_sent") or 0
        stats.datagrams_acknowledged = figures.get("datagrams_acked") or 0
        stats.datagrams_lost = figures.get("datagrams_lost") or 0
        stats.datagrams_expired = expired
        stats.send_drops = self.refused + dropped + expired
        return stats

    async def _heartbeat(self, interval: float) -> None:
        with contextlib.suppress(SessionClosedError):
            pause = min(interval, NEVER)
            while not self.is_closed:
                # A heartbeat that could not be sent was counted; a later one may fit.
                with contextlib.suppress(DatagramError):
                    self.try_send(create_heartbeat_datagram())
                await asyncio.sleep(pause)
