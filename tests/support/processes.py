"""Python programs in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["END_TIMEOUT", "ROOT", "PythonProcess", "ServerProcess"]
__all__ += ["environment", "server_process"]

ROOT = Path(__file__).resolve().parents[2]
_LISTENING = r"listening on \S+ port (\d+)"
END_TIMEOUT = 30.0


def environment(**variables: str) -> dict[str, str]:
    """The environment of such a program, with further variables."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error", **variables}


class PythonProcess:
    """A Python program, in which a warning is an error.

    Args:
        *arguments: Arguments of Python.
        cwd: Its working directory.
        pass_fds: Descriptors that it inherits.
        variables: Set in its environment.

    Attributes:
        output: What was read of its standard output; all of it once the process has ended.
        errors: The same of its standard error.
        returncode: Its exit status, once it has ended.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path = ROOT,
        pass_fds: Sequence[int] = (),
        **variables: str,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            pass_fds=pass_fds,
            cwd=cwd,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output = ""
        self.errors = ""
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def read_line(self) -> str:
        """Read a line of its standard output."""
        return self.wait_for(r".*").string.rstrip("\n")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read its standard output up to a line that matches, and return the match."""
        return self._find(pattern, self._process.stdout, "output")

    def wait_for_error(self, pattern: str) -> re.Match[str]:
        """Read its standard error up to a line that matches, and return the match."""
        return self._find(pattern, self._process.stderr, "errors")

    def send_signal(self, number: int) -> None:
        """Send a signal and go on."""
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        if self.returncode is None:
            self._process.send_signal(number)
        return self.join()

    def join(self) -> int:
        """Wait for the end, and return the exit status."""
        if self.returncode is None:
            try:
                output, errors = self._process.communicate(timeout=END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                output, errors = self._process.communicate()
                errors += f"\nkilled: it did not end within {END_TIMEOUT} s"
            self.output += output
            self.errors += errors
            self.returncode = self._process.returncode
        return self.returncode

    def kill(self) -> None:
        """End it without its cooperation."""
        if self.returncode is None:
            self._process.kill()
            self.join()

    def _find(self, pattern: str, stream: IO[str] | None, attribute: str) -> re.Match[str]:
        assert stream is not None
        for line in stream:
            setattr(self, attribute, getattr(self, attribute) + line)
            found = re.search(pattern, line)
            if found is not None:
                return found
        self.join()
        raise AssertionError(f"it ended without {pattern!r}: {self.output}{self.errors}")


class ServerProcess(PythonProcess):
    """A program that logs ``listening on HOST port N`` to its standard output.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments)
        self.port = int(self.wait_for(_LISTENING)[1])

    def assert_clean_end(self) -> None:
        """It ended by itself, in order, and complained about nothing."""
        assert (self.returncode, self.errors) == (0, "")


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
