"""What the command line prints: plain text in pipes, rich on a terminal if it is installed."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from pywebtransport._cli.logs import configure_logging
from pywebtransport._cli.output import Output


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard output and standard error a terminal, for the rest of the test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return stream


def print_everything() -> None:
    output = Output()
    output.line("x" * 100, "bold")
    output.line("[red]no markup[/red] \x1b[31m \u202e")
    output.step("FAILED", "name", "it failed")
    output.table(("", "completed", "max ms"), [("streams", "1,234", "5.00")])
    with output.progress("load", 2.0) as show:
        show(1.0, "7 streams")
    output.error("an error")


PLAIN = (
    "x" * 100
    + "\n[red]no markup[/red] \\x1b[31m \\u202e\n"
    + "FAILED  name         it failed\n"
    + "         completed  max ms\n"
    + "streams      1,234    5.00\n"
    + "load, 1 of 2 s: 7 streams\n"
    + "an error\n"
)


def test_pipes_get_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_everything()
    captured = capsys.readouterr()
    assert captured.out + captured.err == PLAIN


def test_terminals_without_rich_get_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich.console", None)  # what Python takes for "not there"
    print_everything()
    assert terminal.getvalue() == PLAIN


def test_terminals_get_colours_and_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lines stay whole, so that they can be copied; text from outside has no say in it."""
    terminal = open_terminal(monkeypatch)
    print_everything()
    text = terminal.getvalue()
    assert "x" * 100 in text
    assert "[red]no markup[/red] \\x1b[31m \\u202e" in text
    assert "\x1b[1;31mFAILED" in text
    assert "─" in text
    assert "7 streams" in text
    assert "an error" in text


def test_quiet_output_prints_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(quiet=True)
    output.line("a line")
    output.step("ok", "name", "text")
    output.table(("a",), [("b",)])
    with output.progress("load", 1.0) as show:
        show(1.0, "text")
    output.error("an error")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "an error\n")


@contextlib.contextmanager
def fresh_loggers() -> Iterator[tuple[logging.Logger, logging.Logger]]:
    """The root logger and that of this package, as in a new process."""
    found = logging.getLogger(), logging.getLogger("pywebtransport")
    before = [(logger, logger.level, logger.handlers, logger.propagate) for logger in found]
    for logger, level in zip(found, (logging.WARNING, logging.NOTSET), strict=True):
        logger.handlers, logger.propagate = [], True
        logger.setLevel(level)
    try:
        yield found
    finally:
        for logger, level, handlers, propagate in before:
            logger.setLevel(level)
            logger.handlers, logger.propagate = handlers, propagate


def test_the_log_has_the_lines_of_the_application(capsys: pytest.CaptureFixture[str]) -> None:
    with fresh_loggers():
        configure_logging("INFO", json_lines=True)
        logging.getLogger("shop").info("of the application")
        logging.getLogger("shop").debug("not shown")
        logging.getLogger("pywebtransport.access").info("of the package")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["of the application", "of the package"]


def test_an_application_that_configures_its_log_keeps_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs = logging.StreamHandler(io.StringIO())
    with fresh_loggers() as (root, own):
        root.addHandler(theirs)
        configure_logging("WARNING", json_lines=False)
        logging.getLogger("pywebtransport.server").warning("of the package")
        logging.getLogger("pywebtransport.server").info("not shown")
        assert root.handlers == [theirs]
        assert theirs.stream.getvalue() == ""
    shown = capsys.readouterr().err
    assert shown.endswith(" WARNING pywebtransport.server: of the package\n")
    assert shown.count("\n") == 1
    with fresh_loggers() as (root, own):
        root.addHandler(theirs)
        own.addHandler(theirs)
        configure_logging("WARNING", json_lines=False)
        assert own.handlers == [theirs]
