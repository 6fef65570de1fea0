"""What a process used: CPU time and memory."""

from __future__ import annotations

import gc
import resource
from pathlib import Path

__all__ = ["collect_and_measure", "cpu_seconds", "peak_memory"]


def cpu_seconds() -> float:
    """User and system time of this process so far, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes (VmHWM)."""
    return _field("/proc/self/status", "VmHWM")


def collect_and_measure() -> dict[str, int]:
    """Collect garbage, then give the proportional and the resident size in bytes."""
    gc.collect()
    return {
        "pss": _field("/proc/self/smaps_rollup", "Pss"),
        "rss": _field("/proc/self/status", "VmRSS"),
    }


def _field(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{path} has no {name}")
