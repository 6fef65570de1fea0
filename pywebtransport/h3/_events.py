"""The events of a session for the layer above: callbacks, registered once per session.

All calls are synchronous and happen in the deliver phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["SessionEvents"]


class SessionEvents(Protocol):
    """Events of one WebTransport session (set ``H3Session.events``)."""

    def session_established(self) -> None:
        """Client: 2xx received, ``response_headers`` and ``application_protocol`` are set."""

    def session_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception | None
    ) -> None:
        """Client: a final status other than 2xx, or no usable answer at all (status ``None``)."""

    def stream_received(self, stream: Any, unidirectional: bool) -> None:
        """The peer opened a stream; its header is consumed and its ``sink`` is ``None``."""

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        """Datagrams in the order of arrival, at least one."""

    def streams_available(self, unidirectional: bool) -> None:
        """Session or connection credit grew: try ``open_stream`` again."""

    def datagram_writable(self) -> None: ...

    def session_draining(self) -> None:
        """DRAIN capsule or GOAWAY (once)."""

    def credit_updated(self, kind: str, limit: int) -> None:
        """WT_MAX_DATA / WT_MAX_STREAMS: kind is "data", "streams_bidi" or "streams_uni"."""

    def capsule_received(self, capsule_type: int, value: bytes) -> None:
        """A well-formed known capsule (for observers; already handled)."""

    def session_closed(
        self, code: int | None, reason: str, remote: bool, error: Exception | None
    ) -> None:
        """Last call. ``code`` None: abrupt end (CONNECT stream reset, connection lost)."""
