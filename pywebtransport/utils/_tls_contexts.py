"""TLS over TCP, with the certificates and the rules of a configuration that QUIC follows, too."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ..constants import MAX_HASHED_CERTIFICATE_DAYS
from ..exceptions import CertificateError, CertificateHashError, UnreachableError
from ._system import has_free_descriptor, out_of_descriptors
from ._text import printable
from ._tls_files import explained
from ._trust_store import fallback_store, named_store

if TYPE_CHECKING:
    from ..config import ClientConfig, ServerConfig

__all__ = ["ClientTls", "TlsContexts", "client_tls_over_tcp"]

_OPTIONS = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


@dataclass(frozen=True)
class ClientTls:
    """How a client makes TLS connections over TCP.

    Attributes:
        context: Checks the chain and the name, unless the configuration says otherwise.
        hashes: SHA-256 hashes of certificates, of which the server has to have one; empty: any.
    """

    context: ssl.SSLContext
    hashes: tuple[bytes, ...] = ()

    def check_leaf(self, leaf: bytes | None, where: str) -> None:
        """Apply the rules for pinned certificates, those of QUIC; without hashes, there are none.

        Args:
            leaf: The server's certificate in DER form.
            where: The server, for messages.

        Raises:
            CertificateHashError: It has another hash, or a hash cannot be used for it.
        """
        if not self.hashes:
            return
        digest = hashlib.sha256(leaf or b"")
        wrong = (
            _why_not_pinned(leaf or b"")
            if digest.digest() in self.hashes
            else f"certificate SHA-256 {digest.hexdigest()} matches none of the given hashes "
            f"(number given: {len(self.hashes)})"
        )
        if wrong:
            raise CertificateHashError(
                f"the certificate of {printable(where)} was not accepted: {wrong}",
                certificate_error=wrong,
                details={"certificate_hash": digest.hexdigest()},
            )


def client_tls_over_tcp(config: ClientConfig, alpn: Sequence[str] = ("http/1.1",)) -> ClientTls:
    """The TLS configuration of a client over TCP; make it once for a configuration.

    Args:
        config: Its ``verify_mode``, ``ca_certs``, ``certfile``, ``server_certificate_hashes`` and
            ``keylog_file`` count.
        alpn: The protocols to offer.

    Raises:
        CertificateError: A certificate, key or root file cannot be used.
        UnreachableError: There is no file descriptor left to read them.
    """
    # This is neither a wrong file nor an untrusted authority: a retry may succeed.
    if not has_free_descriptor():
        raise UnreachableError(f"cannot read certificates: {out_of_descriptors()}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= _OPTIONS
    # As with GnuTLS, ca_certs may name the server's own certificate or an intermediate one.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(list(alpn))
    if config.keylog_file is not None:
        context.keylog_filename = config.keylog_file
    hashes = tuple(config.pinned_hashes)
    if hashes or config.verify_mode is ssl.CERT_NONE:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_roots(context, config.ca_certs)
    if config.certfile is not None and config.keyfile is not None:
        _load_pair(context, config.certfile, config.keyfile)
    return ClientTls(context, hashes)


def _why_not_pinned(der: bytes) -> str:
    """Why a hash cannot be used for a certificate; empty if it can."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    try:
        leaf = x509.load_der_x509_certificate(der)
        is_rsa = isinstance(leaf.public_key(), RSAPublicKey)
    except x509.InvalidVersion as error:
        return f"certificate is {printable(error)}; a pinned one must be version 3"
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"certificate cannot be read: {printable(error)}"
    begin, end, now = leaf.not_valid_before_utc, leaf.not_valid_after_utc, datetime.now(UTC)
    longest = timedelta(days=MAX_HASHED_CERTIFICATE_DAYS)
    if leaf.version is not x509.Version.v3:
        return "certificate is X.509 version 1; a pinned one must be version 3"
    if is_rsa:
        return "certificate has an RSA key; a pinned one must use ECDSA, such as P-256"
    if now > end:
        return f"certificate expired on {end:%Y-%m-%d %H:%M:%S} UTC"
    if now < begin:
        return f"certificate is not valid before {begin:%Y-%m-%d %H:%M:%S} UTC"
    if end - begin > longest:
        days = (end - begin) / timedelta(days=1)
        return (
            f"certificate is valid for {days:.1f} days; a pinned one may be for "
            f"{MAX_HASHED_CERTIFICATE_DAYS} at most"
        )
    return ""


def _load_pair(context: ssl.SSLContext, certfile: str, keyfile: str) -> None:
    """Load a certificate and its key.

    Raises:
        CertificateError: They cannot be used.
    """
    try:
        # A password, so that OpenSSL does not ask for one on the terminal.
        context.load_cert_chain(certfile, keyfile, password="")
    except (OSError, ValueError) as error:
        raise explained(_unusable("certificate", certfile, error), certfile, keyfile) from error


def _load_roots(context: ssl.SSLContext, path: str | None) -> None:
    """Trust the authorities in a file; None: those of the system.

    Raises:
        CertificateError: There are none.
    """
    name = path
    try:
        if path is None:
            name, pem = named_store() or fallback_store()
            context.load_verify_locations(cadata=pem.decode("ascii"))
        else:
            context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise _unusable("the authorities in", str(name), error) from error


def _unusable(what: str, path: str, error: Exception) -> CertificateError:
    return CertificateError(
        f"{what} {printable(path)} cannot be used over TCP: {printable(error)}",
        certificate_path=str(path),
        certificate_error=printable(error),
    )


class TlsContexts:
    """One context for a listener that presents the current certificates to each new connection.

    Args:
        config: Names the certificates, and says whether clients have to have one.
        alpn: The protocols to offer.

    Attributes:
        context: For the listener.

    Raises:
        CertificateError: A certificate or key cannot be used.
    """

    def __init__(self, config: ServerConfig, alpn: Sequence[str]) -> None:
        self._alpn: Final = list(alpn)
        self._default, self._named = self._load(config)
        self.context = self._make(config, config.certfile, config.keyfile)
        self.context.sni_callback = self._choose

    def reload(self, config: ServerConfig) -> None:
        """Use the certificates of a configuration for new connections.

        Raises:
            CertificateError: One cannot be used; nothing changes.
        """
        self._default, self._named = self._load(config)

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, with the name that the client asks for, if it does."""
        found = None
        if name is not None and self._named:
            name = name.lower()
            # An asterisk stands for one label.
            found = self._named.get(name) or self._named.get(f"*.{name.partition('.')[2]}")
        connection.context = found or self._default

    def _load(self, config: ServerConfig) -> tuple[ssl.SSLContext, dict[str, ssl.SSLContext]]:
        named = {
            name.lower(): self._make(config, *files)
            for name, files in config.sni_certificates.items()
        }
        return self._make(config, config.certfile, config.keyfile), named

    def _make(self, config: ServerConfig, certfile: str, keyfile: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= _OPTIONS
        context.set_alpn_protocols(self._alpn)
        if config.keylog_file is not None:
            context.keylog_filename = config.keylog_file
        _load_pair(context, certfile, keyfile)
        if config.verify_mode is not ssl.CERT_NONE:
            _load_roots(context, config.ca_certs)
            context.verify_mode = config.verify_mode
        return context
