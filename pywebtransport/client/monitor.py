"""Compatibility name: samples and alerts of a client."""

from __future__ import annotations

import logging
from typing import Any, Self

from ..connection.monitor import EndpointMonitor
from ..utils.sampling import Findings, Sample, last
from .client import WebTransportClient

__all__ = ["ClientMonitor"]

_RECENT_ALERTS = 10
# Fewer attempts between two samples say nothing.
_MIN_ATTEMPTS = 5
_MAX_FAILED = 0.1
_SLOW_CONNECT = 5.0


class ClientMonitor(EndpointMonitor):
    """Samples a client's figures at an interval.

    Use as ``async with ClientMonitor(client) as monitor:``. All figures are
    measured: attempts to connect and their times, counters of the engine and of
    the sessions, the round-trip times of the connections, and how late the
    event loop is.

    A problem becomes one alert, and one warning in the log, when it begins.
    Problems are: more than a tenth of at least five attempts failed since the
    last sample; connecting took more than 5 seconds on average since then; the
    client is closed; the event loop was more than a second late.
    """

    def __init__(self, client: WebTransportClient, *, monitoring_interval: float = 30.0) -> None:
        """A monitor that does not sample yet.

        Args:
            client: What to watch.
            monitoring_interval: Seconds between samples.

        Raises:
            ConfigurationError: The interval is not above 0.
        """
        super().__init__(
            client,
            interval=monitoring_interval,
            logger=logging.getLogger("pywebtransport.client.monitor"),
        )
        self._client = client

    @classmethod
    def create(cls, client: WebTransportClient, *, monitoring_interval: float = 30.0) -> Self:
        """As the constructor."""
        return cls(client, monitoring_interval=monitoring_interval)

    def get_metrics_summary(self) -> dict[str, Any]:
        """The last sample and the newest alerts.

        Returns:
            ``latest_metrics``: ``timestamp`` (seconds since the epoch),
            ``loop_delay`` (seconds; None in the first sample), ``stats`` (the
            groups of ``ClientStats.to_dict``, ``active_connections``,
            ``active_sessions``, ``traffic``, ``engine``), ``rtt`` (``min``,
            ``median``, ``p95``, ``max`` in seconds), ``counters`` and ``rates``
            (their growth per second since the sample before); None before the
            first sample.
            ``recent_alerts``: at most ten, oldest first: ``timestamp``,
            ``name``, ``message``. ``is_monitoring``: as the property.
        """
        return {
            "latest_metrics": self._sampler.latest,
            "recent_alerts": last(self._sampler.alerts, _RECENT_ALERTS),
            "is_monitoring": self.is_monitoring,
        }

    # ------------------------------------------------------------------ internal

    def _counters(self, stats: dict[str, Any]) -> dict[str, int]:
        connections = stats["connections"]
        return {
            "connections_attempted": connections["attempted"],
            "connections_successful": connections["successful"],
            "connections_failed": connections["failed"],
            "connections_lost": connections["lost"],
            "connect_milliseconds": round(stats["performance"]["total_connect_time"] * 1000),
        }

    def _judge(self, sample: Sample, grown: dict[str, int]) -> Findings:
        found: Findings = {}
        if self._client.is_closed:
            found["closed"] = "the client is closed"
        failed, attempts = grown["connections_failed"], grown["connections_attempted"]
        if attempts >= _MIN_ATTEMPTS and failed > _MAX_FAILED * attempts:
            found["connections_failed"] = f"{failed} of {attempts} attempts to connect failed"
        opened = grown["connections_successful"]
        if opened and grown["connect_milliseconds"] > _SLOW_CONNECT * 1000 * opened:
            seconds = grown["connect_milliseconds"] / 1000 / opened
            found["connect_time"] = f"connecting took {seconds:.1f} s on average"
        return found
