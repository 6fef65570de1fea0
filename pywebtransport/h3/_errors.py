"""Private exceptions: how a handler says that a peer broke a rule.

They never leave the package: :meth:`H3Connection.guard` is the one place where
they are caught and turned into a close of the connection, the session or the
stream.
"""

from __future__ import annotations

from typing import Protocol

from ..exceptions import FlowControlError, ProtocolError
from ._constants import H3Error

__all__ = [
    "CapsuleError",
    "H3ConnectionError",
    "H3StreamError",
    "LimitError",
    "MessageError",
    "SessionAbort",
    "abort_error",
]


class _Abortable(Protocol):
    """A session, a tunnel or an exchange."""

    def aborted(self, error: Exception) -> None: ...


class _Request(Protocol):
    """A request stream."""

    @property
    def session(self) -> _Abortable | None: ...
    @property
    def exchange(self) -> _Abortable | None: ...
    def fail(self, code: int) -> None: ...


class H3ConnectionError(Exception):
    """Close the QUIC connection with an application error code."""

    def __init__(self, code: int, reason: str, frame_type: int | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.frame_type = frame_type


class H3StreamError(Exception):
    """Reset and stop one request stream; what it carries ends."""

    def __init__(self, request: _Request, code: int, reason: str) -> None:
        super().__init__(reason)
        self.request = request
        self.code = code
        self.reason = reason


class SessionAbort(Exception):
    """Abort the CONNECT stream of a session."""

    def __init__(self, session: _Abortable, code: int, reason: str) -> None:
        super().__init__(reason)
        self.session = session
        self.code = code
        self.reason = reason


class MessageError(Exception):
    """A field section or a message is malformed (RFC 9114 section 4.1.2)."""


class CapsuleError(Exception):
    """A capsule is malformed (RFC 9297 section 3.3)."""


class LimitError(Exception):
    """A flow-control rule of the session was broken."""


def abort_error(error: SessionAbort) -> Exception:
    """Return the public error for a session that this end aborts because of the peer."""
    if error.code == H3Error.WT_FLOW_CONTROL_ERROR:
        return FlowControlError(error.reason, error_code=error.code, remote=True)
    return ProtocolError(error.reason, error_code=error.code, remote=True)
