"""The program ``pywebtransport`` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["APP", "ROOT", "Program", "command_line_environment", "running"]

ROOT = Path(__file__).resolve().parents[2]
APP = "tests.support.command_line_app:app"
_END_TIMEOUT = 30.0


def command_line_environment(cache: Path, **variables: str) -> dict[str, str]:
    """The environment of the program.

    Args:
        cache: The user's cache directory.
        variables: Set in addition.
    """
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
        "XDG_CACHE_HOME": str(cache),
        **variables,
    }


class Program:
    """A running ``python -m pywebtransport``.

    Args:
        cache: The user's cache directory.
        *arguments: Arguments of the program.
        cwd: Its working directory.
        program: What Python runs.
        pass_fds: Descriptors that it inherits.
        variables: Set in its environment.

    Attributes:
        output: What was read of its standard output.
        errors: What was read of its standard error.
    """

    def __init__(
        self,
        cache: Path,
        *arguments: str,
        cwd: Path = ROOT,
        program: Sequence[str] = ("-m", "pywebtransport"),
        pass_fds: Sequence[int] = (),
        **variables: str,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            pass_fds=pass_fds,
            cwd=cwd,
            env=command_line_environment(cache, **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output = ""
        self.errors = ""

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def read_line(self) -> str:
        """Read a line of its standard output."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.output += line
        if not line:
            self.kill()
            raise AssertionError(f"it ended: {self.output}{self.errors}")
        return line.rstrip("\n")

    def read_banner(self) -> dict[str, Any]:
        """Read what ``serve --json`` prints when it listens."""
        banner: dict[str, Any] = json.loads(self.read_line())
        return banner

    def wait_for_error(self, pattern: str) -> re.Match[str]:
        """Read its standard error up to a line that matches."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.errors += line
            found = re.search(pattern, line)
            if found is not None:
                return found
        self.kill()
        raise AssertionError(f"it ended without {pattern!r}: {self.output}{self.errors}")

    def send_signal(self, number: int) -> None:
        """Send a signal and go on."""
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        self._process.send_signal(number)
        return self.join()

    def join(self) -> int:
        """Wait for the end, and return the exit status."""
        try:
            output, errors = self._process.communicate(timeout=_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, errors = self._process.communicate()
            errors += "\nkilled: it did not end in time"
        self.output += output
        self.errors += errors
        return self._process.returncode

    def kill(self) -> None:
        """End it without its cooperation."""
        if self._process.returncode is None:
            self._process.kill()
            self.join()


@contextmanager
def running(cache: Path, *arguments: str, **options: Any) -> Iterator[Program]:
    """Run the program; a test that fails does not leave it behind.

    Args:
        cache: The user's cache directory.
        *arguments: Arguments of the program.
        **options: Further arguments of ``Program``.
    """
    program = Program(cache, *arguments, **options)
    try:
        yield program
    finally:
        program.kill()
