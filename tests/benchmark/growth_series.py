"""Series of costs over a growing number of something, and whether they stay flat."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

__all__ = ["TOLERANCE", "Point", "Series", "markdown"]

TOLERANCE = 0.20
"""Growth of a cost that still counts as flat."""


@dataclass(slots=True)
class Point:
    """The costs measured at one place of a series.

    Attributes:
        x: How many streams, sessions or seconds.
        values: One figure per repetition.
    """

    x: float
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the repetitions."""
        return statistics.median(self.values)


@dataclass(slots=True)
class Series:
    """One cost over a growing number.

    Attributes:
        name: Short, for file names and keys.
        title: For people.
        group: Series of one group share a plot.
        x_label: What grows.
        unit: Of the cost.
        loop: Event loop.
        judged: Whether the series is one that has to stay flat.
        tolerance: Growth that still counts as flat.
        points: By x, in the order in which they were measured first.
    """

    name: str
    title: str
    group: str
    x_label: str
    unit: str
    loop: str
    judged: bool = True
    tolerance: float = TOLERANCE
    points: dict[float, Point] = field(default_factory=dict)

    def add(self, x: float, value: float) -> None:
        """One more figure at ``x``."""
        self.points.setdefault(x, Point(x)).values.append(value)

    def ordered(self) -> list[Point]:
        """The points by x."""
        return [self.points[x] for x in sorted(self.points)]

    @property
    def growth(self) -> float:
        """How much a point costs more than a cheaper one before it, at most, as a fraction.

        A cost that falls, as where many share one packet, does not grow: the figure is then
        the largest rise after the fall, or 0.
        """
        worst, cheapest = 0.0, float("inf")
        for point in self.ordered():
            cheapest = min(cheapest, point.median)
            worst = max(worst, point.median / cheapest - 1)
        return worst

    @property
    def end_to_end(self) -> float:
        """The last cost against the first, as a fraction."""
        points = self.ordered()
        return points[-1].median / points[0].median - 1

    @property
    def is_flat(self) -> bool:
        """Grows by no more than the tolerance."""
        return self.growth <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "group": self.group,
            "x": self.x_label,
            "unit": self.unit,
            "loop": self.loop,
            "judged": self.judged,
            "tolerance": self.tolerance,
            "points": [
                {
                    "x": point.x,
                    "median": point.median,
                    "min": min(point.values),
                    "max": max(point.values),
                    "values": point.values,
                }
                for point in self.ordered()
            ],
            "growth": self.growth,
            "last_against_first": self.end_to_end,
            "flat": self.is_flat if self.judged else None,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Series:
        """What ``to_dict`` made, again."""
        series = cls(
            name=data["name"],
            title=data["title"],
            group=data["group"],
            x_label=data["x"],
            unit=data["unit"],
            loop=data["loop"],
            judged=data["judged"],
            tolerance=data["tolerance"],
        )
        for point in data["points"]:
            for value in point["values"]:
                series.add(point["x"], value)
        return series


def markdown(series: list[Series]) -> str:
    """A table of all series; the verdict is in the last column."""
    lines = [
        "| series | loop | unit | median at each number | largest rise | flat |",
        "|---|---|---|---|---|---|",
    ]
    for one in series:
        cells = ", ".join(f"{point.x:,.0f}: {point.median:,.4g}" for point in one.ordered())
        verdict = "yes" if one.is_flat else "**no**"
        verdict = f"{verdict} (within {one.tolerance:.0%})" if one.judged else "-"
        lines.append(
            f"| {one.title} | {one.loop} | {one.unit} | {cells} | {one.growth:+.0%} | {verdict} |"
        )
    return "\n".join(lines) + "\n"
