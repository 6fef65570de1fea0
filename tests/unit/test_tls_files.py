"""Files that TLS cannot use: which one it is, what is wrong, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from pywebtransport import ClientConfig, ServerConfig
from pywebtransport._core.settings import client_tls, server_tls
from pywebtransport.exceptions import CertificateError
from pywebtransport.utils import load_certificate
from pywebtransport.utils._tls_files import certificate_validity
from tests.support.certificates import Certificates


def contents(certs: Certificates) -> dict[str, bytes]:
    """Files by name, good ones and others."""
    leaf = Path(certs.server.certfile).read_bytes()
    key = Path(certs.server.keyfile).read_bytes()
    private = serialization.load_pem_private_key(key, None)
    password = serialization.BestAvailableEncryption(b"secret")
    pem = Encoding.PEM
    pkcs8, openssl = (
        serialization.PrivateFormat.PKCS8,
        serialization.PrivateFormat.TraditionalOpenSSL,
    )
    authority = Path(certs.authority.certfile).read_bytes()
    return {
        "leaf": leaf,
        "key": key,
        "both": leaf + key,
        "leaf first": leaf + authority,
        "authority first": authority + leaf,
        "another first": Path(certs.alpha.certfile).read_bytes() + leaf,
        "other key": Path(certs.alpha.keyfile).read_bytes(),
        "encrypted": private.private_bytes(pem, pkcs8, password),
        "encrypted as of old": private.private_bytes(pem, openssl, password),
        "binary key": private.private_bytes(Encoding.DER, pkcs8, serialization.NoEncryption()),
        "binary": x509.load_pem_x509_certificate(leaf).public_bytes(Encoding.DER),
        "damaged": leaf.replace(leaf[100:140], b"A" * 40),
        "cut": leaf[:200],
        "damaged key": key.replace(key[60:90], b"A" * 30),
        "empty": b"",
        "text": b"this is nothing\n",
    }


BAD = [
    ("authority first", "key", "cert", "the first is that of an authority .* leaf first"),
    ("another first", "key", "cert", "belongs to certificate 2 .* leaf first"),
    ("leaf", "other key", "key", "belongs to no certificate"),
    ("leaf", "encrypted", "key", "is encrypted; store it without a password"),
    ("leaf", "encrypted as of old", "key", "is encrypted; store it without a password"),
    ("leaf", "binary key", "key", "binary form .*openssl pkey"),
    ("binary", "key", "cert", "binary form .*openssl x509"),
    ("key", "leaf", "cert", "no certificate; are certfile and keyfile swapped"),
    ("leaf", "leaf", "key", "no private key; are certfile and keyfile swapped"),
    ("empty", "key", "cert", "no certificate in PEM form"),
    ("text", "key", "cert", "no certificate in PEM form"),
    ("leaf", "text", "key", "no private key in PEM form"),
    ("cut", "key", "cert", "damaged|cut short|no certificate"),
    ("damaged", "key", "cert", "damaged|not a valid"),
    ("leaf", "damaged key", "key", "damaged|not a valid"),
]


@pytest.mark.parametrize(("cert", "key", "which", "words"), BAD)
@pytest.mark.parametrize("user", ["server", "client", "sni", "load_certificate"])
def test_a_bad_pair_is_explained(
    certs: Certificates, tmp_path: Path, user: str, cert: str, key: str, which: str, words: str
) -> None:
    files = contents(certs)
    certfile, keyfile = tmp_path / "chain.pem", tmp_path / "key.pem"
    certfile.write_bytes(files[cert])
    keyfile.write_bytes(files[key])
    pair = {"certfile": str(certfile), "keyfile": str(keyfile)}
    sni = {"a.test": (str(certfile), str(keyfile))}
    load = {
        "server": lambda: server_tls(ServerConfig(**pair)),
        "client": lambda: client_tls(ClientConfig(**pair)),
        "sni": lambda: server_tls(ServerConfig(**certs.server.files, sni_certificates=sni)),
        "load_certificate": lambda: load_certificate(**pair),
    }[user]
    with pytest.raises(CertificateError, match=words) as caught:
        load()
    wrong = certfile if which == "cert" else keyfile
    assert wrong.name in str(caught.value)
    assert caught.value.certificate_error


@pytest.mark.parametrize(
    ("cert", "key"), [("leaf", "key"), ("leaf first", "key"), ("both", "both")]
)
def test_a_good_pair_is_used(certs: Certificates, tmp_path: Path, cert: str, key: str) -> None:
    files = contents(certs)
    certfile, keyfile = tmp_path / "chain.pem", tmp_path / "key.pem"
    certfile.write_bytes(files[cert])
    keyfile.write_bytes(files[key])
    server_tls(ServerConfig(certfile=str(certfile), keyfile=str(keyfile)))


def test_a_directory_and_a_missing_file(certs: Certificates, tmp_path: Path) -> None:
    for path, words in ((tmp_path, "directory"), (tmp_path / "none", "was not found")):
        with pytest.raises(CertificateError, match=words):
            server_tls(ServerConfig(certfile=str(path), keyfile=certs.server.keyfile))


def test_validity_of_a_certificate(certs: Certificates, tmp_path: Path) -> None:
    start, end = certificate_validity(certs.server.certfile)
    assert start < datetime.now(UTC) < end
    assert end - start == timedelta(days=10)
    with pytest.raises(CertificateError, match="cannot be read"):
        certificate_validity(tmp_path / "none")
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(CertificateError, match="cannot be read"):
        certificate_validity(empty)
