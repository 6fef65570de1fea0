"""Reports what a server refuses or loses, in the log, in counters and in its diagnosis."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .._core.errors import handshake_failure
from ..utils._hosts import host_and_port
from ..utils._logs import BoundedLog
from ..utils._text import printable, printable_path

if TYPE_CHECKING:
    from .._states import Address
    from .._transport import CloseInfo
    from ..connection import WebTransportConnection
    from ._stats import ServerStats

__all__ = ["Losses", "peer_name"]

# Transport codes (RFC 9000 section 20.1) of answers to clients without a connection:
# CONNECTION_REFUSED and INVALID_TOKEN.
_REFUSALS = (0x2, 0xB)


class Losses:
    """Logs and counts what is refused or lost.

    A peer can cause any number of these, so each kind is logged at most once a second, with the
    number of skipped ones.

    Args:
        logger: Logger of the server.
        stats: Statistics of the server, which are updated here.
    """

    def __init__(self, logger: logging.Logger, stats: ServerStats) -> None:
        self._log = BoundedLog(logger)
        self._stats = stats
        # The newest of each kind, for the diagnosis.
        self._last: dict[str, tuple[str, tuple[object, ...]]] = {}

    def rejected(
        self,
        status: int,
        reason: str,
        *,
        path: str,
        origin: str | None,
        peer: Address | None,
        kind: str = "by the application",
    ) -> None:
        """A session request was not answered with 200.

        Args:
            status: Status of the answer.
            reason: Why, in words of this package.
            path: Path of the request.
            origin: Origin of the request.
            peer: Address of the client.
            kind: ``by the application``, or a short name for the reason of this package.
        """
        stats = self._stats
        stats.sessions_rejected += 1
        level = logging.INFO
        if kind in ("limit", "address limit"):
            stats.sessions_limited += 1
            stats.sessions_limited_by_address += kind == "address limit"
            level = logging.WARNING
        elif kind == "origin":
            stats.origins_rejected += 1
        shown = printable_path(path), "-" if origin is None else printable(origin)
        self._tell(
            f"rejected {status} {kind}",
            level,
            "rejected %s with status %d: %s (origin %s, peer %s)",
            shown[0],
            status,
            reason,
            shown[1],
            peer_name(peer),
            extra={
                "path": shown[0],
                "status": status,
                "reason": reason,
                "origin": shown[1],
                "client": "-" if peer is None else host_and_port(*peer),
            },
        )
        self._last["rejected"] = self._last[f"rejected {status} {kind}"]

    def connection_failed(self, connection: WebTransportConnection) -> None:
        """A connection ended with an error."""
        self._stats.connection_errors += 1
        self._tell(
            "connection failed",
            logging.INFO,
            "connection %s of %s failed: %s",
            connection.connection_id,
            peer_name(connection.remote_address),
            printable(connection.error, 500),
        )

    def connection_unused(self, connection: WebTransportConnection) -> None:
        """A connection ended without a session request."""
        self._stats.connections_unused += 1
        self._tell(
            "connection unused",
            logging.INFO,
            "connection %s of %s ended without a session request",
            connection.connection_id,
            peer_name(connection.remote_address),
        )

    def handshake_failed(self, peer: Address, info: CloseInfo) -> None:
        """A client was refused, or its QUIC or TLS handshake failed; the engine counts them."""
        if info.code in _REFUSALS and not info.remote:
            kind, message = "connection refused", "connection of %s refused: %s"
        else:
            kind, message = "handshake failed", "handshake with %s failed: %s"
        self._tell(
            kind, logging.INFO, message, peer_name(peer), printable(handshake_failure(info), 500)
        )

    def early_dropped(self, what: str, peer: Address | None) -> None:
        """A stream or datagram came before its session, and was dropped.

        Args:
            what: ``stream`` or ``datagram``.
            peer: Address of the sender.
        """
        if what == "stream":
            self._stats.early_streams_dropped += 1
            fields = "max_early_streams, max_early_bytes"
        else:
            self._stats.early_datagrams_dropped += 1
            fields = "max_pending_events_per_session"
        self._tell(
            f"early {what}",
            logging.WARNING,
            "dropped a %s of %s that came before its session; see %s and pending_event_ttl",
            what,
            peer_name(peer),
            fields,
        )

    def findings(self, engine: dict[str, int]) -> list[str]:
        """Return the diagnosis, with the newest of each kind.

        Args:
            engine: Counters of the QUIC engine.
        """
        stats, found = self._stats, []
        asked = stats.sessions_accepted + stats.sessions_rejected
        failed = engine.get("handshake_failed", 0)
        for count, what, kind in (
            (stats.sessions_rejected, f"of {asked} session requests were rejected", "rejected"),
            (
                stats.sessions_limited - stats.sessions_limited_by_address,
                "sessions were refused for max_sessions",
                "",
            ),
            (
                stats.sessions_limited_by_address,
                "sessions were refused for max_sessions_per_address",
                "rejected 429 address limit",
            ),
            (stats.origins_rejected, "requests came from an origin that is not allowed", ""),
            (stats.connections_rejected, "connections were refused", "connection refused"),
            (
                stats.connections_limited,
                "connections were refused for max_connections_per_address",
                "",
            ),
            (failed, "handshakes failed", "handshake failed"),
            (
                stats.connections_unused,
                "connections ended without a session request",
                "connection unused",
            ),
            (
                stats.early_streams_dropped,
                "streams that came before their session were dropped",
                "early stream",
            ),
            (
                stats.early_datagrams_dropped,
                "datagrams that came before their session were dropped",
                "early datagram",
            ),
            (stats.requests_limited, "HTTP requests were refused for max_requests", ""),
            (stats.workers_died, "worker processes died", ""),
        ):
            if count:
                last = self._last.get(kind)
                found.append(
                    f"{count} {what}" + (f"; the last: {last[0] % last[1]}" if last else "")
                )
        return found

    def close(self) -> None:
        """Log how many were skipped."""
        self._log.flush()

    def _tell(
        self,
        kind: str,
        level: int,
        message: str,
        *args: object,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        self._last[kind] = (message, args)
        self._log.tell(kind, level, message, *args, extra=extra)


def peer_name(peer: Address | None) -> str:
    """Host and port for a log line."""
    return "an unknown peer" if peer is None else f"{peer[0]} port {peer[1]}"
