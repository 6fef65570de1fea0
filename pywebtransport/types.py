"""The names for annotations: states, events, aliases, and protocols, collected for programs.

Most are defined elsewhere in the package. Inside it, only the top may import this module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ._core.stream import StreamType
from ._header_map import HeaderMap
from ._states import (
    URL,
    Address,
    Buffer,
    BufferSize,
    CertificateData,
    ConnectionId,
    ConnectionState,
    ConnectionStats,
    Data,
    ErrorCode,
    EventData,
    EventType,
    FlowControlWindow,
    Headers,
    HeadersToSend,
    Priority,
    PrivateKeyData,
    ReasonPhrase,
    RoutePattern,
    SessionCloseInfo,
    SessionId,
    SessionState,
    SessionStats,
    SSLContext,
    StreamDirection,
    StreamId,
    StreamState,
    StreamStats,
    Timeout,
    TimeoutDict,
    Timestamp,
    URLParts,
    Weight,
)
from .events.event import EventHandler
from .serializer._protocol import Serializer
from .server._protocols import AuthHandlerProtocol, MiddlewareProtocol
from .server.router import SessionHandler
from .stream import WebTransportReceiveStream, WebTransportStream

__all__ = [
    "URL",
    "Address",
    "AuthHandlerProtocol",
    "BidirectionalStreamProtocol",
    "Buffer",
    "BufferSize",
    "CertificateData",
    "ConnectionId",
    "ConnectionState",
    "ConnectionStats",
    "Data",
    "DatagramHandler",
    "ErrorCode",
    "ErrorHandler",
    "EventData",
    "EventEmitterProtocol",
    "EventHandler",
    "EventType",
    "FlowControlWindow",
    "HeaderMap",
    "Headers",
    "HeadersToSend",
    "MiddlewareProtocol",
    "Priority",
    "PrivateKeyData",
    "ReadableStreamProtocol",
    "ReasonPhrase",
    "RouteHandler",
    "RoutePattern",
    "Routes",
    "SSLContext",
    "Serializer",
    "SessionCloseInfo",
    "SessionHandler",
    "SessionId",
    "SessionState",
    "SessionStats",
    "StreamDirection",
    "StreamHandler",
    "StreamId",
    "StreamState",
    "StreamStats",
    "StreamType",
    "Timeout",
    "TimeoutDict",
    "Timestamp",
    "URLParts",
    "WebTransportProtocol",
    "Weight",
    "WritableStreamProtocol",
]

DatagramHandler: TypeAlias = Callable[[bytes], Awaitable[None]]
ErrorHandler: TypeAlias = Callable[[Exception], Awaitable[None]]
RouteHandler: TypeAlias = SessionHandler
Routes: TypeAlias = dict[RoutePattern, RouteHandler]
StreamHandler: TypeAlias = Callable[
    [WebTransportStream | WebTransportReceiveStream], Awaitable[None]
]


@runtime_checkable
class EventEmitterProtocol(Protocol):
    """What an object that emits events looks like."""

    async def emit(self, *, event_type: EventType, data: EventData | None = None) -> None: ...

    def off(self, *, event_type: EventType, handler: EventHandler | None = None) -> None: ...

    def on(self, *, event_type: EventType, handler: EventHandler) -> None: ...


@runtime_checkable
class ReadableStreamProtocol(Protocol):
    """The receiving side of a stream."""

    def at_eof(self) -> bool: ...

    async def read(self, *, size: int = -1) -> bytes: ...

    async def readline(self, *, separator: bytes = b"\n") -> bytes: ...

    async def readexactly(self, *, n: int) -> bytes: ...

    async def readuntil(self, *, separator: bytes = b"\n") -> bytes: ...


@runtime_checkable
class WritableStreamProtocol(Protocol):
    """The sending side of a stream."""

    async def close(self, *, code: int | None = None, reason: str | None = None) -> None: ...

    async def flush(self) -> None: ...

    def is_closing(self) -> bool: ...

    async def write(self, *, data: Data) -> None: ...

    async def writelines(self, *, lines: list[Data]) -> None: ...


@runtime_checkable
class BidirectionalStreamProtocol(ReadableStreamProtocol, WritableStreamProtocol, Protocol):
    """Both sides of a stream."""


@runtime_checkable
class WebTransportProtocol(Protocol):
    """What receives the raw facts of a UDP transport."""

    def connection_made(self, transport: Any) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def datagram_received(self, data: bytes, addr: Address) -> None: ...

    def error_received(self, exc: Exception) -> None: ...
