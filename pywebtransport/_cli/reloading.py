"""``--reload``: runs the server in a process of its own, and starts it again after changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .._plain import printable_line
from .status import Status

__all__ = ["run_with_reload"]

# Seconds between two looks at the files.
_INTERVAL = 0.5
# Directories that contain no files of the application, and may contain many others.
_SKIPPED = ("__pycache__", "node_modules")

_Snapshot = dict[str, tuple[int, int]]


def run_with_reload(words: Sequence[str], directory: Path) -> int:
    """Run ``pywebtransport`` with these arguments, again after each change, until a signal.

    Args:
        words: Arguments of the process.
        directory: Its Python files are watched, and those of the directories below.

    Returns:
        The exit status of the last process; 0 if it had ended before the signal.
    """
    command = [sys.executable, "-m", "pywebtransport", *words]
    return _Reloader(command, directory).run()


class _Reloader:
    """The process that watches the files."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self._command = command
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._signalled: subprocess.Popen[bytes] | None = None
        self._number = signal.SIGTERM.value
        self._stop = threading.Event()

    def run(self) -> int:
        previous = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            return self._loop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()

    def _loop(self) -> int:
        files = _snapshot(self._directory)
        while not self._stop.is_set():
            # A group of its own: Ctrl-C of a terminal reaches it once, by this process.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, process_group=0
            )
            told = False
            while not self._stop.is_set():
                try:
                    status = self._process.wait(_INTERVAL)
                except subprocess.TimeoutExpired:
                    pass
                else:
                    if not told and not self._stop.is_set():
                        _say(f"the server ended with status {status}; waiting for a change")
                        told = True
                    self._stop.wait(_INTERVAL)
                found = _snapshot(self._directory)
                if found != files:
                    _say(f"{_changed(files, found)} changed: starting the server again")
                    files = found
                    break
            if self._stop.is_set():
                return Status.OK if told else self._wait()
            self._process.terminate()
            self._process.wait()
        return Status.OK

    def _wait(self) -> int:
        """Wait for the end of the process after a signal."""
        process = self._process
        assert process is not None
        if self._signalled is not process:  # it was about to start
            process.send_signal(self._number)
        status = process.wait()
        # Killed by the signal: it was still importing the application.
        return Status.OK if status == -self._number else status

    def _on_signal(self, number: int, frame: object) -> None:
        self._number = number
        self._stop.set()
        if self._process is not None:
            self._process.send_signal(number)
            self._signalled = self._process


def _snapshot(directory: Path) -> _Snapshot:
    """Time and size of each Python file; hidden directories and virtualenvs are left out."""
    found: _Snapshot = {}
    for folder, folders, names in os.walk(directory):
        if "pyvenv.cfg" in names:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name[0] != "." and name not in _SKIPPED]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                try:
                    facts = os.stat(path)
                except OSError:  # it is gone, or a link to nowhere or to itself
                    continue
                found[path] = (facts.st_mtime_ns, facts.st_size)
    return found


def _changed(before: _Snapshot, after: _Snapshot) -> str:
    names = sorted(path for path in before | after if before.get(path) != after.get(path))
    return os.path.relpath(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _say(text: str) -> None:
    print(f"pywebtransport serve: {printable_line(text)}", file=sys.stderr, flush=True)
