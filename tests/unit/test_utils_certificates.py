"""Certificates for development, and their hashes."""

import contextlib
import hashlib
import os
import ssl
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport import utils
from pywebtransport.config import ClientConfig
from pywebtransport.exceptions import CertificateError, ConfigurationError


def load(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def names_of(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found: list[Any] = [
        *names.get_values_for_type(x509.DNSName),
        *names.get_values_for_type(x509.IPAddress),
    ]
    return {str(item) for item in found}


def test_certificate_obeys_the_rules_for_hashes(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    cert, key = utils.generate_self_signed_cert(hostname="Example.org", output_dir=str(tmp_path))
    assert (cert, key) == (str(tmp_path / "Example.org.crt"), str(tmp_path / "Example.org.key"))
    certificate = load(cert)
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(public.curve, ec.SECP256R1)
    assert certificate.version is x509.Version.v3
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert end - start == timedelta(days=13)
    assert before - timedelta(hours=2) < start < before
    assert names_of(certificate) == {"example.org", "localhost", "127.0.0.1", "::1"}
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert basic.ca is False


def test_key_belongs_to_the_certificate_and_is_private(tmp_path: Path) -> None:
    os.umask(mask := os.umask(0))
    cert, key = utils.generate_self_signed_cert("localhost", str(tmp_path), 4096)
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    assert os.umask(mask) == mask
    context = utils.load_certificate(certfile=cert, keyfile=key)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1", "::1", "*.example.org", "10.0.0.7"])
def test_host_is_among_the_names(hostname: str, tmp_path: Path) -> None:
    cert, _ = utils.generate_self_signed_cert(hostname, str(tmp_path))
    assert names_of(load(cert)) == {hostname, "localhost", "127.0.0.1", "::1"}


def test_files_are_replaced_and_the_directory_made(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er"
    first = utils.generate_self_signed_cert("localhost", str(target))
    os.chmod(first[1], 0o644)
    old = Path(first[0]).read_bytes()
    assert utils.generate_self_signed_cert("localhost", str(target)) == first
    assert Path(first[0]).read_bytes() != old
    assert stat.S_IMODE(os.stat(first[1]).st_mode) == 0o600
    assert sorted(item.name for item in target.iterdir()) == ["localhost.crt", "localhost.key"]


def test_files_go_to_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cert, _ = utils.generate_self_signed_cert("localhost")
    assert (tmp_path / "localhost.crt").samefile(cert)


def test_longer_validity_is_made_as_asked(tmp_path: Path) -> None:
    cert, _ = utils.generate_self_signed_cert("localhost", str(tmp_path), days_valid=365)
    certificate = load(cert)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=365)


@pytest.mark.parametrize("hostname", ["", "../x", "a/b", ".", "a b", "a\0b", "x" * 300, None, 3])
def test_bad_hostname(hostname: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="hostname"):
        utils.generate_self_signed_cert(hostname, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("days", [0, -1, 36501, 1.5, True, "13"])
def test_bad_days(days: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="days_valid"):
        utils.generate_self_signed_cert("localhost", str(tmp_path), days_valid=days)


def test_unwritable_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CertificateError, match="could not be written") as caught:
        utils.generate_self_signed_cert("localhost", str(tmp_path / "file"))
    assert caught.value.certificate_path == str(tmp_path / "file" / "localhost.crt")


def test_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "localhost.key").mkdir()
    with pytest.raises(CertificateError, match="could not be written"):
        utils.generate_self_signed_cert("localhost", str(tmp_path))
    assert [item.name for item in tmp_path.iterdir()] == ["localhost.key"]


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(CertificateError, match="pip install cryptography"):
        utils.generate_self_signed_cert("localhost", str(tmp_path))


# ---------------------------------------------------------------------- hashes


def test_hash_is_that_of_the_leaf_in_every_form(tmp_path: Path) -> None:
    cert, _ = utils.generate_self_signed_cert("localhost", str(tmp_path))
    other, _ = utils.generate_self_signed_cert("other", str(tmp_path))
    pem = Path(cert).read_text()
    der = ssl.PEM_cert_to_DER_cert(pem)
    expected = hashlib.sha256(der).digest()
    chain = tmp_path / "chain.pem"
    chain.write_text("some words\n" + pem + Path(other).read_text())
    der_file = tmp_path / "cert.der"
    der_file.write_bytes(der)
    old_label = pem.replace(" CERTIFICATE", " X509 CERTIFICATE")
    forms: list[Any] = [cert, Path(cert), pem, pem.encode(), der, chain, str(der_file), old_label]
    for form in forms:
        assert utils.certificate_hash(form) == expected
    assert utils.certificate_hash(other) != expected
    config = ClientConfig.create(server_certificate_hashes=[expected.hex(":")])
    assert config.server_certificate_hashes == [expected]


def certificate_of_size(padding: bytes) -> x509.Certificate:
    """A small certificate with an unknown extension."""
    key = ed25519.Ed25519PrivateKey.generate()
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if padding:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), padding)
        builder = builder.add_extension(unknown, critical=False)
    return builder.sign(key, None)


# The lengths of DER take one byte, and two to four, the second of these from 256 bytes on.
@pytest.mark.parametrize("padding", [0, 20, 60, 80, 100, 110, 120, 600, 65_300, 65_536, 1 << 20])
def test_hash_of_der_of_any_length(padding: int, tmp_path: Path) -> None:
    certificate = certificate_of_size(bytes(padding))
    der = certificate.public_bytes(serialization.Encoding.DER)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    expected = certificate.fingerprint(hashes.SHA256())
    path = tmp_path / "c"
    for data in (der, pem, pem.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + pem):
        path.write_bytes(data)
        forms: list[Any] = [path, str(path), data, bytearray(data), memoryview(data)]
        for form in forms:
            assert utils.certificate_hash(form) == expected
    assert utils.certificate_hash(pem.decode()) == expected
    for wrong in (der + b"\n", der + der, der[:-1], b"\n" + der):
        with pytest.raises(CertificateError, match="no certificate"):
            utils.certificate_hash(wrong)


def test_lengths_of_der_cover_every_form() -> None:
    forms = {
        certificate_of_size(bytes(n)).public_bytes(serialization.Encoding.DER)[1]
        for n in (0, 600, 65_536, 1 << 24)
    }
    assert forms == {0x81, 0x82, 0x83, 0x84}


def test_der_that_holds_a_pem_certificate_is_der(tmp_path: Path) -> None:
    other, _ = utils.generate_self_signed_cert("localhost", str(tmp_path))
    certificate = certificate_of_size(Path(other).read_bytes())
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert utils.certificate_hash(der) == certificate.fingerprint(hashes.SHA256())


def test_other_der_is_no_certificate() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    others = [
        key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER),
        x509.CertificateSigningRequestBuilder()
        .subject_name(named)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER),
    ]
    for der in others:
        with pytest.raises(CertificateError, match="no certificate in the data"):
            utils.certificate_hash(der)


@given(st.binary(max_size=300))
def test_hash_of_any_bytes_is_refused_or_made(data: bytes) -> None:
    for form in (data, b"0\x80" + data, b"0\x82\x01\x00" + data):
        with contextlib.suppress(CertificateError):
            utils.certificate_hash(form)


@pytest.mark.parametrize("value", [None, 3, ["a"], object()])
def test_hash_of_what_is_no_certificate_at_all(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="certificate = "):
        utils.certificate_hash(value)
    with pytest.raises(ConfigurationError, match="certfile = "):
        utils.load_certificate(certfile=value, keyfile="k")


def test_international_host_name(tmp_path: Path) -> None:
    cert, _ = utils.generate_self_signed_cert("*.Faß.de", str(tmp_path))
    assert Path(cert).name == "*.xn--fa-hia.de.crt"
    assert names_of(load(cert)) >= {"*.xn--fa-hia.de"}


BAD_PEM = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x30\x82\x00\x05abc", BAD_PEM, BAD_PEM.replace("!!!", "\xe4").encode()]
)
def test_hash_of_something_else(data: str | bytes) -> None:
    with pytest.raises(CertificateError, match="no certificate in the data"):
        utils.certificate_hash(data)


def test_hash_of_a_file_without_certificate(tmp_path: Path) -> None:
    _, key = utils.generate_self_signed_cert("localhost", str(tmp_path))
    with pytest.raises(CertificateError, match=r"localhost\.key") as caught:
        utils.certificate_hash(key)
    assert caught.value.certificate_path == key


def test_hash_of_a_missing_or_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="was not found"):
        utils.certificate_hash(tmp_path / "missing.crt")
    with pytest.raises(CertificateError, match="could not be read"):
        utils.certificate_hash(tmp_path)


# --------------------------------------------------------------------- loading


def test_load_refuses_missing_and_foreign_files(tmp_path: Path) -> None:
    cert, key = utils.generate_self_signed_cert("localhost", str(tmp_path))
    _, foreign = utils.generate_self_signed_cert("other", str(tmp_path))
    missing = str(tmp_path / "missing")
    for certfile, keyfile in ((missing, key), (cert, missing)):
        with pytest.raises(CertificateError, match="was not found") as caught:
            utils.load_certificate(certfile=certfile, keyfile=keyfile)
        assert caught.value.certificate_path == missing
    with pytest.raises(CertificateError, match="could not be loaded") as caught:
        utils.load_certificate(certfile=cert, keyfile=foreign)
    assert caught.value.certificate_path == cert
    assert caught.value.certificate_error
