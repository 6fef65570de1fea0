"""Remote calls over a session, in both directions."""

from ._call import Interceptor, Proceed, RpcCall, RpcDirection
from ._exceptions import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcCancelledError,
    RpcConnectionLostError,
    RpcError,
    RpcErrorCode,
    RpcTimeoutError,
    RpcUnsupportedError,
)
from ._manager import RpcManager
from ._messages import StreamCode
from ._reconnecting import ReconnectingRpc, RpcState
from ._reconnecting_results import ReconnectingResults
from ._repeating import Around, RpcStats
from ._streaming import ResultStream

__all__ = [
    "Around",
    "Interceptor",
    "InvalidParamsError",
    "MethodNotFoundError",
    "Proceed",
    "ReconnectingResults",
    "ReconnectingRpc",
    "ResultStream",
    "RpcCall",
    "RpcCancelledError",
    "RpcConnectionLostError",
    "RpcDirection",
    "RpcError",
    "RpcErrorCode",
    "RpcManager",
    "RpcState",
    "RpcStats",
    "RpcTimeoutError",
    "RpcUnsupportedError",
    "StreamCode",
]
