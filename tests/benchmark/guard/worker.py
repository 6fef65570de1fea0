"""The measured process: ``python -m tests.benchmark.guard.worker LIBRARY WORKLOAD PACKAGE``.

Runs under ``valgrind --tool=callgrind --instr-atstart=no`` with ``native.c`` preloaded, and
prints one line of JSON about its surroundings when the workload did what it should.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .workloads import Workload

# Libraries whose code is counted; their file names carry the versions.
_COUNTED = re.compile(r"/lib(?:ngtcp2|gnutls|nettle|hogweed|gmp)[^/]*\.so[^/]*$")
_COMPILER = re.compile(rb"GCC: \([^)]*\) [0-9.]+|clang version [0-9.]+")


async def run(native: ctypes.CDLL, workload: Workload) -> None:
    """Warm up, then run the workload while the instructions are counted."""
    from .workloads import place

    with tempfile.TemporaryDirectory(prefix="pywebtransport-guard-") as directory:
        async with place(Path(directory)) as target:
            await workload.run(target, workload.warm_up)
            gc.collect()
            if not native.guard_counting_start():
                raise SystemExit("valgrind does not run this process")
            await workload.run(target, workload.operations)
            native.guard_counting_stop()


def environment(native: ctypes.CDLL) -> dict[str, str]:
    """Everything besides our own sources that changes how many instructions are executed."""
    from pywebtransport._quic import _core

    words = (ctypes.c_uint32 * 4)()
    native.guard_cpu_features(words)
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split()[-1] for line in maps if _COUNTED.search(line)}
    compiler = _COMPILER.search(Path(_core.__file__).read_bytes())
    return {
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "extension compiler": "unknown" if compiler is None else compiler[0].decode(),
        "libraries": " ".join(sorted(os.path.basename(path) for path in paths)),
        "libc": " ".join(platform.libc_ver()),
        "pylsqpack": importlib.metadata.version("pylsqpack"),
        "processor features": " ".join(f"{word:08x}" for word in words),
    }


def main() -> int:
    """Run the workload that the command line names."""
    library, name, package = sys.argv[1:]
    sys.path.insert(0, package)
    from .workloads import WORKLOADS

    native = ctypes.CDLL(library)
    asyncio.run(run(native, WORKLOADS[name]))
    print(json.dumps(environment(native)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
