"""The end of the sessions reaches the peer before the connection is closed."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from ..utils.waiters import Waiters

if TYPE_CHECKING:
    from .._quic import QuicStream
    from ..h3.connection import H3Connection

__all__ = ["sessions_flushed"]

_logger = logging.getLogger("pywebtransport.connection")

# Seconds that a peer that acknowledged the end of a session has to end its side.
_PEER_END = 0.5


async def sessions_flushed(h3: H3Connection, *, timeout: float, name: str) -> None:
    """Wait until the peer has read the end of every session.

    An acknowledgement only says that its QUIC stack has it: a CONNECTION_CLOSE right
    behind can overtake it there. So the peer's own end of each CONNECT stream is awaited
    too, for a while: not every peer ends it. Usually both come in one packet, and this
    wakes up once.

    Args:
        h3: The HTTP/3 side of the connection.
        timeout: Seconds to wait for acknowledgements.
        name: Of the connection, for the log.

    Cancellation: safe.
    """
    loop = asyncio.get_running_loop()
    waiters = Waiters()
    deadline = loop.time() + timeout
    told = False  # every end is acknowledged
    while streams := [
        stream
        for session in h3.closing_sessions()
        if (stream := session.stream) is not None
        and not (stream.is_closed or (_is_told(stream) and _is_readable(stream)))
    ]:
        waiting = [stream for stream in streams if not _is_told(stream)]
        if not waiting and not told:
            told = True
            deadline = min(deadline, loop.time() + _PEER_END)
        left = deadline - loop.time()
        if left <= 0:
            if waiting:
                _logger.debug("connection %s: the peer did not acknowledge the end", name)
            return
        try:
            await waiters.wait(left, arm=partial(_arm, waiting or streams, waiters))
        finally:
            for stream in streams:
                stream.set_acked_waiter(None)
                stream.set_read_waiter(None)


def _is_readable(stream: QuicStream) -> bool:
    """A read waiter would be woken at once."""
    return bool(stream.buffered or stream.fin_received or stream.is_reset)


def _is_told(stream: QuicStream) -> bool:
    """The peer has all that was sent, or does not want it."""
    return stream.is_acked or stream.is_stopped


def _arm(streams: list[QuicStream], waiters: Waiters) -> None:
    """Wake ``waiters`` when a stream is acknowledged or the peer ends it."""
    for stream in streams:
        if not stream.is_acked:
            stream.set_acked_waiter(waiters)
        if not _is_readable(stream):
            stream.set_read_waiter(waiters)
