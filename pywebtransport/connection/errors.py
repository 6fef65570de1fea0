"""From the end of a QUIC connection to the exception a user sees."""

from __future__ import annotations

import os

from .._quic import CloseInfo
from ..exceptions import (
    CertificateError,
    CertificateHashError,
    ConnectionError,
    HandshakeError,
    IdleTimeoutError,
    TimeoutError,
    UnreachableError,
    WebTransportError,
)
from ..types import Address

__all__ = ["error_from_close", "handshake_failure"]

_CRYPTO_ERROR_FIRST = 0x100
_CRYPTO_ERROR_LAST = 0x1FF
_CONNECTION_REFUSED = 0x2
# Kinds of an end that one of the two ends decided on.
_CLOSED_BY_AN_END = frozenset({"application", "transport", "stateless_reset"})

# TLS alerts (RFC 8446 section 6) that a user meets, and what they usually mean.
_ALERTS = {
    40: "handshake failure: no common parameters",
    42: "bad certificate",
    43: "unsupported certificate",
    44: "certificate revoked",
    45: "certificate expired",
    46: "certificate unknown",
    48: "unknown certificate authority",
    49: "access denied",
    50: "decode error",
    51: "decrypt error",
    70: "no common TLS version",
    71: "insufficient security",
    80: "internal error",
    86: "inappropriate fallback",
    109: "missing extension",
    112: "the server knows no such name",
    116: "a client certificate is required",
    120: "no common application protocol (ALPN); both ends must offer the same, normally h3",
}


def error_from_close(
    info: CloseInfo, remote: Address | None, where: str = "", *, pinned: bool = False
) -> WebTransportError:
    """The typed error for the end of a connection.

    Args:
        info: What the engine reported.
        remote: The peer's address.
        where: What was tried, for the message, such as a URL.
        pinned: The server's certificate was checked by its hash.

    Returns:
        An exception to raise; nothing here raises.
    """
    error = _describe(info, remote, where, pinned)
    error.reason = info.reason
    if info.kind in _CLOSED_BY_AN_END:
        error.remote = info.remote
    return error


def handshake_failure(info: CloseInfo) -> str:
    """Why a client has no connection, as its server sees it."""
    if info.kind == "version":
        return "it offers no QUIC version in common (v1, v2)"
    if info.kind in ("handshake_timeout", "idle"):
        return "it did not complete the handshake in time"
    if info.tls_error:
        return f"its certificate was not accepted: {info.tls_error}"
    who = "it" if info.remote else "this side"
    if info.kind == "transport" and _CRYPTO_ERROR_FIRST <= info.code <= _CRYPTO_ERROR_LAST:
        alert = info.code - _CRYPTO_ERROR_FIRST
        return f"{who} sent alert {alert} ({_ALERTS.get(alert, 'see RFC 8446 section 6')})"
    reason = f": {info.reason}" if info.reason else ""
    return f"{who} ended it with {info.kind} code {info.code:#x}{reason}"


def _describe(
    info: CloseInfo, remote: Address | None, where: str, pinned: bool
) -> WebTransportError:
    target = where or (f"{remote[0]}:{remote[1]}" if remote else "the peer")
    details = {
        "kind": info.kind,
        "remote": info.remote,
        "code": info.code,
        "reason": info.reason,
    }
    if info.kind == "refused":
        text = os.strerror(info.errno) if info.errno else "unreachable"
        return UnreachableError(
            f"{target} cannot be reached: {text}; check host and port, that a QUIC server "
            "listens there, and that UDP is not blocked",
            remote_address=remote,
            details={**details, "errno": info.errno},
        )
    if info.kind == "handshake_timeout" or (info.kind == "idle" and not info.handshake_done):
        return TimeoutError(
            f"{target} did not complete the QUIC handshake in time; check host and port, and "
            "that UDP is not blocked",
            operation="handshake",
            details=details,
        )
    if info.kind == "idle":
        return IdleTimeoutError(
            f"no packet from {target} for the idle timeout", remote_address=remote, details=details
        )
    if info.tls_error:
        kind = CertificateHashError if pinned else CertificateError
        return kind(
            f"the certificate of {target} was not accepted: {info.tls_error}",
            error_code=info.code,
            certificate_error=info.tls_error,
            details=details,
        )
    if info.kind == "transport" and _CRYPTO_ERROR_FIRST <= info.code <= _CRYPTO_ERROR_LAST:
        alert = info.code - _CRYPTO_ERROR_FIRST
        who = "the peer" if info.remote else "this side"
        meaning = _ALERTS.get(alert, "see RFC 8446 section 6")
        return HandshakeError(
            f"TLS failed with {target}: {who} sent alert {alert} ({meaning})",
            error_code=info.code,
            handshake_stage="tls",
            details=details,
        )
    if info.kind == "version":
        return HandshakeError(
            f"{target} speaks no QUIC version in common with this client (v1, v2)",
            handshake_stage="version",
            details=details,
        )
    if info.kind == "transport" and info.code == _CONNECTION_REFUSED and not info.handshake_done:
        return UnreachableError(
            f"{target} refused the connection: {info.reason or 'busy or shutting down'}",
            error_code=info.code,
            remote_address=remote,
            details=details,
        )
    if info.kind == "stateless_reset":
        message = f"{target} lost the connection's state (stateless reset)"
    elif info.kind == "internal":
        message = f"the QUIC engine gave the connection to {target} up: {info.reason or 'error'}"
    else:
        who = "the peer" if info.remote else "this side"
        level = "application" if info.kind == "application" else "transport"
        reason = f": {info.reason}" if info.reason else ""
        code = f"{level} code {info.code:#x}{reason}"
        message = f"{who} closed the connection to {target} with {code}"
    return ConnectionError(message, error_code=info.code, remote_address=remote, details=details)
