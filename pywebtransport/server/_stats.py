"""Statistics of a server."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ServerStats"]


@dataclass(kw_only=True)
class ServerStats:
    """Counters of a server since it began to listen.

    Attributes:
        connections_accepted: QUIC connections whose handshake was completed.
        connections_rejected: Refused for ``max_connections``, for
            ``max_connections_per_address``, for an invalid Retry token, or while the
            server closes.
        connections_limited: Of these, those for ``max_connections_per_address``.
        connection_errors: Accepted connections that ended with an error.
        connections_unused: Accepted connections that ended without a session request.
        protocol_errors: Violations of HTTP/3 or WebTransport by peers.
        uptime: Seconds.
        sessions_accepted: Session requests that were answered with 200.
        websocket_sessions_accepted: Of these, those over WebSocket.
        sessions_rejected: Session requests that were answered with another status.
        sessions_limited: Of these, those for ``max_sessions`` or
            ``max_sessions_per_address``.
        sessions_limited_by_address: Of these, those for ``max_sessions_per_address``.
        origins_rejected: Of these, those whose origin is not allowed.
        handler_errors: Exceptions of handlers and middleware.
        early_streams_dropped: Streams that came before their session and were dropped: there was no
            room, or the session did not come in time.
        early_datagrams_dropped: The same for datagrams.
        requests: HTTP requests that an application was to answer, see ``ServerApp.mount``; also
            those that were refused.
        requests_limited: Of these, those refused for ``max_requests``.
        requests_cancelled: Of these, those that ended before their answer began.
        responses_2xx: Answers by the first digit of their status.
        responses_3xx: See ``responses_2xx``.
        responses_4xx: See ``responses_2xx``; with ``requests_cancelled``.
        responses_5xx: See ``responses_2xx``.
        request_bytes: Bytes of request bodies that applications have read.
        response_bytes: Bytes of response bodies.
        tcp_connections_accepted: TCP connections whose TLS handshake was completed.
        tcp_connections_rejected: TCP connections that were cut for ``max_connections`` or
            ``max_connections_per_address``, which count them apart from those of QUIC.
        tcp_handshakes_failed: TCP connections that ended in the TLS handshake.
        tcp_requests_refused: Requests over TCP that asked for no session, with ``websocket`` and
            without an application for them.
        workers_died: Worker processes of the whole server that ended unexpectedly.
    """

    connections_accepted: int = 0
    connections_rejected: int = 0
    connections_limited: int = 0
    connection_errors: int = 0
    connections_unused: int = 0
    protocol_errors: int = 0
    uptime: float = 0.0
    sessions_accepted: int = 0
    websocket_sessions_accepted: int = 0
    sessions_rejected: int = 0
    sessions_limited: int = 0
    sessions_limited_by_address: int = 0
    origins_rejected: int = 0
    handler_errors: int = 0
    early_streams_dropped: int = 0
    early_datagrams_dropped: int = 0
    requests: int = 0
    requests_limited: int = 0
    requests_cancelled: int = 0
    responses_2xx: int = 0
    responses_3xx: int = 0
    responses_4xx: int = 0
    responses_5xx: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    tcp_connections_accepted: int = 0
    tcp_connections_rejected: int = 0
    tcp_handshakes_failed: int = 0
    tcp_requests_refused: int = 0
    workers_died: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dictionary."""
        return asdict(self)

    def findings(self) -> list[str]:
        """What looks wrong in the counters."""
        found = []
        if self.handler_errors:
            found.append(f"{self.handler_errors} session handlers raised")
        if self.protocol_errors:
            found.append(f"{self.protocol_errors} connections broke a protocol rule")
        return found
