"""Compiles every C source, and what Cython generates, as the strictest compilers do.

    check_c.py [FILE.c ...]

Each of gcc and clang that is there reads all of it, by the C standard that the build uses and by
the newest one that the compiler knows: today's compilers refuse what yesterday's only warned
about, and take a newer standard as their default. Every warning is an error. Nothing is kept.
With files, only these are read. Run it with the Python that builds: it needs Cython.
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
# Of the build, and the default of the newest compilers under its two names.
STANDARDS = ["gnu11", "gnu23", "gnu2x"]
FLAGS = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
# Cython writes helpers whether they are used or not.
GENERATED_FLAGS = ["-Wno-unused"]
# Needs headers that only some machines have: file, and the package that brings the header.
OPTIONAL = {"native.c": ("valgrind/callgrind.h", "valgrind")}


@dataclass(frozen=True)
class Compiler:
    """A compiler and one standard that it knows."""

    name: str
    standard: str

    def run(self, *arguments: str, source: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run it; ``source`` is what it reads from its standard input."""
        command = [self.name, f"-std={self.standard}", *arguments]
        return subprocess.run(
            command, input=source, capture_output=True, text=True, check=False, cwd=ROOT
        )

    def accepts(self, source: str) -> bool:
        """Whether it compiles a text."""
        return self.run("-fsyntax-only", "-x", "c", "-", source=source).returncode == 0


def compilers() -> list[Compiler]:
    """Every compiler that is there, with the standard of the build and the newest it knows."""
    found = []
    for name in filter(shutil.which, COMPILERS):
        build, *newest = [item for item in STANDARDS if Compiler(name, item).accepts("int x;\n")]
        found += [Compiler(name, standard) for standard in (build, *newest[:1])]
    return found


def own_sources() -> list[Path]:
    """The C of this repository."""
    folders = [ENGINE, *(ROOT / "tests" / name for name in ("engine", "fuzz", "benchmark"))]
    return sorted(path for folder in folders for path in folder.rglob("*.c"))


def generate(directory: Path) -> Path:
    """Let Cython translate the extension module.

    Raises:
        SystemExit: Cython finds a mistake, or is not there.
    """
    target = directory / "_core.c"
    command = [sys.executable, "-m", "cython", "-3", "-Werror", str(QUIC / "_core.pyx")]
    done = subprocess.run([*command, "-o", str(target)], check=False, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit("error: Cython did not translate _core.pyx")
    return target


def library_flags() -> list[str]:
    """Where the headers of the libraries are.

    Raises:
        SystemExit: Something that a build needs is not there.
    """
    requirements = load_requirements()
    try:
        flags: list[str] = requirements.check().compile
    except requirements.RequirementsError as error:
        raise SystemExit(f"error: {error}") from None
    return flags


def commands(files: list[Path], generated: Path | None) -> Iterator[tuple[Compiler, list[str]]]:
    """A compiler and its arguments for each thing to compile."""
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
    """Compile it all, tell what is wrong; return how many compilations failed.

    Raises:
        SystemExit: There is no compiler.
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
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.c", help="only these")
    arguments = parser.parse_args()
    if arguments.files:
        return 1 if check([path.resolve() for path in arguments.files], None) else 0
    with tempfile.TemporaryDirectory() as directory:
        return 1 if check(own_sources(), generate(Path(directory))) else 0


if __name__ == "__main__":
    sys.exit(main())
