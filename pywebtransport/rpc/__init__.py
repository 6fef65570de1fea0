"""Remote calls over a session, in both directions."""

from .call import Interceptor, Proceed, RpcCall, RpcDirection
from .exceptions import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcCancelledError,
    RpcError,
    RpcErrorCode,
    RpcTimeoutError,
)
from .manager import RpcManager
from .messages import StreamCode

__all__ = [
    "Interceptor",
    "InvalidParamsError",
    "MethodNotFoundError",
    "Proceed",
    "RpcCall",
    "RpcCancelledError",
    "RpcDirection",
    "RpcError",
    "RpcErrorCode",
    "RpcManager",
    "RpcTimeoutError",
    "StreamCode",
]
