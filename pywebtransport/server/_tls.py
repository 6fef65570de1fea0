"""TLS of the TCP side: the certificates of the server, which can be replaced while it runs."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Final

from ..config import ServerConfig
from ..exceptions import CertificateError
from ..utils._text import printable
from ..utils._tls_files import explained

__all__ = ["TlsContexts", "http_alpn"]


def http_alpn(*, http2: bool) -> list[str]:
    """The protocols that a TCP side offers in the TLS handshake."""
    return ["h2", "http/1.1"] if http2 else ["http/1.1"]


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
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(self._alpn)
        if config.keylog_file is not None:
            context.keylog_filename = config.keylog_file
        try:
            # A password, so that OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(certfile, keyfile, password="")
            if config.verify_mode is not ssl.CERT_NONE:
                context.load_verify_locations(config.ca_certs)
                context.verify_mode = config.verify_mode
        except (OSError, ValueError) as error:
            raise explained(
                CertificateError(
                    f"certificate {printable(certfile)} cannot be used over TCP: "
                    f"{printable(error)}",
                    certificate_path=str(certfile),
                    certificate_error=printable(error),
                ),
                certfile,
                keyfile,
            ) from error
        return context
