"""Compiles every C source, and what Cython generates, as the strictest compilers do.

    check_c.py [FILE.c ...]

Uses gcc and clang, those that are installed, with the C standard of the build and with the newest
standard that the compiler supports. (Newer compilers refuse code that older ones only warned
about, and default to a newer standard.) Every warning is an error. No output is kept.

With file arguments, checks only these files. Needs Cython: run it with the Python of the build.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from system_packages import load_requirements

ROOT = Path(__file__).resolve().parent.parent
QUIC = ROOT / "pywebtransport" / "_quic"
ENGINE = QUIC / "engine"
COMPILERS = ["gcc", "clang"]
# The standard of the build, and the default of the newest compilers under its two names.
STANDARDS = ["gnu11", "gnu23", "gnu2x"]
FLAGS = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
# Cython generates helper functions even if they are not used.
GENERATED_FLAGS = ["-Wno-unused"]
# Files that need headers which only some machines have, and the package with the header.
OPTIONAL = {"native.c": ("valgrind/callgrind.h", "valgrind")}


@dataclass(frozen=True)
class Compiler:
    """A compiler and one standard that it supports."""

    name: str
    standard: str

    def run(self, *arguments: str, source: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the compiler; ``source`` is its standard input."""
        command = [self.name, f"-std={self.standard}", *arguments]
        return subprocess.run(
            command, input=source, capture_output=True, text=True, check=False, cwd=ROOT
        )

    def accepts(self, source: str) -> bool:
        """Whether it compiles a source string."""
        return self.run("-fsyntax-only", "-x", "c", "-", source=source).returncode == 0


def compilers() -> list[Compiler]:
    """Every installed compiler, with the standard of the build and the newest that it supports."""
    found = []
    for name in filter(shutil.which, COMPILERS):
        build, *newest = [item for item in STANDARDS if Compiler(name, item).accepts("int x;\n")]
        found += [Compiler(name, standard) for standard in (build, *newest[:1])]
    return found


def own_sources() -> list[Path]:
    """The C sources of this repository."""
    folders = [ENGINE, *(ROOT / "tests" / name for name in ("engine", "fuzz", "benchmark"))]
    return sorted(path for folder in folders for path in folder.rglob("*.c"))


def generate(directory: Path) -> Path:
    """Let Cython translate the extension module.

    Raises:
        SystemExit: Cython reports an error, or is not installed.
    """
    target = directory / "_core.c"
    command = [sys.executable, "-m", "cython", "-3", "-Werror", str(QUIC / "_core.pyx")]
    done = subprocess.run([*command, "-o", str(target)], check=False, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit("error: Cython did not translate _core.pyx")
    return target


def library_flags() -> list[str]:
    """The include directories of the libraries.

    Raises:
        SystemExit: A build requirement is missing.
    """
    requirements = load_requirements()
    try:
        flags: list[str] = requirements.check().compile
    except requirements.RequirementsError as error:
        raise SystemExit(f"error: {error}") from None
    return flags


def commands(files: list[Path], generated: Path | None) -> Iterator[tuple[Compiler, list[str]]]:
    """The compiler and its arguments for each compilation."""
    include = ["-iquote", str(ENGINE), "-iquote", str(ROOT / "tests" / "engine"), *library_flags()]
    python = ["-I", sysconfig.get_path("include"), "-I", str(QUIC), *GENERATED_FLAGS]
    left_out: dict[str, str] = {}
    for compiler in compilers():
        if generated is not None:
            yield compiler, [*FLAGS, *python, str(generated)]
        for path in files:
            header, package = OPTIONAL.get(path.name, ("", ""))
            if header and not compiler.accepts(f"#include <{header}>\n"):
                left_out[path.name] = package
                continue
            yield compiler, [*FLAGS, *include, str(path)]
    for name, package in left_out.items():
        print(f"{name} is not checked: it needs {package}")


def check(files: list[Path], generated: Path | None) -> int:
    """Compile everything and print the errors; return how many compilations failed.

    Raises:
        SystemExit: No compiler is installed.
    """
    work = list(commands(files, generated))
    if not work:
        raise SystemExit(f"error: none of {', '.join(COMPILERS)} is installed")
    failed = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for compiler, done in pool.map(lambda item: (item[0], item[0].run(*item[1])), work):
            if done.returncode != 0:
                failed += 1
                print(f"-- {compiler.name} -std={compiler.standard}\n{done.stderr}", end="")
    used = dict.fromkeys(f"{item.name} -std={item.standard}" for item, _ in work)
    print(f"C: {len(work)} compilations by {', '.join(used)}, {failed} with errors")
    return failed


def main() -> int:
    """Parse the command line and check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.c", help="check only these")
    arguments = parser.parse_args()
    if arguments.files:
        return 1 if check([path.resolve() for path in arguments.files], None) else 0
    with tempfile.TemporaryDirectory() as directory:
        return 1 if check(own_sources(), generate(Path(directory))) else 0


if __name__ == "__main__":
    sys.exit(main())
