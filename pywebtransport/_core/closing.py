"""Deliver the end of the sessions to the peer before the connection is closed."""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..utils._closing import in_turns
from .exchanges import finish_exchanges
from .presence import LOOKS, Presence, while_present
from .waiting import EagerWaiters

if TYPE_CHECKING:
    from .._transport import SessionLayer, SessionStream
    from .connection import WebTransportConnection
    from .session import WebTransportSession

__all__ = ["Closing", "before", "close_sessions", "end_sessions", "sessions_flushed"]

_logger = logging.getLogger("pywebtransport.connection")

# After a peer has acknowledged the end of a session, it has this many seconds to end its side.
_PEER_END = 0.5


def before(deadline: float) -> float:
    """Return the deadline for all but the last step, which gets a tenth of the time.

    Args:
        deadline: The deadline for everything, on the clock of the running loop.
    """
    return deadline - (deadline - asyncio.get_running_loop().time()) / 10


async def end_sessions(
    connection: WebTransportConnection, layer: SessionLayer, deadline: float, code: int, reason: str
) -> None:
    """Close the sessions, answer the open requests, and wait until the peer has all of it.

    Args:
        connection: The connection.
        layer: What carries its sessions.
        deadline: For everything, on the clock of the loop.
        code: As for ``WebTransportSession.close``.
        reason: As for ``WebTransportSession.close``.

    Cancellation: the sessions are closed at once.
    """
    # After the time is up: the remaining peers do not answer.
    with suppress(builtins.TimeoutError):
        if connection.sessions:
            async with while_present(connection, deadline):
                await close_sessions(connection.sessions, before(deadline), code, reason)
        await finish_exchanges(connection, before(deadline))
        await sessions_flushed(connection, layer, deadline)


async def close_sessions(
    sessions: Iterable[WebTransportSession], deadline: float, code: int, reason: str
) -> None:
    """Close sessions concurrently; only some begin in each turn, so that other tasks can run.

    Args:
        sessions: The sessions to close.
        deadline: On the clock of the loop.
        code: As for ``WebTransportSession.close``.
        reason: As for ``WebTransportSession.close``.

    Cancellation: all of them are closed at once.
    """
    await in_turns(session.close_until(deadline, code, reason) for session in sessions)


async def sessions_flushed(
    connection: WebTransportConnection, layer: SessionLayer, deadline: float
) -> None:
    """Wait until the peer has read the end of every session, or is gone.

    An acknowledgement only means that the peer's QUIC stack has the data: a CONNECTION_CLOSE
    that follows directly can overtake it there. So this also waits for the peer to end its
    side of each CONNECT stream, but not for long, because some peers never do. Usually both
    come in one packet, and this wakes up once.

    Args:
        connection: The connection.
        layer: What carries its sessions.
        deadline: Wait for acknowledgements until then, on the clock of the loop.

    Cancellation: safe.
    """
    loop = asyncio.get_running_loop()
    waiters: EagerWaiters | None = None
    told = False  # every end is acknowledged
    while streams := [
        stream
        for session in layer.closing_sessions()
        if (stream := session.stream) is not None
        and not (stream.is_closed or (_is_told(stream) and _is_readable(stream)))
    ]:
        if waiters is None:
            waiters, presence = EagerWaiters(loop), Presence(connection)
            patience = presence.patience
        waiting = [stream for stream in streams if not _is_told(stream)]
        if not waiting and not told:
            told = True
            deadline = min(deadline, loop.time() + _PEER_END)
        left = deadline - loop.time()
        if left <= 0:
            if waiting:
                _logger.debug(
                    "connection %s: the peer did not acknowledge the end", connection.connection_id
                )
            return
        arm = partial(_arm, waiting or streams, waiters)
        try:
            if await waiters.wait(min(left, patience), arm=arm):
                continue
        finally:
            for stream in streams:
                stream.set_acked_waiter(None)
                stream.set_read_waiter(None)
        if presence.is_gone():
            return
        patience = presence.patience / LOOKS


class Closing:
    """Calls a function when the peer's QUIC stack has received the end of every session.

    For callers that cannot wait, because their task is being cancelled. It uses no task
    either, because the loop may be about to end. The engine wakes it like a future.

    Args:
        layer: What carries the sessions of the connection.
        timeout: Seconds after which the function is called in any case.
        shut: The function to call from the event loop.
    """

    __slots__ = ("_layer", "_shut", "_timer")

    def __init__(self, layer: SessionLayer, *, timeout: float, shut: Callable[[], object]) -> None:
        self._layer = layer
        self._shut = shut
        self._timer = asyncio.get_running_loop().call_later(timeout, self._end)
        self._look()

    def cancel(self) -> None:
        """Do not call the function any more: the connection has ended."""
        self._timer.cancel()

    def done(self) -> bool:
        """Like a future: nothing is waiting any more."""
        return self._timer.cancelled()

    def set_result(self, result: None, /) -> None:
        """Like a future: the engine has news about a stream."""
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        for session in self._layer.closing_sessions():
            stream = session.stream
            if stream is not None and not (stream.is_closed or _is_told(stream)):
                stream.set_acked_waiter(self)
                return
        self._end()

    def _end(self) -> None:
        if not self._timer.cancelled():
            self._timer.cancel()
            self._shut()


def _is_readable(stream: SessionStream) -> bool:
    """A reader would be woken at once."""
    return bool(stream.buffered or stream.fin_received or stream.is_reset)


def _is_told(stream: SessionStream) -> bool:
    """The peer has received everything that was sent, or does not want it."""
    return stream.is_acked or stream.is_stopped


def _arm(streams: list[SessionStream], waiters: EagerWaiters) -> None:
    """Wake ``waiters`` when a stream is acknowledged or the peer ends it."""
    for stream in streams:
        if not stream.is_acked:
            stream.set_acked_waiter(waiters)
        if not _is_readable(stream):
            stream.set_read_waiter(waiters)
