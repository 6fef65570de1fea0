"""Null objects: placeholders before an object exists and after it is gone.

They do nothing and refer to nothing, so that an ended session or stream keeps no connection
alive and calls nothing.
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
# The parser of a stream that is done; it is never fed.
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
    """Events of a connection that is gone."""

    def settings_received(self, settings: Mapping[int, int]) -> None: ...
    def session_requested(self, session: Any) -> None: ...
    def early_dropped(self, what: str) -> None: ...
    def goaway_received(self, last_id: int) -> None: ...
    def connection_failed(self, error: Exception) -> None: ...


class NoLoad:
    def idle(self, reason: str) -> None: ...


class NoConnection:
    """A connection that is gone."""

    sessions: Mapping[int, Any] = MappingProxyType({})
    requests: Mapping[int, Any] = MappingProxyType({})
    tunnels: Mapping[int, Any] = MappingProxyType({})
    is_closed = True
    lacks_webtransport = True
    events = NoConnectionEvents()
    load = NoLoad()

    def guard(self, *_: object) -> None: ...


class NoSessionEvents:
    """Used until the application registers its callbacks."""

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
    """Used before the application registers its callbacks, and after the last call."""

    def tunnel_established(self) -> None: ...
    def tunnel_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception
    ) -> None: ...
    def packets_received(self, packets: list[bytes]) -> None: ...
    def tunnel_writable(self) -> None: ...
    def tunnel_closed(self, error: Exception | None) -> None: ...


class NoOwner:
    """The owner of a tunnel's group, which has only datagrams and no credit to report."""

    def group_blocked(self, limit: int) -> None: ...
    def group_violated(self, received: int, limit: int) -> None: ...
    def group_credit_due(self) -> None: ...


class NoCreditEvents:
    """Credit events of a session that has ended."""

    def credit_raised(self, kind: str, limit: int) -> None: ...
    def credit_violated(self, received: int, limit: int) -> None: ...


class NoGroup:
    """The group of a session before it has one, and after it is closed."""

    def __init__(self, stats: Mapping[str, int | None] | None = None) -> None:
        self.send_limit: int | None = None
        self.recv_limit: int | None = None
        self.datagram_limit: int | None = None
        self.credit_threshold = 0
        self._stats = dict.fromkeys(_COUNTERS, 0) if stats is None else dict(stats)

    def stats(self) -> dict[str, int | None]:
        """Return the last statistics."""
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
