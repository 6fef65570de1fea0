"""``make bench-guard``: count the instructions of fixed workloads, compare with the record.

Exit status: 0 within the tolerance or better, 1 when a workload became worse, 2 when nothing
could be compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .measure import ROOT, GuardError, build_native, count, valgrind_version
from .record import (
    TOLERANCE,
    Comparison,
    Figure,
    RecordError,
    Records,
    Verdict,
    compare,
    differences,
    platform_key,
)
from .workloads import WORKLOADS

RECORDED = Path(__file__).with_name("recorded.json")
OUTPUT = ROOT / "build" / "guard"
WORSE, NOT_COMPARED = 1, 2

_HEAD = f"{'workload':<11}{'instructions':>15}{'per operation':>28}{'recorded':>15}{'change':>9}"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.guard", description=__doc__)
    what = ", ".join(WORKLOADS)
    parser.add_argument("workload", nargs="*", help=f"out of {what}; default all")
    parser.add_argument("--record", action="store_true", help="store the counts as the record")
    parser.add_argument(
        "--profile",
        metavar="WORKLOAD",
        choices=WORKLOADS,
        help="count this one once and keep callgrind's output for callgrind_annotate",
    )
    parser.add_argument("--repetitions", type=int, default=3, help="runs per workload; default 3")
    parser.add_argument(
        "--package",
        type=Path,
        default=ROOT,
        help="checkout whose pywebtransport is measured; default this one",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="for callgrind's files")
    parsed = parser.parse_args(arguments)
    for name in parsed.workload:
        if name not in WORKLOADS:
            parser.error(f"no workload {name!r}; there are {what}")
    if parsed.repetitions < 1:
        parser.error(f"--repetitions must be >= 1, got {parsed.repetitions}")
    if parsed.profile is not None:
        parsed.workload, parsed.repetitions = [parsed.profile], 1
    return parsed


def line_of(comparison: Comparison, spread: float) -> str:
    """One line of the table."""
    workload = WORKLOADS[comparison.workload]
    now, recorded = comparison.now, comparison.recorded
    each = f"{now.instructions / now.operations:,.0f}/{workload.unit}"
    then = "-" if recorded is None else f"{recorded.instructions:,}"
    change = "-" if comparison.change is None else f"{comparison.change:+.1%}"
    word = "" if comparison.verdict is Verdict.SAME else f"  {comparison.verdict.value}"
    return (
        f"{workload.name:<11}{now.instructions:>15,}{each:>28}{then:>15}{change:>9}{word}"
        f"  (spread {spread:.1%})"
    )


def judge(comparisons: list[Comparison]) -> tuple[int, list[str]]:
    """Exit status, and what to say below the table."""
    words = []
    status = 0
    unknown = [c.workload for c in comparisons if c.change is None]
    if unknown:
        status = NOT_COMPARED
        words.append(
            f"NOT COMPARED: {', '.join(unknown)}: no record of the same work; "
            "record it with make bench-guard-record"
        )
    better = [c.workload for c in comparisons if c.verdict is Verdict.BETTER]
    if better:
        words.append(
            f"better by more than {TOLERANCE:.0%}: {', '.join(better)}; "
            "record it with make bench-guard-record"
        )
    worse = [c.workload for c in comparisons if c.verdict is Verdict.WORSE]
    if worse:
        status = WORSE
        words.append(
            f"WORSE by more than {TOLERANCE:.0%}: {', '.join(worse)}; look with "
            f"python -m tests.benchmark.guard --profile {worse[0]}"
        )
    return status, words


def explain_missing(records: Records, key: str, environment: dict[str, str]) -> list[str]:
    """Why there is nothing to compare with."""
    nearest = records.nearest(key, environment)
    if nearest is None:
        known = ", ".join(records.platforms()) or "none"
        return [f"No record for {key} (recorded: {known})."]
    lines = [f"No record for {key} with these libraries. Nearest record -> now:"]
    for name, then, now in differences(nearest.environment, environment):
        lines.append(f"  {name}: {then} -> {now}")
    return [*lines, "The changes below compare with that record and decide nothing."]


def main() -> int:
    """Count, print, and compare or record."""
    arguments = parse_arguments()
    names = arguments.workload or list(WORKLOADS)
    try:
        records = Records.load(RECORDED)
        valgrind_version()
        native = build_native(arguments.output)
        counts = {}
        for name in names:
            print(f"counting {name}: {WORKLOADS[name].what} ...", file=sys.stderr, flush=True)
            counts[name] = count(
                name,
                repetitions=arguments.repetitions,
                native=native,
                package=arguments.package.resolve(),
                output=arguments.output / f"callgrind.out.{name}",
            )
    except (GuardError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_COMPARED
    figures = {
        name: Figure(WORKLOADS[name].operations, counted.instructions)
        for name, counted in counts.items()
    }
    environment = next(iter(counts.values())).environment
    key = platform_key()
    record = records.find(key, environment)
    reference = record or records.nearest(key, environment)
    comparisons = compare(figures, {} if reference is None else reference.figures)

    print(f"{key}, instructions of both ends together")
    if record is None:
        print("\n".join(explain_missing(records, key, environment)))
    print(_HEAD)
    for comparison in comparisons:
        print(line_of(comparison, counts[comparison.workload].spread))
    if arguments.profile is not None:
        path = arguments.output / f"callgrind.out.{arguments.profile}"
        print(f"callgrind_annotate {path}\ncallgrind_annotate --inclusive=yes {path}")
        return 0
    if arguments.record:
        records.store(key, environment, figures)
        records.save(RECORDED)
        print(f"recorded in {RECORDED.relative_to(ROOT)}")
        return 0
    if record is None:
        print("NOT COMPARED: record it with make bench-guard-record")
        return NOT_COMPARED
    status, words = judge(comparisons)
    for sentence in words:
        print(sentence)
    return status


if __name__ == "__main__":
    sys.exit(main())
