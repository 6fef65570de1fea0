"""What Linux says about a process: memory, processor time, descriptors."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Peak", "cpu_seconds", "descriptors", "proportional", "resident"]

MIB = 1 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MiB in memory (RSS); 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / MIB
    except (OSError, IndexError):
        return 0.0


def proportional(pid: int) -> float:
    """MiB in memory, what is shared with other processes divided among them (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time, its own and the kernel's for it; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def descriptors(pid: int) -> int:
    """Open file descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


class Peak:
    """Watches the memory of a process from a thread.

    Attributes:
        peak: MiB, the most that was seen.
    """

    def __init__(self, pid: int, interval: float = 0.02) -> None:
        self.peak = resident(pid)
        self._pid = pid
        self._interval = interval
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(self._interval):
            self.peak = max(self.peak, resident(self._pid))
