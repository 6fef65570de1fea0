"""Certificates: create one for development, hash, and load them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress
import os
import re
import ssl
from datetime import UTC, datetime, timedelta

from .._plain import shorten
from ..constants import MAX_HASHED_CERTIFICATE_DAYS
from ..exceptions import CertificateError, certificate_not_found, invalid_config
from ._checks import check_count, check_integer
from ._hosts import ascii_host
from ._system import explain_os_error
from ._tls_files import why_unusable

__all__ = ["certificate_hash", "generate_self_signed_cert", "load_certificate"]

DEFAULT_DAYS_VALID = MAX_HASHED_CERTIFICATE_DAYS - 1

_FILE_NAME = re.compile(r"(\*\.)?[0-9A-Za-z_:][0-9A-Za-z_.:-]{0,252}")
_PEM_CERTIFICATE = re.compile(
    rb"-----BEGIN (?:X509 )?CERTIFICATE-----(.+?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL
)
# Tags of ASN.1 (X.690).
_INTEGER, _BIT_STRING, _SEQUENCE, _VERSION_TAG = 0x02, 0x03, 0x30, 0xA0


def generate_self_signed_cert(
    hostname: str,
    output_dir: str = ".",
    key_size: int = 2048,
    days_valid: int = DEFAULT_DAYS_VALID,
) -> tuple[str, str]:
    """Create a certificate for development and write it to ``HOSTNAME.crt`` and ``HOSTNAME.key``.

    The key is ECDSA P-256 and the certificate names the host, ``localhost``,
    ``127.0.0.1`` and ``::1``, so that a browser accepts it by its hash
    (``serverCertificateHashes``; see :func:`certificate_hash`). For this, browsers allow at most 14
    days. You can pass a longer ``days_valid``, but then only clients that trust the file itself
    (``ca_certs``) or check nothing accept the certificate.

    Args:
        hostname: Host name or address of the server. International names are converted to ASCII
            (UTS 46), in the file names, too.
        output_dir: Directory of the files; created if it does not exist.
        key_size: Ignored; kept for compatibility. A P-256 key has one size.
        days_valid: Days from the first to the last moment of validity, 1 to
            36500. It begins an hour ago, for clocks that are behind.

    Returns:
        The paths of the certificate and the key. Existing files are replaced.
        Only the owner may read the key.

    Raises:
        ConfigurationError: ``hostname`` or ``days_valid`` is not valid.
        CertificateError: A file could not be written, or the package
            ``cryptography`` is not installed.
    """
    if isinstance(hostname, str) and not hostname.isascii():
        wildcard = "*." if hostname.startswith("*.") else ""
        hostname = wildcard + ascii_host(hostname.removeprefix("*."))
    if not isinstance(hostname, str) or not _FILE_NAME.fullmatch(hostname):
        raise invalid_config(key="hostname", value=hostname, reason="expected a name or address")
    if not isinstance(output_dir, str | os.PathLike):
        raise invalid_config(key="output_dir", value=output_dir, reason="expected a directory")
    check_count("key_size", key_size)
    check_integer("days_valid", days_valid, 1, 36500)
    certificate, key = _make_pair(hostname, days_valid)
    paths = os.path.join(output_dir, f"{hostname}.crt"), os.path.join(output_dir, f"{hostname}.key")
    try:
        os.makedirs(output_dir, exist_ok=True)
        _write(paths[1], key, 0o600)
        _write(paths[0], certificate, 0o644)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CertificateError(
            f"the certificate for {hostname!r} could not be written to "
            f"{shorten(output_dir)}: {_why(error)}",
            certificate_path=paths[0],
            certificate_error=str(error),
        ) from error
    return paths


def certificate_hash(
    certificate: str | bytes | bytearray | memoryview | os.PathLike[str],
) -> bytes:
    """Return the SHA-256 hash of a certificate, for ``server_certificate_hashes``.

    Args:
        certificate: The path of a PEM or DER file, a PEM string, or PEM or DER bytes. If there are
            several certificates, the first one (the leaf) is used.

    Returns:
        32 bytes.

    Raises:
        CertificateError: The file does not exist, or contains no certificate.
        ConfigurationError: The argument is not a path, string or bytes.
    """
    path: str | None = None
    if isinstance(certificate, bytes | bytearray | memoryview):
        data = bytes(certificate)
    elif isinstance(certificate, str) and "-----BEGIN" in certificate:
        data = certificate.encode("utf-8", "replace")
    else:
        if not isinstance(certificate, str | os.PathLike):
            raise invalid_config(
                key="certificate", value=certificate, reason="expected a path, a string or bytes"
            )
        path = os.fspath(certificate)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise certificate_not_found(path=path) from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise CertificateError(
                f"certificate file {shorten(path)} could not be read: {_why(error)}",
                certificate_path=path,
                certificate_error=str(error),
            ) from error
    return hashlib.sha256(_leaf(data, path)).digest()


def load_certificate(*, certfile: str, keyfile: str) -> ssl.SSLContext:
    """Load a server certificate and its key into a TLS 1.3 context, to check that they fit.

    Args:
        certfile: PEM file of the chain, leaf first.
        keyfile: PEM file of the key.

    Raises:
        CertificateError: A file is missing or unusable, or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for name, path in (("certfile", certfile), ("keyfile", keyfile)):
        if not isinstance(path, str | os.PathLike):
            raise invalid_config(key=name, value=path, reason="expected the path of a PEM file")
        if not _is_file(path):
            raise certificate_not_found(path=path)
    try:
        # Without this function, OpenSSL asks for a password on the terminal, and waits.
        context.load_cert_chain(certfile, keyfile, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        found = why_unusable(certfile, keyfile)
        why = _why(error) if found is None else f"{found[0]!r}: {found[1]}"
        raise CertificateError(
            f"certificate {shorten(certfile)} with key {shorten(keyfile)} could not be loaded: "
            f"{why}",
            certificate_path=certfile,
            certificate_error=str(error),
        ) from error
    return context


def _no_password() -> str:
    return ""


def _is_file(path: str | os.PathLike[str]) -> bool:
    try:
        return os.path.isfile(path)
    except (OSError, ValueError):  # a name that the system cannot have
        return False


def _why(error: Exception) -> str:
    """The message of the system, without the path that it may repeat."""
    return explain_os_error(error)


def _leaf(data: bytes, path: str | None) -> bytes:
    """The DER form of the first certificate in ``data``."""
    found = _certificate_end(data)
    if found and found == len(data):
        return data
    # DER may contain any bytes, even those of a PEM line; PEM does not begin like DER.
    match = None if found else _PEM_CERTIFICATE.search(data)
    if match:
        try:
            der = base64.b64decode(b"".join(match[1].split()), validate=True)
        except ValueError:
            der = b""
        if der and _certificate_end(der) == len(der):
            return der
    where = "the data" if path is None else shorten(path)
    raise CertificateError(
        f"there is no certificate in {where}; expected PEM ('-----BEGIN CERTIFICATE-----') or DER",
        certificate_path=path,
        certificate_error="no certificate found",
    )


def _certificate_end(data: bytes) -> int:
    """Where the DER certificate at the start of ``data`` ends; 0 if there is none.

    RFC 5280 section 4.1: a SEQUENCE of tbsCertificate, algorithm and signature. Its parts are not
    parsed: certificates that this machine cannot use have a hash, too. A certificate request (RFC
    2986) has the same outer structure.
    """
    try:
        tag, start, end = _der_element(data, 0, len(data))
        if tag != _SEQUENCE:
            return 0
        parts = []
        position = start
        while position < end:
            part = _der_element(data, position, end)
            parts.append(part)
            position = part[2]
        if [part[0] for part in parts] != [_SEQUENCE, _SEQUENCE, _BIT_STRING]:
            return 0
        _, inner, inner_end = parts[0]
        first, _, position = _der_element(data, inner, inner_end)
        if first == _VERSION_TAG:
            first, _, position = _der_element(data, position, inner_end)
        tags = [first]
        while position < inner_end:
            found, _, position = _der_element(data, position, inner_end)
            tags.append(found)
    except IndexError:
        return 0
    # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
    return end if tags[:6] == [_INTEGER] + [_SEQUENCE] * 5 else 0


def _der_element(data: bytes, position: int, limit: int) -> tuple[int, int, int]:
    """Return tag, start and end of the element at ``position`` (X.690 section 8.1).

    Raises:
        IndexError: There is none, or it extends beyond ``limit``.
    """
    tag, length = data[position], data[position + 1]
    start = position + 2
    if length >= 0x80:
        count = length - 0x80
        if not 1 <= count <= 4:  # DER has no indefinite length
            raise IndexError
        start += count
        length = int.from_bytes(data[position + 2 : start], "big")
    if start + length > limit:
        raise IndexError
    return tag, start, start + length


def _make_pair(hostname: str, days_valid: int) -> tuple[bytes, bytes]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID
    except ImportError as error:
        raise CertificateError(
            "creating a certificate needs the package 'cryptography': pip install cryptography",
            certificate_error=str(error),
        ) from error

    names: list[x509.GeneralName] = []
    for name in dict.fromkeys((hostname.lower(), "localhost", "127.0.0.1", "::1")):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hostname[:64])])
    start = datetime.now(UTC) - timedelta(hours=1)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days_valid))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _write(path: str, data: bytes, mode: int) -> None:
    """Replace a file atomically: a reader sees the old content or the new."""
    import tempfile

    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
