"""Used by compatibility names: the common part of ``ClientMonitor`` and ``ServerMonitor``."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any, Protocol, Self

from .._core.totals import spread, traffic_counters
from ..utils._closing import AsyncContext
from ..utils._rounds import Round
from ..utils._sampling import Findings, Sample, Sampler

__all__ = ["EndpointMonitor", "Measured"]

# An event loop that is later than this keeps every peer waiting.
_MAX_LOOP_DELAY = 1.0


class Measured(Protocol):
    """The client or server that is measured."""

    def begin_round(self) -> Round: ...
    def measure(self) -> dict[str, Any]: ...
    def round_trip_times(self) -> list[float]: ...


class EndpointMonitor(AsyncContext, ABC):
    """Samples the statistics of a client or server at an interval, until you leave the block.

    Subclasses select counters and find problems in a sample.
    """

    def __init__(self, watched: Measured, *, interval: float, logger: logging.Logger) -> None:
        self._watched = watched
        self._sampler = Sampler(
            self._take,
            self._judge_all,
            interval=interval,
            logger=logger,
            prepare=lambda: watched.begin_round(),
        )

    @property
    def is_monitoring(self) -> bool:
        """Whether samples are being taken."""
        return self._sampler.is_running

    def take_sample(self) -> dict[str, Any]:
        """Take one more sample now, and return it."""
        return self._sampler.sample()

    async def __aenter__(self) -> Self:
        self._sampler.start()
        return self

    async def _end_block(self) -> None:
        self._sampler.stop()

    @abstractmethod
    def _counters(self, stats: dict[str, Any]) -> dict[str, int]:
        """The counters to sample, in addition to those of traffic."""

    @abstractmethod
    def _judge(self, sample: Sample, grown: dict[str, int]) -> Findings:
        """Find problems; ``grown``: by how much the counters grew since the last sample."""

    def _take(self) -> Sample:
        stats = self._watched.measure()
        return {
            "stats": stats,
            "rtt": spread(self._watched.round_trip_times()),
            "counters": {**self._counters(stats), **traffic_counters(stats)},
        }

    def _judge_all(self, sample: Sample, previous: Sample | None) -> Findings:
        found = self._judge(sample, _growth(sample, previous))
        delay = sample["loop_delay"]
        if delay is not None and delay > _MAX_LOOP_DELAY:
            found["loop_delay"] = f"the event loop was {delay:.1f} s late"
        return found


def _growth(sample: Sample, previous: Sample | None) -> dict[str, int]:
    """By how much each counter grew since the sample before; since the start without one."""
    before = previous["counters"] if previous else dict.fromkeys(sample["counters"], 0)
    return {name: value - before[name] for name, value in sample["counters"].items()}
