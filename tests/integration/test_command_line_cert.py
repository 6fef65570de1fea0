"""``pywebtransport cert``: makes certificates, and says what is wrong with others."""

from __future__ import annotations

import contextlib
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pywebtransport import WebTransportError
from pywebtransport._cli import certificates, main
from pywebtransport.exceptions import CertificateError
from pywebtransport.utils import certificate_hash, generate_self_signed_cert
from pywebtransport.utils._tls_files import certificate_validity, why_unusable
from tests.support.certificates import Certificates, Pair


def test_make_prints_hash_and_javascript(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cert", "make", "example.test", "--directory", str(tmp_path)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["certificate"] == str(tmp_path / "example.test.crt")
    assert lines["key"] == str(tmp_path / "example.test.key")
    assert lines["names"] == "example.test, localhost, 127.0.0.1, ::1"
    assert lines["SHA-256"] == certificate_hash(lines["certificate"]).hex()
    assert lines["JavaScript"].startswith('new WebTransport("https://example.test:4433/"')
    pair = [lines["certificate"], lines["key"]]
    assert main(["cert", "check", *pair, "--host", "example.test"]) == 0
    checked = capsys.readouterr()
    assert checked.err == ""
    assert all(line.startswith("ok ") for line in checked.out.splitlines())


def test_make_tells_what_browsers_do_not_accept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["cert", "make", "--directory", str(tmp_path), "--days", "90"]
    assert main(words) == 0
    assert "valid for 90 days in total; browsers accept 14" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["against_hashes"]) == 1


@pytest.mark.parametrize(
    ("name", "problem", "against"),
    [
        ("server", "", ""),
        ("expired", "validity: expired on", "it is not valid now"),
        ("long_lived", "", "valid for 30 days in total"),
        ("rsa", "", "its key is RSA 2048"),
        ("beta", "names: it is not for localhost", ""),
    ],
)
def test_check_says_what_is_wrong(
    certs: Certificates, name: str, problem: str, against: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pair: Pair = getattr(certs, name)
    words = ["cert", "check", pair.certfile, pair.keyfile, "--host", "localhost"]
    assert main([*words, "--json"]) == (7 if problem else 0)
    found = json.loads(capsys.readouterr().out)
    assert problem in " ".join(found["problems"])
    assert against in " ".join(found["against_hashes"])
    assert bool(found["problems"]) == bool(problem)
    assert bool(found["against_hashes"]) == bool(against)
    assert main(words) == (7 if problem else 0)
    assert problem in capsys.readouterr().err


def test_check_of_files_that_do_not_belong_together(
    certs: Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cert", "check", certs.server.certfile, certs.client.keyfile]) == 7
    captured = capsys.readouterr()
    assert "the key belongs to no certificate" in captured.err
    assert "FAILED  key" in captured.out
    assert main(["cert", "check", str(tmp_path / "none.pem")]) == 7
    assert "was not found" in capsys.readouterr().err
    (tmp_path / "text.pem").write_text("hello")
    assert main(["cert", "check", str(tmp_path / "text.pem")]) == 7
    assert "there is no certificate in" in capsys.readouterr().err
    assert main(["cert", "make", "no host", "--directory", str(tmp_path)]) == 2
    assert "expected a name or address" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("one.beta.test", True),
        ("ONE.beta.test.", True),
        ("beta.test", False),
        ("a.b.beta.test", False),
        ("127.0.0.1", False),
    ],
)
def test_a_wildcard_stands_for_one_label(certs: Certificates, host: str, expected: bool) -> None:
    assert certificates.read_certificate(certs.beta.der).is_for(host) is expected


def test_addresses_are_compared_as_addresses(certs: Certificates) -> None:
    facts = certificates.read_certificate(certs.server.der)
    assert facts.is_for("0:0:0:0:0:0:0:1")
    assert not facts.is_for("::2")


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"),  # its version
        (b"\x06\x03\x55\x1d\x13", b"\x06\x03\x55\x1d\x11"),  # two subjectAltNames
        (b"\x06\x03\x55\x04\x03\x0c", b"\x06\x03\x55\x04\x03\x03"),  # name of another kind
    ],
)
def test_a_malformed_certificate_is_an_error_of_ours(
    tmp_path: Path, part: bytes, other: bytes
) -> None:
    """Whatever the parser raises: ``probe`` reads certificates of unknown servers."""
    made, keyfile = generate_self_signed_cert("localhost", str(tmp_path))
    der = ssl.PEM_cert_to_DER_cert(Path(made).read_text())
    assert part in der
    der = der.replace(part, other)
    with pytest.raises(CertificateError, match="cannot be read"):
        certificates.read_certificate(der)
    broken = tmp_path / "broken.crt"
    broken.write_text(ssl.DER_cert_to_PEM_cert(der))
    with contextlib.suppress(CertificateError):  # some can be used
        certificate_validity(broken)
    why_unusable(broken, Path(keyfile))


def test_a_kept_certificate_is_replaced_when_it_is_of_no_use(
    certs: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WebTransportError, match="there is no development certificate"):
        certificates.kept_hashes()
    certfile, keyfile = map(Path, certificates.development_certificate("localhost"))
    first = certfile.read_bytes()
    keyfile.chmod(0o644)
    certificates.development_certificate("localhost")
    assert certfile.read_bytes() == first
    assert keyfile.stat().st_mode & 0o777 == 0o600
    assert certificates.kept_hashes() == [certificate_hash(first)]
    # Another key, no key, an end that is near, a kind that browsers refuse.
    keyfile.write_bytes(Path(certs.client.keyfile).read_bytes())
    assert _replaced(certfile)
    keyfile.unlink()
    assert _replaced(certfile)
    generate_self_signed_cert("localhost", str(certfile.parent), days_valid=1)
    assert _replaced(certfile)
    facts = certificates.read_certificate(certfile.read_bytes())
    assert facts.not_after - datetime.now(UTC) > timedelta(days=12)
    certfile.write_bytes(Path(certs.rsa.certfile).read_bytes())
    keyfile.write_bytes(Path(certs.rsa.keyfile).read_bytes())
    assert _replaced(certfile)


def _replaced(certfile: Path) -> bool:
    before = certfile.read_bytes()
    certificates.development_certificate("localhost")
    return certfile.read_bytes() != before


def test_a_place_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pywebtransport").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WebTransportError, match="pass --certfile and --keyfile, or set XDG_"):
        certificates.development_certificate("localhost")
    (tmp_path / "pywebtransport").unlink()
    directory = tmp_path / "pywebtransport" / "certificates"
    directory.mkdir(parents=True)
    (directory / "lock").symlink_to("/nowhere/lock")
    with pytest.raises(WebTransportError, match="no development certificate can be kept"):
        certificates.development_certificate("localhost")
