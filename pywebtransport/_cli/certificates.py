"""Certificates for development that are kept, and what a certificate says."""

from __future__ import annotations

import base64
import fcntl
import ipaddress
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..constants import MAX_HASHED_CERTIFICATE_DAYS
from ..exceptions import CertificateError
from ..utils._certificates import certificate_hash, generate_self_signed_cert
from ..utils._private_files import open_private, why_not
from ..utils._tls_files import certificate_validity, why_unusable

if TYPE_CHECKING:
    from cryptography import x509

__all__ = [
    "CertificateFacts",
    "development_certificate",
    "javascript_line",
    "kept_hashes",
    "read_certificate",
]

# A development certificate that ends earlier is replaced.
_LEFT = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class CertificateFacts:
    """What a certificate says.

    Attributes:
        subject: Its subject, as in RFC 4514.
        issuer: Who signed it.
        names: Its subjectAltNames: host names and addresses.
        not_before: Begin of its validity.
        not_after: End of its validity.
        key: Kind of its key, such as ``ECDSA P-256``.
        hash: SHA-256 hash in hexadecimal.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    key: str
    hash: str

    @property
    def validity(self) -> str:
        """Its validity in words."""
        now = datetime.now(UTC)
        if now < self.not_before:
            return f"not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
        if now >= self.not_after:
            return f"expired on {self.not_after:%Y-%m-%d %H:%M} UTC"
        days = (self.not_after - now).days
        return f"valid until {self.not_after:%Y-%m-%d %H:%M} UTC ({days} days left)"

    @property
    def is_valid_now(self) -> bool:
        """Whether the current time is within its validity."""
        return self.not_before <= datetime.now(UTC) < self.not_after

    def is_for(self, host: str) -> bool:
        """Whether it names a host (RFC 9525): a name, ``*.`` for one label, or an address."""
        try:
            address = str(ipaddress.ip_address(host))
        except ValueError:
            name = host.lower().rstrip(".")
            wildcard = "*." + name.partition(".")[2]
            names = {item.lower() for item in self.names}
            return name in names or wildcard in names
        return address in self.names

    def against_hashes(self) -> list[str]:
        """Why browsers do not accept it by its hash (``serverCertificateHashes``)."""
        found = []
        if self.key != "ECDSA P-256":
            found.append(f"its key is {self.key}; browsers accept ECDSA P-256")
        lifetime = self.not_after - self.not_before
        if lifetime > timedelta(days=MAX_HASHED_CERTIFICATE_DAYS):
            found.append(
                f"it is valid for {lifetime.days} days in total; browsers accept "
                f"{MAX_HASHED_CERTIFICATE_DAYS}"
            )
        if not self.is_valid_now:
            found.append(f"it is not valid now: {self.validity}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "key": self.key,
            "sha256": self.hash,
        }


def read_certificate(data: bytes) -> CertificateFacts:
    """Return what a certificate says.

    Args:
        data: PEM, of which the first certificate counts, or DER.

    Raises:
        CertificateError: It cannot be read.
    """
    from cryptography import x509

    digest = certificate_hash(data)
    try:
        if b"-----BEGIN" in data[:4096]:
            found = x509.load_pem_x509_certificates(data)[0]
        else:
            found = x509.load_der_x509_certificate(data)
        return CertificateFacts(
            subject=found.subject.rfc4514_string(),
            issuer=found.issuer.rfc4514_string(),
            names=_names(found),
            not_before=found.not_valid_before_utc,
            not_after=found.not_valid_after_utc,
            key=_kind_of_key(found),
            hash=digest.hex(),
        )
    except Exception as error:  # cryptography has many more kinds than ValueError
        raise CertificateError(f"the certificate cannot be read: {error}") from error


def development_certificate(hostname: str) -> tuple[str, str]:
    """Return a certificate for development and its key, which are kept while they are valid.

    They are in the user's cache directory, which only this user can read. A certificate that ends
    within a day, or that cannot be used, is replaced.

    Args:
        hostname: Its host name or address.

    Returns:
        The paths of the certificate and of the key.

    Raises:
        CertificateError: It cannot be kept there.
    """
    directory = _directory()
    try:
        with _locked(directory):
            certfile, keyfile = directory / f"{hostname}.crt", directory / f"{hostname}.key"
            if _is_usable(certfile, keyfile):
                return str(certfile), str(keyfile)
            return generate_self_signed_cert(hostname, str(directory))
    except OSError as error:
        raise CertificateError(
            f"no development certificate can be kept in {directory}: {why_not(directory, error)}; "
            "pass --certfile and --keyfile, or set XDG_CACHE_HOME",
            certificate_path=str(directory),
        ) from error


def kept_hashes() -> list[bytes]:
    """The hashes of all development certificates that are kept.

    Raises:
        CertificateError: There are none.
    """
    directory = _directory()
    found = [certificate_hash(path) for path in sorted(directory.glob("*.crt"))]
    if not found:
        raise CertificateError(
            f"there is no development certificate in {directory}; 'pywebtransport serve' makes one"
        )
    return found


def javascript_line(url: str, digest: bytes) -> str:
    """A line of JavaScript that opens a session with a server by the hash of its certificate."""
    value = f'Uint8Array.from(atob("{base64.b64encode(digest).decode()}"), c => c.charCodeAt(0))'
    hashes = f'[{{ algorithm: "sha-256", value: {value} }}]'
    return f"new WebTransport({json.dumps(url)}, {{ serverCertificateHashes: {hashes} }})"


def _directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pywebtransport" / "certificates"


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One process at a time makes a certificate."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = open_private(directory / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_usable(certfile: Path, keyfile: Path) -> bool:
    if not (certfile.exists() and keyfile.exists()):
        return False
    os.close(open_private(keyfile, os.O_RDONLY))
    if why_unusable(certfile, keyfile) is not None:
        return False
    return (
        certificate_validity(certfile)[1] - datetime.now(UTC) > _LEFT
        and not read_certificate(certfile.read_bytes()).against_hashes()
    )


def _names(found: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    )


def _kind_of_key(found: x509.Certificate) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        key = found.public_key()
    except UnsupportedAlgorithm:
        return "of an unknown kind"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ECDSA P-256" if isinstance(key.curve, ec.SECP256R1) else f"ECDSA {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.removeprefix("_").removesuffix("PublicKey")
