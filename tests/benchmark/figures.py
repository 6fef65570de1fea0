"""Summaries of repeated measurements, ratios to the best peer, and targets. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .libraries import LIBRARIES, OURS
from .scenarios import SCENARIOS, Metric, Target

__all__ = [
    "Key",
    "Outcome",
    "Summary",
    "Verdict",
    "best_peer",
    "outcomes",
    "ratio",
    "summarise",
    "verdicts",
]


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """What was measured: one line of a table."""

    scenario: str
    library: str
    loop: str
    congestion: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and range of one figure over the repetitions."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything about one line: summaries by metric, and why repetitions failed."""

    key: Key
    metrics: Mapping[str, Summary]
    failures: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        metrics = {name: asdict(summary) for name, summary in self.metrics.items()}
        return {**asdict(self.key), "metrics": metrics, "failures": list(self.failures)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target: our figure, the best peer's, their ratio; ``met`` is None without a ratio."""

    target: Target
    loop: str
    ours: Summary | None
    peer: tuple[Key, Summary] | None
    any_loop: tuple[Key, Summary] | None
    ratio: float | None
    ratio_any_loop: float | None
    met: bool | None
    note: str = ""

    @property
    def metric(self) -> Metric:
        """The figure of this project that is compared."""
        return metric_of(self.target.scenario, self.target.metric)

    @property
    def other(self) -> Metric:
        """The figure of the peers that it is compared with."""
        return metric_of(self.target.scenario, self.target.other)

    @property
    def sign(self) -> str:
        """How the ratio has to be to the target."""
        return ">=" if self.metric.more else "<="


def metric_of(scenario: str, name: str) -> Metric:
    """A metric of a scenario by its name."""
    return next(metric for metric in SCENARIOS[scenario].metrics if metric.name == name)


def summarise(values: Iterable[float]) -> Summary:
    """Median, minimum and maximum.

    Raises:
        ValueError: There are no values.
    """
    numbers = list(values)
    if not numbers:
        raise ValueError("values must hold at least 1 number, got 0")
    return Summary(statistics.median(numbers), min(numbers), max(numbers), len(numbers))


def outcomes(cells: Iterable[Mapping[str, Any]]) -> dict[Key, Outcome]:
    """Put the repetitions of one line together, in the order in which lines came first.

    Args:
        cells: One measurement each: the fields of ``Key``, and ``figures`` or ``error``.
    """
    figures: dict[Key, list[Mapping[str, float]]] = {}
    failures: dict[Key, list[str]] = {}
    for cell in cells:
        key = Key(cell["scenario"], cell["library"], cell["loop"], cell.get("congestion", ""))
        figures.setdefault(key, [])
        failures.setdefault(key, [])
        if "error" in cell:
            failures[key].append(cell["error"])
        else:
            figures[key].append(cell["figures"])
    return {
        key: Outcome(
            key,
            {name: summarise(one[name] for one in many) for name in (many[0] if many else ())},
            failures[key],
        )
        for key, many in figures.items()
    }


def best_peer(
    lines: Mapping[Key, Outcome], scenario: str, metric: Metric, loop: str | None = None
) -> tuple[Key, Summary] | None:
    """The peer with the best median, of one event loop or of all.

    A server that is measured with the client of this project is a peer only where the server alone
    is measured.
    """
    server_only = SCENARIOS[scenario].group == "memory"
    found = [
        (key, outcome.metrics[metric.name])
        for key, outcome in lines.items()
        if key.scenario == scenario
        and key.library != OURS
        and (server_only or LIBRARIES[key.library].client != OURS)
        and loop in (None, key.loop)
        and metric.name in outcome.metrics
    ]
    if not found:
        return None
    return (max if metric.more else min)(found, key=lambda pair: pair[1].median)


def ratio(ours: Summary, peer: Summary) -> float | None:
    """Our median by theirs."""
    return ours.median / peer.median if peer.median else None


def verdicts(lines: Mapping[Key, Outcome], targets: Iterable[Target], loop: str) -> list[Verdict]:
    """Compare with every target that was measured on ``loop``."""
    return [
        _verdict(lines, target, loop)
        for target in targets
        if any(key.scenario == target.scenario and key.loop == loop for key in lines)
    ]


def _verdict(lines: Mapping[Key, Outcome], target: Target, loop: str) -> Verdict:
    metric = metric_of(target.scenario, target.metric)
    other = metric_of(target.scenario, target.other)
    mine = lines.get(Key(target.scenario, OURS, loop))
    ours = mine.metrics.get(metric.name) if mine is not None else None
    peer = best_peer(lines, target.scenario, other, loop)
    any_loop = best_peer(lines, target.scenario, other)
    if ours is None or peer is None or any_loop is None:
        return Verdict(target, loop, ours, peer, any_loop, None, None, None, "not measured")
    value = ratio(ours, peer[1])
    met = value is not None and (value >= target.ratio if metric.more else value <= target.ratio)
    note = ""
    if target.no_loss and mine is not None:
        lost = mine.metrics["lost"]
        note = f"{lost.high:.0f} lost at most"
        met = met and lost.high == 0
    return Verdict(target, loop, ours, peer, any_loop, value, ratio(ours, any_loop[1]), met, note)
