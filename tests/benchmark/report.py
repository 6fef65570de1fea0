"""The report in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import Key, Outcome, Summary, Verdict, best_peer, outcomes, ratio, verdicts
from .libraries import LIBRARIES, OURS
from .scenarios import EXTRAS, GROUPS, SCENARIOS, TARGETS, Metric, Scenario

__all__ = ["number", "report"]

_MIB = 1 << 20


def report(document: Mapping[str, Any], folder: Path, old: Mapping[str, Any] | None = None) -> str:
    """The whole report.

    Args:
        document: What ``results.json`` holds.
        folder: Where plots and the files of the extras are; those that exist are shown.
        old: An earlier document to compare with.
    """
    lines = outcomes(document["cells"])
    parts = ["# Benchmark\n", _conditions(document)]
    for loop in _loops(lines):
        parts.append(_targets(verdicts(lines, TARGETS, loop), loop, lines))
    if old is not None:
        parts.append(_comparison(lines, outcomes(old["cells"]), old))
    for group, title in GROUPS.items():
        chosen = [name for name in SCENARIOS if SCENARIOS[name].group == group]
        chosen = [name for name in chosen if any(key.scenario == name for key in lines)]
        if not chosen:
            continue
        parts.append(f"## {title}\n")
        if (folder / f"{group}.svg").exists():
            parts.append(f"![{title}]({group}.svg)\n")
        parts += [_scenario(SCENARIOS[name], lines) for name in chosen]
    parts += [_extra(name, reason, folder) for name, reason in document["extras"].items()]
    parts += [_failures(lines), _left_out(document["libraries"])]
    return "\n".join(filter(None, parts))


def number(value: float) -> str:
    """A figure with three or more significant digits."""
    if value == 0:
        return "0"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def _conditions(document: Mapping[str, Any]) -> str:
    machine, settings = document["machine"], document["settings"]
    rows = [
        ("date", machine["date"]),
        ("commit", machine["commit"] or "unknown"),
        ("machine", f"{machine['cpus']} x {machine['cpu']}, {machine['memory_gib']} GiB"),
        ("system", f"{machine['system']}, Linux {machine['kernel']}"),
        ("load before", f"{machine['load']:.2f}"),
        *((name, version) for name, version in machine["libraries"].items() if version),
        ("repetitions", f"{settings['repetitions']}{', quick mode' * settings['quick']}"),
        *([("`busy_poll_us`", str(settings["busy_poll"]))] if settings.get("busy_poll") else []),
        ("took", f"{document['seconds'] / 60:.1f} minutes"),
    ]
    rows.append(("Python", _pythons(document["libraries"].values())))
    for library in document["libraries"].values():
        if "version" in library:
            rows.append((library["title"], f"{library['version']}, Python {library['python']}"))
        else:
            rows.append((library["title"], f"not measured: {library.get('error', 'no time')}"))
    text = _table(("", ""), rows)
    if not document["complete"]:
        text += "\n**Interrupted: not everything was measured.**\n"
    return text


def _pythons(libraries: Iterable[Mapping[str, Any]]) -> str:
    """Whether one Python ran everything."""
    versions = sorted({one["python"] for one in libraries if "python" in one})
    if len(versions) < 2:
        return f"{versions[0]} for every library" if versions else "nothing was measured"
    return f"**{', '.join(versions)}: ratios compare libraries on different versions**"


def _left_out(libraries: Iterable[str]) -> str:
    """Scenarios that are not measured with a library."""
    rows = []
    for name in libraries:
        library = LIBRARIES[name]
        for reason in dict.fromkeys(library.left_out.values()):
            scenarios = [one for one, why in library.left_out.items() if why == reason]
            rows.append((library.title, ", ".join(scenarios), reason))
    if not rows:
        return ""
    return f"## What was left out\n\n{_table(('library', 'scenarios', 'reason'), rows)}"


def _targets(found: Sequence[Verdict], loop: str, lines: Mapping[Key, Outcome]) -> str:
    if not found:
        return ""
    rows = []
    for verdict in found:
        target = verdict.target
        metric, other = verdict.metric, verdict.other
        name = SCENARIOS[target.scenario].title
        peer = "" if verdict.peer is None else _who(verdict.peer, other, metric)
        rows.append(
            (
                f"{name}: {metric.title}",
                "" if verdict.ours is None else f"{number(verdict.ours.median)} {metric.unit}",
                peer,
                f"{verdict.sign} {target.ratio:g}x",
                _times(verdict.ratio),
                _times(verdict.ratio_any_loop),
                _met(verdict),
                _cpu(verdict, lines),
            )
        )
    head = (
        "what",
        "this",
        "best peer",
        "target",
        "ratio",
        "to peers on any loop",
        "met",
        "CPU, this and it",
    )
    note = (
        f"Ratios of medians, this project on {loop} to the best peer on {loop}; the target "
        "is judged by that. Beside it: to the best peer on either loop. CPU is that of both ends.\n"
    )
    return f"## Targets, {loop}\n\n{note}\n{_table(head, rows)}"


def _scenario(scenario: Scenario, lines: Mapping[Key, Outcome]) -> str:
    head = ["library", "loop", *(f"{m.title}, {m.unit}" for m in scenario.metrics)]
    head += ["this / it", "CPU s, client + server", "peak MiB, client + server", "runs"]
    rows = []
    for key, outcome in lines.items():
        if key.scenario == scenario.name:
            rows.append(_row(scenario, outcome, lines))
    return f"### {scenario.title}\n\n{_table(head, rows)}"


def _row(scenario: Scenario, outcome: Outcome, lines: Mapping[Key, Outcome]) -> Sequence[str]:
    key = outcome.key
    title = LIBRARIES[key.library].title
    name = f"**{title}**" if key.library == OURS else title
    if key.congestion:
        name += f" ({key.congestion})"
    failed = len(outcome.failures)
    if not outcome.metrics:
        cells = ["failed" for _ in scenario.metrics]
        return [name, key.loop, *cells, "", "", "", f"0 of {failed}"]
    metrics = outcome.metrics
    first = scenario.metrics[0]
    times = ""
    if key.library != OURS:
        mine = _ours(lines, key)
        if mine is not None and first.name in mine.metrics:
            times = _times(ratio(mine.metrics[first.name], metrics[first.name]))
    count = next(iter(metrics.values())).count
    return [
        name,
        key.loop,
        *(_range(metrics[metric.name], metric) for metric in scenario.metrics),
        times,
        f"{number(metrics['client_cpu'].median)} + {number(metrics['server_cpu'].median)}",
        f"{number(metrics['client_peak'].median / _MIB)}"
        f" + {number(metrics['server_peak'].median / _MIB)}",
        f"{count} of {count + failed}",
    ]


def _ours(lines: Mapping[Key, Outcome], key: Key) -> Outcome | None:
    """This project's line to compare with: the same loop, and its default congestion control."""
    congestion = LIBRARIES[OURS].congestion[0] if key.congestion else ""
    return lines.get(Key(key.scenario, OURS, key.loop, congestion))


def _comparison(
    new: Mapping[Key, Outcome], old: Mapping[Key, Outcome], document: Mapping[str, Any]
) -> str:
    rows = []
    for key, outcome in new.items():
        before = old.get(key)
        if key.library != OURS or before is None:
            continue
        for metric in SCENARIOS[key.scenario].metrics:
            if metric.name not in outcome.metrics or metric.name not in before.metrics:
                continue
            then, now = before.metrics[metric.name], outcome.metrics[metric.name]
            detail = ", ".join(filter(None, (key.loop, key.congestion)))
            rows.append(
                (
                    f"{SCENARIOS[key.scenario].title}: {metric.title}, {metric.unit}",
                    detail,
                    _range(then, metric),
                    _range(now, metric),
                    _change(then, now, metric),
                    _peers(old, key, then, metric),
                    _peers(new, key, now, metric),
                )
            )
    if not rows:
        return ""
    head = (
        "what",
        "loop",
        "before",
        "after",
        "change",
        "ratio to the best peer before",
        "after",
    )
    machine = document["machine"]
    note = f"Before: {machine['date']}, commit {machine['commit'] or 'unknown'}.\n"
    return f"## Before and after\n\n{note}\n{_table(head, rows)}"


def _peers(lines: Mapping[Key, Outcome], key: Key, ours: Summary, metric: Metric) -> str:
    peer = best_peer(lines, key.scenario, metric, key.loop)
    return "" if peer is None else _times(ratio(ours, peer[1]))


def _change(then: Summary, now: Summary, metric: Metric) -> str:
    if not then.median:
        return ""
    change = (now.median - then.median) / then.median
    # Ranges that overlap tell nothing apart.
    if now.low <= then.high and then.low <= now.high:
        return f"{change:+.0%} (ranges overlap)"
    better = (change > 0) == metric.more
    return f"{change:+.0%} ({'better' if better else 'worse'})"


def _extra(name: str, reason: str, folder: Path) -> str:
    """The table and the plots that a program beside the scenarios wrote, or why it failed."""
    parts = [f"## {EXTRAS[name].title}\n"]
    if reason:
        parts.append(f"Failed: {reason}\n")
    table = folder / f"{name}.md"
    if table.exists():
        parts.append(table.read_text())
    parts += [f"![{plot.stem}]({plot.name})\n" for plot in sorted(folder.glob(f"{name}-*.svg"))]
    if (folder / f"{name}.json").exists():
        parts.append(f"Every single figure is in [{name}.json]({name}.json).\n")
    return "\n".join(parts)


def _failures(lines: Mapping[Key, Outcome]) -> str:
    rows = [
        (
            LIBRARIES[key.library].title,
            SCENARIOS[key.scenario].title,
            ", ".join(filter(None, (key.loop, key.congestion))),
            reason,
            str(outcome.failures.count(reason)),
        )
        for key, outcome in lines.items()
        for reason in dict.fromkeys(outcome.failures)
    ]
    if not rows:
        return ""
    head = ("library", "scenario", "loop", "reason", "times")
    return f"## What failed\n\n{_table(head, rows)}"


def _loops(lines: Iterable[Key]) -> list[str]:
    return list(dict.fromkeys(key.loop for key in lines))


def _who(peer: tuple[Key, Summary], metric: Metric, compared: Metric) -> str:
    key, summary = peer
    name = "" if metric is compared else f"{metric.title} "
    return f"{name}{number(summary.median)} {metric.unit} ({LIBRARIES[key.library].title})"


def _cpu(verdict: Verdict, lines: Mapping[Key, Outcome]) -> str:
    """CPU time of an operation: this project and the peer that it is compared with."""
    scenario = verdict.target.scenario
    metric = next((m for m in SCENARIOS[scenario].metrics if m.name.startswith("cpu_per_")), None)
    mine = lines.get(Key(scenario, OURS, verdict.loop))
    if metric is None or mine is None or verdict.peer is None:
        return ""
    ends = [one.metrics.get(metric.name) for one in (mine, lines[verdict.peer[0]])]
    if None in ends:
        return ""
    values = " and ".join(number(one.median) for one in ends if one is not None)
    return f"{values} {metric.unit}"


def _met(verdict: Verdict) -> str:
    answer = {True: "yes", False: "**no**", None: "-"}[verdict.met]
    return f"{answer} ({verdict.note})" if verdict.note else answer


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def _range(summary: Summary, metric: Metric) -> str:
    factor = 100 if metric.unit == "%" else 1
    low, median, high = (
        number(value * factor) for value in (summary.low, summary.median, summary.high)
    )
    return median if summary.count == 1 else f"{median} ({low} to {high})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        yield f"| {' | '.join(head)} |"
        yield f"|{'|'.join('---' for _ in head)}|"
        for row in rows:
            yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"

    return "\n".join(lines()) + "\n"
