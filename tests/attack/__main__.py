"""``python -m tests.attack [NAME ...]``: hostile peers beside a well-behaved one.

Names are those of attacks or groups (``--list``); none: all. ``ATTACK_SECONDS`` is how long each
goes on, 5 by default. Another checkout that is built is attacked with ``--package DIRECTORY``. A
table is printed and, with every figure, written to ``build/attack/attack.json``. Exit status 1: an
attack made the well-behaved client's echoes more than three times as slow (those within 10 ms
aside), made one fail, took more memory than its limit, or ended its victim.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.field.child import ROOT

from .registry import chosen
from .report import document, text, write_docs
from .runner import FLOOR, RATIO, Plan, run

DOCS = ROOT / "docs" / "topics" / "attack-table.inc"


def main(arguments: list[str] | None = None) -> int:
    """Run the attacks that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.attack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    seconds = float(os.environ.get("ATTACK_SECONDS", "5"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="attacks or groups")
    parser.add_argument("--list", action="store_true", help="name all attacks, and end")
    parser.add_argument("--seconds", type=float, default=seconds, help="of each attack")
    parser.add_argument("--package", type=Path, default=ROOT, help="checkout to attack")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "attack")
    parser.add_argument("--no-control", action="store_true", help="no attack on a bystander")
    parser.add_argument("--ratio", type=float, default=RATIO, help="limit of p99 to quiet p99")
    parser.add_argument("--floor", type=float, default=FLOOR, help="seconds that never fail")
    parser.add_argument("--memory", type=float, help="MiB instead of all limits")
    parser.add_argument("--docs", action="store_true", help=f"write {DOCS.relative_to(ROOT)}, too")
    parser.add_argument(
        "--docs-only", action="store_true", help="write it from the last run's figures, and end"
    )
    parsed = parser.parse_args(arguments)
    written = parsed.output / "attack.json"
    if parsed.docs_only:
        write_docs(json.loads(written.read_text()), DOCS)
        return 0
    try:
        attacks = chosen(parsed.names)
    except KeyError as error:
        parser.error(f"no attack or group is called {error}; see --list")
    if parsed.list:
        for one in attacks:
            print(f"{one.group:<12} {one.name:<28} {one.doc}")
        return 0
    busy, processors = os.getloadavg()[0], os.cpu_count() or 1
    if busy > processors / 2:
        print(
            f"warning: the machine is busy (load {busy:.1f} on {processors} processors): "
            "attackers, who have the lowest priority, get little of it",
            file=sys.stderr,
        )
    results = []
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        plan = Plan.of(
            parsed.seconds,
            package=parsed.package.resolve(),
            folder=Path(folder),
            ratio=parsed.ratio,
            floor=parsed.floor,
            memory=parsed.memory,
            **({"control": 0.0} if parsed.no_control else {}),
        )
        print(*text([]), flush=True)
        for number, one in enumerate(attacks, 1):
            _progress(f"{number}/{len(attacks)} {one.name}")
            results.append(run(one, plan).to_dict())
            _progress("")
            print(list(text(results[-1:]))[1], flush=True)
    parsed.output.mkdir(parents=True, exist_ok=True)
    found = document(results, parsed.seconds)
    written.write_text(json.dumps(found, indent=2) + "\n")
    (parsed.output / "attack.txt").write_text("\n".join(text(results)) + "\n")
    if parsed.docs:
        write_docs(found, DOCS)
    failed = [one["name"] for one in results if one["faults"]]
    print(f"{len(results)} attacks, {len(failed)} failed: {' '.join(failed)}")
    return 1 if failed else 0


def _progress(line: str) -> None:
    """A line that the next one replaces, on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
