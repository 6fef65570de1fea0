"""Examines certificate and key files, and explains why a pair cannot be used."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from ..exceptions import CertificateError
from ._text import printable

if TYPE_CHECKING:
    from os import PathLike

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    _Path = str | PathLike[str]

__all__ = ["certificate_validity", "explained", "leaf_text", "why_unusable"]

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PEM_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_PEM_ENCRYPTED = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED")


def certificate_validity(path: _Path) -> tuple[datetime, datetime]:
    """Return begin and end of the validity of the leaf in a PEM file, in UTC.

    Raises:
        CertificateError: It contains no readable certificate.
    """
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificates(_read(path))[0]
        return leaf.not_valid_before_utc, leaf.not_valid_after_utc
    except (OSError, ValueError, x509.InvalidVersion) as error:
        raise CertificateError(
            f"certificate file {printable(path)} cannot be read: {printable(error)}",
            certificate_path=str(path),
            certificate_error=printable(error),
        ) from error


def leaf_text(path: _Path) -> str | None:
    """The first certificate of a PEM file as text; None if it cannot be read."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        leaf = x509.load_pem_x509_certificates(_read(path))[0]
        return leaf.public_bytes(Encoding.PEM).decode("ascii")
    except (OSError, ValueError, x509.InvalidVersion):
        return None


def explained(error: CertificateError, certfile: _Path, keyfile: _Path) -> CertificateError:
    """Explain the error of a TLS library for a pair of files.

    Args:
        error: The exception that loading them raised.
        certfile: The chain.
        keyfile: Its key.

    Returns:
        A new error, or the same one if there is nothing to add.
    """
    found = why_unusable(certfile, keyfile)
    if found is None:
        return error
    path, why = found
    return CertificateError(
        f"{printable(path)}: {why}",
        certificate_path=str(path),
        certificate_error=why,
        details=error.details,
    )


def why_unusable(certfile: _Path, keyfile: _Path) -> tuple[_Path, str] | None:
    """Which file of a pair is wrong, and why; None if nothing is found."""
    try:
        return _look(certfile, keyfile)
    except OSError:
        return None


def _look(certfile: _Path, keyfile: _Path) -> tuple[_Path, str] | None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificates, key = _read(certfile), _read(keyfile)
    if _CERTIFICATE not in certificates:
        return certfile, _no_certificate(certificates)
    if not _PEM_KEY.search(key):
        return keyfile, _no_key(key)
    if _PEM_ENCRYPTED.search(key):
        return keyfile, (
            "the private key is encrypted; store it without a password, as "
            "'openssl pkey -in KEY -out NEW' does, readable by its owner alone"
        )
    try:
        chain = x509.load_pem_x509_certificates(certificates)
    except (ValueError, x509.InvalidVersion):
        return certfile, "a certificate in it is damaged or cut short"
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, _unsupported()):
        return keyfile, "the private key is damaged, cut short, or of an unknown kind"
    return _compare(certfile, keyfile, chain, private)


def _compare(
    certfile: _Path, keyfile: _Path, chain: list[x509.Certificate], private: PrivateKeyTypes
) -> tuple[_Path, str] | None:
    """Whether the key belongs to the first certificate."""
    owner = next(
        (index for index, item in enumerate(chain) if _belong_together(item, private)), None
    )
    if owner is None:
        return keyfile, (
            f"the key belongs to no certificate in {printable(certfile)}: give the key that the "
            "certificate was made with"
        )
    if owner > 0:
        kind = "that of an authority" if _is_authority(chain[0]) else "another one"
        return certfile, (
            f"the key belongs to certificate {owner + 1} of the file, but the first is {kind} "
            f"({printable(chain[0].subject.rfc4514_string())}): the order is leaf first, then the "
            "one that signed it, and so on"
        )
    return None


def _no_certificate(data: bytes) -> str:
    if _PEM_KEY.search(data):
        return "it contains a private key and no certificate; are certfile and keyfile swapped?"
    if data[:1] == b"\x30":
        return (
            "it is in binary form (DER or PKCS #12); PEM text is expected, as "
            "'openssl x509 -inform der -in FILE -out NEW' makes it"
        )
    return f"it contains no certificate in PEM form ({_CERTIFICATE.decode()!r})"


def _no_key(data: bytes) -> str:
    if _CERTIFICATE in data:
        return "it contains a certificate and no private key; are certfile and keyfile swapped?"
    if data[:1] == b"\x30":
        return (
            "it is in binary form (DER or PKCS #12); PEM text is expected, as "
            "'openssl pkey -inform der -in FILE -out NEW' makes it"
        )
    return "it contains no private key in PEM form ('-----BEGIN PRIVATE KEY-----')"


def _belong_together(certificate: x509.Certificate, private: PrivateKeyTypes) -> bool:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        public = certificate.public_key()
    except (ValueError, _unsupported()):
        return False
    return public.public_bytes(*form) == private.public_key().public_bytes(*form)


def _is_authority(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        return False


def _unsupported() -> type[Exception]:
    from cryptography.exceptions import UnsupportedAlgorithm

    return UnsupportedAlgorithm


def _read(path: _Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()
