"""Certificates for tests."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from os import PathLike

from ..utils._certificates import certificate_hash, generate_self_signed_cert

__all__ = ["Certificate", "certificate"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    """A certificate on disk, with the hash that clients can trust.

    Attributes:
        certfile: Path of the PEM file of the certificate.
        keyfile: Path of the PEM file of its key.
        hash: SHA-256 hash, for ``server_certificate_hashes``.
    """

    certfile: str
    keyfile: str
    hash: bytes

    @classmethod
    def load(cls, certfile: str, keyfile: str) -> Certificate:
        """Load an existing certificate.

        Raises:
            CertificateError: There is no such certificate.
        """
        return cls(certfile=certfile, keyfile=keyfile, hash=certificate_hash(certfile))


def certificate(
    hostname: str = "localhost", *, directory: str | PathLike[str] | None = None
) -> Certificate:
    """Create a self-signed certificate, which browsers accept by its hash too.

    Args:
        hostname: The host name in the certificate.
        directory: Where the files are written. None: a new temporary directory, which is
            removed with the object that is returned, or at the end of the process.

    Raises:
        ConfigurationError: The host name cannot be used.
        CertificateError: The files cannot be written.
    """
    if directory is not None:
        return Certificate.load(*generate_self_signed_cert(hostname, os.fspath(directory)))
    temporary = tempfile.mkdtemp(prefix="pywebtransport-")
    try:
        made = Certificate.load(*generate_self_signed_cert(hostname, temporary))
    except BaseException:
        shutil.rmtree(temporary)
        raise
    weakref.finalize(made, _remove, temporary, os.getpid())
    return made


@functools.cache
def default_certificate() -> Certificate:
    """The certificate of this process, for tests that do not pass their own."""
    return certificate()


def _remove(directory: str, process: int) -> None:
    if os.getpid() == process:  # not in a forked child
        shutil.rmtree(directory, ignore_errors=True)
