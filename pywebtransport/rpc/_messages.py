"""The messages on the stream of a call.

The caller opens a bidirectional stream, sends one :class:`Request` (or
:class:`Notification`) and finishes it; the callee answers with one
:class:`Result` or :class:`Failure` and finishes its side. Each message is
framed as by ``StructuredStream``: type ID (16 bits), length (32 bits), payload.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from ..serializer._texts import shown
from ..stream import WebTransportStream
from ._exceptions import RpcError, RpcErrorCode

__all__ = [
    "MAX_METADATA",
    "MAX_METHOD_LENGTH",
    "REGISTRY",
    "UNKNOWN_TYPE",
    "End",
    "Failure",
    "Item",
    "Notification",
    "Request",
    "Result",
    "StreamCode",
    "StreamRequest",
    "check_method",
    "check_request",
    "give_up",
]

MAX_METHOD_LENGTH = 256
"""Characters in the name of a method."""
MAX_METADATA = 64
"""Entries in the metadata of one call."""


class StreamCode(IntEnum):
    """Application codes for resetting or stopping the stream of a call."""

    DONE = 0
    """Everything was read."""
    CANCELLED = 1
    """This side ended the call: cancelled, timed out, or the manager was closed."""
    BAD_MESSAGE = 2
    """The peer's message could not be understood."""


@dataclass(slots=True)
class Request:
    """Caller to callee: run a method and answer."""

    method: str
    params: list[Any] = field(default_factory=list)
    named: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    timeout: float | None = None


@dataclass(slots=True)
class Notification(Request):
    """Caller to callee: run a method; there is no answer."""


@dataclass(slots=True)
class StreamRequest(Request):
    """Caller to callee: run a method and send each item that it yields."""


@dataclass(slots=True)
class Result:
    """Callee to caller: what the method returned."""

    value: Any = None


@dataclass(slots=True)
class Failure:
    """Callee to caller: the call failed."""

    code: int
    message: str = ""
    data: Any = None


@dataclass(slots=True)
class Item:
    """Callee to caller: one item that the method yielded."""

    value: Any = None


@dataclass(slots=True)
class End:
    """Callee to caller: there are no further items."""


REGISTRY: dict[int, type[Any]] = {
    1: Request,
    2: Result,
    3: Failure,
    4: Notification,
    5: StreamRequest,
    6: Item,
    7: End,
}
"""Type IDs on the wire; IDs from 16 on belong to publish/subscribe.

A peer answers a request whose type ID it does not know with INVALID_REQUEST and ``UNKNOWN_TYPE``.
Those of the first version know 1 to 4.
"""

UNKNOWN_TYPE = "the registry has no type ID {} "
"""The beginning of the message of that answer."""


def check_method(name: object) -> str:
    """Check the name of a method.

    Raises:
        RpcError: It is not (INVALID_REQUEST).
    """
    if isinstance(name, str) and 0 < len(name) <= MAX_METHOD_LENGTH and name.isprintable():
        return name
    raise _bad(f"method must be 1 to {MAX_METHOD_LENGTH} printable characters, got {shown(name)}")


def check_request(request: object) -> Request:
    """Check that the peer sent a request, and the types of its fields.

    Raises:
        RpcError: It is not (INVALID_REQUEST).
    """
    if not isinstance(request, Request):
        raise _bad(f"expected a request, got {type(request).__name__}")
    check_method(request.method)
    if not isinstance(request.params, list):
        raise _bad(f"params must be a list, got {type(request.params).__name__}")
    named, metadata, timeout = request.named, request.metadata, request.timeout
    if named and not (isinstance(named, dict) and all(isinstance(name, str) for name in named)):
        raise _bad("named must be a mapping of names to values")
    if metadata and not (
        isinstance(metadata, dict)
        and len(metadata) <= MAX_METADATA
        and all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items())
    ):
        raise _bad(f"metadata must be a mapping of at most {MAX_METADATA} names to strings")
    if timeout is not None and not (
        isinstance(timeout, int | float)
        and not isinstance(timeout, bool)
        and math.isfinite(timeout)
        and timeout > 0
    ):
        raise _bad(f"timeout must be seconds > 0 or null, got {shown(timeout)}")
    return request


def give_up(stream: WebTransportStream, code: StreamCode) -> None:
    """End both halves of the stream of a call, in any state."""
    stream.reset(code)
    stream.stop_sending(code)


def _bad(message: str) -> RpcError:
    return RpcError(message, error_code=RpcErrorCode.INVALID_REQUEST)
