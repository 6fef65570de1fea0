"""Samples of a long run, and the rule by which they are flat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["QUANTITIES", "TOLERANCE", "Quantity", "Series", "judge"]

TOLERANCE = 0.03
"""Of the mean: what the line through the second half may rise by over that half."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Something that must not grow.

    Attributes:
        name: In the samples.
        title: For people.
        unit: Likewise.
        slack: What it may rise by in any case: steps of allocators, work under way.
    """

    name: str
    title: str
    unit: str
    slack: float


QUANTITIES = (
    Quantity(name="rss", title="resident memory", unit="MiB", slack=4.0),
    Quantity(name="pss", title="proportional memory", unit="MiB", slack=4.0),
    Quantity(name="descriptors", title="descriptors", unit="", slack=2.0),
    Quantity(name="tasks", title="tasks", unit="", slack=100.0),
    Quantity(name="objects", title="Python objects", unit="", slack=10_000.0),
)


@dataclass(kw_only=True)
class Series:
    """One quantity of one process over time.

    Attributes:
        points: Seconds since the phase began, and the value.
    """

    process: str
    quantity: str
    points: list[tuple[float, float]] = field(default_factory=list)

    def second_half(self) -> list[tuple[float, float]]:
        """The points from the middle of the time on."""
        if not self.points:
            return []
        middle = (self.points[0][0] + self.points[-1][0]) / 2
        return [point for point in self.points if point[0] >= middle]

    def rise(self) -> float:
        """By how much the line of least squares through the second half rises over it."""
        points = self.second_half()
        if len(points) < 2:
            return 0.0
        mean_x = sum(x for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        spread = sum((x - mean_x) ** 2 for x, _ in points)
        if not spread:
            return 0.0
        slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
        return slope * (points[-1][0] - points[0][0])

    def level(self) -> float:
        """Mean of the second half."""
        points = self.second_half()
        return sum(y for _, y in points) / len(points) if points else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "process": self.process,
            "quantity": self.quantity,
            "level": self.level(),
            "rise": self.rise(),
            "points": self.points,
        }


def judge(series: list[Series]) -> list[str]:
    """What is not flat, in words."""
    slack = {quantity.name: quantity for quantity in QUANTITIES}
    faults = []
    for one in series:
        quantity = slack[one.quantity]
        allowed = TOLERANCE * one.level() + quantity.slack
        if one.rise() > allowed:
            faults.append(
                f"{quantity.title} of the {one.process} rose by {one.rise():,.0f} {quantity.unit}"
                f"{' ' if quantity.unit else ''}in the second half, from a mean of "
                f"{one.level():,.0f}; {allowed:,.0f} are allowed"
            )
    return faults
