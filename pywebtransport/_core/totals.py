"""Sums over the connections of an endpoint, open and closed."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..utils._rounds import Round, Rounds
from ..utils._turns import Turns

if TYPE_CHECKING:
    from .._transport import Transport
    from .connection import WebTransportConnection

__all__ = ["ConnectionTotals", "spread", "traffic_counters"]

# Members of a connection's statistics that only grow, as the sum of an endpoint must.
_COUNTED = (
    "packets_lost",
    "stream_bytes_sent",
    "stream_bytes_received",
    "streams_opened_local",
    "streams_opened_remote",
    "resets_received",
    "datagrams_sent",
    "datagrams_received",
    "datagrams_acked",
    "datagrams_lost",
    "datagrams_dropped",
    "datagrams_expired",
    "datagrams_missed",
    "key_updates",
)
# Members that describe the current state.
_PRESENT = ("bytes_in_flight", "datagrams_queued", "streams_alive")
_AT_ONCE = 200
"""How many connections fit into one turn: each takes some ten microseconds."""


class _Seen:
    """The last statistics of an open connection."""

    __slots__ = ("counted", "present", "rtt", "unread", "waiting")

    def __init__(self) -> None:
        self.counted = [0] * len(_COUNTED)
        self.present = [0] * len(_PRESENT)
        self.unread = self.waiting = 0
        self.rtt: float | None = None


class ConnectionTotals:
    """Totals over all connections of one endpoint since it was created.

    The sums are stored, and updated by what each connection did since the last look at it, so
    that many connections can be read in several turns of the event loop.

    A counter that the QUIC library does not report (``packets_lost`` with some versions) is
    left out of every result.
    """

    __slots__ = ("_counted", "_present", "_rounds", "_seen", "_started", "_unknown", "_unread",
                 "_waiting")  # fmt: skip

    def __init__(self) -> None:
        self._counted = [0] * len(_COUNTED)
        self._present = [0] * len(_PRESENT)
        self._unread = self._waiting = 0
        self._unknown: set[str] = set()
        self._seen: dict[WebTransportConnection, _Seen] = {}
        self._rounds = Rounds()
        self._started: Round | None = None

    def connection_over(self, connection: WebTransportConnection) -> None:
        """Keep the last statistics of a connection that has ended."""
        seen = self._seen.pop(connection, None)
        # Its sessions have ended: what they had not read counts as dropped.
        if seen is None and connection._quic is not None and not connection.sessions:
            self._add(_figures(connection, connection._quic))
            self._unread += connection._receive_drops
            return
        seen = seen or _Seen()
        self._look(connection, seen)
        for index, value in enumerate(seen.present):
            self._present[index] -= value
        self._waiting -= seen.waiting

    def refresh(self, connections: Collection[WebTransportConnection]) -> Round:
        """Read all connections again; if there are many, this takes several turns of the loop.

        Args:
            connections: The open connections.

        Returns:
            An awaitable that ends when all have been read.
        """
        if len(self._rounds) > 1 and self._started is not None:
            # One round is running and another one waits, which is soon enough for all callers.
            return self._started
        self._started = self._rounds.begin(tuple(connections), self._refresh)
        return self._started

    def collect(self, connections: Collection[WebTransportConnection]) -> dict[str, int]:
        """As ``sums``, but up to date if one turn is enough to read all connections.

        With more connections, all are read in the next turns of the loop, for the next call.
        """
        if len(connections) <= _AT_ONCE:
            for connection in connections:
                self._refresh(connection)
        else:
            # Not now: the caller uses this turn for what is known.
            Turns.of().later(lambda: self.refresh(connections))
        return self.sums()

    def sums(self) -> dict[str, int]:
        """Return the totals of all connections as they were last read.

        Returns:
            Counters by their names in the engine; ``datagrams_unread`` (received, but
            dropped because the application did not read in time); and the current
            ``bytes_in_flight``, ``streams_alive``, ``datagrams_queued`` (to be sent) and
            ``datagrams_waiting`` (to be read).
        """
        pairs = (
            *zip(_COUNTED, self._counted, strict=True),
            *zip(_PRESENT, self._present, strict=True),
        )
        known = {name: value for name, value in pairs if name not in self._unknown}
        return {**known, "datagrams_unread": self._unread, "datagrams_waiting": self._waiting}

    def round_trip_times(self) -> list[float]:
        """Return the sorted smoothed round-trip times of all connections that have a sample."""
        return sorted(seen.rtt for seen in self._seen.values() if seen.rtt is not None)

    def _refresh(self, connection: WebTransportConnection) -> None:
        if connection._quic is None or connection.is_closed:
            return  # it has ended meanwhile, and the sums include it
        seen = self._seen.get(connection)
        if seen is None:
            seen = self._seen[connection] = _Seen()
        self._look(connection, seen)

    def _look(self, connection: WebTransportConnection, seen: _Seen) -> None:
        """Correct the sums by what changed."""
        quic = connection._quic
        if quic is not None:
            stats = _figures(connection, quic)
            self._correct(_COUNTED, stats, seen.counted, self._counted)
            self._correct(_PRESENT, stats, seen.present, self._present)
            rtt = stats["smoothed_rtt"]
            seen.rtt = rtt / 1e9 if rtt else None
        unread, waiting = connection._receive_drops, 0
        for session in connection.sessions:
            datagrams = session._datagrams
            if datagrams is not None:
                unread += datagrams._receive_drops
                waiting += datagrams.get_receive_buffer_size()
        # The last drops of a session are added to those of its connection: it never shrinks.
        self._unread += max(0, unread - seen.unread)
        self._waiting += waiting - seen.waiting
        seen.unread, seen.waiting = max(unread, seen.unread), waiting

    def _add(self, stats: dict[str, Any]) -> None:
        """Add all that a connection has counted."""
        sums = self._counted
        for index, name in enumerate(_COUNTED):
            value = stats[name]
            if value:
                sums[index] += value
            elif value is None:
                self._unknown.add(name)

    def _correct(
        self, names: tuple[str, ...], stats: dict[str, Any], before: list[int], sums: list[int]
    ) -> None:
        for index, name in enumerate(names):
            value = stats[name]
            if value is None:
                self._unknown.add(name)
            elif value != before[index]:
                sums[index] += value - before[index]
                before[index] = value


def _figures(connection: WebTransportConnection, quic: Transport) -> dict[str, int | None]:
    """Return the statistics of a connection. What WebSocket does not have counts as 0."""
    stats = quic.stats()
    if connection.transport == "websocket":
        return {name: value or 0 for name, value in stats.items()}
    return stats


def spread(values: list[float]) -> dict[str, float | None]:
    """Return minimum, median, 95th percentile and maximum of sorted values; None if empty."""
    if not values:
        return dict.fromkeys(("min", "median", "p95", "max"))
    end = len(values) - 1
    places = {"min": 0, "median": end // 2, "p95": round(end * 0.95), "max": end}
    return {name: values[place] for name, place in places.items()}


def traffic_counters(stats: dict[str, Any]) -> dict[str, int]:
    """Return the byte and datagram counters of an endpoint's statistics, for a monitor."""
    engine, traffic = stats.get("engine", {}), stats["traffic"]
    return {
        "bytes_sent": engine.get("bytes_sent", 0),
        "bytes_received": engine.get("bytes_received", 0),
        "datagrams_sent": traffic["datagrams_sent"],
        "datagrams_received": traffic["datagrams_received"],
        "datagrams_lost": traffic["datagrams_lost"],
        "datagrams_dropped": traffic["datagrams_dropped"] + traffic["datagrams_unread"],
    }
