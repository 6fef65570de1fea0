"""What an operator is told beside counters: readiness, limits, and how late the event loop is."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from ..client import WebTransportClient
from ..server import WebTransportServer

__all__ = ["LIMITS", "LoopLag", "limits_of", "refusals", "unready"]

LIMITS: Final = ("max_connections", "max_sessions", "max_requests")
"""Fields of a configuration that are exported as limits, where it has them."""

# Seconds between two measurements.
_INTERVAL = 0.1


class LoopLag:
    """Measures how late an event loop calls what is due, ten times a second while somebody watches.

    Attributes:
        counts: Measurements up to each of ``BOUNDS``, and above all of them.
        total: Seconds, of all measurements together.
    """

    BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

    def __init__(self) -> None:
        self.counts = [0] * (len(self.BOUNDS) + 1)
        self.total = 0.0
        self._watchers = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Begin to measure; return a function that stops it again."""
        self._watchers += 1
        if self._timer is None:
            self._look_later(loop)

        def stop() -> None:
            self._watchers -= 1
            if not self._watchers and self._timer is not None:
                self._timer.cancel()
                self._timer = None

        return stop

    def note(self, lag: float) -> None:
        """Add a measurement, in seconds."""
        self.counts[bisect_left(self.BOUNDS, lag)] += 1
        self.total += lag

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts, as a histogram of Prometheus has them."""
        found, so_far = [], 0
        for bound, count in zip((*self.BOUNDS, "+Inf"), self.counts, strict=True):
            so_far += count
            found.append((str(bound), float(so_far)))
        return found

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + _INTERVAL
        self._timer = loop.call_at(due, self._look, loop, due)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.note(max(0.0, loop.time() - due))
        self._look_later(loop)


def limits_of(source: WebTransportServer | WebTransportClient) -> dict[str, float]:
    """Return the limits of a server or client, by name."""
    found = {name: getattr(source.config, name, None) for name in LIMITS}
    return {name: value for name, value in found.items() if value is not None}


def refusals(sums: dict[str, float]) -> dict[str, float]:
    """Return how many were refused for each reason, from the sums of all servers."""
    if "sessions_rejected" not in sums:
        return {}
    limited, per_address = sums["sessions_limited"], sums["sessions_limited_by_address"]
    origins = sums["origins_rejected"]
    return {
        "max_sessions": limited - per_address,
        "max_sessions_per_address": per_address,
        "origin": origins,
        "application": sums["sessions_rejected"] - limited - origins,
        "max_connections_per_address": sums["connections_limited"],
        "connection": sums["connections_rejected"] - sums["connections_limited"],
        "max_requests": sums["requests_limited"],
    }


def unready(server: WebTransportServer) -> str | None:
    """Return why a balancer should send no new clients to a server; None if it should."""
    if not server.is_serving:
        return "draining" if server.is_draining else "not listening"
    config = server.config
    if server.open_session_count >= config.max_sessions:
        return f"max_sessions={config.max_sessions} is reached"
    if len(server.connections) >= config.max_connections:
        return f"max_connections={config.max_connections} is reached"
    return None
