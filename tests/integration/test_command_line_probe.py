"""``pywebtransport probe`` against our server, aioquic's, and what is no server."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywebtransport._cli import main
from tests.support.aioquic_server import aioquic_http3_server
from tests.support.certificates import Certificates
from tests.support.command_line import APP, running
from tests.support.ports import free_port

Probe = Callable[..., tuple[int, dict[str, Any]]]


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
def probe(capsys: pytest.CaptureFixture[str]) -> Probe:
    """Probe with ``--json``; the status, and what is printed."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        status = main(["probe", *arguments, "--json"])
        captured = capsys.readouterr()
        assert captured.err == ""
        found = json.loads(captured.out)
        assert found["status"] == status
        return status, found

    return run


def test_our_server_is_reported_step_by_step(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", f"{url}/echo", "--dev"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    steps = [line.split()[:2] for line in captured.out.splitlines()]
    assert steps == [
        ["ok", "name"],
        ["ok", "QUIC"],
        ["ok", "certificate"],
        ["ok", "HTTP/3"],
        ["ok", "drafts"],
        ["ok", "session"],
        ["ok", "datagrams"],
        ["ok", "round"],
    ]
    assert "WT_ENABLED=1" in captured.out
    assert "ECDSA P-256, valid until" in captured.out
    assert re.search(r"min [\d.]+ ms, avg [\d.]+ ms, max [\d.]+ ms \([1-5] packets\)", captured.out)


def test_json_has_what_was_found(url: str, probe: Probe) -> None:
    status, found = probe(f"{url}/echo", "--dev", "--count", "2", "--protocol", "chat")
    assert status == 0
    assert found["addresses"] == ["::1", "127.0.0.1"]
    assert found["quic"]["version"] == 1
    assert found["drafts"] == [2, 7, 14, 16]
    assert found["settings"]["ENABLE_CONNECT_PROTOCOL"] == 1
    assert (found["session"]["path"], found["session"]["draft"]) == ("/echo", 16)
    assert found["certificate"]["names"] == ["localhost", "127.0.0.1", "::1"]
    assert found["max_datagram_size"] >= 1000
    assert 1 <= found["round_trips"]["count"] <= 2
    assert 0 < found["round_trips"]["min_ms"] <= found["round_trips"]["avg_ms"]


@pytest.mark.parametrize(
    ("path", "status", "step", "advice"),
    [
        ("/nowhere", 9, "session", "no application takes sessions at this path"),
        ("/forbidden", 10, "session", "it refuses this client"),
        ("/busy", 11, "session", "asks to try again after 3 seconds. Its log says why"),
    ],
)
def test_a_refusal_has_a_status_of_its_own(
    url: str, probe: Probe, path: str, status: int, step: str, advice: str
) -> None:
    found = probe(f"{url}{path}", "--dev")
    assert found[0] == status
    assert found[1]["failed"] == step
    assert advice in found[1]["advice"]
    assert found[1]["error"]["type"] == "SessionRejectedError"


def test_a_request_that_is_not_answered(url: str, probe: Probe) -> None:
    for seconds in ("0.3", "3", "30"):  # until the machine is fast enough for the handshake
        status, found = probe(f"{url}/stuck", "--dev", "--timeout", seconds)
        if status == 12:
            break
    assert (status, found["failed"]) == (12, "session")
    assert "--timeout waits longer" in found["advice"]


def test_a_closed_port(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    status, found = probe(f"https://127.0.0.1:{port}/")
    assert (status, found["failed"]) == (4, "QUIC")
    assert f"no server listens on UDP port {port}" in found["advice"]
    assert main(["probe", f"https://127.0.0.1:{port}/"]) == 4
    captured = capsys.readouterr()
    assert re.search(r"^FAILED +QUIC +.*Connection refused", captured.out, re.MULTILINE)
    assert captured.err.startswith("What to do: ")
    assert "Traceback" not in captured.err


def test_a_port_that_does_not_answer(probe: Probe) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        status, found = probe(f"https://127.0.0.1:{port}/", "--timeout", "0.3")
    assert (status, found["failed"]) == (5, "QUIC")
    assert "a firewall drops UDP" in found["advice"]


def test_addresses_that_fail_in_other_ways_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert main(["probe", f"https://localhost:{port}/", "--timeout", "0.3"]) == 4
    output = capsys.readouterr().out
    assert re.search(r"^FAILED +QUIC +localhost:\d+ \(at ::1\) cannot be reached", output, re.M)
    assert re.search(rf"^note +127\.0\.0\.1 port {port}: .* in time: nothing", output, re.M)


def test_a_name_without_address(probe: Probe) -> None:
    status, found = probe("https://nonexistent.invalid/")
    assert (status, found["failed"]) == (3, "name")


def test_a_certificate_that_is_not_trusted_is_shown(url: str, probe: Probe) -> None:
    """By its authority, and by a wrong hash."""
    for options in ([], ["--certificate-hash", "00" * 32]):
        status, found = probe(f"{url}/echo", *options)
        assert (status, found["failed"]) == (7, "certificate")
        assert found["certificate"]["names"] == ["localhost", "127.0.0.1", "::1"]
        assert "--dev" in found["advice"]
        # What it says is enough to connect.
        again = probe(f"{url}/echo", "--certificate-hash", found["certificate"]["sha256"])
        assert again[0] == 0


def test_an_authority_of_ones_own(certs: Certificates, probe: Probe) -> None:
    with aioquic_http3_server(**certs.server.files) as port:
        status, found = probe(
            f"https://127.0.0.1:{port}/wt", "--ca", certs.authority.certfile, "--count", "1"
        )
        assert status == 0
        assert found["drafts"] == [2]
        assert found["session"]["draft"] == 2
        assert found["certificate"]["issuer"] == "CN=authority"
        assert found["round_trips"]["count"] == 1
        status, _ = probe(f"https://127.0.0.1:{port}/x", "--ca", certs.authority.certfile)
        assert status == 9


def test_a_server_without_webtransport(certs: Certificates, probe: Probe) -> None:
    with aioquic_http3_server(**certs.server.files, webtransport=False) as port:
        status, found = probe(f"https://127.0.0.1:{port}/", "--ca", certs.authority.certfile)
    assert (status, found["failed"]) == (8, "WebTransport")
    assert found["drafts"] == []
    assert "QPACK_MAX_TABLE_CAPACITY" in found["settings"]


def test_a_quic_server_for_something_else(certs: Certificates, probe: Probe) -> None:
    with aioquic_http3_server(**certs.server.files, alpn="hq-interop") as port:
        status, found = probe(f"https://127.0.0.1:{port}/", "--ca", certs.authority.certfile)
    assert (status, found["failed"]) == (6, "QUIC")


@pytest.mark.parametrize(
    "words",
    [
        ["nowhere"],
        ["https://localhost/", "--header", "x"],
        ["https://localhost/", "--timeout", "0"],
        ["https://localhost/", "--count", "-1"],
        ["https://localhost/", "-4", "-6"],
        ["https://localhost/", "--cert", "x"],
    ],
    ids=" ".join,
)
def test_wrong_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["probe", *words])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_values_that_cannot_be_used_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "https://localhost/", "--certificate-hash", "zz"]) == 2
    assert main(["probe", "https://localhost/", "--ca", "/nonexistent"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("pywebtransport probe: error: ") for line in lines] == [True, True]


def test_dev_without_a_certificate_says_who_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["probe", "https://localhost/", "--dev"]) == 7
    assert "'pywebtransport serve' makes one" in capsys.readouterr().err
