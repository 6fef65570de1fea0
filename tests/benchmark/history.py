"""The results of earlier runs, ``history.json``, and what they say about this project over time.

``make bench BENCH_ARGS=--record-history`` appends a run. ``make bench-history``, which is
``python -m tests.benchmark.history``, draws the plot of ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import Key, Outcome, best_peer, metric_of, outcomes, ratio, summarise
from .libraries import LIBRARIES, OURS
from .scenarios import SCENARIOS, TARGETS, Target

__all__ = ["HISTORY", "HistoryError", "append", "entry_of", "load", "main", "ratio_of"]

HISTORY = Path(__file__).with_name("history.json")
PLOT = Path(__file__).resolve().parents[2] / "docs" / "_static" / "performance" / "history.svg"

# Labels that fit below a panel.
_SIDE_BY_SIDE = 3

Entry = Mapping[str, Any]
# By event loop, scenario, library and metric.
Medians = dict[str, dict[str, dict[str, dict[str, float]]]]

_FIELDS = ("date", "commit", "machine", "versions", "settings", "note", "medians")


class HistoryError(Exception):
    """A run or a file does not belong into the history; the message says why."""


def entry_of(document: Mapping[str, Any], note: str = "") -> dict[str, Any]:
    """What the history keeps of a run: its medians, and where and with what they were taken.

    Of paths with loss, the default congestion control of each library counts.

    Args:
        document: What ``results.json`` holds.
        note: Anything that readers have to know.

    Raises:
        HistoryError: The run is not complete, quick, or without figures of this project.
    """
    machine, settings = document["machine"], document["settings"]
    if not document["complete"]:
        raise HistoryError("the run was interrupted")
    if settings["quick"]:
        raise HistoryError("a run in quick mode is not exact enough")
    medians = _medians(outcomes(document["cells"]))
    if not any(OURS in found for loop in medians.values() for found in loop.values()):
        raise HistoryError("the run has no figures of this project")
    libraries = {
        name: one["version"] for name, one in document["libraries"].items() if "version" in one
    }
    pythons = sorted({one["python"] for one in document["libraries"].values() if "python" in one})
    return {
        "date": machine["date"],
        "commit": machine["commit"],
        "machine": f"{machine['cpus']} x {machine['cpu']}, Linux {machine['kernel']}",
        "versions": {"python": ", ".join(pythons), **machine["libraries"], **libraries},
        "settings": {"repetitions": settings["repetitions"], "load": machine["load"]},
        "note": note,
        "medians": medians,
    }


def _medians(lines: Mapping[Key, Outcome]) -> Medians:
    found: Medians = {}
    for key, outcome in lines.items():
        if key.congestion not in ("", LIBRARIES[key.library].congestion[0]):
            continue
        shown = [metric.name for metric in SCENARIOS[key.scenario].metrics]
        values = {
            name: float(f"{outcome.metrics[name].median:.4g}")
            for name in shown
            if name in outcome.metrics
        }
        if values:
            libraries = found.setdefault(key.loop, {}).setdefault(key.scenario, {})
            libraries[key.library] = values
    return found


def ratio_of(entry: Entry, target: Target, loop: str = "asyncio") -> float | None:
    """This project to the best peer of the same run; None where either was not measured."""
    libraries = entry["medians"].get(loop, {}).get(target.scenario, {})
    lines = {}
    for name, values in libraries.items():
        key = Key(target.scenario, name, loop)
        metrics = {metric: summarise([value]) for metric, value in values.items()}
        # A library that is no longer compared counted then, but is not known today.
        if name in LIBRARIES:
            lines[key] = Outcome(key, metrics, ())
    mine = lines.get(Key(target.scenario, OURS, loop))
    peer = best_peer(lines, target.scenario, metric_of(target.scenario, target.other), loop)
    if mine is None or peer is None or target.metric not in mine.metrics:
        return None
    return ratio(mine.metrics[target.metric], peer[1])


def load(path: Path = HISTORY) -> list[dict[str, Any]]:
    """All entries, the oldest first; a missing file has none.

    Raises:
        HistoryError: It is not such a file.
    """
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:
        raise HistoryError(f"{path.name}: no JSON: {error}") from None
    if not isinstance(entries, list):
        raise HistoryError(f"{path.name}: expected a list, got {entries!r}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or set(entry) != set(_FIELDS):
            raise HistoryError(
                f"{path.name}[{number}]: expected the fields {', '.join(_FIELDS)}, got {entry!r}"
            )
    return entries


def append(entry: Entry, path: Path = HISTORY) -> None:
    """Add an entry at the end.

    Raises:
        HistoryError: The file is not a history, or its last entry is newer or the same run.
    """
    entries = load(path)
    if entries and entry["date"] <= entries[-1]["date"]:
        raise HistoryError(
            f"{path.name}: the last entry is of {entries[-1]['date']}, this one of {entry['date']}"
        )
    path.write_text(json.dumps([*entries, entry], indent=1) + "\n")


def draw(entries: Sequence[Entry], path: Path) -> None:
    """Write the plot: for each target, this project to the best peer of the same run.

    Ratios, because figures of different machines and loads cannot be compared.

    Raises:
        ImportError: There is no matplotlib.
    """
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, the same file for the same figures.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "history"})
    from matplotlib import pyplot

    columns = 3
    rows = -(-len(TARGETS) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(7.5, 1.6 * rows + 0.4), squeeze=False, layout="constrained"
    )
    panels: list[Any] = [one for row in grid for one in row]
    for axes, target in zip(panels, TARGETS, strict=False):
        found = [ratio_of(entry, target) for entry in entries]
        points = [(place, value) for place, value in enumerate(found) if value is not None]
        axes.plot(
            [place for place, _ in points],
            [value for _, value in points],
            color="#0072b2",
            marker="o",
            markersize=4,
        )
        axes.axhline(target.ratio, color="#d55e00", linestyle="--", linewidth=0.9)
        metric = metric_of(target.scenario, target.metric)
        axes.set_title(f"{target.scenario}, {metric.name}", fontsize=8)
        better = "more" if metric.more else "less"
        axes.set_ylabel(f"ratio ({better} is better)", fontsize=7)
        axes.set_xlim(-0.5, max(len(entries), 1) - 0.5)
        axes.set_ylim(0, 1.15 * max([target.ratio, *(value for _, value in points)]))
        axes.set_xticks(
            range(len(entries)),
            [_label(entry) for entry in entries],
            fontsize=6,
            rotation=90 if len(entries) > _SIDE_BY_SIDE else 0,
        )
        axes.tick_params(axis="y", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(TARGETS) :]:
        axes.set_visible(False)
    figure.suptitle(
        "This project to the best peer of the same run, asyncio; dashed: the target", fontsize=9
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _label(entry: Entry) -> str:
    return f"{entry['date'][:10]}\n{entry['commit'][:7]}"


def main(arguments: list[str] | None = None) -> int:
    """Draw the history."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.history", description=__doc__)
    parser.add_argument("--output", type=Path, default=PLOT, help="SVG file")
    options = parser.parse_args(arguments)
    try:
        entries = load()
        draw(entries, options.output)
    except (HistoryError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.output}: {len(entries)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
