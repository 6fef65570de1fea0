"""Programs in processes of their own that answer a line of JSON with a line of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Child", "ChildError"]

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 30.0
_END_TIMEOUT = 10.0


class ChildError(Exception):
    """A program ended, or did not answer in time; the message says which, in one line."""


class Child:
    """A program that prints one line of JSON when it is ready.

    Args:
        name: For messages.
        program: A file to run, or the name of a module of this tree.
        options: Its only argument, as JSON.
        log: File of its standard error.
        package: Directory of the checkout whose ``pywebtransport`` it imports; a module of this
            tree needs this one.
        nice: Added to its niceness.
        patience: Seconds until it must be ready.

    Attributes:
        ready: What it printed first.
    """

    def __init__(
        self,
        name: str,
        program: Path | str,
        options: dict[str, Any],
        *,
        log: Path,
        package: Path = ROOT,
        nice: int = 0,
        patience: float = _PATIENCE,
    ) -> None:
        self._name = name
        self._log = log
        self._buffer = b""
        where = [str(program)] if isinstance(program, Path) else ["-m", program]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        with log.open("wb") as errors:
            # A group of its own: Ctrl-C is for the runner, which ends it by its process id.
            self._popen = subprocess.Popen(
                [sys.executable, "-P", *where, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**kept, "PYTHONPATH": str(package)},
                start_new_session=True,
            )
        try:
            if nice:
                os.setpriority(os.PRIO_PROCESS, self.pid, nice)
            self.ready = self.read(patience)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """It has not ended."""
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """How it ended."""
        return self._popen.poll()

    def tell(self, do: str, **arguments: Any) -> None:
        """Send a command that has its answer later.

        Raises:
            ChildError: It has ended.
        """
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._popen.stdin.flush()
        except (OSError, ValueError):  # closed by the other end, or by kill()
            raise ChildError(f"the {self._name} has ended{self._complaint()}") from None

    def ask(self, do: str, *, timeout: float = _PATIENCE, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Raises:
            ChildError: None came.
        """
        self.tell(do, **arguments)
        return self.read(timeout)

    def read(self, timeout: float = _PATIENCE) -> dict[str, Any]:
        """The next line.

        Raises:
            ChildError: None came.
        """
        assert self._popen.stdout is not None
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._popen.stdout, select.POLLIN)
        while b"\n" not in self._buffer:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise ChildError(f"the {self._name} gave no answer in {timeout:g} s")
            data = self._popen.stdout.read1(1 << 20)  # type: ignore[attr-defined]
            if not data:
                raise ChildError(f"the {self._name} ended without an answer{self._complaint()}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def log_lines(self) -> int:
        """Lines of its standard error so far."""
        return self._log.read_bytes().count(b"\n")

    def log_head(self) -> str:
        """The first lines of its standard error, at most 2,000 characters."""
        with self._log.open("rb") as file:
            return file.read(2000).decode(errors="replace")

    def end(self) -> int:
        """Its standard input ends, and it is expected to; returns its exit status."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
        try:
            return self._popen.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def kill(self) -> None:
        """End it without its cooperation."""
        with contextlib.suppress(OSError):
            self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if exc is None:
            self.end()
        self.kill()

    def _complaint(self) -> str:
        """The last line of its standard error."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""
