"""Compatibility name: samples, alerts and trends of a session's datagrams."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Self

from ..utils._checks import check_integer, check_interface, check_number, check_text
from ..utils._closing import AsyncCloseable
from ..utils._sampling import Findings, Sample, Sampler, last

if TYPE_CHECKING:
    from .._core.datagram_transport import WebTransportDatagramTransport

__all__ = ["DatagramMonitor"]

_TREND = 0.25
"""A mean that changes by more than this fraction is a trend."""
_NOISE = {"avg_send_time": 0.001, "rtt": 0.001}
"""A smaller difference in seconds does not count."""
_HYSTERESIS = 0.1
"""How far a value must return beyond its threshold before the next alert."""
_COUNTERS = (
    "datagrams_sent",
    "datagrams_received",
    "datagrams_acknowledged",
    "datagrams_lost",
    "datagrams_expired",
    "send_drops",
    "send_failures",
    "receive_drops",
    "bytes_sent",
    "bytes_received",
)


class DatagramMonitor(AsyncCloseable):
    """Samples the counters of a datagram transport at regular intervals.

    Use it as ``async with DatagramMonitor(session.datagrams) as monitor:``. It takes
    samples until you leave the block or the transport closes.

    A sample is a dictionary: ``timestamp``; ``counters`` since the transport
    began and their growth per second as ``rates``; ``outgoing_queue_size``,
    ``outgoing_queue_limit`` and ``incoming_queue_size`` now; ``rtt`` in
    seconds (None before the first measurement); and since the sample before
    ``send_success_rate`` (sent of those that left the queue) and
    ``delivery_rate`` (acknowledged of those whose fate is known), both 1.0
    when there were none, and ``avg_send_time``, the seconds that a ``send``
    waited for room.

    An alert is a dictionary of ``name``, ``message`` and ``timestamp``. There is one, and one
    warning in the log, each time a value becomes bad; before the next one, the value must
    have become good again.

    ==========================  =============================================
    name                        when
    ==========================  =============================================
    ``high_queue_size``         outgoing queue over ``queue_size_threshold``
                                of its limit; good under 90 % of that
    ``low_success_rate``        ``send_success_rate`` under
                                ``success_rate_threshold``; good a tenth of
                                the way from there to 1
    ``high_loss``               the same with ``delivery_rate``
    ``increasing_send_time``    trend of ``avg_send_time``
    ``increasing_rtt``          trend of ``rtt``
    ==========================  =============================================
    """

    def __init__(
        self,
        datagram_transport: WebTransportDatagramTransport,
        *,
        monitoring_interval: float = 5.0,
        samples_maxlen: int = 100,
        alerts_maxlen: int = 50,
        queue_size_threshold: float = 0.9,
        success_rate_threshold: float = 0.8,
        trend_analysis_window: int = 10,
    ) -> None:
        """Create a monitor that does not sample yet.

        Args:
            datagram_transport: The transport to monitor.
            monitoring_interval: Seconds between samples.
            samples_maxlen: How many samples to keep, at least ``trend_analysis_window``
                for trends; the oldest are dropped first.
            alerts_maxlen: How many alerts to keep; the oldest are dropped first.
            queue_size_threshold: Fraction of the outgoing queue's limit, 0 to 1.
            success_rate_threshold: Fraction of datagrams, 0 to 1.
            trend_analysis_window: Samples over which trends are computed, at least 2.

        Raises:
            ConfigurationError: An argument is out of range.
        """
        check_interface(
            "datagram_transport",
            datagram_transport,
            "WebTransportDatagramTransport",
            "receive_many",
        )
        for name, count, least in (
            ("samples_maxlen", samples_maxlen, 1),
            ("alerts_maxlen", alerts_maxlen, 1),
            ("trend_analysis_window", trend_analysis_window, 2),
        ):
            check_integer(name, count, least, sys.maxsize)
        for name, fraction in (
            ("queue_size_threshold", queue_size_threshold),
            ("success_rate_threshold", success_rate_threshold),
        ):
            check_number(name, fraction, 0, 1)
        self._transport = datagram_transport
        self._queue_size_threshold = queue_size_threshold
        self._success_rate_threshold = success_rate_threshold
        self._window = trend_analysis_window
        self._waited = 0.0
        self._sampler = Sampler(
            self._take,
            self._judge,
            interval=monitoring_interval,
            logger=logging.getLogger("pywebtransport.datagram.monitor"),
            max_samples=samples_maxlen,
            max_alerts=alerts_maxlen,
        )

    @classmethod
    def create(
        cls,
        datagram_transport: WebTransportDatagramTransport,
        *,
        monitoring_interval: float = 5.0,
    ) -> Self:
        """Create a monitor with the default thresholds."""
        return cls(datagram_transport, monitoring_interval=monitoring_interval)

    @property
    def is_monitoring(self) -> bool:
        """Samples are being taken."""
        return self._sampler.is_running

    def get_alerts(self) -> list[dict[str, Any]]:
        """Return the alerts, oldest first."""
        return list(self._sampler.alerts)

    def get_samples(self, *, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the samples, oldest first; with ``limit``, only the newest ones.

        Raises:
            ConfigurationError: ``limit`` is negative.
        """
        return last(self._sampler.samples, limit)

    def take_sample(self) -> dict[str, Any]:
        """Take one more sample now, and return it."""
        return self._sampler.sample()

    def get_trend(self, figure: str) -> str:
        """Return how a value changes: ``increasing``, ``decreasing`` or ``stable``.

        The later half of the last ``trend_analysis_window`` samples is compared with the
        earlier half: a difference of more than a quarter is a trend, if it is more than a
        millisecond. With fewer samples, everything is stable.

        Args:
            figure: ``avg_send_time``, ``rtt``, ``delivery_rate`` and so on.
        """
        check_text("figure", figure)
        return self._trend(figure, last(self._sampler.samples, self._window))

    async def close(self) -> None:
        """Stop sampling; samples and alerts stay. Idempotent."""
        self._transport.remove_close_callback(self._ended)
        self._sampler.stop()

    async def __aenter__(self) -> Self:
        if not self.is_monitoring and not self._transport.is_closed:
            self._transport.add_close_callback(self._ended)
            self._sampler.start()
        return self

    # --------------------------------------------------------------- internal

    def _ended(self, transport: object) -> None:
        """The transport closed: its statistics will not change any more."""
        self._sampler.stop()

    def _take(self) -> Sample:
        transport = self._transport
        stats = transport.refresh_stats()
        counters = {name: getattr(stats, name) for name in _COUNTERS}
        latest = self._sampler.latest
        before = latest["counters"] if latest else dict.fromkeys(counters, 0)
        since = {name: counters[name] - before[name] for name in counters}
        waited, self._waited = stats.total_send_time - self._waited, stats.total_send_time
        sent = max(0, since["datagrams_sent"])  # what is dropped now was counted before
        gone = since["send_drops"] + since["send_failures"]
        return {
            "counters": counters,
            "outgoing_queue_size": transport.get_send_buffer_size(),
            "outgoing_queue_limit": transport.outgoing_high_water_mark,
            "incoming_queue_size": transport.get_receive_buffer_size(),
            "send_success_rate": _share(sent, gone),
            "delivery_rate": _share(since["datagrams_acknowledged"], since["datagrams_lost"]),
            "avg_send_time": waited / sent if sent else 0.0,
            "rtt": transport.session.rtt,
        }

    def _judge(self, sample: Sample, previous: Sample | None) -> Findings:
        """Find problems; a problem persists until its value is clearly good again."""
        known = self._sampler.findings
        findings: Findings = {}
        waiting, limit = sample["outgoing_queue_size"], sample["outgoing_queue_limit"]
        most = self._queue_size_threshold * limit
        if "high_queue_size" in known:
            most *= 1 - _HYSTERESIS
        if waiting > most:
            findings["high_queue_size"] = f"{waiting} of at most {limit} datagrams wait to be sent"
        for name, figure, text in (
            ("low_success_rate", "send_success_rate", "were sent"),
            ("high_loss", "delivery_rate", "were delivered"),
        ):
            least = self._success_rate_threshold
            if name in known:
                least += (1 - least) * _HYSTERESIS
            if sample[figure] < least:
                findings[name] = f"{sample[figure]:.1%} of the datagrams {text}"
        samples = [*last(self._sampler.samples, self._window - 1), sample]
        for name, figure in (
            ("increasing_send_time", "avg_send_time"),
            ("increasing_rtt", "rtt"),
        ):
            if self._trend(figure, samples) == "increasing":
                findings[name] = f"{figure} is increasing, now {sample[figure]:.6f} s"
        return findings

    def _trend(self, figure: str, samples: list[Sample]) -> str:
        values = [value for sample in samples if (value := sample.get(figure)) is not None]
        if len(values) < self._window:
            return "stable"
        half = len(values) // 2
        earlier = sum(values[:half]) / half
        later = sum(values[half:]) / (len(values) - half)
        if abs(later - earlier) <= max(_TREND * abs(earlier), _NOISE.get(figure, 0.0)):
            return "stable"
        return "increasing" if later > earlier else "decreasing"


def _share(good: int, bad: int) -> float:
    return good / (good + bad) if good + bad else 1.0
