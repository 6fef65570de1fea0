"""Null objects: what stands where nothing is yet, or nothing any more.

They do nothing and lead nowhere, so that a session or a stream that is over keeps no connection
alive and calls nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from .._header_map import HeaderMap
from ._frames import SKIP, FrameParser

__all__ = [
    "NOBODY",
    "NO_CONNECTION",
    "NO_CONNECTION_EVENTS",
    "NO_FRAMES",
    "NO_HEADERS",
    "NO_OWNER",
    "NO_SESSION_EVENTS",
    "NO_TUNNEL_EVENTS",
    "NoGroup",
]

NO_HEADERS: Final = HeaderMap()  # not changed
# The parser of a stream that is out of our hands; nothing is fed to it.
NO_FRAMES: Final = FrameParser(lambda _: SKIP)
_COUNTERS: Final = (
    "bytes_sent",
    "bytes_received",
    "bytes_consumed",
    "datagrams_queued",
    "datagrams_queued_bytes",
    "datagrams_sent",
    "datagrams_acked",
    "datagrams_lost",
    "datagrams_dropped",
    "datagrams_expired",
)


class NoConnectionEvents:
    """Hears of a connection that is gone."""

    def settings_received(self, settings: Mapping[int, int]) -> None: ...
    def session_requested(self, session: Any) -> None: ...
    def early_dropped(self, what: str) -> None: ...
    def goaway_received(self, last_id: int) -> None: ...
    def connection_failed(self, error: Exception) -> None: ...


class NoLoad:
    def idle(self, reason: str) -> None: ...


class NoConnection:
    """Stands for a connection that is gone, and leads nowhere."""

    sessions: Mapping[int, Any] = MappingProxyType({})
    requests: Mapping[int, Any] = MappingProxyType({})
    tunnels: Mapping[int, Any] = MappingProxyType({})
    is_closed = True
    lacks_webtransport = True
    events = NoConnectionEvents()
    load = NoLoad()

    def guard(self, *_: object) -> None: ...


class NoSessionEvents:
    """Stands in until the application registers its callbacks."""

    def session_established(self) -> None: ...
    def session_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception | None
    ) -> None: ...
    def stream_received(self, stream: Any, unidirectional: bool) -> None:
        stream.release()

    def datagrams_received(self, datagrams: list[bytes]) -> None: ...
    def streams_available(self, unidirectional: bool) -> None: ...
    def datagram_writable(self) -> None: ...
    def session_draining(self) -> None: ...
    def credit_updated(self, kind: str, limit: int) -> None: ...
    def capsule_received(self, capsule_type: int, value: bytes) -> None: ...
    def session_closed(
        self, code: int | None, reason: str, remote: bool, error: Exception | None
    ) -> None: ...


class NoTunnelEvents:
    """Before the application registers its callbacks, and after the last call."""

    def tunnel_established(self) -> None: ...
    def tunnel_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception
    ) -> None: ...
    def packets_received(self, packets: list[bytes]) -> None: ...
    def tunnel_writable(self) -> None: ...
    def tunnel_closed(self, error: Exception | None) -> None: ...


class NoOwner:
    """The group of a tunnel has datagrams only, and no credit to tell of."""

    def group_blocked(self, limit: int) -> None: ...
    def group_violated(self, received: int, limit: int) -> None: ...
    def group_credit_due(self) -> None: ...


class NoCreditEvents:
    """Hears of the credit of a session that is over."""

    def credit_raised(self, kind: str, limit: int) -> None: ...
    def credit_violated(self, received: int, limit: int) -> None: ...


class NoGroup:
    """Stands for the group of a session that has none yet, or none any more."""

    def __init__(self, stats: Mapping[str, int | None] | None = None) -> None:
        self.send_limit: int | None = None
        self.recv_limit: int | None = None
        self.datagram_limit: int | None = None
        self.credit_threshold = 0
        self._stats = dict.fromkeys(_COUNTERS, 0) if stats is None else dict(stats)

    def stats(self) -> dict[str, int | None]:
        """The last figures."""
        return dict(self._stats)

    def clear_datagrams(self) -> int:
        return 0

    def close(self) -> None: ...


NO_CONNECTION_EVENTS: Final = NoConnectionEvents()
NO_CONNECTION: Final = NoConnection()
NO_SESSION_EVENTS: Final = NoSessionEvents()
NO_TUNNEL_EVENTS: Final = NoTunnelEvents()
NO_OWNER: Final = NoOwner()
NOBODY: Final = NoCreditEvents()
