"""How long ``import pywebtransport`` takes, and which modules take it.

``python -m tests.benchmark.imports --output DIR [--quick]`` writes ``imports.json`` and
``imports.md``. Each repetition is a new interpreter with ``-X importtime``; the times include
asyncio and everything else that the package needs. The least of them is that of an idle machine.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["main", "measure", "parse", "table"]

PACKAGE = "pywebtransport"
# Milliseconds that importing may take on a machine with two cores of 2023.
TARGET = 120.0
SHOWN = 8
_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|(\s+)(\S+)")


def parse(text: str) -> tuple[float, dict[str, float]]:
    """Read what ``-X importtime`` wrote.

    Returns:
        Milliseconds for the package with everything that it needs, and those of each module alone.

    Raises:
        ValueError: The package is not in it.
    """
    total = None
    alone: dict[str, float] = {}
    for own, cumulative, _, name in _LINE.findall(text):
        alone[name] = int(own) / 1000
        if name == PACKAGE:
            total = int(cumulative) / 1000
    if total is None:
        raise ValueError(f"{PACKAGE} was not imported:\n{text[-2000:]}")
    return total, alone


def measure(repetitions: int) -> dict[str, Any]:
    """Import in new interpreters.

    Args:
        repetitions: How many, after one that compiles.

    Returns:
        Totals of all, and for the fastest the modules that took most, in milliseconds.

    Raises:
        CalledProcessError: It cannot be imported.
    """
    found = []
    for _ in range(repetitions + 1):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", f"import {PACKAGE}"],
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(parse(done.stderr))
    del found[0]
    best = min(found, key=lambda item: item[0])
    slowest = sorted(best[1].items(), key=lambda item: -item[1])[:SHOWN]
    return {
        "python": sys.version.partition(" ")[0],
        "modules": sum(name.partition(".")[0] == PACKAGE for name in best[1]),
        "totals": [total for total, _ in found],
        "slowest": dict(slowest),
    }


def table(document: dict[str, Any]) -> str:
    """What ``measure`` found, as Markdown."""
    totals = document["totals"]
    lines = [
        f"Python {document['python']}, {document['modules']} modules of the package, "
        f"{len(totals)} new interpreters; the target is {TARGET:.0f} ms.",
        "",
        "| | ms |",
        "|---|---|",
        f"| fastest | {min(totals):.1f} |",
        f"| median | {statistics.median(totals):.1f} |",
        *(f"| of it `{name}` alone | {value:.1f} |" for name, value in document["slowest"].items()),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; what fails is said on standard error."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.imports", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="directory")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        document = measure(5 if options.quick else 20)
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return 1
    (options.output / "imports.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.output / "imports.md").write_text(table(document))
    print(table(document), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
