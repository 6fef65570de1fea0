"""Certificates for tests: a small authority and the leaves that tests need."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pywebtransport.utils import certificate_hash, generate_self_signed_cert

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Pair:
    """A certificate (chain) and its key, as paths of PEM files."""

    def __init__(self, certfile: str, keyfile: str) -> None:
        self.certfile = certfile
        self.keyfile = keyfile

    @property
    def hash(self) -> bytes:
        """SHA-256 of the leaf."""
        return certificate_hash(self.certfile)

    @property
    def key_hash(self) -> str:
        """SHA-256 of the leaf's public key, in base64: what Chromium's list of keys takes."""
        certificate = x509.load_der_x509_certificate(self.der)
        key = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(hashlib.sha256(key).digest()).decode()

    @property
    def files(self) -> dict[str, str]:
        """The two fields of a configuration."""
        return {"certfile": self.certfile, "keyfile": self.keyfile}

    @property
    def der(self) -> bytes:
        """The leaf."""
        certificate = x509.load_pem_x509_certificates(Path(self.certfile).read_bytes())[0]
        return certificate.public_bytes(serialization.Encoding.DER)


class Authority:
    """A certificate authority that lives in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        start = datetime.now(UTC) - timedelta(days=400)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=4000))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=True,
                    crl_sign=True,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        path = directory / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.certfile = str(path)

    def leaf(
        self,
        file: str,
        *names: str,
        valid_from: timedelta = timedelta(hours=-1),
        valid_for: timedelta = timedelta(days=10),
        key: _Key | None = None,
        common_name: str | None = None,
    ) -> Pair:
        """Sign a certificate for server or client use and write it with its key.

        ``file`` is its common name if no other is given. Without ``names`` it has no
        subjectAltName.
        """
        key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        start = datetime.now(UTC) + valid_from
        certificate = (
            _leaf_builder(key, _name(common_name or file), names, start, valid_for)
            .issuer_name(self._name)
            .add_extension(
                # OpenSSL's strict checks, Python's default from 3.13 on, want it.
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return _write(self._directory / file, certificate, key)


class Certificates:
    """Everything, made once per test session.

    Attributes:
        authority: What the default client of the tests trusts.
        other: An authority that nobody trusts.
        server: Signed, for localhost and both loopback addresses.
        client: Signed, for mutual TLS.
        stranger: A client certificate of the other authority.
        expired: Signed, out of date since yesterday.
        wrong_name: Signed, for another name.
        self_signed: As ``generate_self_signed_cert`` makes it.
        long_lived, rsa, expired_self_signed: Self-signed ones that a hash must not accept.
        alpha, beta: Signed, for ``alpha.test`` and ``*.beta.test``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory, "authority")
        self.other = Authority(directory, "other-authority")
        sign = self.authority.leaf
        self.server = sign("server", *LOCAL_NAMES)
        self.replacement = sign("replacement", *LOCAL_NAMES)
        self.client = sign("client", "client.test")
        self.stranger = self.other.leaf("stranger", "client.test")
        self.expired = sign(
            "expired",
            *LOCAL_NAMES,
            valid_from=timedelta(days=-11),
            valid_for=timedelta(days=10),
        )
        self.wrong_name = sign("wrong-name", "somewhere-else.test")
        self.alpha = sign("alpha", "alpha.test")
        self.beta = sign("beta", "*.beta.test")
        self.self_signed = Pair(*generate_self_signed_cert("localhost", str(directory)))
        self.long_lived = self._alone("long-lived", days=30)
        self.expired_self_signed = self._alone("expired-self-signed", days=5, start=-6)
        self.rsa = self._alone("rsa", days=5, key=rsa.generate_private_key(65537, 2048))

    def _alone(self, file: str, *, days: int, start: int = 0, key: _Key | None = None) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        begin = datetime.now(UTC) + timedelta(days=start) - timedelta(hours=1)
        certificate = (
            _leaf_builder(key, _name(file), LOCAL_NAMES, begin, timedelta(days=days))
            .issuer_name(_name(file))
            .sign(key, hashes.SHA256())
        )
        return _write(self.directory / file, certificate, key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _leaf_builder(
    key: _Key, subject: x509.Name, names: tuple[str, ...], start: datetime, valid_for: timedelta
) -> x509.CertificateBuilder:
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + valid_for)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    )
    if not names:
        return builder
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    return builder.add_extension(alternatives, critical=False)


def _write(base: Path, certificate: x509.Certificate, key: _Key) -> Pair:
    cert_path, key_path = base.with_suffix(".crt"), base.with_suffix(".key")
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Pair(str(cert_path), str(key_path))
