"""A plot for each group of scenarios: bars of the medians, whiskers from minimum to maximum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .figures import Key, Outcome, best_peer, ratio
from .libraries import LIBRARIES, OURS
from .report import number
from .scenarios import GROUPS, SCENARIOS, Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bar", "advantages", "bars", "draw", "panels"]

# Colours that people with colour blindness can tell apart (Okabe and Ito).
_COLOURS = {
    OURS: "#0072b2",
    "aiopquic": "#e69f00",
    "aioquic": "#56b4e9",
    "upstream": "#009e73",
    "web-transport-quinn": "#cc79a7",
    "webtransport-py": "#d55e00",
    "peregrine-server": "#f0e442",
}
_ANOTHER = "#999999"
_DETAILED = ("requests", "datagrams", "memory")
_BESIDE = ("p50", "p99", "cpu_per_gib", "cpu_per_operation", "pss")

Bar = tuple[str, str, float, float, float]
"""Label, library, median, minimum, maximum."""


def panels(lines: Mapping[Key, Outcome], group: str) -> list[tuple[str, Metric]]:
    """What the plot of a group shows: the first metric of scenarios, and more for some groups."""
    found = []
    for name, scenario in SCENARIOS.items():
        if scenario.group == group and any(key.scenario == name for key in lines):
            extra = [m for m in scenario.metrics[1:] if m.name in _BESIDE]
            wanted = extra if group in _DETAILED or name == "upload" else []
            found += [(name, metric) for metric in (scenario.metrics[0], *wanted)]
    return found


def bars(lines: Mapping[Key, Outcome], scenario: str, metric: Metric) -> list[Bar]:
    """The bars of one panel, in the order of the lines."""
    found = []
    several = len({key.loop for key in lines if key.scenario == scenario}) > 1
    for key, outcome in lines.items():
        summary = outcome.metrics.get(metric.name)
        if key.scenario != scenario or summary is None:
            continue
        title = LIBRARIES[key.library].title
        detail = key.congestion or (key.loop if several else "")
        label = f"{title}, {detail}" if detail else title
        found.append((label, key.library, summary.median, summary.low, summary.high))
    return found


def advantages(lines: Mapping[Key, Outcome], loop: str = "asyncio") -> list[tuple[str, float]]:
    """How many times better than the best peer each scenario is, by its first metric."""
    found = []
    for name, scenario in SCENARIOS.items():
        metric = scenario.metrics[0]
        mine = lines.get(Key(name, OURS, loop))
        ours = mine.metrics.get(metric.name) if mine is not None else None
        peer = best_peer(lines, name, metric, loop)
        value = ratio(ours, peer[1]) if ours is not None and peer is not None else None
        if value:
            found.append((scenario.title, value if metric.more else 1 / value))
    return found


def draw(lines: Mapping[Key, Outcome], folder: Path) -> list[Path]:
    """Write ``GROUP.svg`` for every group that was measured, and ``overview.svg``.

    Raises:
        ImportError: There is no matplotlib.
    """
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, the same file for the same figures.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmark"})
    written = []
    for group, title in GROUPS.items():
        shown = [(n, m) for n, m in panels(lines, group) if bars(lines, n, m)]
        if shown:
            path = folder / f"{group}.svg"
            _draw_group(lines, shown, title, path)
            written.append(path)
    if factors := advantages(lines):
        path = folder / "overview.svg"
        _draw_overview(factors, path)
        written.append(path)
    return written


def _draw_group(
    lines: Mapping[Key, Outcome], shown: list[tuple[str, Metric]], title: str, path: Path
) -> None:
    from matplotlib import pyplot

    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    tallest = max(len(bars(lines, name, metric)) for name, metric in shown)
    # As wide as the text of a page, so that letters keep their size.
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=(7.5, rows * (0.23 * tallest + 0.95) + 0.3),
        squeeze=False,
        layout="constrained",
    )
    axes: list[Any] = [one for row in grid for one in row]
    for index, (one, (name, metric)) in enumerate(zip(axes, shown, strict=False)):
        panel = bars(lines, name, metric)
        _draw_panel(one, panel, SCENARIOS[name].title, metric)
        if index % columns and _labels(panel) == _labels(bars(lines, *shown[index - 1])):
            one.tick_params(axis="y", labelleft=False)
    for one in axes[len(shown) :]:
        one.set_visible(False)
    figure.suptitle(title, fontsize=10, fontweight="bold")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _draw_overview(factors: list[tuple[str, float]], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 0.27 * len(factors) + 0.9), layout="constrained")
    places = range(len(factors))
    axes.barh(places, [factor for _, factor in factors], color=_COLOURS[OURS])
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_yticks(places, [title for title, _ in factors], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("times as good as the fastest other library (line: equal)", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    for place, (_, factor) in zip(places, factors, strict=True):
        axes.annotate(
            f"{factor:.1f}x",
            (factor, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _draw_panel(axes: Axes, shown: list[Bar], title: str, metric: Metric) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    places = range(len(shown))
    medians = [bar[2] for bar in shown]
    whiskers = [[bar[2] - bar[3] for bar in shown], [bar[4] - bar[2] for bar in shown]]
    axes.barh(
        places,
        medians,
        xerr=whiskers,
        color=[to_rgba(_COLOURS.get(bar[1], _ANOTHER), _alpha(bar)) for bar in shown],
        error_kw={"capsize": 2.5, "elinewidth": 0.9, "ecolor": "#333333"},
    )
    axes.set_yticks(places, [bar[0] for bar in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_title(f"{title}:\n{metric.title}", fontsize=9)
    better = "more" if metric.more else "less"
    unit = metric.unit.replace("us", "µs")
    axes.set_xlabel(f"{unit} ({better} is better)", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.margins(x=0.28)
    for place, bar in zip(places, shown, strict=True):
        axes.annotate(
            number(bar[2]),
            (bar[4], place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)


def _labels(shown: list[Bar]) -> list[str]:
    return [bar[0] for bar in shown]


def _alpha(bar: Bar) -> float:
    """The second line of a library is paler."""
    return 0.55 if bar[0].endswith(("uvloop", "bbr", "throughput")) else 1.0
