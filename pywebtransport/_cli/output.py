"""What verbs print: text, tables and progress; with rich on a terminal, if it is installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .._plain import plain, printable_line

__all__ = ["Output", "print_json"]

_MARKS = {"ok": "green", "FAILED": "bold red", "note": "yellow"}


class Output:
    """Prints for people.

    Text from outside is escaped here. Output that goes to a file or a pipe has no colours and no
    frames, whether rich is installed or not.

    Args:
        quiet: Print nothing but errors, because the result is printed as JSON.

    Attributes:
        quiet: As given.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._console = _rich_console(stderr=False)

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line.

        Args:
            text: The line.
            style: A style of rich.
        """
        if self.quiet:
            return
        if self._console is None:
            print(printable_line(text), flush=True)
        else:
            self._console.print(_styled(text, style), soft_wrap=True)

    def step(self, mark: str, name: str, text: str) -> None:
        """Print one step of a check: ``ok``, ``FAILED`` or ``note``, its name, and a sentence."""
        if self.quiet:
            return
        if self._console is None:
            print(f"{mark:<8}{name:<13}{printable_line(text)}", flush=True)
        else:
            line = _styled(f"{mark:<8}", _MARKS[mark])
            line.append(f"{name:<13}", style="bold")
            line.append(printable_line(text))
            self._console.print(line, soft_wrap=True)

    def error(self, text: str, style: str = "red") -> None:
        """Print a line to standard error."""
        sys.stdout.flush()
        console = _rich_console(stderr=True)
        if console is None:
            print(printable_line(text), file=sys.stderr, flush=True)
        else:
            console.print(_styled(text, style), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; all columns but the first contain numbers."""
        if self.quiet:
            return
        if self._console is not None:
            from rich.box import SIMPLE_HEAD
            from rich.table import Table

            table = Table(box=SIMPLE_HEAD, pad_edge=False)
            for number, column in enumerate(columns):
                table.add_column(column, justify="right" if number else "left", no_wrap=True)
            for row in rows:
                table.add_row(*map(printable_line, row))
            self._console.print(table)
            return
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            cells = [
                cell.rjust(width) if number else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            print("  ".join(cells).rstrip(), flush=True)

    @contextmanager
    def progress(self, what: str, total: float) -> Iterator[Callable[[float, str], None]]:
        """Show progress while the block runs: a bar on a terminal, lines elsewhere.

        Args:
            what: What goes on.
            total: When it is complete, in any unit.

        Yields:
            A function that takes what is done so far, and a text.
        """
        console = None if self.quiet else _rich_console(stderr=True)
        if console is None:
            if self.quiet:
                yield lambda done, text: None
            else:
                yield lambda done, text: print(
                    f"{what}, {done:.0f} of {total:.0f} s: {text}", file=sys.stderr, flush=True
                )
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
        with Progress(
            *columns, TextColumn("{task.fields[text]}"), console=console, transient=True
        ) as bar:
            task = bar.add_task(what, total=total, text="")
            yield lambda done, text: bar.update(task, completed=done, text=text)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(plain(value)), flush=True)


def _rich_console(*, stderr: bool) -> Any:
    """A console of rich if the stream is a terminal and rich is installed, otherwise None."""
    if not (sys.stderr if stderr else sys.stdout).isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(stderr=stderr, highlight=False)


def _styled(text: str, style: str) -> Any:
    from rich.text import Text

    return Text(printable_line(text), style=style)
