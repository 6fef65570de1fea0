"""Counters of a connection, by the names that a QUIC connection uses."""

from __future__ import annotations

from typing import Final

from ._state import State

__all__ = ["connection_stats", "session_stats"]

_UNKNOWN: Final = (
    "smoothed_rtt",
    "latest_rtt",
    "min_rtt",
    "rttvar",
    "cwnd",
    "ssthresh",
    "bytes_in_flight",
    "packets_lost",
    "leftovers",
    "mtu_falls",
    "max_udp_payload",
    "version",
    "key_updates",
)
"""What only QUIC knows; the link may know some."""


def connection_stats(state: State) -> dict[str, int | None]:
    """Return what the shared state knows."""
    return {
        **dict.fromkeys(_UNKNOWN),
        "bytes_sent": state.handed_out,
        "stream_bytes_sent": state.stream_bytes_sent,
        "stream_bytes_received": state.data.received,
        "datagrams_sent": state.datagrams.sent,
        "datagrams_acked": state.datagrams.sent,  # what is sent arrives
        "datagrams_lost": 0,
        "datagrams_dropped": state.datagrams.dropped,
        "datagrams_expired": state.datagrams.expired,
        "datagrams_queued": state.datagrams.count,
        "datagrams_missed": 0,
        "streams_opened_local": sum(state.opened),
        "streams_opened_remote": sum(credit.opened for credit in state.peer_streams),
        "streams_alive": len(state.streams),
    }


def session_stats(state: State) -> dict[str, int | None]:
    """Return the counters of ``Group.stats``."""
    datagrams = state.datagrams
    return {
        "bytes_sent": state.stream_bytes_sent,
        "bytes_received": state.data.received,
        "bytes_consumed": state.data.consumed,
        "send_limit": state.send_limit,
        "recv_limit": state.data.limit,
        "datagrams_queued": datagrams.count,
        "datagrams_queued_bytes": datagrams.bytes_queued,
        "datagrams_sent": datagrams.sent,
        "datagrams_acked": datagrams.sent,
        "datagrams_lost": 0,
        "datagrams_dropped": datagrams.dropped,
        "datagrams_expired": datagrams.expired,
    }
