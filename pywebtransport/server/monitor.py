"""Watches a server: samples, health, alerts."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Self

from ..connection.figures import round_trip_times, spread, traffic_counters
from ..utils.sampling import Findings, Sample, Sampler, last
from .server import WebTransportServer

__all__ = ["ServerMonitor"]

# A limit is close from here on.
_NEARLY_FULL = 0.9
# Fewer handshakes between two samples say nothing.
_MIN_HANDSHAKES = 10
_MAX_FAILED = 0.5
# An event loop that is later than this keeps every client waiting.
_MAX_LOOP_DELAY = 1.0


class ServerMonitor:
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
        self._server = server
        self._sampler = Sampler(
            self._take,
            self._judge,
            interval=monitoring_interval,
            logger=logging.getLogger("pywebtransport.server.monitor"),
        )

    @classmethod
    def create(cls, *, server: WebTransportServer, monitoring_interval: float = 30.0) -> Self:
        """As the constructor."""
        return cls(server, monitoring_interval=monitoring_interval)

    @property
    def is_monitoring(self) -> bool:
        """Samples are being taken."""
        return self._sampler.is_running

    async def __aenter__(self) -> Self:
        self._sampler.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._sampler.stop()

    def get_health_status(self) -> dict[str, Any]:
        """Whether the server is well now, by a fresh measurement.

        Returns:
            ``status``: ``healthy``, ``degraded`` or ``unhealthy`` (it accepts
            no sessions); ``reason``: what is wrong, in words.
        """
        sample = {"loop_delay": None, **self._take()}
        latest = self._sampler.latest
        if latest is not None:
            sample["loop_delay"] = latest["loop_delay"]
        findings = self._judge(sample, latest)
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

    def _take(self) -> Sample:
        stats = self._server._measure()
        counters = {
            "connections_accepted": stats["connections_accepted"],
            "connections_rejected": stats["connections_rejected"],
            "sessions_accepted": stats["sessions_accepted"],
            "sessions_rejected": stats["sessions_rejected"],
            "handler_errors": stats["handler_errors"],
            "handshakes_failed": stats.get("engine", {}).get("handshake_failed", 0),
            **traffic_counters(stats),
        }
        return {
            "stats": stats,
            "rtt": spread(round_trip_times(self._server.connections)),
            "counters": counters,
        }

    def _judge(self, sample: Sample, previous: Sample | None) -> Findings:
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
        before = previous["counters"] if previous else dict.fromkeys(sample["counters"], 0)
        grown = {name: value - before[name] for name, value in sample["counters"].items()}
        failed = grown["handshakes_failed"]
        handshakes = failed + grown["connections_accepted"]
        if handshakes >= _MIN_HANDSHAKES and failed > _MAX_FAILED * handshakes:
            found["handshakes_failed"] = f"{failed} of {handshakes} handshakes failed"
        if grown["handler_errors"]:
            found["handler_errors"] = f"{grown['handler_errors']} session handlers raised"
        delay = sample["loop_delay"]
        if delay is not None and delay > _MAX_LOOP_DELAY:
            found["loop_delay"] = f"the event loop was {delay:.1f} s late"
        return found
