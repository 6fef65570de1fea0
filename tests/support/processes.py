"""Python programs in processes of their own that must end cleanly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LISTENING = r"listening on \S+ port (\d+)"
END_TIMEOUT = 30.0


class ServerProcess:
    """A program that logs ``listening on HOST port N`` to its standard output.

    Attributes:
        port: Where it listens.
        output: What it printed, once it has ended.
        errors: What it wrote to standard error, once it has ended.
        returncode: Its exit status, once it has ended.
    """

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output = ""
        self.errors = ""
        self.returncode: int | None = None
        self.port = int(self.wait_for(_LISTENING)[1])

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read what it prints up to a line that matches, and return the match."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            found = re.search(pattern, line)
            if found is not None:
                return found
        self._finish()
        raise AssertionError(f"it ended without {pattern!r}: {self.output}{self.errors}")

    def send_signal(self, number: int) -> None:
        """Send a signal and go on."""
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal and wait for the end."""
        if self.returncode is None:
            self._process.send_signal(number)
            self._finish()

    def join(self) -> None:
        """Wait for its end."""
        if self.returncode is None:
            self._finish()

    def kill(self) -> None:
        """End it without its cooperation."""
        if self.returncode is None:
            self._process.kill()
            self._finish()

    def assert_clean_end(self) -> None:
        """It ended by itself, in order, and complained about nothing."""
        assert (self.returncode, self.errors) == (0, "")

    def _finish(self) -> None:
        try:
            output, self.errors = self._process.communicate(timeout=END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, self.errors = self._process.communicate()
            self.errors += f"\nkilled: it did not end within {END_TIMEOUT} s"
        self.output += output
        self.returncode = self._process.returncode


@contextmanager
def server_process(*arguments: str) -> Iterator[ServerProcess]:
    """Run a server program; at the end it must stop on SIGTERM without a word of complaint."""
    process = ServerProcess(*arguments)
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    process.stop()
    process.assert_clean_end()
