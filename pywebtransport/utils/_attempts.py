"""Several attempts failed: chooses the error to raise, and adds the others to it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from ..exceptions import (
    AuthenticationError,
    CertificateError,
    ClientError,
    ConfigurationError,
    HandshakeError,
    ProtocolError,
    TimeoutError,
    UnreachableError,
    WebTransportError,
    is_retriable_error,
)
from ._text import printable

__all__ = ["attempt_facts", "combine_errors", "furthest", "lost_to_network"]

# Errors of this machine alone: nothing was sent, or there was no route.
_LOCAL = frozenset(
    {
        errno.EACCES,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EINVAL,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EPERM,
        errno.EPROTONOSUPPORT,
    }
)
# Missing resources of this process: such an attempt says nothing about its address.
_LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# A router or neighbour reports that there is no route.
_ON_THE_WAY = frozenset({errno.EHOSTDOWN, errno.EHOSTUNREACH})

# Two results of ``_reached``.
_BUSY, _WITHOUT_RESOURCES = 5, 10


def furthest(errors: Sequence[BaseException]) -> int:
    """Return the position of the most informative of several errors.

    This is the error of the attempt that got furthest: an answer to the session request, then the
    certificate, then TLS and QUIC versions, then a server that refuses, a port or host that
    refuses, silence, a network without a route, and last, errors of this machine. Errors that are
    not network failures, such as a programming error or a lack of file descriptors, come before all
    of them. Of equal ones, the first one is chosen.

    Args:
        errors: At least one.

    Returns:
        Its position.
    """
    return max(range(len(errors)), key=lambda position: (_distance(errors[position]), -position))


def combine_errors(attempts: Sequence[tuple[str, BaseException]]) -> BaseException:
    """Choose the error to raise for several attempts.

    ``details["attempts"]`` of the error lists all, in order. ``is_retriable_error`` is then only
    true if it is true for each of them. The notes of the error name the others.

    Args:
        attempts: What was tried, such as an address, and its error; at least one. If there is only
            one, its error is returned unchanged.
    """
    errors = [error for _, error in attempts]
    chosen = errors[position := furthest(errors)]
    if len(attempts) > 1 and isinstance(chosen, WebTransportError):
        # Before the error gets the list: each one is judged by itself.
        chosen.details["attempts"] = [attempt_facts(*attempt) for attempt in attempts]
        for number, (what, error) in enumerate(attempts):
            if number != position:
                chosen.add_note(f"{printable(what)}: {_text(error)}")
    return chosen


def lost_to_network(error: BaseException) -> bool:
    """Tell whether an attempt got no answer of the other end: silence, refusal, or no route.

    False for an answer of a server, even if it is busy, and for a lack of resources here.
    """
    match error:
        case UnreachableError():
            return _reached(error) not in (_BUSY, _WITHOUT_RESOURCES)
        case TimeoutError():
            return True
        case _:
            return False


def attempt_facts(what: str, error: BaseException) -> dict[str, Any]:
    """One entry of ``details["attempts"]``."""
    return {
        "address": what,
        "type": type(error).__name__,
        "error": _text(error),
        "retriable": isinstance(error, Exception) and is_retriable_error(error),
    }


def _text(error: BaseException) -> str:
    # Messages of our own errors are escaped and limited when they are created.
    return str(error) if isinstance(error, WebTransportError) else printable(repr(error))


def _distance(error: BaseException) -> int:
    """How far an attempt came."""
    match error:
        case ConfigurationError():
            return 11
        case AuthenticationError() | ClientError():
            return 9
        case CertificateError():
            return 8
        case HandshakeError() | ProtocolError():
            return 7
        case UnreachableError():
            return _reached(error)
        case TimeoutError():
            return 3
        case WebTransportError():
            return 6  # such as a connection that was closed with a code
        case _:
            return 12


def _reached(error: UnreachableError) -> int:
    if error.error_code is not None:
        return _BUSY  # a QUIC server refused
    number = error.details.get("errno")
    if number in _LACKING:
        return _WITHOUT_RESOURCES
    if "host" in error.details:
        return 0  # the name has no address
    if number in _LOCAL:
        return 1
    return 2 if number in _ON_THE_WAY else 4
