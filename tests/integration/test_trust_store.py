"""The authorities that a client trusts when no file is named: found on every distribution.

With real files at the real paths, in a mount namespace that has its own ``/etc``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pywebtransport.exceptions import CertificateError
from pywebtransport.utils._trust_store import BUNDLES, fallback_store, named_store
from tests.support.certificates import Certificates
from tests.support.network import why_no_mounts
from tests.support.scripts import ROOT

# What a handshake on the loopback interface needs of the system's files.
_NEEDED = ("passwd", "group", "hosts", "nsswitch.conf", "host.conf", "resolv.conf", "ld.so.cache")


@pytest.fixture(scope="module")
def found(certs: Certificates, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What trust_process found in each situation."""
    if reason := why_no_mounts():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("etc")
    for name in _NEEDED:
        if Path("/etc", name).is_file():
            shutil.copy(Path("/etc", name), folder / name)
    # A certifi of the tests' own virtualenv would be found before the end of the search.
    empty = tmp_path_factory.mktemp("empty")
    (empty / "certifi.py").write_text("raise ImportError")
    program = ["-m", "tests.support.trust_process"]
    files = [certs.server.certfile, certs.server.keyfile]
    script = 'mount --bind "$0" /etc; exec "$@"'
    entered = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, str(folder)]
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")
    }
    done = subprocess.run(
        [*entered, sys.executable, *program, *files, certs.authority.certfile, *BUNDLES],
        cwd=ROOT,
        env={**variables, "PYTHONPATH": f"{empty}:{ROOT}", "HOME": str(empty)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(answers, dict)
    return answers


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_bundle_of_each_distribution_is_trusted(bundle: str, found: dict[str, str]) -> None:
    assert found[bundle] == ""


@pytest.mark.parametrize("way", ["file", "directory", "certifi"])
def test_the_variables_of_openssl_and_certifi_are_trusted(way: str, found: dict[str, str]) -> None:
    assert found[way] == ""


def test_without_any_authority_the_error_says_where_it_looked(found: dict[str, str]) -> None:
    text = found["nothing"]
    assert text.startswith("CertificateError: there is no certificate authority to trust")
    assert all(bundle in text for bundle in BUNDLES)
    assert "ca_certs=path or SSL_CERT_FILE" in text


@pytest.mark.parametrize(
    ("way", "start"),
    [
        ("missing file", "SSL_CERT_FILE is /etc/missing.pem, and no certificate"),
        ("missing directory", "SSL_CERT_DIR is /etc/missing, and no certificate"),
    ],
)
def test_a_variable_that_leads_nowhere_is_named(
    way: str, start: str, found: dict[str, str]
) -> None:
    assert found[way].startswith(f"CertificateError: {start}")


# ------------------------------------------------------------------------ the search itself


def test_an_authority_that_is_there_twice_is_read_once(certs: Certificates, tmp_path: Path) -> None:
    pem = Path(certs.authority.certfile).read_bytes()
    (tmp_path / "a.pem").write_bytes(b"# a comment\n" + pem)
    (tmp_path / "0123abcd.0").symlink_to("a.pem")
    (tmp_path / "README").write_text("no certificate")
    store = named_store({"SSL_CERT_DIR": str(tmp_path), "SSL_CERT_FILE": str(tmp_path / "a.pem")})
    assert store is not None
    assert store.pem.count(b"-----BEGIN") == 1
    assert store.name == "SSL_CERT_FILE and SSL_CERT_DIR"


def test_variables_that_are_empty_count_as_not_set() -> None:
    assert named_store({"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}) is None


def test_a_bundle_without_a_certificate_is_passed_over(certs: Certificates, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    other = certs.other.certfile
    assert fallback_store([str(tmp_path), str(empty), other]).name == other


def test_without_a_bundle_and_certifi_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "certifi", None)
    with pytest.raises(CertificateError, match="no certificate authority to trust") as caught:
        fallback_store([str(tmp_path / "none.pem")])
    assert caught.value.certificate_error == "no_trusted_roots"
    assert str(tmp_path / "none.pem") in str(caught.value)
