"""The verbs that connect, against a server that wants a certificate of its clients."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pywebtransport._cli import main
from tests.support.certificates import Certificates, Pair
from tests.support.command_line import running

PRIVATE = "tests.support.command_line_app:private"
ADVICE = "Use --client-cert and --client-key"
# A verb that does something with the session, and what it prints then.
VERBS = {
    "probe": (["--count", "0"], '"path": "/echo"'),
    "connect": (["--send", "lines"], '"text": "hello'),
    "bench": (["--duration", "0.1"], '"first_error": null'),
}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def url(certs: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a running ``serve`` that accepts the clients of our authority."""
    words = ["serve", PRIVATE, "--factory", "--port", "0", "--json", "--log-level", "error"]
    words += ["--certfile", certs.server.certfile, "--keyfile", certs.server.keyfile]
    cache = tmp_path_factory.mktemp("cache")
    with running(cache, *words, CLIENT_CA=certs.authority.certfile) as program:
        yield program.read_banner()["urls"][0] + "echo"
        assert (program.stop(), program.errors) == (0, "")


@pytest.fixture
def run(
    url: str,
    certs: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a verb with an identity; status, output, errors."""

    def run_verb(verb: str, pair: Pair | None, *options: str) -> tuple[int, str, str]:
        words = [verb, url, "--ca", certs.authority.certfile, *options]
        if pair is not None:
            words += ["--client-cert", pair.certfile, "--client-key", pair.keyfile]
        typed = tmp_path / "typed"
        typed.write_text("hello\n")
        with typed.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            status = main(words)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_verb


@pytest.mark.parametrize("verb", VERBS)
def test_a_server_that_wants_a_certificate_gets_it(
    run: Run, certs: Certificates, verb: str
) -> None:
    options, expected = VERBS[verb]
    status, output, errors = run(verb, certs.client, *options, "--json")
    assert (status, errors) == (0, "")
    assert expected in output


@pytest.mark.parametrize("shown", ["nothing", "stranger"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_client_without_a_good_one_is_told_what_to_do(
    run: Run, certs: Certificates, verb: str, shown: str
) -> None:
    status, output, errors = run(verb, certs.stranger if shown == "stranger" else None)
    assert status == 6
    assert ADVICE in errors
    words = "a client certificate is required" if shown == "nothing" else "(bad certificate)"
    assert words in (output if verb == "probe" else errors)
    assert "certfile" not in output + errors  # that is how programs name it


def test_the_probe_tells_it_as_json(run: Run, certs: Certificates) -> None:
    status, output, errors = run("probe", None, "--json")
    found = json.loads(output)
    assert (status, found["status"], errors) == (6, 6, "")
    assert ADVICE in found["advice"]


@pytest.mark.parametrize("option", ["--client-cert", "--client-key"])
@pytest.mark.parametrize("verb", VERBS)
def test_certificate_and_key_belong_together(
    run: Run, certs: Certificates, verb: str, option: str
) -> None:
    status, _, errors = run(verb, None, option, certs.client.certfile)
    assert status == 2
    assert "error: --client-cert and --client-key belong together" in errors


def test_files_that_cannot_be_used_are_named(run: Run, certs: Certificates, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    status, _, errors = run("connect", Pair(missing, certs.client.keyfile))
    assert status in (2, 7)
    assert missing in errors
    status, _, errors = run("connect", Pair(certs.client.certfile, certs.server.keyfile))
    assert status == 7
    assert certs.client.certfile in errors
