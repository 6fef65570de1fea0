"""Where a client finds the certificate authorities to trust when nobody names a file.

GnuTLS knows one place, which was fixed when it was built: that of a wheel knows Debian's. So this
module has the places of the other distributions, and reads the variables that OpenSSL reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from ..exceptions import CertificateError
from ._text import printable

__all__ = ["BUNDLES", "TrustStore", "fallback_store", "named_store"]

BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine's ca-certificates
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, Red Hat
    "/etc/pki/tls/certs/ca-bundle.crt",  # the same before Fedora 43
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine's base system
)
"""The files of the distributions; the first one that holds a certificate is used."""

_FILE, _DIRECTORY = "SSL_CERT_FILE", "SSL_CERT_DIR"
_CERTIFICATE = re.compile(
    rb"-----BEGIN (?P<kind>(?:X509 )?CERTIFICATE)-----.+?-----END (?P=kind)-----", re.DOTALL
)


class TrustStore(NamedTuple):
    """Certificates of authorities in PEM format, and the path or variable they came from."""

    name: str
    pem: bytes


def named_store(environment: Mapping[str, str] = os.environ) -> TrustStore | None:
    """Return the store that ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name; None without them.

    As with OpenSSL, ``SSL_CERT_DIR`` may list several directories, separated by colons. Every file
    in them is read, whatever its name.

    Raises:
        CertificateError: There is no certificate where a variable points to.
    """
    named = [(_FILE, value, [Path(value)]) for value in _values(environment, _FILE)]
    for value in _values(environment, _DIRECTORY):
        folders = [Path(name) for name in value.split(os.pathsep) if name]
        named.append((_DIRECTORY, value, [path for item in folders for path in _listed(item)]))
    if not named:
        return None
    blocks: list[bytes] = []
    for variable, value, files in named:
        found = _certificates(files)
        if not found:
            raise CertificateError(
                f"{variable} is {printable(value)}, and no certificate in PEM format was found "
                "there; correct the variable, remove it, or set ca_certs=path",
                certificate_path=value,
                certificate_error="no_trusted_roots",
            )
        blocks += found
    return TrustStore(" and ".join(variable for variable, _, _ in named), _joined(blocks))


def fallback_store(bundles: Iterable[str] = BUNDLES) -> TrustStore:
    """Return the first store of a distribution, else that of the package ``certifi``.

    Args:
        bundles: The files to try, in this order.

    Raises:
        CertificateError: There is none.
    """
    tried = list(bundles)
    for path in tried:
        if found := _certificates([Path(path)]):
            return TrustStore(path, _joined(found))
    try:
        certifi = import_module("certifi")
    except ImportError:
        pass
    else:
        path = str(certifi.where())
        tried.append(path)
        if found := _certificates([Path(path)]):
            return TrustStore(path, _joined(found))
    places = ", ".join(map(printable, tried))
    raise CertificateError(
        "there is no certificate authority to trust: GnuTLS's own trust store is empty, and no "
        f"certificate was found in {places}; install the package ca-certificates of the "
        "distribution or certifi for Python, or set ca_certs=path or SSL_CERT_FILE",
        certificate_error="no_trusted_roots",
    )


def _values(environment: Mapping[str, str], variable: str) -> list[str]:
    """Return the value of a variable in a list; an empty one counts as not set."""
    return [value for value in [environment.get(variable, "")] if value]


def _listed(folder: Path) -> list[Path]:
    """Return the files of a folder; of one that cannot be read, none."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _certificates(files: Iterable[Path]) -> list[bytes]:
    """Return the certificates in some files. Those that cannot be read count as empty."""
    blocks: list[bytes] = []
    for path in files:
        try:
            if path.is_file():
                blocks += [match[0] for match in _CERTIFICATE.finditer(path.read_bytes())]
        except OSError:
            continue
    return blocks


def _joined(blocks: list[bytes]) -> bytes:
    """Return each certificate once: a directory often has links to the files beside them."""
    return b"\n".join([*dict.fromkeys(blocks), b""])
