"""What a remote call can end with.

::

    WebTransportError
    `-- RpcError                    also what a handler raises to answer with an error
        |-- InvalidParamsError
        |-- MethodNotFoundError
        |-- RpcCancelledError
        `-- RpcTimeoutError         (also pywebtransport.TimeoutError)
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar

from ..exceptions import TimeoutError, WebTransportError

__all__ = [
    "InvalidParamsError",
    "MethodNotFoundError",
    "RpcCancelledError",
    "RpcError",
    "RpcErrorCode",
    "RpcTimeoutError",
    "error_from_code",
]


class RpcErrorCode(IntEnum):
    """Codes of failures that the library itself answers with.

    They are those of JSON-RPC 2.0 where it has one. Applications use any other
    number of 32 bits with sign, outside -32768 to -32000.
    """

    INVALID_REQUEST = -32600
    """The request could not be understood, or was too large."""
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    """The handler raised something that is not an :class:`RpcError`; the peer's log has it."""
    TIMEOUT = -32001
    CANCELLED = -32002


class RpcError(WebTransportError):
    """A remote call failed; raise it in a handler to make the caller's call fail with it.

    Args:
        message: For people; the caller gets it as it is.
        error_code: For programs; a number of the application, or an ``RpcErrorCode``.
        data: Anything the serializer can carry.
        method: Which method was called; filled in for the caller.
        details: Facts for this side; not sent.
        reason: Likewise.
        remote: True at the caller when the peer answered with the error.
    """

    category = "rpc"
    _fields: ClassVar[tuple[str, ...]] = ("method", "data")
    default_code: ClassVar[int] = RpcErrorCode.INTERNAL_ERROR

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        data: Any = None,
        method: str | None = None,
        details: dict[str, Any] | None = None,
        reason: str = "",
        remote: bool | None = None,
    ) -> None:
        super().__init__(
            message,
            error_code=self.default_code if error_code is None else error_code,
            details=details,
            reason=reason,
            remote=remote,
        )
        self.data = data
        self.method = method

    def __str__(self) -> str:
        where = "" if self.method is None else f"{self.method}: "
        return f"{where}{self.message} (code {self.error_code:d})"


class MethodNotFoundError(RpcError):
    """The peer has no method of that name."""

    default_code = RpcErrorCode.METHOD_NOT_FOUND


class InvalidParamsError(RpcError):
    """The parameters do not fit the method: number, names, or types."""

    default_code = RpcErrorCode.INVALID_PARAMS


class RpcCancelledError(RpcError):
    """The call was ended at the other side, or by closing the manager here."""

    default_code = RpcErrorCode.CANCELLED


class RpcTimeoutError(RpcError, TimeoutError):
    """The call did not end within its timeout.

    Args:
        message: As for :class:`RpcError`.
        timeout_duration: Seconds.
        operation: What took too long.
    """

    category = "timeout"
    _fields: ClassVar[tuple[str, ...]] = (*RpcError._fields, *TimeoutError._fields)
    default_code = RpcErrorCode.TIMEOUT

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        data: Any = None,
        method: str | None = None,
        timeout_duration: float | None = None,
        operation: str | None = "call",
        details: dict[str, Any] | None = None,
        reason: str = "",
        remote: bool | None = None,
    ) -> None:
        RpcError.__init__(
            self,
            message,
            error_code=error_code,
            data=data,
            method=method,
            details=details,
            reason=reason,
            remote=remote,
        )
        self.timeout_duration = timeout_duration
        self.operation = operation


_BY_CODE: dict[int, type[RpcError]] = {
    kind.default_code: kind
    for kind in (MethodNotFoundError, InvalidParamsError, RpcCancelledError, RpcTimeoutError)
}


def error_from_code(code: int, message: str, *, data: Any, method: str) -> RpcError:
    """The exception for a failure that the peer answered with."""
    kind = _BY_CODE.get(code, RpcError)
    return kind(message, error_code=code, data=data, method=method, remote=True)
