"""Exceptions of remote calls.

::

    WebTransportError
    `-- RpcError                    also raised by handlers to answer with an error
        |-- InvalidParamsError
        |-- MethodNotFoundError
        |-- RpcCancelledError
        |-- RpcConnectionLostError
        |-- RpcUnsupportedError
        `-- RpcTimeoutError         (also pywebtransport.TimeoutError)
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar

from .._declared import declared
from ..exceptions import TimeoutError, WebTransportError

__all__ = [
    "InvalidParamsError",
    "MethodNotFoundError",
    "RpcCancelledError",
    "RpcConnectionLostError",
    "RpcError",
    "RpcErrorCode",
    "RpcTimeoutError",
    "RpcUnsupportedError",
    "error_from_code",
]


class RpcErrorCode(IntEnum):
    """Error codes of the library itself.

    They are codes of JSON-RPC 2.0 where these exist. Applications may use any signed 32-bit number
    outside the range from -32768 to -32000.
    """

    INVALID_REQUEST = -32600
    """The request could not be understood, or was too large."""
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    """The handler raised an exception other than :class:`RpcError`; the peer has logged it."""
    TIMEOUT = -32001
    CANCELLED = -32002
    UNSUPPORTED = -32003
    """The peer does not know this kind of request; never sent."""
    CONNECTION_LOST = -32004
    """The session ended while the call ran; never sent."""


@declared
class RpcError(WebTransportError, category="rpc"):
    """A remote call failed. Raise it in a handler to make the call fail with it.

    Args:
        message: For people; sent to the caller unchanged.
        error_code: For programs: a number of the application, or an ``RpcErrorCode``.
        data: Anything that the serializer can encode.
        method: The method that was called; set for the caller.
        details: Information for this side; not sent.
        reason: Information for this side; not sent.
        remote: True at the caller if the peer answered with this error.
    """

    default_code: ClassVar[int] = RpcErrorCode.INTERNAL_ERROR
    method: str | None = None
    data: Any = None

    def _complete(self) -> None:
        super()._complete()
        if self.error_code is None:
            self.error_code = self.default_code

    def __str__(self) -> str:
        where = "" if self.method is None else f"{self.method}: "
        return f"{where}{self.message} (code {self.error_code:d})"


class MethodNotFoundError(RpcError):
    """The peer has no method with this name."""

    default_code = RpcErrorCode.METHOD_NOT_FOUND


class InvalidParamsError(RpcError):
    """The arguments do not match the method: number, names, or types."""

    default_code = RpcErrorCode.INVALID_PARAMS


class RpcCancelledError(RpcError):
    """The call was ended by the other side, or by closing the local manager."""

    default_code = RpcErrorCode.CANCELLED


class RpcConnectionLostError(RpcError):
    """The session was lost while the call ran: the method may have run, or not.

    A :class:`ReconnectingRpc` raises it for calls that are not idempotent. ``__cause__`` is the
    error of the session.
    """

    default_code = RpcErrorCode.CONNECTION_LOST


class RpcUnsupportedError(RpcError):
    """The peer is of a version that does not know this kind of request."""

    default_code = RpcErrorCode.UNSUPPORTED


@declared
class RpcTimeoutError(RpcError, TimeoutError, category="timeout"):
    """The call did not end within its timeout."""

    default_code = RpcErrorCode.TIMEOUT
    operation: str | None = "call"


_BY_CODE: dict[int, type[RpcError]] = {
    kind.default_code: kind
    for kind in (
        MethodNotFoundError,
        InvalidParamsError,
        RpcCancelledError,
        RpcTimeoutError,
    )
}


def error_from_code(code: int, message: str, *, data: Any, method: str) -> RpcError:
    """Create the exception for a failure that the peer sent."""
    kind = _BY_CODE.get(code, RpcError)
    return kind(message, error_code=code, data=data, method=method, remote=True)
