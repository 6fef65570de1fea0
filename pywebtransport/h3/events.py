"""What the HTTP/3 layer tells the layer above: two sets of callbacks.

``ConnectionEvents`` is registered once per connection, ``SessionEvents`` once
per session. All calls are synchronous and happen in the deliver phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .session import H3Session

__all__ = ["ConnectionEvents", "SessionEvents"]


class ConnectionEvents(Protocol):
    """Facts about one HTTP/3 connection."""

    def settings_received(self, settings: Mapping[int, int]) -> None:
        """The peer's SETTINGS are in; ``H3Connection.dialect`` is chosen."""

    def session_requested(self, session: H3Session) -> None:
        """Server: a valid CONNECT. Answer with ``accept`` or ``reject``, now or later."""

    def goaway_received(self, last_id: int) -> None:
        """No new session can be opened on this connection."""

    def early_dropped(self, what: str) -> None:
        """A ``"stream"`` or ``"datagram"`` came before its session and found no room, or the
        session did not come in time: it is lost."""

    def connection_failed(self, error: Exception) -> None:
        """The peer broke a rule: the connection is being closed with ``error.error_code``."""


class SessionEvents(Protocol):
    """Facts about one WebTransport session (set ``H3Session.events``)."""

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
        """A well-formed known capsule (for observers; already acted upon)."""

    def session_closed(
        self, code: int | None, reason: str, remote: bool, error: Exception | None
    ) -> None:
        """Last call. ``code`` None: abrupt end (CONNECT stream reset, connection lost)."""
