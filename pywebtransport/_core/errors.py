"""Turns the end of a QUIC connection into the exception that a user sees."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

from .._states import Address
from .._transport import CloseInfo
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
from ..utils._hosts import bracketed, host_and_port
from ..utils._text import printable

__all__ = ["error_from_close", "handshake_failure"]

_CRYPTO_ERROR_FIRST = 0x100
_CRYPTO_ERROR_LAST = 0x1FF
_CONNECTION_REFUSED = 0x2
# Connections that one of the two ends closed on purpose.
_CLOSED_BY_AN_END = frozenset({"application", "transport", "stateless_reset"})

# TLS alerts (RFC 8446 section 6) that users may see, and what they usually mean.
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
    70: "no common TLS version; QUIC needs TLS 1.3",
    71: "insufficient security",
    80: "internal error",
    86: "inappropriate fallback",
    109: "missing extension",
    112: "the server knows no such name; use one that its certificates have",
    116: "a client certificate is required",
    120: "no common application protocol (ALPN); both ends must offer the same, normally h3",
}
# Alerts about the certificate that was sent to the one who sends the alert.
_OWN_CERTIFICATE = frozenset({42, 43, 44, 45, 46, 48})
_OWN_CERTIFICATE_HINT = (
    "which has to be valid now and of an authority that the other side trusts (certfile)"
)
_CERTIFICATE_REQUIRED = 116

# A hash in the engine's message about a certificate.
_HASH = re.compile(r"SHA-256 (?:is )?([0-9a-f]{64})")
_NEW_CERTIFICATE = (
    "make a new one, pywebtransport.utils.generate_self_signed_cert(host) gives ECDSA P-256 for "
    "13 days, restart the server with it and give its hash"
)


def error_from_close(
    info: CloseInfo,
    remote: Address | None,
    where: str = "",
    *,
    pinned: bool = False,
    transport: str = "quic",
) -> WebTransportError:
    """Return the typed error for the end of a connection.

    Args:
        info: What the engine reported.
        remote: The peer's address.
        where: The target for the message, such as a URL.
        pinned: The server's certificate was checked by its hash.
        transport: ``quic`` or ``websocket``.

    Returns:
        An exception to raise; nothing here raises.
    """
    if transport == "websocket":
        error = _describe_websocket(info, remote, where)
    else:
        error = _describe(info, remote, where, pinned)
    error.reason = info.reason
    if info.kind in _CLOSED_BY_AN_END:
        error.remote = info.remote
    return error


def handshake_failure(info: CloseInfo) -> str:
    """Return why a client got no connection, from the server's point of view."""
    if info.kind == "version":
        return "it offers no QUIC version in common (v1, v2)"
    if info.kind in ("handshake_timeout", "idle"):
        return "it did not complete the handshake in time"
    if info.tls_error:
        return f"its certificate was not accepted: {info.tls_error}"
    who = "it" if info.remote else "this side"
    if info.kind == "transport" and _CRYPTO_ERROR_FIRST <= info.code <= _CRYPTO_ERROR_LAST:
        alert = info.code - _CRYPTO_ERROR_FIRST
        told = f"{who} sent alert {alert} ({_ALERTS.get(alert, 'see RFC 8446 section 6')})"
        if info.remote and alert in _OWN_CERTIFICATE:
            told += "; it did not accept the certificate of this server"
        return told
    reason = f": {info.reason}" if info.reason else ""
    return f"{who} ended it with {info.kind} code {info.code:#x}{reason}"


def _describe(
    info: CloseInfo, remote: Address | None, where: str, pinned: bool
) -> WebTransportError:
    target = _target(remote, where)
    reason = printable(info.reason)
    details = _details(info)
    if info.kind == "refused":
        text = os.strerror(info.errno) if info.errno else "unreachable"
        return UnreachableError(
            f"{target} cannot be reached: {text}; {_unreachable_hint(info.errno)}",
            remote_address=remote,
            details={**details, "errno": info.errno},
        )
    if info.kind == "handshake_timeout" or (info.kind == "idle" and not info.handshake_done):
        return TimeoutError(
            f"{target} did not complete the QUIC handshake in time: nothing refused the packets, "
            "and too few were answered; check host and port, and that UDP is not blocked",
            operation="handshake",
            details=details,
        )
    if info.kind == "idle":
        return IdleTimeoutError(
            f"no packet from {target} for the idle timeout", remote_address=remote, details=details
        )
    if info.tls_error:
        kind = CertificateHashError if pinned else CertificateError
        found = _HASH.search(info.tls_error)
        if found is not None:
            details["certificate_hash"] = found[1]
        text = _quoted(info.tls_error)
        hint = _certificate_hint(info.tls_error, found and found[1], pinned)
        return kind(
            f"the certificate of {target} was not accepted: {text}; {hint}",
            error_code=info.code,
            certificate_error=text,
            details=details,
        )
    if info.kind == "transport" and _CRYPTO_ERROR_FIRST <= info.code <= _CRYPTO_ERROR_LAST:
        alert = info.code - _CRYPTO_ERROR_FIRST
        who = "the peer" if info.remote else "this side"
        meaning = _ALERTS.get(alert, "see RFC 8446 section 6")
        hint = ""
        if info.remote and alert == _CERTIFICATE_REQUIRED:
            hint = "; give certfile and keyfile, of an authority that the server trusts"
        elif info.remote and alert in _OWN_CERTIFICATE:
            hint = f"; it did not accept the certificate of this side, {_OWN_CERTIFICATE_HINT}"
        return HandshakeError(
            f"TLS failed with {target}: {who} sent alert {alert} ({meaning}){hint}",
            error_code=info.code,
            handshake_stage="tls",
            details=details,
        )
    if info.kind == "version":
        return HandshakeError(
            f"{target} speaks QUIC, but no version in common with this client (v1, v2); update "
            "the server",
            handshake_stage="version",
            details=details,
        )
    if info.kind == "transport" and info.code == _CONNECTION_REFUSED and not info.handshake_done:
        return UnreachableError(
            f"{target} refused the connection: {reason or 'busy or shutting down'}; try again "
            "later",
            error_code=info.code,
            remote_address=remote,
            details=details,
        )
    if info.kind == "stateless_reset":
        message = f"{target} lost the connection's state (stateless reset)"
    elif info.kind == "internal":
        message = f"the QUIC engine gave up the connection to {target}: {reason or 'error'}"
    else:
        message = _closed_by(info, target)
    return ConnectionError(message, error_code=info.code, remote_address=remote, details=details)


def _describe_websocket(info: CloseInfo, remote: Address | None, where: str) -> WebTransportError:
    target = _target(remote, where)
    reason = printable(info.reason)
    details = _details(info)
    if info.kind == "idle":
        return IdleTimeoutError(
            f"nothing came from {target} for the idle timeout",
            remote_address=remote,
            details=details,
        )
    if info.kind == "handshake_timeout":
        return TimeoutError(
            f"{target} sent no QMux parameters in time",
            operation="handshake",
            details=details,
        )
    if info.kind in ("application", "transport") and (info.kind == "application" or info.code):
        message = _closed_by(info, target)
    else:
        message = f"the connection to {target} ended without a code{reason and ': '}{reason}"
    return ConnectionError(message, error_code=info.code, remote_address=remote, details=details)


def _details(info: CloseInfo) -> dict[str, Any]:
    return {
        "kind": info.kind,
        "remote": info.remote,
        "code": info.code,
        "reason": info.reason,
    }


def _closed_by(info: CloseInfo, target: str) -> str:
    who = "the peer" if info.remote else "this side"
    level = "application" if info.kind == "application" else "transport"
    reason = printable(info.reason)
    code = f"{level} code {info.code:#x}" + (f": {reason}" if reason else "")
    return f"{who} closed the connection to {target} with {code}"


def _target(remote: Address | None, where: str) -> str:
    """Return the target for a message, and its address if that differs."""
    if remote is None:
        return printable(where) or "the peer"
    if not where:
        return host_and_port(*remote)
    if where.startswith(bracketed(remote[0])):
        return printable(where)
    return f"{printable(where)} (at {remote[0]})"


def _unreachable_hint(number: int) -> str:
    match number:
        case errno.ECONNREFUSED:
            return (
                "the host is up, and no QUIC server listens there; check host and port, and that "
                "the server runs"
            )
        case errno.ENETUNREACH | errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return "this machine has no route there; check its network and ip_family"
        case errno.EHOSTUNREACH | errno.EHOSTDOWN:
            return "the host is not there or is down; check the host, and the way to its network"
        case errno.EACCES | errno.EPERM:
            return "a firewall forbids it; allow UDP to that port"
        case _:
            return (
                "check host and port, that a QUIC server listens there, and that UDP is not blocked"
            )


def _quoted(text: str) -> str:
    """Return the engine's message, with the quoted text from the certificate escaped."""
    return '"'.join(printable(part, 400) for part in text.split('"'))


def _certificate_hint(text: str, digest: str | None, pinned: bool) -> str:
    """Return what to do about a refused certificate, given the engine's message about it."""
    pin = f"server_certificate_hashes=['{digest}']" if digest else "server_certificate_hashes"
    if pinned:
        if "matches none of" in text:
            return (
                f"if it is the right server, give {pin}; "
                "pywebtransport.utils.certificate_hash(path) tells the hash of a file"
            )
        return f"{_NEW_CERTIFICATE}; or trust it by ca_certs=path instead of by its hash"
    if text.startswith("client certificate"):
        return "ca_certs of the server has to hold the authority that made it"
    if "is not for" in text:
        return "connect to one of its names, or give the server a certificate for this one"
    if "expired" in text or "not valid" in text:
        return "renew it at the server, and check the clocks of both machines"
    if "no trusted roots" in text:
        return "install the system's certificates (ca-certificates), or give ca_certs=path"
    if "not trusted" in text:
        return (
            "if it is the right server, give ca_certs=path of its authority (or of the certificate "
            f"itself), or, for a certificate for development with at most 14 days, {pin}"
        )
    return "give the server a certificate from an authority that this client trusts (ca_certs)"
