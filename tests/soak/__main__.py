"""``python -m tests.soak [PHASE ...]``: long runs of a server and a client, and whether they grow.

Phases: streams, sessions, datagrams, churn, idle; none: all. ``SOAK_SCALE`` (1) multiplies counts
and times. Each phase writes ``build/soak/PHASE.json`` when it ends, so that phases may be run one
by one; the table and the picture, ``soak.md`` and ``soak.svg``, are of all that are there.

Flat is: the line of least squares through the second half of the samples rises over that half by
at most 3 % of their mean and a few steps of an allocator. Exit status 1: something is not flat, or
went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.field.child import ROOT

from .plots import draw
from .report import markdown
from .runner import PHASES, run

TABLE = ROOT / "docs" / "topics" / "soak-table.inc"
PICTURE = ROOT / "docs" / "_static" / "soak.svg"


def main(arguments: list[str] | None = None) -> int:
    """Run the phases that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scale = float(os.environ.get("SOAK_SCALE", "1"))
    parser.add_argument("phases", nargs="*", metavar="PHASE", help=", ".join(PHASES))
    parser.add_argument("--scale", type=float, default=scale)
    parser.add_argument("--seconds", type=float, help="of a phase that lasts a time, instead")
    parser.add_argument("--package", type=Path, default=ROOT, help="checkout to run")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "soak")
    parser.add_argument("--docs", action="store_true", help="table and picture into docs/, too")
    parser.add_argument("--docs-only", action="store_true", help="only that, of earlier runs")
    parsed = parser.parse_args(arguments)
    unknown = [name for name in parsed.phases if name not in PHASES]
    if unknown:
        parser.error(f"no phase is called {unknown[0]}; there are {', '.join(PHASES)}")
    if parsed.scale <= 0:
        parser.error(f"the scale must be above 0, got {parsed.scale:g}")
    output = parsed.output
    output.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in () if parsed.docs_only else parsed.phases or PHASES:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            phase = PHASES[name]
            if parsed.seconds is not None and phase.seconds:
                phase = replace(phase, seconds=parsed.seconds / parsed.scale)
            found = run(
                phase, parsed.scale, Path(folder), package=parsed.package.resolve(), say=_say
            )
        _say("")
        (output / f"{name}.json").write_text(json.dumps(found) + "\n")
        failed = failed or bool(found["faults"])
        print(markdown([found]).splitlines()[-1], flush=True)
    _write_all(output)
    if parsed.docs or parsed.docs_only:
        shutil.copy(output / "soak.md", TABLE)
        shutil.copy(output / "soak.svg", PICTURE)
    return 1 if failed else 0


def _write_all(output: Path) -> None:
    """Table and picture of the phases that have been run."""
    found: list[dict[str, Any]] = []
    for name in PHASES:
        path = output / f"{name}.json"
        if path.exists():
            found.append(json.loads(path.read_text()))
    (output / "soak.md").write_text(markdown(found))
    try:
        draw(found, output / "soak.svg")
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)


def _say(line: str) -> None:
    """A line that the next one replaces, on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
