"""TLS of the TCP side: the protocols that it offers."""

from __future__ import annotations

from ..utils._tls_contexts import TlsContexts

__all__ = ["TlsContexts", "http_alpn"]


def http_alpn(*, http2: bool) -> list[str]:
    """The protocols that a TCP side offers in the TLS handshake."""
    return ["h2", "http/1.1"] if http2 else ["http/1.1"]
