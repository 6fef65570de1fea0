"""The parser, the exit statuses and the page that describes them."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import pywebtransport
from pywebtransport import exceptions
from pywebtransport._cli import arguments, bench, main, program
from pywebtransport._cli.status import Status, advice_for, status_of
from pywebtransport.exceptions import SessionRejectedError, TimeoutError, UnreachableError
from tests.support.pages import PAGES, blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "command-line.md").read_text()


def verbs() -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb, and of the actions of ``cert``."""
    return dict(_parsers(program.make_parser(), ""))


def _parsers(
    parser: argparse.ArgumentParser, name: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from _parsers(inner, f"{name} {word}".strip())
            return
    yield name, parser


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The options that its help shows."""
    return {
        option
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        for option in action.option_strings
        if option not in ("-h", "--help")
    }


def test_the_program_and_the_module_are_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"pywebtransport": f"{main.__module__.rpartition('.')[0]}:main"}
    module = [sys.executable, "-m", "pywebtransport", "--version"]
    done = subprocess.run(module, capture_output=True, text=True, check=True)
    assert done.stdout == f"pywebtransport {pywebtransport.__version__}\n"


def test_importing_the_library_does_not_import_the_command_line() -> None:
    code = (
        "import sys, pywebtransport\n"
        "print([name for name in sys.modules if name.startswith('pywebtransport._cli')"
        " or name in ('argparse', 'rich')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["serve", "connect", "probe", "bench", "cert make", "cert check"])
def test_the_page_has_every_option(name: str) -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
    text = sections[name.split()[0]]
    if name in ("probe", "bench"):
        text += sections["connect"].partition("### Options of all clients")[2]
    missing = [option for option in options(verbs()[name]) if f"`{option}" not in text]
    assert missing == []


def test_the_page_has_no_other_options() -> None:
    every = set().union(*map(options, verbs().values())) | {"--help"}
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*)", PAGE))
    assert named - every == set()


def test_the_page_has_every_exit_status() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGE, re.M)
    named = {int(number) for row in rows for number in row.split(",")}
    assert named == {int(status) for status in Status} | {70}


def test_the_help_of_probe_has_every_exit_status() -> None:
    text = verbs()["probe"].format_help()
    for status in Status:
        if status not in (Status.TERMINATED,):
            assert re.search(rf"\b{int(status)}\b", text), status


def test_every_verb_has_help_in_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    for name in verbs():
        with pytest.raises(SystemExit) as caught:
            main([*name.split(), "--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: pywebtransport {name}")
        assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("words", [[], ["nonsense"], ["prob"], ["cert"], ["cert", "x"]])
def test_words_that_are_no_verb_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: pywebtransport")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (exceptions.ConfigurationError("x"), 2),
        (UnreachableError("x", details={"host": "a"}), 3),
        (TimeoutError("x", operation="resolve"), 3),
        (UnreachableError("x"), 4),
        (TimeoutError("x", operation="handshake"), 5),
        (exceptions.HandshakeError("x"), 6),
        (exceptions.CertificateError("x"), 7),
        (exceptions.CertificateHashError("x"), 7),
        (exceptions.WebTransportNotSupportedError("x"), 8),
        (SessionRejectedError(status_code=405), 9),
        (SessionRejectedError(status_code=407), 10),
        (SessionRejectedError(status_code=429), 11),
        (TimeoutError("x", operation="settings"), 12),
        (exceptions.ConnectionError("x"), 1),
    ],
)
def test_each_error_has_a_status_and_advice(error: Exception, status: int) -> None:
    assert status_of(error) == status
    assert bool(advice_for(error, 4433)) == (status not in (1, 2))


def commands() -> list[str]:
    """The commands in the pages that begin with ``pywebtransport``."""
    return [
        line.removeprefix("$ ").partition(" #")[0]
        for path in PAGES
        for body in blocks(path, "console")
        for line in body.splitlines()
        if line.startswith("$ pywebtransport ")
    ]


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_in_the_pages_are_understood(command: str) -> None:
    words = shlex.split(command.replace("5f1c…", "5f1c"))
    found = program.make_parser().parse_args(words[1:])
    assert callable(found.run)


def test_sizes_and_durations() -> None:
    assert arguments.size("64KiB") == 65536
    assert arguments.size("1 mib") == 1 << 20
    assert arguments.seconds("0.5") == 0.5
    for text in ("", "x", "-1", "0", "1TB", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a number like"):
            arguments.size(text)
    for text in ("nan", "inf", "-1", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a number of seconds"):
            arguments.seconds(text)


def test_percentiles() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert [bench.percentile(ordered, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert bench.percentile([3.0], 0.5) == 3.0


def test_a_reader_that_ends_is_no_traceback(tmp_path: Path) -> None:
    """``pywebtransport ... | head -1``: the rest of the output has no reader."""
    command = f"{sys.executable} -m pywebtransport cert make --directory {tmp_path}; echo $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({command}) | true"], capture_output=True, text=True, check=False
    )
    assert done.stderr in ("0\n", "1\n")  # whether "true" has ended already
