"""Instructions of an operation of this project, counted by callgrind.

``python -m tests.benchmark.instructions --output DIR [--quick]`` writes ``instructions.json`` and
``instructions.md``. The workloads are those of the regression guard. Counts do not depend on the
load of the machine; they are exact for one build of Python and of the libraries.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .guard.measure import GuardError, build_native, count
from .guard.workloads import WORKLOADS

__all__ = ["QUICK", "main", "measure", "table"]

# Bulk transfers and connects take most of the time.
QUICK = ("ping-pong", "streams", "datagrams")


def measure(names: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Count workloads once each; spreads between runs are below 1 %.

    Args:
        names: Of workloads.
        folder: For what callgrind writes.

    Raises:
        GuardError: Counting is not possible.
    """
    native = build_native(folder)
    figures = {}
    environment: dict[str, str] = {}
    for name in names:
        counted = count(
            name,
            repetitions=1,
            native=native,
            package=Path(__file__).resolve().parents[2],
            output=folder / f"callgrind.out.{name}",
        )
        environment = counted.environment
        operations = WORKLOADS[name].operations
        figures[name] = {
            "operations": operations,
            "instructions": counted.instructions,
            "per_operation": counted.instructions / operations,
        }
    return {"environment": environment, "figures": figures}


def table(document: Mapping[str, Any]) -> str:
    """What ``measure`` found, as Markdown."""
    lines = [
        f"Python {document['environment']['python']}, both ends in one process, on asyncio.",
        "",
        "| workload | what | instructions | per |",
        "|---|---|---|---|",
    ]
    for name, figure in document["figures"].items():
        workload = WORKLOADS[name]
        each = f"{figure['per_operation']:,.0f}"
        lines.append(f"| {name} | {workload.what} | {each} | {workload.unit} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Count and write; what fails is said on standard error."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.instructions")
    parser.add_argument("--output", type=Path, required=True, help="directory")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    names = QUICK if options.quick else tuple(WORKLOADS)
    try:
        document = measure(names, options.output / "callgrind")
    except GuardError as error:
        print(error, file=sys.stderr)
        return 1
    (options.output / "instructions.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.output / "instructions.md").write_text(table(document))
    print(table(document), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
