"""``pywebtransport connect`` and ``probe`` with ``--fallback``."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywebtransport._cli import main
from tests.support.command_line import APP, running
from tests.support.ports import free_port, free_port_of_both
from tests.support.tcp_relay import relay_process

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Port of a running ``serve --websocket``, and the cache directory of its certificate."""
    cache = tmp_path_factory.mktemp("cache")
    port = free_port_of_both()
    arguments = ("serve", APP, "--port", str(port), "--websocket", "--json", "--log-level", "error")
    with running(cache, *arguments) as program:
        program.read_banner()
        yield port, cache
        assert (program.stop(), program.errors) == (0, "")


@pytest.fixture
def run(
    server: tuple[int, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a verb with a file as input; status, output, errors."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(server[1]))

    def run(*arguments: str, typed: bytes = b"") -> tuple[int, str, str]:
        file = tmp_path / "typed"
        file.write_bytes(typed)
        with file.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            status = main(list(arguments))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def no_udp(server: tuple[int, Path]) -> Iterator[int]:
    """A port that leads to the TCP port of the server; nobody listens there for UDP."""
    with relay_process(server[0]) as port:
        yield port


def test_connect_says_what_carries_the_session(run: Run, no_udp: int) -> None:
    url = f"https://127.0.0.1:{no_udp}/echo"
    status, output, errors = run("connect", url, "--dev", "--fallback", typed=b"hello\n")
    assert (status, errors) == (0, "connected, WebSocket over TCP\n")
    assert re.fullmatch(r"stream \d +hello\n", output)
    status, output, _ = run("connect", url, "--dev", "--fallback", "--json")
    assert status == 0
    opened = json.loads(output.splitlines()[0])
    assert opened == {"event": "open", "path": "/echo", "draft": None, "transport": "websocket"}


def test_connect_uses_quic_where_it_works(run: Run, server: tuple[int, Path]) -> None:
    url = f"https://localhost:{server[0]}/echo"
    status, _, errors = run("connect", url, "--dev", "--fallback")
    assert (status, errors) == (0, "connected, draft-16\n")


def test_connect_without_the_option_needs_udp(run: Run, no_udp: int) -> None:
    status, _, errors = run("connect", f"https://127.0.0.1:{no_udp}/echo", "--dev")
    assert status == 4
    assert "by TCP" not in errors


def test_probe_reports_both(run: Run, server: tuple[int, Path]) -> None:
    url = f"https://localhost:{server[0]}/echo"
    status, output, errors = run("probe", url, "--dev", "--fallback", "--count", "0")
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert [line.split()[:2] for line in lines[-2:]] == [["ok", "TCP"], ["ok", "WebSocket"]]
    assert re.search(r"port \d+, TLS after [\d.]+ ms$", lines[-2])
    assert re.search(r"/echo accepted in [\d.]+ ms$", lines[-1])
    assert any(line.startswith("ok      QUIC") for line in lines)
    status, output, _ = run("probe", url, "--dev", "--fallback", "--count", "0", "--json")
    found = json.loads(output)
    assert status == found["status"] == 0
    assert found["tcp"]["address"][1] == server[0]
    assert found["tcp"]["proxy"] is None
    assert found["tcp"]["handshake_ms"] > 0
    assert found["tcp"]["session"]["path"] == "/echo"
    assert found["session"]["draft"] == 16


def test_probe_without_udp(run: Run, no_udp: int) -> None:
    url = f"https://127.0.0.1:{no_udp}/echo"
    status, output, _ = run("probe", url, "--dev", "--fallback", "--json")
    found = json.loads(output)
    assert status == 0
    assert found["failed"] == "QUIC"
    assert found["tcp"]["session"]["opened_ms"] > 0


def test_probe_when_the_server_refuses(run: Run, no_udp: int) -> None:
    url = f"https://127.0.0.1:{no_udp}/forbidden"
    status, output, _ = run("probe", url, "--dev", "--fallback")
    assert status == 4  # that of QUIC
    assert re.search(r"^FAILED +WebSocket +.*403", output, re.MULTILINE)


def test_probe_when_both_are_dead(run: Run) -> None:
    port = free_port_of_both()
    url = f"https://127.0.0.1:{port}/"
    status, output, _ = run("probe", url, "--fallback")
    assert status == 4
    assert re.search(r"^FAILED +QUIC ", output, re.MULTILINE)
    assert re.search(r"^FAILED +TCP ", output, re.MULTILINE)
    status, output, _ = run("probe", "https://nonexistent.invalid/", "--fallback", "--json")
    assert status == 3
    assert json.loads(output)["tcp"]["failed"] == "TCP"


def test_probe_when_tcp_is_silent(run: Run) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as silent:
        silent.bind(("127.0.0.1", free_port_of_both()))
        silent.listen(1)
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        status, output, _ = run("probe", url, "--fallback", "--timeout", "0.3", "--json")
    assert status == 4
    assert json.loads(output)["tcp"]["error"]["type"] == "TimeoutError"


def test_wrong_proxy_is_refused(run: Run) -> None:
    status, _, errors = run("connect", "https://localhost/", "--fallback-proxy", "me:secret@p:1")
    assert status == 2
    assert "http://[user:password@]host[:port]" in errors
    assert "secret" not in errors


def test_probe_through_a_proxy_that_is_not_there(run: Run, server: tuple[int, Path]) -> None:
    proxy = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    url = f"https://localhost:{server[0]}/echo"
    status, output, _ = run(
        "probe", url, "--dev", "--fallback-proxy", proxy, "--count", "0", "--json"
    )
    found: dict[str, Any] = json.loads(output)
    assert status == 0  # by QUIC
    assert "proxy" in found["tcp"]["error"]["message"]
