"""``pywebtransport connect`` and ``bench`` against a running ``pywebtransport serve``."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywebtransport._cli import main
from tests.support.command_line import APP, ROOT, command_line_environment, running
from tests.support.pages import blocks
from tests.support.ports import free_port

Connect = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL of a running ``serve``, without a path, and the cache directory of its certificate."""
    cache = tmp_path_factory.mktemp("cache")
    with running(cache, "serve", APP, "--port", "0", "--json", "--log-level", "error") as program:
        yield program.read_banner()["urls"][0].removesuffix("/"), cache
        assert (program.stop(), program.errors) == (0, "")


@pytest.fixture
def url(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(server[1]))
    return server[0]


@pytest.fixture
def connect(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Connect:
    """Connect with a file as input; status, output, errors."""

    def run(path: str, *options: str, typed: bytes = b"") -> tuple[int, str, str]:
        file = tmp_path / "typed"
        file.write_bytes(typed)
        with file.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            status = main(["connect", f"{url}{path}", "--dev", *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_each_line_goes_on_a_stream_whose_answer_is_printed(connect: Connect) -> None:
    status, output, errors = connect("/echo", typed=b"hello\r\nlast line without end")
    assert status == 0
    assert sorted(output.splitlines()) == ["stream 4    hello", "stream 8    last line without end"]
    assert errors == "connected, draft-16\n"


def test_lines_go_on_one_stream(connect: Connect) -> None:
    status, output, _ = connect("/echo", "--send", "lines", "--json", typed=b"one\ntwo\n")
    assert status == 0
    arrived = [event for event in events(output) if event["event"] == "stream"]
    assert "".join(event["text"] for event in arrived) == "one\ntwo\n"
    assert {event["stream"] for event in arrived} == {4}


@pytest.mark.parametrize("way", ["uni", "datagram"])
def test_other_ways_to_send(connect: Connect, way: str) -> None:
    status, output, _ = connect("/echo", "--send", way, "--json", typed=b"\xff\xfe\n")
    assert status == 0
    opened, *rest = events(output)
    assert opened == {"event": "open", "path": "/echo", "draft": 16}
    assert rest[0]["event"] == ("stream" if way == "uni" else "datagram")
    assert rest[0]["base64"] == "//4="


def test_long_answers_are_complete(connect: Connect) -> None:
    lines = b"".join(b"%07d\n" % number for number in range(200_000))
    status, output, _ = connect("/echo", "--send", "lines", "--wait", "20", "--json", typed=lines)
    assert status == 0
    arrived = [event["text"] for event in events(output) if event["event"] == "stream"]
    assert "".join(arrived).encode() == lines


def test_the_end_of_the_input_waits_for_answers_only_so_long(connect: Connect) -> None:
    status, output, _ = connect("/idle", "--wait", "0.1", typed=b"hello\n")
    assert (status, output) == (0, "")


def test_a_server_that_ends_the_session_is_reported(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it said before is printed, with what could drive a terminal escaped."""
    read_end, write_end = os.pipe()  # an input that does not end
    try:
        with os.fdopen(read_end) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            status = main(["connect", f"{url}/bye", "--dev"])
    finally:
        os.close(write_end)
    captured = capsys.readouterr()
    assert status == 1
    assert captured.out == "stream 7    one\nstream 7    two \\x1b[31m\n"
    assert captured.err.endswith("the server ended the session with code 7: that is all\n")


def test_a_server_that_refuses(connect: Connect) -> None:
    status, output, errors = connect("/forbidden")
    assert (status, output) == (10, "")
    assert re.match(r"pywebtransport connect: error: .*403 \(Forbidden\)", errors)


def test_words_of_a_server_that_hangs_up_are_escaped(connect: Connect) -> None:
    status, output, errors = connect("/hangup")
    assert (status != 0, output) == (True, "")
    assert errors.startswith("pywebtransport connect: error: ")
    assert errors.removesuffix("\n").isprintable()


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Its text may have words of an application."""
    assert main(["serve", "no\x1b[2J\nsuch:app"]) == 2
    errors = capsys.readouterr().err
    assert r"no\x1b[2J" in errors
    assert errors.removesuffix("\n").isprintable()


def test_a_certificate_that_is_not_trusted(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The options of the command line are named, and none of Python's."""
    assert main(["connect", f"{url}/echo"]) == 7
    assert main(["connect", f"{url}/echo", "--certificate-hash", "00" * 32]) == 7
    untrusted, unknown = capsys.readouterr().err.splitlines()
    assert re.search(r"; its SHA-256 is [0-9a-f]{64}\. What to do: .*--certificate-hash", untrusted)
    assert "matches none of the given hashes" in unknown
    assert "--dev" in untrusted
    assert "--dev" in unknown
    assert "server_certificate_hashes" not in untrusted + unknown


def test_what_a_server_sends_by_itself_is_no_answer(server: tuple[str, Path]) -> None:
    words = ["connect", f"{server[0]}/greeting", "--dev", "--send", "datagram", "--wait", "20"]
    with subprocess.Popen(
        [sys.executable, "-m", "pywebtransport", *words],
        cwd=ROOT,
        env=command_line_environment(server[1]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "datagram    welcome\n"
        assert program.communicate("hello\n") == ("datagram    hello\n", "connected, draft-16\n")
    assert program.returncode == 0


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connect", f"https://127.0.0.1:{free_port()}/"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


class Terminal:
    """A program whose input and output are a terminal."""

    def __init__(self, cache: Path, *arguments: str) -> None:
        self._fd, theirs = pty.openpty()
        environment = command_line_environment(cache, TERM="xterm", COLUMNS="200")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pywebtransport", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def type(self, line: str) -> None:
        os.write(self._fd, line.encode() + b"\n")

    def wait_for(self, pattern: str) -> re.Match[str]:
        while (found := re.search(pattern, self.text)) is None:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # the other side is closed
                data = b""
            assert data, f"it ended without {pattern!r}: {self.text}"
            self.text += data.decode().replace("\r\n", "\n")
        self.text = self.text[found.end() :]
        return found

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def join(self) -> int:
        status = self._process.wait(30)
        os.close(self._fd)
        return status


def test_commands_on_a_terminal(server: tuple[str, Path]) -> None:
    """With rich: the text is there, in colours."""
    terminal = Terminal(server[1], "connect", f"{server[0]}/echo", "--dev")
    terminal.wait_for(r"\x1b\[32mconnected, draft-16 \(/help lists the commands\)")
    terminal.type("/datagram by datagram")
    terminal.wait_for(r"datagram {4}by datagram\b")
    terminal.type("/datagram")
    terminal.type("//slash")
    terminal.wait_for(r"datagram {4}/slash\b")
    terminal.type("/info")
    terminal.wait_for(r"round trip +[\d.]+ ms")
    terminal.type("/nonsense")
    terminal.wait_for("/nonsense is no command")
    terminal.type("/close 5000000000")
    terminal.wait_for("expected a code")
    terminal.type("/close 3 enough")
    assert terminal.join() == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_without_a_traceback(
    server: tuple[str, Path], number: signal.Signals, status: int
) -> None:
    terminal = Terminal(server[1], "connect", f"{server[0]}/echo", "--dev")
    terminal.wait_for("connected")
    terminal.send_signal(number)
    assert terminal.join() == status
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize(
    "redirection",
    ["| true", "<&- >&-", "< /dev/null"],
    ids=["output that nobody reads", "closed files", "no input"],
)
def test_files_that_are_not_there(server: tuple[str, Path], redirection: str) -> None:
    program = f"{sys.executable} -m pywebtransport connect {server[0]}/bye --dev --wait 0.1"
    done = subprocess.run(
        ["bash", "-c", f"{program} {redirection}"],
        cwd=ROOT,
        env=command_line_environment(server[1]),
        input="one\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1)  # 1: the server ended the session first
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("connected")


def test_the_first_step_of_the_tutorial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its two commands, as they are printed, with the port of this server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pages = [
        body for body in blocks(ROOT / "docs/intro/tutorial.md", "console") if "connect" in body
    ]
    command = shlex.split(pages[0].removeprefix("$ pywebtransport "))
    tutorial = ROOT / "examples" / "tutorial"
    with running(tmp_path, "serve", "step1:app", "--port", "0", "--json", cwd=tutorial) as program:
        banner = program.read_banner()
        replaced = {"https://localhost:4433/poll": f"{banner['urls'][0]}poll"}
        (tmp_path / "typed").write_text("hello\n")
        with (tmp_path / "typed").open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert main([replaced.get(word, word) for word in command]) == 0
        assert program.stop() == 0
    assert capsys.readouterr().out == "datagram    you said hello\n"


# ------------------------------------------------------------------------------- bench


def load(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """Output and errors of a load; one that is longer when the machine is too slow for it."""
    for duration in ("0.2", "2", "20"):
        status = main(["bench", *words, "--dev", "--duration", duration])
        captured = capsys.readouterr()
        if status == 0:
            break
    assert status == 0, captured
    return captured.out, captured.err


def test_bench_prints_a_table(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--connections", "2", "--streams", "2", "--datagrams", "2"]
    output, errors = load(capsys, f"{url}/echo", *words)
    header, *rows = output.splitlines()
    assert header.split()[:3] == ["completed", "per", "second"]
    assert [row.split()[0] for row in rows] == ["connections", "streams", "datagrams"]
    assert rows[0].split()[1] == "2"
    assert all(int(row.split()[1].replace(",", "")) > 0 for row in rows)
    assert re.match(r"load, \d+ of \d+ s: \d+ streams, \d+ datagrams, 0 failed or lost\n", errors)


def test_bench_counts_what_it_did(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With streams that are longer than what is in flight; answers are compared."""
    words = ["--datagrams", "0", "--streams", "1", "--size", "1MiB", "--json"]
    output, errors = load(capsys, f"{url}/echo", *words)
    assert errors == ""
    found = json.loads(output)
    assert found["connections"]["completed"] == 1
    assert "datagrams" not in found
    streams = found["streams"]
    assert streams["completed"] >= 1
    assert (streams["failed"], streams["wrong"]) == (0, 0)
    assert 0 < streams["p50_ms"] <= streams["p99_ms"] <= streams["max_ms"]
    assert streams["mib_per_second"] > 0


def test_bench_of_a_server_that_does_not_echo(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", f"{url}/idle", "--dev", "--duration", "0.1", "--datagrams", "1"]
    assert main(words) == 1
    assert "no streams came back: does the server echo at this path?" in capsys.readouterr().err


def test_bench_without_a_server(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", f"https://127.0.0.1:{free_port()}/", "--connections", "3"]) == 4
    assert main(["bench", f"{url}/echo"]) == 7
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--dev" in captured.err


@pytest.mark.parametrize(
    "options",
    [
        ["--connections", "0"],
        ["--streams", "0", "--datagrams", "0"],
        ["--datagram-size", "7"],
        ["--datagram-size", "60000"],
        ["--size", "0"],
        ["--size", "1TB"],
        ["--duration", "0"],
    ],
    ids=" ".join,
)
def test_wrong_loads_are_refused(
    url: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", f"{url}/echo", "--dev", *options])
    assert caught.value.code == 2
    assert options[0] in capsys.readouterr().err
