"""Remote calls over a session, in both directions."""

from ._call import Interceptor, Proceed, RpcCall, RpcDirection
from ._exceptions import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcCancelledError,
    RpcError,
    RpcErrorCode,
    RpcTimeoutError,
)
from ._manager import RpcManager
from ._messages import StreamCode

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
