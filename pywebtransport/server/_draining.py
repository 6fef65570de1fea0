"""Ends the connections of a server: tells clients to leave, and waits for them."""

from __future__ import annotations

import asyncio
import builtins
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from .._core.presence import Presence
from ..exceptions import invalid_config
from ..utils import _clock as clock
from ..utils._turns import Turns

if TYPE_CHECKING:
    from ..connection import WebTransportConnection

__all__ = ["Draining", "check_drain", "close_all"]

# Connections that are told to leave at a time, unless ``spread`` asks for other numbers.
_BATCH = 100
# Seconds that the end of one connection takes; and the share of the time until the deadline in
# which connections that wait for it end one after the other.
_END = 0.0005
_LAST_PART = 0.2
# To begin to close a connection takes as long as so many steps of other coroutines.
_FIRST_STEP = 4
# Seconds between batches, and between checks of the remaining clients.
_STEP = 0.05
_LOOK = 0.1
# Seconds in which a client that connected just before may still request its session.
_ARRIVAL = 1.0


class Draining:
    """Tells the clients of a server to leave, and waits until they have.

    A client that connected before it could learn of the end still gets its session: nothing tells
    it to connect elsewhere before it had time to request one.

    Args:
        connections: All of the server, as they are at any time.
        half_open: How many handshakes are under way.
        logger: Logs what is left at the end.
        reason: What clients are closed with.
    """

    def __init__(
        self,
        connections: Callable[[], Collection[WebTransportConnection]],
        half_open: Callable[[], int],
        logger: logging.Logger,
        reason: str,
    ) -> None:
        self._connections = connections
        self._half_open = half_open
        self._logger = logger
        self._reason = reason
        self._arriving = True
        self._newcomers = {item for item in connections() if _just_came(item)}
        self._waiting = deque(item for item in connections() if item not in self._newcomers)
        self._told: dict[WebTransportConnection, Presence] = {}
        # When the time of each client is up, in order.
        self._due: deque[tuple[float, WebTransportConnection]] = deque()
        self._timers: dict[WebTransportConnection, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._timeout = 0.0

    # ------------------------------------------------------------- for the server

    def connection_accepted(self, connection: WebTransportConnection) -> None:
        """Its handshake was under way when the end began."""
        self._newcomers.add(connection)

    def admits(self, connection: WebTransportConnection) -> bool:
        """Whether a session that is asked for now is that of a client that just came."""
        return self._arriving and connection in self._newcomers

    def session_ended(self) -> None:
        """A session or a request ended, perhaps the last one."""
        self._ended.set()

    async def run(self, timeout: float, spread: float) -> None:
        """Tell all clients, and wait for the sessions of those that are connected to end.

        Args:
            timeout: Seconds that each client has after it was told; then it is closed.
            spread: Seconds over which clients are told.

        Cancellation: safe, but ``stop`` must be called.
        """
        loop = asyncio.get_running_loop()
        turns = Turns.of(loop)
        started = next_at = loop.time()
        self._timeout = timeout
        arrived = started + min(_ARRIVAL, timeout)
        size, interval = self._pace(spread)
        late = 0
        while True:
            now = loop.time()
            if self._waiting and now >= next_at:
                next_at += interval
                for _ in range(min(size, len(self._waiting))):
                    self._tell(self._waiting.popleft())
                    await turns.pause()
            if self._arriving and (now >= arrived or not self._may_come()):
                self._arriving = False
                came = [item for item in self._newcomers if not item.is_closed]
                self._newcomers.clear()
                if came:
                    self._waiting.extend(came)
                    size, interval = self._pace(started + spread - now)
                    next_at = min(next_at, now + interval)
            late += await self._close_due(now)
            if not self._waiting and not self._arriving and not self._left():
                break
            await self._pause(next_at - now if self._waiting else _LOOK)
        if late and timeout > 0:
            self._logger.info(
                "%d clients did not end their sessions or requests within drain_timeout=%s s",
                late,
                timeout,
            )

    def stop(self) -> None:
        """Cancel everything that is still to be sent."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()

    # ------------------------------------------------------------------ internal

    def _pace(self, seconds: float) -> tuple[int, float]:
        """How many clients to tell at a time, and at which interval, to finish in this time."""
        if seconds <= 0 or not self._waiting:
            return _BATCH, 0.0
        size = math.ceil(len(self._waiting) / math.ceil(seconds / _STEP))
        return size, seconds / math.ceil(len(self._waiting) / size)

    def _tell(self, connection: WebTransportConnection) -> None:
        """GOAWAY, a DRAIN capsule for each session, and later the GOAWAY with the last request."""
        layer = connection.layer
        if layer is None or connection in self._told or not connection.is_connected:
            return
        layer.send_goaway()
        for session in connection.sessions:
            session.drain()
        self._told[connection] = Presence(connection)
        loop = asyncio.get_running_loop()
        self._due.append((loop.time() + self._timeout, connection))
        self._timers[connection] = loop.call_later(connection.rtt or 0.0, self._finish, connection)

    def _finish(self, connection: WebTransportConnection) -> None:
        del self._timers[connection]
        layer = connection.layer
        if layer is not None and not connection.is_closed:
            layer.finish_goaway()

    async def _close_due(self, now: float) -> int:
        """Close clients whose time is up, some in each turn; return how many had sessions."""
        late = 0
        loop = asyncio.get_running_loop()
        turns = Turns.of(loop)
        while self._due and self._due[0][0] <= now:
            _, connection = self._due.popleft()
            if _is_busy(connection) and not connection.is_closed:
                late += 1
                task = loop.create_task(connection.close(reason=self._reason))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                turns.woke(_FIRST_STEP)
            await turns.pause()
        return late

    def _may_come(self) -> bool:
        """Whether a client is about to request its first session."""
        return self._half_open() > 0 or any(not item.is_closed for item in self._newcomers)

    def _left(self) -> bool:
        """A client that is there still has time; others are not looked at again."""
        while self._due:
            _, connection = self._due[0]
            if _is_busy(connection) and not self._told[connection].is_gone():
                return True
            self._due.popleft()
        return False

    async def _pause(self, seconds: float) -> None:
        """Wait this long, or until a session ends or the time of a client is up."""
        loop = asyncio.get_running_loop()
        if self._due:
            seconds = min(seconds, self._due[0][0] - loop.time())
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._ended.clear()
        timer = loop.call_later(seconds, self._ended.set)
        try:
            await self._ended.wait()
        finally:
            timer.cancel()


async def close_all(
    connections: Sequence[WebTransportConnection], reason: str, deadline: float
) -> None:
    """Close connections in parallel, some in each turn of the loop, so that other work can run.

    A connection whose client is gone takes less time.

    Args:
        connections: Which; some may be closing already.
        reason: What clients are closed with.
        deadline: Of all of them, by the clock of the running loop; then nothing is waited for.

    Cancellation: safe; connections that are closing skip the wait.
    """
    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    turns = Turns.of(loop)
    # Those that wait until the deadline must not all end in one turn.
    step = min(_END, max(0.0, deadline - loop.time()) * _LAST_PART / max(len(connections), 1))
    try:
        try:
            async with asyncio.timeout_at(deadline):
                for left, connection in zip(
                    range(len(connections), 0, -1), connections, strict=True
                ):
                    until = deadline - left * step
                    tasks.append(loop.create_task(connection.close_until(until, reason=reason)))
                    turns.woke(_FIRST_STEP)
                    await turns.pause()
                for task in tasks:  # not all in one call: they are many
                    if not task.done():
                        await asyncio.wait([task])
        except builtins.TimeoutError:
            # Those that had begun to close before, in a time of their own, or not at all.
            for connection in connections:
                if not connection.is_closed:
                    connection.close_nowait(reason=reason)
                    await turns.pause()
    finally:
        for task in tasks:
            if not task.cancel() and not task.cancelled():
                task.exception()  # nobody else looks at it


def check_drain(drain_timeout: Any, spread: Any) -> None:
    """Check what ``close`` is given; None stands for what the configuration says.

    Raises:
        ConfigurationError: One of them is not a number of seconds.
    """
    for key, value in (("drain_timeout", drain_timeout), ("spread", spread)):
        if value is not None and not (
            isinstance(value, int | float) and value >= 0  # NaN is not, either
        ):
            raise invalid_config(key=key, value=value, reason="expected 0 or more seconds")


def _just_came(connection: WebTransportConnection) -> bool:
    """Whether it has had no session or request yet, and hardly the time to begin one."""
    used = connection.session_count or connection.request_count
    return not used and clock.monotonic() - connection.active_at < _ARRIVAL


def _is_busy(connection: WebTransportConnection) -> bool:
    """Whether it has sessions or HTTP requests."""
    h3 = connection.h3
    return bool(connection.sessions or (h3 is not None and h3.exchanges))
