"""``python -m tests.benchmark.paths --output DIR [--quick]``: writes paths.json and paths.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .run import build, simulate
from .tables import TABLES, Table, render

REPETITIONS = 5
_QUICK = ("loss", "pairs")


def main(arguments: list[str] | None = None) -> int:
    """Build, run, write; what fails is said on standard error."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.paths", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="directory")
    parser.add_argument("--quick", action="store_true", help="two tables, once")
    parser.add_argument("--table", nargs="+", choices=[table.name for table in TABLES])
    parser.add_argument("--repetitions", type=int, help=f"default: {REPETITIONS}; quick: 1")
    parser.add_argument("--program", type=Path, help="a paths that is built already")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    names = options.table or (_QUICK if options.quick else [table.name for table in TABLES])
    repetitions = options.repetitions or (1 if options.quick else REPETITIONS)
    try:
        program = options.program or build()
        documents = [
            measure(program, table, repetitions) for table in TABLES if table.name in names
        ]
    except (subprocess.SubprocessError, OSError) as error:
        print(getattr(error, "stderr", None) or error, file=sys.stderr)
        return 1
    text = "\n".join(
        f"{document['title']} (ngtcp2 {document['version']}, medians of {repetitions}):\n\n"
        f"{document['text']}"
        for document in documents
    )
    (options.output / "paths.json").write_text(json.dumps(documents, indent=1) + "\n")
    (options.output / "paths.md").write_text(text)
    print(text, end="")
    return 0


def measure(program: Path, table: Table, repetitions: int) -> dict[str, Any]:
    """All runs of a table."""
    found: list[list[list[list[float]]]] = []
    version = ""
    for line in table.lines:
        columns = []
        for flows in line.runs:
            outcomes = [
                simulate(
                    program, line.route, flows, seconds=line.seconds, seed=seed, more=line.more
                )
                for seed in range(1, repetitions + 1)
            ]
            version = outcomes[0].version
            columns.append([list(table.figures(outcome)) for outcome in outcomes])
        found.append(columns)
    return {
        "name": table.name,
        "title": table.title,
        "version": version,
        "columns": list(table.columns),
        "lines": [line.name for line in table.lines],
        "figures": found,
        "text": render(table, found),
    }


if __name__ == "__main__":
    sys.exit(main())
