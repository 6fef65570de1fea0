"""Counts the instructions of a workload: a process of its own under callgrind."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SOURCE = Path(__file__).with_name("native.c")
# Far more than a run takes; it ends one that hangs.
LIMIT = 300.0

_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


class GuardError(Exception):
    """Counting is not possible; the message tells why and what to do."""


@dataclass(frozen=True, slots=True)
class Count:
    """What one workload takes.

    Attributes:
        instructions: Median of the repetitions.
        spread: Largest minus smallest, as a fraction of the median.
        environment: What the count depends on besides our sources, by name.
    """

    instructions: int
    spread: float
    environment: dict[str, str]


def instructions_of(text: str) -> int:
    """The number of instructions in a file that callgrind wrote.

    Raises:
        GuardError: There is none.
    """
    found = _TOTALS.search(text)
    if found is None or int(found[1]) == 0:
        raise GuardError("callgrind's output has no count: the workload was not reached")
    return int(found[1])


def median_of(counts: list[int]) -> tuple[int, float]:
    """Median, and spread as a fraction of it."""
    median = round(statistics.median(counts))
    return median, (max(counts) - min(counts)) / median


def valgrind_version() -> str:
    """As valgrind says it.

    Raises:
        GuardError: It is not installed.
    """
    if shutil.which("valgrind") is None:
        raise GuardError("valgrind is not installed: apt install valgrind")
    done = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def build_native(directory: Path) -> Path:
    """Compile ``native.c``.

    Args:
        directory: Where to; made when missing.

    Raises:
        GuardError: No compiler, or no valgrind headers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / "guard-native.so"
    compiler = os.environ.get("CC", "cc")
    flags = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = [compiler, *flags, str(SOURCE), "-o", str(library), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise GuardError(f"no C compiler: {error}; apt install gcc libc6-dev") from None
    if done.returncode != 0:
        hint = "; apt install valgrind" if "callgrind.h" in done.stderr else ""
        raise GuardError(f"{SOURCE.name} does not compile{hint}:\n{done.stderr}")
    return library


def count_once(
    workload: str, *, native: Path, package: Path, output: Path
) -> tuple[int, dict[str, str]]:
    """Run a workload under callgrind.

    Args:
        workload: Its name.
        native: What ``build_native`` made.
        package: Directory that holds the ``pywebtransport`` to measure.
        output: File for callgrind's output, for ``callgrind_annotate``.

    Returns:
        Instructions, and the environment of the process.

    Raises:
        GuardError: It failed.
    """
    base = output.with_name(output.name + ".part")
    dump = base.with_name(base.name + ".1")  # callgrind numbers what is dumped on request
    command = [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={base}",
        *(sys.executable, "-m", "tests.benchmark.guard.worker"),
        *(str(native), workload, str(package)),
    ]
    settings = {
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LD_PRELOAD": str(native),
    }
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GuardError(f"{workload}: did not end within {LIMIT:.0f} s") from None
    finally:
        base.unlink(missing_ok=True)
    if done.returncode != 0 or not dump.exists():
        raise GuardError(f"{workload}: exit status {done.returncode}\n{done.stderr[-4000:]}")
    dump.replace(output)
    environment: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return instructions_of(output.read_text()), environment


def count(workload: str, *, repetitions: int, native: Path, package: Path, output: Path) -> Count:
    """Run a workload several times; as ``count_once``."""
    counts = []
    environment: dict[str, str] = {}
    for _ in range(repetitions):
        number, environment = count_once(workload, native=native, package=package, output=output)
        counts.append(number)
    median, spread = median_of(counts)
    return Count(median, spread, {**environment, "valgrind": valgrind_version()})
