"""The tables: which paths, which flows, and what of the outcome is shown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .run import Outcome, Route

__all__ = ["TABLES", "Line", "Table", "render"]

ALONE = ("cubic", "bbr")
RTTS = (20, 100, 300)
LOSSES = (0.0, 0.001, 0.01, 0.03)
BUFFERS = (0.25, 1.0, 4.0)
# In competition the middle of the run counts for nothing: the end shows where it leads.
SHARED_SECONDS = 60
LATE = 20
TAIL = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A row of a table.

    Attributes:
        name: Its first cell.
        route: The path.
        runs: Flows of each column.
        seconds: Of virtual time.
        more: See ``simulate``.
    """

    name: str
    route: Route
    runs: Sequence[Sequence[str]]
    seconds: int = 30
    more: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows that show the same figures.

    Attributes:
        name: In JSON and on the command line.
        title: Its heading.
        columns: Headings after the first.
        lines: The rows.
        figures: The figures of one run; a column shows their medians.
    """

    name: str
    title: str
    columns: Sequence[str]
    lines: Sequence[Line]
    figures: Callable[[Outcome], Sequence[float]]


def _alone(lines: Iterable[tuple[str, Route]], **fields: float) -> list[Line]:
    runs = [[name] for name in ALONE]
    return [Line(name=name, route=route, runs=runs, more=fields) for name, route in lines]


def _losses(buffer: float) -> Iterator[tuple[str, Route]]:
    for rtt in RTTS:
        for loss in LOSSES:
            yield f"{rtt} ms, {100 * loss:g} % lost", Route(rtt=rtt, loss=loss, buffer=buffer)


def _pairs() -> Iterator[Line]:
    for rtt in (20, 100):
        for buffer in BUFFERS:
            yield Line(
                name=f"{rtt} ms, buffer {buffer:g}",
                route=Route(rtt=rtt, buffer=buffer),
                runs=[("cubic", "cubic"), ("bbr", "bbr"), ("cubic", "bbr"), ("bbr", "cubic")],
                seconds=SHARED_SECONDS,
                more={"late": LATE},
            )


def _loss_table(name: str, buffer: float) -> Table:
    return Table(
        name=name,
        title=f"One stream alone at 50 Mbit/s, drop-tail buffer of {buffer:g} times what the path "
        "holds: Mbit/s, and the slowest second",
        columns=("CUBIC", "BBR"),
        lines=_alone(_losses(buffer)),
        figures=lambda outcome: (outcome.rate(), outcome.worst()),
    )


def _drop_rate(outcome: Outcome) -> float:
    return 100.0 * outcome.dropped / outcome.packets


_POLICED = [
    (f"{rtt} ms, burst {burst // 1000} kB", Route(rtt=rtt, mbit=100, police=10, burst=burst))
    for rtt in (20, 100)
    for burst in (15_000, 125_000, 500_000)
]
_UNEVEN = [
    (f"{rtt} ms, {what}", Route(rtt=rtt, **fields))
    for rtt in (20, 100)
    for what, fields in (
        ("up to 5 ms of jitter", {"jitter": 5.0}),
        ("up to 40 ms of jitter", {"jitter": 40.0}),
        ("1 % reordered", {"reorder": 0.01}),
        ("10 % reordered", {"reorder": 0.1}),
        ("1 % reordered and lost", {"reorder": 0.01, "loss": 0.01}),
    )
]
_BESIDE = [
    (
        f"{rtt} ms, buffer {buffer:g}, {loss:g} % lost",
        Route(rtt=rtt, buffer=buffer, loss=loss / 100),
    )
    for rtt in (20, 100)
    for buffer in (0.25, 1.0, 4.0)
    for loss in (0.0, 1.0)
]
_OUTAGES = [
    (f"{rtt} ms, {seconds:g} s without a packet", Route(rtt=rtt, outage=seconds * 1000))
    for rtt in (20, 100)
    for seconds in (0.5, 2.0, 8.0)
]

TABLES = (
    _loss_table("loss", 1.0),
    _loss_table("loss-narrow", 0.25),
    _loss_table("loss-wide", 4.0),
    Table(
        name="beside",
        title="Datagrams of 100 bytes beside one stream: milliseconds on the way, p50 and p99",
        columns=("CUBIC", "BBR"),
        lines=_alone(_BESIDE, small=1),
        figures=lambda outcome: (outcome.delay_p50, outcome.delay_p99),
    ),
    Table(
        name="pairs",
        title="Two flows at 50 Mbit/s, the second begins 20 s later: Mbit/s of both in the last "
        "20 of 60 s",
        columns=("CUBIC, CUBIC", "BBR, BBR", "CUBIC, BBR", "BBR, CUBIC"),
        lines=list(_pairs()),
        figures=lambda outcome: (outcome.rate(0, -TAIL), outcome.rate(1, -TAIL)),
    ),
    Table(
        name="policer",
        title="A policer of 10 Mbit/s on a path of 100: Mbit/s, and per cent of packets dropped",
        columns=("CUBIC", "BBR"),
        lines=_alone(_POLICED),
        figures=lambda outcome: (outcome.rate(), _drop_rate(outcome)),
    ),
    Table(
        name="uneven",
        title="Jitter and reordering at 50 Mbit/s: Mbit/s, and the slowest second",
        columns=("CUBIC", "BBR"),
        lines=_alone(_UNEVEN),
        figures=lambda outcome: (outcome.rate(), outcome.worst()),
    ),
    Table(
        name="outage",
        title="An outage in the middle: Mbit/s in the second, and in the third to fifth second "
        "after it",
        columns=("CUBIC", "BBR"),
        lines=_alone(_OUTAGES),
        figures=lambda outcome: (outcome.rate(0, 15, 16), outcome.rate(0, 17, 20)),
    ),
)


def render(table: Table, found: Sequence[Sequence[Sequence[Sequence[float]]]]) -> str:
    """A Markdown table of medians.

    Args:
        table: Which.
        found: Figures by line, column and repetition.
    """
    head = f"| path | {' | '.join(table.columns)} |"
    lines = [head, "|---" * (1 + len(table.columns)) + "|"]
    for line, columns in zip(table.lines, found, strict=True):
        cells = []
        for repetitions in columns:
            medians = [statistics.median(values) for values in zip(*repetitions, strict=True)]
            cells.append(", ".join(_number(value) for value in medians))
        lines.append(f"| {line.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
