"""``make bench``: measures this project and its peers, and writes a report with plots."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .figures import Verdict, outcomes, verdicts
from .history import HISTORY, HistoryError, append, entry_of
from .libraries import LIBRARIES
from .report import report
from .runner import Plan, Results, known, run
from .scenarios import EXTRAS, GROUPS, SCENARIOS, TARGETS

LOOPS = ("asyncio", "uvloop")
OUTPUT = Path(__file__).resolve().parents[2] / "build" / "benchmark"


def main(arguments: list[str] | None = None) -> int:
    """Measure and write ``results.json``, ``results.md`` and the plots."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        return _list()
    if options.record_history and (options.quick or options.here or options.busy_poll):
        parser.error(
            "--record-history needs the full mode, without --quick, --here and --busy-poll"
        )
    plan = _plan(options)
    old = json.loads(options.compare.read_text()) if options.compare else None
    plan.output.mkdir(parents=True, exist_ok=True)
    console = Console()
    # Being told to end is the same as Ctrl-C: children end, and the report is written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = run(plan, console.print)
    document = document_of(results)
    write(document, plan.output, old, console)
    if not results.complete:
        return 130
    if options.record_history:
        return record(document, HISTORY, console)
    return 0


def document_of(results: Results) -> dict[str, Any]:
    """What ``results.json`` holds."""
    return asdict(results)


def write(
    document: dict[str, Any], folder: Path, old: dict[str, Any] | None, console: Console
) -> None:
    """Write JSON, plots and report, and show where they are."""
    lines = outcomes(document["cells"])
    document["outcomes"] = [outcome.to_dict() for outcome in lines.values()]
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    try:
        from .plots import draw

        draw(lines, folder)
    except ImportError as error:
        console.print(f"no plots: {error}")
    text = report(document, folder, old)
    (folder / "results.md").write_text(text)
    for loop in dict.fromkeys(key.loop for key in lines):
        console.print(_targets(verdicts(lines, TARGETS, loop), loop))
    console.print(f"{folder / 'results.md'}", soft_wrap=True)


def record(document: dict[str, Any], path: Path, console: Console) -> int:
    """Append the run to the history; an exit status."""
    try:
        append(entry_of(document), path)
    except HistoryError as error:
        console.print(f"not recorded: {error}", soft_wrap=True)
        return 1
    console.print(f"recorded in {path}; make bench-history draws the plot", soft_wrap=True)
    return 0


def _targets(found: list[Verdict], loop: str) -> Table:
    """The ratios, short enough for a terminal."""
    table = Table(title=f"this project to the best peer, {loop}", title_justify="left")
    for name in ("what", "ratio", "target", "met"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for verdict in found:
        target = verdict.target
        table.add_row(
            f"{target.scenario}, {target.metric}",
            "-" if verdict.ratio is None else f"{verdict.ratio:.2f}x",
            f"{verdict.sign} {target.ratio:g}x",
            {True: "yes", False: "no", None: "-"}[verdict.met],
        )
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short measurements, once each")
    parser.add_argument(
        "--scenario",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"these only; a group ({', '.join([*GROUPS, *EXTRAS])}) means all of it",
    )
    parser.add_argument("--library", nargs="+", default=[], metavar="NAME", help="these only")
    parser.add_argument("--loop", choices=[*LOOPS, "both"], help="default: both; quick: asyncio")
    parser.add_argument("--repetitions", type=_count, help="default: 3; quick: 1")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="results of before")
    parser.add_argument(
        "--here",
        action="store_true",
        help="this project from the checkout, with this interpreter: faster to begin, but not "
        "comparable where it is not Python 3.13",
    )
    parser.add_argument(
        "--record-history",
        action="store_true",
        help="append the medians to tests/benchmark/history.json",
    )
    parser.add_argument(
        "--busy-poll",
        type=_count,
        default=0,
        metavar="MICROSECONDS",
        help="busy_poll_us of both ends of this project",
    )
    parser.add_argument("--list", action="store_true", help="show scenarios and libraries")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    names: list[str] = []
    for name in options.scenario:
        group = [one for one in SCENARIOS if SCENARIOS[one].group == name]
        names += group if name in GROUPS else [name]
    chosen = known(names, [*SCENARIOS, *EXTRAS], "scenario")
    scenarios = tuple(name for name in chosen if name in SCENARIOS)
    if options.quick:
        scenarios = tuple(
            name for name in scenarios if name in names or SCENARIOS[name].quick is not None
        )
    loop = options.loop or ("asyncio" if options.quick else "both")
    return Plan(
        scenarios=scenarios,
        libraries=known(options.library, LIBRARIES, "library"),
        loops=LOOPS if loop == "both" else (loop,),
        repetitions=options.repetitions or (1 if options.quick else 3),
        quick=options.quick,
        extras=tuple(name for name in chosen if name in EXTRAS),
        output=options.output,
        here=options.here,
        busy_poll=options.busy_poll,
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _list() -> int:
    for group, title in GROUPS.items():
        print(f"{group}: {title}")
        for scenario in SCENARIOS.values():
            if scenario.group == group:
                print(f"  {scenario.name:<20} {scenario.title}")
    for extra in EXTRAS.values():
        print(f"{extra.name}: {extra.title}")
    print("libraries:")
    for library in LIBRARIES.values():
        print(f"  {library.name:<20} {library.requirement or 'this checkout'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
