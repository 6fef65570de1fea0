"""How much memory the process uses, as exactly as the allocators tell."""

from __future__ import annotations

import ctypes
import gc
import sys
from dataclasses import dataclass
from pathlib import Path

_C = ctypes.CDLL(None)


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


@dataclass(frozen=True, slots=True)
class Memory:
    """One measurement.

    Attributes:
        heap: Bytes allocated from C's ``malloc`` and not freed: the engine, the QUIC and TLS
            libraries, and Python's large objects.
        blocks: Python's small objects.
        resident: Bytes of the process in memory, free lists and all.
    """

    heap: int
    blocks: int
    resident: int

    @classmethod
    def now(cls) -> Memory:
        """Measure, after a full garbage collection."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(_allocated(), sys.getallocatedblocks(), pages * 4096)

    def growth(self, before: Memory) -> dict[str, float]:
        """Growth since ``before``, as fractions."""
        return {
            name: getattr(self, name) / getattr(before, name) - 1
            for name in ("heap", "blocks", "resident")
        }


def _allocated() -> int:
    sanitizer = getattr(_C, "__sanitizer_get_current_allocated_bytes", None)
    if sanitizer is not None:
        # Under AddressSanitizer malloc is its own.
        sanitizer.restype = ctypes.c_size_t
        return int(sanitizer())
    _C.mallinfo2.restype = _Mallinfo2
    info = _C.mallinfo2()
    return int(info.uordblks + info.hblkhd)
