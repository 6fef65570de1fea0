"""Compatibility name: samples, alerts and health of a server."""

from __future__ import annotations

import logging
from typing import Any, Self

from ..connection.monitor import EndpointMonitor
from ..utils.sampling import Findings, Sample, last
from .server import WebTransportServer

__all__ = ["ServerMonitor"]

# A limit is close from here on.
_NEARLY_FULL = 0.9
# Fewer handshakes between two samples say nothing.
_MIN_HANDSHAKES = 10
_MAX_FAILED = 0.5


class ServerMonitor(EndpointMonitor):
    """Samples a server's figures at an interval and says whether it is well.

    Use as ``async with ServerMonitor(server) as monitor:``. All figures are
    measured: counters of the engine, of HTTP/3 and of the sessions, the
    round-trip times of the connections, and how late the event loop is.

    A problem becomes one alert, and one warning in the log, when it begins.
    Problems are: the server does not accept; ``max_connections`` or
    ``max_sessions`` is used to 90 %; more than half of at least ten handshakes
    failed since the last sample; handlers raised since then; the event loop
    was more than a second late.
    """

    def __init__(self, server: WebTransportServer, *, monitoring_interval: float = 30.0) -> None:
        """A monitor that does not sample yet.

        Args:
            server: What to watch.
            monitoring_interval: Seconds between samples.

        Raises:
            ConfigurationError: The interval is not above 0.
        """
        super().__init__(
            server,
            interval=monitoring_interval,
            logger=logging.getLogger("pywebtransport.server.monitor"),
        )
        self._server = server

    @classmethod
    def create(cls, server: WebTransportServer, *, monitoring_interval: float = 30.0) -> Self:
        """As the constructor."""
        return cls(server, monitoring_interval=monitoring_interval)

    def get_health_status(self) -> dict[str, Any]:
        """Whether the server is well now, by a fresh measurement.

        With more than 200 connections, the figures of some are those of the last measurement.

        Returns:
            ``status``: ``healthy``, ``degraded`` or ``unhealthy`` (it accepts
            no sessions); ``reason``: what is wrong, in words.
        """
        sample = {"loop_delay": None, **self._take()}
        latest = self._sampler.latest
        if latest is not None:
            sample["loop_delay"] = latest["loop_delay"]
        findings = self._judge_all(sample, latest)
        if not findings:
            return {"status": "healthy", "reason": "all measured figures are within their bounds"}
        status = "unhealthy" if "not_serving" in findings else "degraded"
        return {"status": status, "reason": "; ".join(findings.values())}

    def get_alerts(self, *, limit: int = 25) -> list[dict[str, Any]]:
        """The newest alerts, oldest first: ``timestamp``, ``name``, ``message``.

        Raises:
            ConfigurationError: ``limit`` is negative.
        """
        return last(self._sampler.alerts, limit)

    def get_current_metrics(self) -> dict[str, Any] | None:
        """The last sample; None before the first.

        Its keys: ``timestamp`` (seconds since the epoch), ``loop_delay``
        (seconds; None in the first), ``stats`` (as ``get_server_stats``),
        ``rtt`` (``min``, ``median``, ``p95``, ``max`` in seconds), ``counters``
        and ``rates`` (their growth per second since the sample before).
        """
        return self._sampler.latest

    def get_metrics_history(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """The newest samples, oldest first.

        Raises:
            ConfigurationError: ``limit`` is negative.
        """
        return last(self._sampler.samples, limit)

    def clear_history(self) -> None:
        """Forget samples and alerts."""
        self._sampler.clear()

    # ------------------------------------------------------------------ internal

    def _counters(self, stats: dict[str, Any]) -> dict[str, int]:
        return {
            "connections_accepted": stats["connections_accepted"],
            "connections_rejected": stats["connections_rejected"],
            "sessions_accepted": stats["sessions_accepted"],
            "sessions_rejected": stats["sessions_rejected"],
            "handler_errors": stats["handler_errors"],
            "handshakes_failed": stats.get("engine", {}).get("handshake_failed", 0),
        }

    def _judge(self, sample: Sample, grown: dict[str, int]) -> Findings:
        config, stats = self._server.config, sample["stats"]
        found: Findings = {}
        if not self._server.is_serving:
            found["not_serving"] = "the server does not accept sessions"
        for name, used in (
            ("max_connections", stats["active_connections"]),
            ("max_sessions", stats["active_sessions"]),
        ):
            limit = getattr(config, name)
            if used >= _NEARLY_FULL * limit:
                found[name] = f"{used} of {name}={limit} are in use"
        failed = grown["handshakes_failed"]
        handshakes = failed + grown["connections_accepted"]
        if handshakes >= _MIN_HANDSHAKES and failed > _MAX_FAILED * handshakes:
            found["handshakes_failed"] = f"{failed} of {handshakes} handshakes failed"
        if grown["handler_errors"]:
            found["handler_errors"] = f"{grown['handler_errors']} session handlers raised"
        return found
