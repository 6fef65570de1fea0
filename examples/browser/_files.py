"""For transfers of files: a progress bar, what a file is known by, and where it may go."""

import hashlib
import shutil
import sys
import time
from pathlib import Path

RESERVE = 256 * 2**20  # bytes of the disk that uploads leave free


class Bar:
    """A progress bar: one line that changes on a terminal, else a line for each tenth."""

    def __init__(self, name: str, size: int, offset: int) -> None:
        self._name, self._size, self._first = name[:24], size, offset
        self._began, self._shown = time.monotonic(), -1

    def show(self, done: int) -> None:
        """Show how many bytes there are by now."""
        terminal, part = sys.stdout.isatty(), done / self._size if self._size else 1.0
        step = int(part * (200 if terminal else 10))
        if step != self._shown:
            self._shown = step
            rate = (done - self._first) / max(1e-6, time.monotonic() - self._began) / 2**20
            line = f"{self._name:24} [{'=' * int(part * 30):30}] {part:4.0%} {rate:7.1f} MiB/s"
            print(line, end="\r" if terminal and part < 1 else "\n", flush=True)


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(path: Path) -> tuple[int, str]:
    """Size of a file, and a key that is another one when the file has changed."""
    about = path.stat()
    text = f"{path.resolve()} {about.st_size} {about.st_mtime_ns}"
    return about.st_size, hashlib.sha256(text.encode()).hexdigest()


def is_name(name: str) -> bool:
    """Whether a file may have this name, which is also printed."""
    return name.isprintable() and 0 < len(name.encode()) <= 255 and not name.startswith(".")


def room_in(directory: Path) -> int:
    """Bytes that may be written there."""
    return shutil.disk_usage(directory).free - RESERVE


def rename(path: Path, new: Path) -> bool:
    """Rename a file, unless there is one of the new name."""
    try:
        new.hardlink_to(path)
    except FileExistsError:
        return False
    path.unlink()
    return True
