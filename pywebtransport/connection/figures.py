"""Sums over the connections of an endpoint: those that live and those that are over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import WebTransportConnection

__all__ = ["ConnectionFigures", "round_trip_times", "spread", "traffic_counters"]

# Members of a connection's statistics that only ever grow: an endpoint's sum has to grow, too.
_COUNTED = (
    "packets_lost",
    "stream_bytes_sent",
    "stream_bytes_received",
    "streams_opened_local",
    "streams_opened_remote",
    "resets_received",
    "dgrams_sent",
    "dgrams_received",
    "dgrams_acked",
    "dgrams_lost",
    "dgrams_dropped",
    "dgrams_expired",
    "key_updates",
)
# Members that say how things stand now.
_PRESENT = ("bytes_in_flight", "dgrams_queued", "streams_alive")


class ConnectionFigures:
    """What the connections of one endpoint did, since the endpoint began.

    A figure that the QUIC library does not tell (``packets_lost`` with some
    versions) is left out of every result.
    """

    __slots__ = ("_over", "_unknown", "_unread")

    def __init__(self) -> None:
        self._over: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        self._unknown: set[str] = set()
        self._unread = 0

    def connection_over(self, connection: WebTransportConnection) -> None:
        """Keep the last figures of a connection that has ended."""
        self._add(self._over, connection)
        self._unread += connection._receive_drops

    def collect(self, connections: Iterable[WebTransportConnection]) -> dict[str, int]:
        """Add the figures of the connections that live to those kept.

        Returns:
            Counters by their names in the engine, ``dgrams_unread`` (received, and
            dropped because the application did not read in time), and how things
            stand now: ``bytes_in_flight``, ``streams_alive``, ``dgrams_queued``
            (to be sent) and ``dgrams_waiting`` (to be read).
        """
        sums = self._over | dict.fromkeys(_PRESENT, 0)
        unread, waiting = self._unread, 0
        for connection in connections:
            self._add(sums, connection)
            unread += connection._receive_drops
            for session in connection.sessions:
                datagrams = session._datagrams
                if datagrams is not None:
                    unread += datagrams._receive_drops
                    waiting += datagrams.get_receive_buffer_size()
        known = {name: value for name, value in sums.items() if name not in self._unknown}
        return {**known, "dgrams_unread": unread, "dgrams_waiting": waiting}

    def _add(self, sums: dict[str, int], connection: WebTransportConnection) -> None:
        quic = connection._quic
        if quic is None:
            return
        stats = quic.stats()
        for name in sums:
            value = stats[name]
            if value is None:
                self._unknown.add(name)
            else:
                sums[name] += value


def round_trip_times(connections: Iterable[WebTransportConnection]) -> list[float]:
    """Smoothed round-trip times in seconds, sorted; of those connections that have a sample."""
    return sorted(rtt for connection in connections if (rtt := connection.rtt) is not None)


def spread(values: list[float]) -> dict[str, float | None]:
    """Smallest, median, 95th percentile and largest of sorted values; None without any."""
    if not values:
        return dict.fromkeys(("min", "median", "p95", "max"))
    end = len(values) - 1
    places = {"min": 0, "median": end // 2, "p95": round(end * 0.95), "max": end}
    return {name: values[place] for name, place in places.items()}


def traffic_counters(stats: dict[str, Any]) -> dict[str, int]:
    """The bytes and datagrams of an endpoint's statistics, for a monitor."""
    engine, traffic = stats.get("engine", {}), stats["traffic"]
    return {
        "bytes_sent": engine.get("bytes_sent", 0),
        "bytes_received": engine.get("bytes_received", 0),
        "datagrams_sent": traffic["dgrams_sent"],
        "datagrams_received": traffic["dgrams_received"],
        "datagrams_lost": traffic["dgrams_lost"],
        "datagrams_dropped": traffic["dgrams_dropped"] + traffic["dgrams_unread"],
    }
