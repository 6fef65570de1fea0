"""Fuzz one Python target with atheris, or move corpora between the repository and libFuzzer.

``python -m tests.fuzz run NAME PROGRAM [arguments of libFuzzer]``, ``unpack NAME FOLDER``,
``pack NAME FOLDER``, or ``list``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz import corpus


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names of the Python targets")
    run = commands.add_parser("run", help="fuzz a Python target")
    run.add_argument("name")
    run.add_argument("program", help="what libFuzzer starts again in order to merge corpora")
    for command, what in (("unpack", "corpus to files"), ("pack", "files to corpus")):
        other = commands.add_parser(command, help=what)
        other.add_argument("name")
        other.add_argument("folder", type=Path)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "run":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command == "run":
        fuzz(options.name, [options.program, *rest])
    elif options.command == "pack":
        print(f"{options.name}: {corpus.pack(options.name, options.folder)} inputs kept")
    else:
        from tests.fuzz.targets import SEEDS, TARGETS

        if options.command == "list":
            print("\n".join(TARGETS))
        else:
            corpus.unpack(options.name, options.folder, SEEDS.get(options.name, ()))
    return 0


def fuzz(name: str, arguments: list[str]) -> None:
    """Run one target until libFuzzer has enough; ends the process."""
    import atheris  # type: ignore[import-untyped]

    with atheris.instrument_imports(include=["pywebtransport", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS
    if name not in TARGETS:
        sys.exit(f"there is no target '{name}': {', '.join(TARGETS)}")
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
