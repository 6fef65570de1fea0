"""The program ``pywebtransport`` in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT, PythonProcess, environment

__all__ = ["APP", "ROOT", "Program", "command_line_environment", "running"]

APP = "tests.support.command_line_app:app"


def command_line_environment(cache: Path, **variables: str) -> dict[str, str]:
    """The environment of the program.

    Args:
        cache: The user's cache directory.
        variables: Set in addition.
    """
    return environment(PYTHONPATH=str(ROOT), XDG_CACHE_HOME=str(cache), **variables)


class Program(PythonProcess):
    """A running ``python -m pywebtransport``.

    Args:
        cache: The user's cache directory.
        *arguments: Arguments of the program.
        program: What Python runs.
        **options: Further arguments of ``PythonProcess``.
    """

    def __init__(
        self,
        cache: Path,
        *arguments: str,
        program: Sequence[str] = ("-m", "pywebtransport"),
        **options: Any,
    ) -> None:
        where = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
        super().__init__(*program, *arguments, **{**where, **options})

    def read_banner(self) -> dict[str, Any]:
        """Read what ``serve --json`` prints when it listens."""
        banner: dict[str, Any] = json.loads(self.read_line())
        return banner


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
