"""Questions about errors; ``pywebtransport.exceptions`` hands these functions on."""

from __future__ import annotations

import builtins
import errno
import socket
from collections.abc import Mapping
from typing import Any

# Half made when this is imported: that module imports this one.
import pywebtransport.exceptions as errors
from pywebtransport.constants import ErrorCodes

__all__ = ["get_error_category", "is_fatal_error", "is_request_rejected", "is_retriable_error"]

# HTTP statuses that ask to try again later (RFC 9110, RFC 8470).
_RETRIABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_RETRIABLE_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EINTR,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOBUFS,
    }
)


def is_retriable_error(exception: Exception) -> bool:
    """Tell whether the same operation may succeed when it is tried again later.

    True for lost and refused connections, timeouts, reached stream limits, requests
    that the server did not process (H3_REQUEST_REJECTED, RFC 9114 section 8.1), and
    rejections whose status says so (408, 425, 429, 500, 502, 503, 504); also
    for the matching errors of the standard library. An error that stands for
    several (``details["attempts"]``) is retriable only if all of them are.

    Args:
        exception: Any exception.
    """
    attempts = _attempts(exception)
    if attempts:
        return all(attempt.get("retriable") is True for attempt in attempts)
    match exception:
        case errors.SessionRejectedError():
            return exception.status_code in _RETRIABLE_STATUSES
        case errors.ProxyError() if exception.status_code is not None:
            return exception.status_code in _RETRIABLE_STATUSES
        case builtins.ConnectionError() | builtins.TimeoutError():
            return True
        case errors.WebTransportError() if is_request_rejected(exception):
            return True
        case socket.gaierror():
            return exception.errno == socket.EAI_AGAIN
        case OSError():
            return exception.errno in _RETRIABLE_ERRNOS
        case _:
            return False


def is_request_rejected(exception: BaseException) -> bool:
    """Tell whether a server left a session request alone (H3_REQUEST_REJECTED).

    It did nothing for it, so that the same request may be sent again at once, on
    another connection (RFC 9114 section 4.1.1).

    Args:
        exception: Any exception. Codes of the application are none of HTTP/3.
    """
    return (
        isinstance(exception, errors.ClientError | errors.SessionError)
        and not isinstance(exception, errors.SessionClosedError | errors.SessionRejectedError)
        and exception.error_code == ErrorCodes.H3_REQUEST_REJECTED
    )


def is_fatal_error(exception: Exception) -> bool:
    """Tell whether trying again is useless until something is changed.

    True for configuration, certificate, authentication, handshake and protocol
    errors, for servers without WebTransport, and for rejections with a status
    that does not ask to try again. Errors of one stream, datagram or message
    are not fatal: the session goes on.

    Args:
        exception: Any exception.
    """
    match exception:
        case errors.SessionRejectedError():
            return exception.status_code not in _RETRIABLE_STATUSES
        case errors.ProxyError():
            return exception.status_code not in {None, *_RETRIABLE_STATUSES}
        case (
            errors.AuthenticationError()
            | errors.CertificateError()
            | errors.ConfigurationError()
            | errors.HandshakeError()
            | errors.ProtocolError()
            | errors.WebTransportNotSupportedError()
        ):
            return True
        case _:
            return False


def get_error_category(exception: Exception) -> str:
    """Name the kind of an error, for logs and metrics.

    Args:
        exception: Any exception.

    Returns:
        ``authentication``, ``certificate``, ``client``, ``configuration``,
        ``connection``, ``datagram``, ``flow_control``, ``handshake``,
        ``protocol``, ``serialization``, ``server``, ``session``, ``stream``,
        ``timeout``, ``webtransport`` (the base class itself), or ``unknown``.
    """
    match exception:
        case errors.WebTransportError():
            return exception.category
        case builtins.TimeoutError():
            return "timeout"
        case OSError():
            return "connection"
        case _:
            return "unknown"


def _attempts(exception: Exception) -> list[Mapping[str, Any]]:
    """What an error says about several tries that it stands for; empty for most."""
    found = (
        exception.details.get("attempts")
        if isinstance(exception, errors.WebTransportError)
        else None
    )
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
