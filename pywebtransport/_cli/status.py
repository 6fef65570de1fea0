"""Exit statuses, and what to do about each error. docs/reference/command-line.md lists them."""

from __future__ import annotations

import builtins
from enum import IntEnum

from ..asgi import LifespanError
from ..exceptions import (
    CertificateError,
    CertificateHashError,
    ConfigurationError,
    HandshakeError,
    SessionRejectedError,
    TimeoutError,
    UnreachableError,
    WebTransportError,
    WebTransportNotSupportedError,
)
from ..utils._text import printable

__all__ = ["Status", "advice_for", "complaint", "status_of", "wants_certificate", "without_advice"]

# TLS alerts of a server about the certificate of its client, as QUIC errors: bad, unsupported,
# revoked, expired or unknown certificate, unknown authority, certificate required (RFC 8446
# section 6.2, RFC 9001 section 4.8).
_ABOUT_CLIENT_CERTIFICATE = frozenset({0x12A, 0x12B, 0x12C, 0x12D, 0x12E, 0x130, 0x174})


class Status(IntEnum):
    """The exit status of ``pywebtransport``."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NAME = 3
    NOT_STARTED = 3  # of "serve", which looks up no name of a server
    CLOSED = 4
    SILENT = 5
    HANDSHAKE = 6
    CERTIFICATE = 7
    NO_WEBTRANSPORT = 8
    NOT_FOUND = 9
    FORBIDDEN = 10
    REFUSED = 11
    UNANSWERED = 12
    INTERRUPTED = 130
    TERMINATED = 143


def status_of(error: BaseException) -> Status:
    """Return the exit status for an error."""
    match error:
        case ConfigurationError():
            return Status.USAGE
        case LifespanError():
            return Status.NOT_STARTED
        case SessionRejectedError(status_code=404 | 405):
            return Status.NOT_FOUND
        case SessionRejectedError(status_code=401 | 403 | 407):
            return Status.FORBIDDEN
        case SessionRejectedError():
            return Status.REFUSED
        case WebTransportNotSupportedError():
            return Status.NO_WEBTRANSPORT
        case CertificateError():
            return Status.CERTIFICATE
        case HandshakeError():
            return Status.HANDSHAKE
        case UnreachableError():
            return Status.NAME if "host" in error.details else Status.CLOSED
        case TimeoutError(operation="resolve"):
            return Status.NAME
        case TimeoutError(operation="handshake"):
            return Status.SILENT
        case builtins.TimeoutError():
            return Status.UNANSWERED
        case _:
            return Status.FAILED


def advice_for(error: BaseException, port: int) -> str:
    """Return what to do about an error; empty if its message says all.

    Args:
        error: Why a server was not reached.
        port: UDP port of the server.
    """
    match status_of(error):
        case Status.NAME:
            return "check the host name, and the name server of this machine"
        case Status.CLOSED:
            return (
                f"something refused the packets: no server listens on UDP port {port} there. Start "
                f"it, or correct the port; 'ss -lun' on its machine lists the open UDP ports. A "
                "server that listens on localhost cannot be reached from other machines, and a "
                "container has to publish the port for UDP"
            )
        case Status.SILENT:
            return (
                f"no packet came back: a firewall drops UDP port {port}, at one end or in between, "
                "or the machine is down. Run "
                f"'tcpdump -ni any udp port {port}' at both ends to see where packets stop, and "
                "open the port for UDP (an open TCP port is not enough)"
            )
        case Status.HANDSHAKE if wants_certificate(error):
            return (
                "the server works; it accepts only clients with a certificate of an authority that "
                "it trusts. Use --client-cert and --client-key"
            )
        case Status.HANDSHAKE:
            return (
                "a QUIC server answered, but it may be one for another protocol: check host and "
                "port, and what the message says"
            )
        case Status.CERTIFICATE if isinstance(error, CertificateHashError):
            return (
                "a server that makes a new certificate at each start has a new hash each time; for "
                "'pywebtransport serve' on this machine, use --dev"
            )
        case Status.CERTIFICATE:
            return (
                "for a development certificate, use --certificate-hash with the hash that the "
                "server prints, or --dev for 'pywebtransport serve' on this machine; for an "
                "authority of your own, use --ca"
            )
        case Status.NO_WEBTRANSPORT:
            return (
                "the server speaks HTTP/3, but not WebTransport, at this port: enable it in its "
                "configuration, or connect to the port of the application"
            )
        case Status.NOT_FOUND:
            return "the server works; no application takes sessions at this path"
        case Status.FORBIDDEN:
            return (
                "the server works; it refuses this client. It may want credentials (--header) or "
                "another origin (--header 'origin: https://example.org')"
            )
        case Status.REFUSED:
            later = getattr(error, "headers", {}).get("retry-after")
            hint = f", and asks to try again after {printable(later)} seconds" if later else ""
            return f"the server works; it refused this session{hint}. Its log says why"
        case Status.UNANSWERED:
            return (
                "UDP and TLS work, but the server did not answer the request in time: its "
                "application may be busy or blocked. Its log may say why; --timeout waits longer"
            )
        case _:
            return ""


def without_advice(message: str) -> str:
    """The first part of a message of this package: advice to programmers follows."""
    return message.partition("; ")[0]


def wants_certificate(error: BaseException) -> bool:
    """Whether a server wants a certificate from its client, or another one."""
    return (
        isinstance(error, HandshakeError)
        and bool(error.remote)
        and error.error_code in _ABOUT_CLIENT_CERTIFICATE
    )


def complaint(error: WebTransportError) -> str:
    """What to say about an error that ends a verb.

    Messages about certificates name arguments of Python, this text options of the command line.
    """
    text = str(error)
    if isinstance(error, CertificateError) and "certificate_hash" in error.details:
        text = text.partition("; if it is the right server")[0]
    elif wants_certificate(error):
        text = without_advice(text)
    else:
        return text
    return f"{text}. What to do: {advice_for(error, 0)}"
