"""Processor time of other processes, in nanoseconds of the scheduler."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["processor_time"]


def processor_time(pids: list[int]) -> float:
    """Seconds that all threads of some processes have used."""
    nanoseconds = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread has just ended
                nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9
