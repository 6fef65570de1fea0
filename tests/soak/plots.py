"""A picture of all phases: memory and objects over time, both ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["draw"]

# Colours that people with colour blindness can tell apart (Okabe and Ito).
_COLOURS = {"server": "#0072b2", "client": "#d55e00"}
_COLUMNS = (("rss", "resident memory, MiB"), ("objects", "Python objects"))


def draw(phases: list[dict[str, Any]], path: Path) -> None:
    """Write an SVG with a row for each phase.

    Raises:
        ImportError: There is no matplotlib.
    """
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, the same file for the same figures.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "soak"})
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        len(phases),
        len(_COLUMNS),
        figsize=(10, 2.4 * len(phases) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for row, phase in zip(grid, phases, strict=True):
        for axes, (name, title) in zip(row, _COLUMNS, strict=True):
            for one in phase["series"]:
                if one["quantity"] == name and one["points"]:
                    times, values = zip(*one["points"], strict=True)
                    axes.plot(
                        [time / 60 for time in times],
                        values,
                        color=_COLOURS[one["process"]],
                        label=one["process"],
                        linewidth=1.2,
                    )
            axes.set_ylim(bottom=0)
            axes.set_title(f"{phase['phase']}: {title}", fontsize=9)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("minutes", fontsize=8)
    drawn = [axes for axes in grid.flat if axes.lines]
    if drawn:
        drawn[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
