"""Whether a peer still answers, for those who would wait for it in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import WebTransportConnection

__all__ = ["Presence", "while_present"]

_NS = 1e9
# Nobody is gone before that many seconds: programs pause, and so do networks.
_SHORTEST = 1.0
# A probe, and one after twice and one after four times as long (RFC 9002 section 6.2.1).
_PROBES = 1 + 2 + 4
# What a peer may add to a round trip before it acknowledges, and what we assume of an unknown one.
_ACK_DELAY = 0.025
_UNKNOWN_RTT = 0.333


class Presence:
    """Judges a peer by what it sends while something waits for its acknowledgement.

    Args:
        connection: To the peer; the handshake is done.
    """

    __slots__ = ("_connection", "_packets", "_since", "patience")

    def __init__(self, connection: WebTransportConnection) -> None:
        self._connection = connection
        figures = connection.get_stats()
        self._packets = figures["packets_received"]
        self._since = asyncio.get_running_loop().time()
        rtt, variation = figures["smoothed_rtt"], figures["rttvar"]
        timeout = _UNKNOWN_RTT * 3 if not rtt else (rtt + 4 * (variation or 0)) / _NS + _ACK_DELAY
        # Seconds of silence after which the peer counts as gone.
        self.patience = max(_SHORTEST, _PROBES * timeout)

    def is_gone(self) -> bool:
        """Nothing has come for three probe timeouts, although something had to."""
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
    """Limit what happens inside to a time of the loop, and to the presence of the peer.

    Args:
        connection: To the peer; the handshake is done.
        deadline: Of everything, by the clock of the running loop.

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
    """Brings the end of a time limit forward once the peer is gone.

    No function that refers to itself, or each would wait for the garbage collector, with
    its connection.
    """

    __slots__ = ("_limit", "_loop", "_presence", "_timer")

    def __init__(self, presence: Presence, limit: asyncio.Timeout) -> None:
        self._presence = presence
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(presence.patience, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._presence.is_gone():
            self._limit.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(self._presence.patience / 4, self._look)
