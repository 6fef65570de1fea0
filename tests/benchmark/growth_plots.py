"""A picture per group of growth series."""

from __future__ import annotations

from pathlib import Path

from .growth_series import Series

__all__ = ["draw"]

_TITLES = {
    "streams": "Cost per 1 KiB echo over concurrent streams",
    "sessions": "Cost of one busy session beside idle ones",
    "latency": "Latency of one busy session beside idle ones",
    "memory": "Memory of idle sessions over time, both ends",
}
# Colours that people with colour blindness can tell apart (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def draw(series: list[Series], folder: Path) -> list[Path]:
    """Write ``growth-GROUP.svg`` for every group that has series.

    Costs are shown against the first point of their series, so that one picture holds several:
    a flat cost stays between the two dashed lines.

    Raises:
        ImportError: There is no matplotlib.
    """
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, the same file for the same figures.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "growth"})
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    written = []
    for group, title in _TITLES.items():
        shown = [one for one in series if one.group == group]
        if not shown:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 5.5), layout="constrained")
        over_time = group == "memory"
        for one, colour in zip(shown, _COLOURS * len(shown), strict=False):
            points = one.ordered()
            first = points[0].median
            axes.errorbar(
                [point.x for point in points],
                [point.median / first for point in points],
                yerr=[
                    [(point.median - min(point.values)) / first for point in points],
                    [(max(point.values) - point.median) / first for point in points],
                ],
                label=f"{one.title}, {one.loop} (1.0 = {first:,.4g} {one.unit})",
                color=colour,
                marker="o",
                capsize=3,
            )
        tolerance = shown[0].tolerance
        for level in (1 - tolerance, 1 + tolerance):
            axes.axhline(level, color="#999999", linestyle="--", linewidth=0.8)
        if not over_time:
            axes.set_xscale("log")
            ticks = sorted({point.x for one in shown for point in one.ordered()})
            axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        axes.set_title(title)
        axes.set_xlabel(shown[0].x_label)
        axes.set_ylabel("against the first point")
        figure.legend(fontsize="small", loc="outside lower center", ncols=1)
        path = folder / f"growth-{group}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        written.append(path)
    return written
