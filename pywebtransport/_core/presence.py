"""Detects peers that no longer answer, so that callers do not wait in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import WebTransportConnection

__all__ = ["LOOKS", "Presence", "while_present"]

LOOKS = 4
"""How often a silent peer is looked at within the time in which it counts as gone."""

_NS = 1e9
# No peer counts as gone before this many seconds: programs pause, and so do networks.
_SHORTEST = 1.0
# Three probes, after 1, 2 and 4 probe timeouts (RFC 9002 section 6.2.1).
_PROBES = 1 + 2 + 4
# What a peer may add to a round trip before it acknowledges, and what we assume of an unknown one.
_ACK_DELAY = 0.025
_UNKNOWN_RTT = 0.333


class Presence:
    """Watches what a peer sends while an acknowledgement is outstanding.

    Args:
        connection: The connection to the peer, after the handshake.
    """

    __slots__ = ("_connection", "_packets", "_since", "patience")

    def __init__(self, connection: WebTransportConnection) -> None:
        self._connection = connection
        figures = connection.get_stats()
        self._packets = figures["packets_received"]
        self._since = asyncio.get_running_loop().time()
        rtt, variation = figures["smoothed_rtt"], figures["rttvar"]
        timeout = _UNKNOWN_RTT * 3 if not rtt else (rtt + 4 * (variation or 0)) / _NS + _ACK_DELAY
        # The peer counts as gone after this many seconds of silence.
        self.patience = max(_SHORTEST, _PROBES * timeout)

    def is_gone(self) -> bool:
        """Nothing has arrived for three probe timeouts, although an answer was due."""
        if self._connection.is_closed:
            return True
        figures = self._connection.get_stats()
        now = asyncio.get_running_loop().time()
        if figures["packets_received"] != self._packets or not figures["bytes_in_flight"]:
            self._packets = figures["packets_received"]
            self._since = now
        return now - self._since >= self.patience


@asynccontextmanager
async def while_present(connection: WebTransportConnection, deadline: float) -> AsyncIterator[None]:
    """Limit the time spent in the block: by a deadline, and by the presence of the peer.

    Args:
        connection: The connection to the peer, after the handshake.
        deadline: On the clock of the running loop.

    Raises:
        TimeoutError: The builtin: time was up, or the peer is gone.
    """
    async with asyncio.timeout_at(deadline) as limit:
        watch = _Watch(Presence(connection), limit)
        try:
            yield
        finally:
            watch.stop()


class _Watch:
    """Ends a time limit early when the peer is gone.

    A class, because a closure that refers to itself would keep its connection alive until
    the garbage collector runs.
    """

    __slots__ = ("_limit", "_loop", "_presence", "_timer")

    def __init__(self, presence: Presence, limit: asyncio.Timeout) -> None:
        self._presence = presence
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(presence.patience, self._look)

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _look(self) -> None:
        # In a turn that comes late, the deadline may have fired already; the block ends next.
        if self._limit.expired():
            return
        if self._presence.is_gone():
            self._limit.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(self._presence.patience / LOOKS, self._look)
