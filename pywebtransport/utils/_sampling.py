"""Used by compatibility names: regular samples, and alerts about new problems."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

from . import _clock as clock
from ._checks import check_integer, check_seconds
from ._rounds import Round
from ._timing import get_timestamp

__all__ = ["Findings", "Sample", "Sampler", "last"]

_Item = TypeVar("_Item")

Sample = dict[str, Any]
Findings = dict[str, str]
"""What is wrong: a short, fixed name, and a description."""


class Sampler:
    """Takes a sample at once and then every ``interval`` seconds, with one timer.

    A problem that the last sample did not have causes one alert, and is logged.

    Args:
        take: Returns a sample. It has ``counters``, values that only grow;
            ``timestamp``, ``loop_delay`` and ``rates`` (growth of the counters
            per second) are added.
        judge: What is wrong with the sample.
        interval: Seconds between samples.
        logger: Where alerts are logged, as warnings.
        prepare: Starts work that must finish before a sample is taken; None: there is none.
        max_samples: Samples to keep; the oldest one is dropped.
        max_alerts: Alerts to keep.

    Raises:
        ConfigurationError: ``interval`` is not above 0.
    """

    def __init__(
        self,
        take: Callable[[], Sample],
        judge: Callable[[Sample, Sample | None], Findings],
        *,
        interval: float,
        logger: logging.Logger,
        prepare: Callable[[], Round] | None = None,
        max_samples: int = 120,
        max_alerts: int = 100,
    ) -> None:
        interval = check_seconds("monitoring_interval", interval)
        self._take = take
        self._judge = judge
        self._interval = interval
        self._logger = logger
        self._prepare = prepare
        self._timer: asyncio.TimerHandle | None = None
        self._taken_at = 0.0  # on a monotonic clock
        self.samples: deque[Sample] = deque(maxlen=max_samples)
        self.alerts: deque[dict[str, Any]] = deque(maxlen=max_alerts)
        self.findings: Findings = {}

    @property
    def is_running(self) -> bool:
        """Whether it runs: between ``start`` and ``stop``."""
        return self._timer is not None

    @property
    def latest(self) -> Sample | None:
        """The last sample."""
        return self.samples[-1] if self.samples else None

    def start(self) -> None:
        """Take the first sample; idempotent."""
        if self._timer is None:
            self._again(None)

    def stop(self) -> None:
        """Take no further sample; those taken stay. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sample(self, loop_delay: float | None = None) -> Sample:
        """Take one more sample now.

        Args:
            loop_delay: Seconds by which the event loop was late, if measured.
        """
        previous = self.latest
        sample = {"timestamp": get_timestamp(), "loop_delay": loop_delay, **self._take()}
        before, self._taken_at = self._taken_at, clock.monotonic()
        sample["rates"] = _rates(sample, previous, self._taken_at - before)
        findings = self._judge(sample, previous)
        for name, message in findings.items():
            if name not in self.findings:
                self._logger.warning("%s", message)
                self.alerts.append(
                    {"timestamp": sample["timestamp"], "name": name, "message": message}
                )
        self.findings = findings
        self.samples.append(sample)
        return sample

    def clear(self) -> None:
        """Forget samples and alerts; what is wrong now alerts again with the next sample."""
        self.samples.clear()
        self.alerts.clear()
        self.findings = {}

    def _again(self, due: float | None) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # Set the timer first: a sample that raises must not end the series.
        self._timer = loop.call_later(self._interval, self._again, now + self._interval)
        delay = None if due is None else max(0.0, now - due)
        if self._prepare is None:
            self.sample(delay)
        else:
            self._prepare().when_over(lambda: self._prepared(delay))

    def _prepared(self, delay: float | None) -> None:
        if self.is_running:
            self.sample(delay)


def last(items: deque[_Item], limit: int | None) -> list[_Item]:
    """The newest ``limit`` items, oldest first; None: all.

    Raises:
        ConfigurationError: ``limit`` is negative.
    """
    if limit is None:
        return list(items)
    check_integer("limit", limit, 0, sys.maxsize)
    return list(islice(items, max(0, len(items) - limit), None))


def _rates(sample: Sample, previous: Sample | None, seconds: float) -> dict[str, float]:
    """Growth per second of each counter since the previous sample; 0 without one."""
    counters: dict[str, int] = sample["counters"]
    if previous is None or seconds <= 0:
        return dict.fromkeys(counters, 0.0)
    before: dict[str, int] = previous["counters"]
    # The counters of a closed engine are gone: that is not a negative rate.
    return {name: max(0, value - before[name]) / seconds for name, value in counters.items()}
