"""Shared vocabulary: states, event names, type aliases and structural protocols.

Nothing here imports another module of the package at run time, so every layer
may import it.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from pywebtransport.events import Event
    from pywebtransport.session import WebTransportSession
    from pywebtransport.stream import (
        WebTransportReceiveStream,
        WebTransportSendStream,
        WebTransportStream,
    )

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

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class ConnectionState(StrEnum):
    """Where a QUIC connection is in its life."""

    IDLE = "idle"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"
    DRAINING = "draining"


class EventType(StrEnum):
    """The names of the events that connections, sessions, streams and datagrams emit."""

    CAPSULE_RECEIVED = "capsule_received"
    CONNECTION_ESTABLISHED = "connection_established"
    CONNECTION_LOST = "connection_lost"
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_CLOSED = "connection_closed"
    DATAGRAM_ERROR = "datagram_error"
    DATAGRAM_RECEIVED = "datagram_received"
    DATAGRAM_SENT = "datagram_sent"
    PROTOCOL_ERROR = "protocol_error"
    SETTINGS_RECEIVED = "settings_received"
    SESSION_CLOSED = "session_closed"
    SESSION_DRAINING = "session_draining"
    SESSION_MAX_DATA_UPDATED = "session_max_data_updated"
    SESSION_MAX_STREAMS_BIDI_UPDATED = "session_max_streams_bidi_updated"
    SESSION_MAX_STREAMS_UNI_UPDATED = "session_max_streams_uni_updated"
    SESSION_READY = "session_ready"
    SESSION_REQUEST = "session_request"
    STREAM_CLOSED = "stream_closed"
    STREAM_DATA_RECEIVED = "stream_data_received"
    STREAM_ERROR = "stream_error"
    STREAM_OPENED = "stream_opened"
    TIMEOUT_ERROR = "timeout_error"


class SessionState(StrEnum):
    """Where a session is in its life; it only ever moves forward."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    DRAINING = "draining"
    CLOSED = "closed"


class HeaderMap(dict[str, str]):
    """Header fields by name, in lower case: a dictionary that also knows the single lines.

    A field may come in several lines. Under its name they are joined as HTTP says:
    ``cookie`` with "; ", others with ", ". Lines of ``set-cookie`` cannot be joined, so
    its name gives the first; :meth:`get_all` and :attr:`lines` give them all.

    Args:
        lines: Names and values.
    """

    __slots__ = ("_several",)

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__()
        # The lines of those names that have more than one; most maps have none.
        self._several: dict[str, tuple[str, ...]] | None = None
        for name, value in lines:
            if name in self:
                self.set_all(name, [*self.get_all(name), value])
            else:
                self[name] = value

    @classmethod
    def of(cls, headers: HeadersToSend) -> Self:
        """As given by an application, unchecked: lists become lines, the rest stays as it is."""
        self = cls()
        for name, value in headers.items():
            lines = headers.get_all(name) if isinstance(headers, HeaderMap) else value
            if isinstance(lines, list | tuple) and all(type(v) in (str, int) for v in lines):
                self.set_all(name, [str(line) for line in lines])
            else:
                self[name] = value  # type: ignore[assignment]
        return self

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Every line; those of one name stand together, in their order."""
        if self._several is None:
            return list(self.items())
        return [(name, value) for name in self for value in self.get_all(name)]

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of a field; empty when there is none."""
        if name not in self:
            name = name.lower()
        joined = self.get(name)
        if joined is None:
            return []
        values = None if self._several is None else self._several.get(name)
        # The dictionary rules: what was put under the name later is all there is.
        return list(values) if values and _joined(name, values) == joined else [joined]

    def set_all(self, name: str, values: Sequence[str]) -> None:
        """Give a field these lines, in place of those it had; none at all removes it."""
        if values:
            self[name] = _joined(name, values)
        else:
            self.pop(name, None)
        if len(values) > 1:
            self._several = {**(self._several or {}), name: tuple(values)}

    def copy(self) -> Self:
        """An independent copy, with all lines."""
        return type(self)(self.lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lines,)


def _joined(name: str, values: Sequence[str]) -> str:
    if name == "set-cookie":
        return values[0]
    return ("; " if name == "cookie" else ", ").join(values)


class StreamDirection(StrEnum):
    """Which ways bytes may travel on a stream, seen from this end."""

    BIDIRECTIONAL = "bidirectional"
    SEND_ONLY = "send_only"
    RECEIVE_ONLY = "receive_only"


class StreamState(StrEnum):
    """Where a stream is in its life, seen from this end."""

    IDLE = "idle"
    OPEN = "open"
    HALF_CLOSED_LOCAL = "half_closed_local"
    HALF_CLOSED_REMOTE = "half_closed_remote"
    CLOSED = "closed"
    RESET_SENT = "reset_sent"
    RESET_RECEIVED = "reset_received"


@dataclass(frozen=True, slots=True)
class SessionCloseInfo:
    """Why a session ended; what ``session.wait_closed()`` returns.

    Attributes:
        code: The application's 32-bit code of the WT_CLOSE_SESSION capsule; 0
            when the peer finished the CONNECT stream without a capsule; None
            when the session ended abruptly (reset, lost connection), so that
            no code exists.
        reason: The reason that came with the code, or a description of the
            abrupt end; may be empty.
        remote: True when the peer ended the session, False when this end did.
    """

    code: int | None
    reason: str
    remote: bool


# Plain values.
Address: TypeAlias = tuple[str, int]
Buffer: TypeAlias = bytes | bytearray | memoryview
BufferSize: TypeAlias = int
CertificateData: TypeAlias = str | bytes
ConnectionId: TypeAlias = str
Data: TypeAlias = bytes | bytearray | memoryview | str
"""What may be sent; ``str`` is encoded as UTF-8."""
ErrorCode: TypeAlias = int
EventData: TypeAlias = Any
FlowControlWindow: TypeAlias = int
Headers: TypeAlias = dict[str, str]
HeadersToSend: TypeAlias = Mapping[str, str | int | Sequence[str | int]]
Priority: TypeAlias = int
PrivateKeyData: TypeAlias = str | bytes
ReasonPhrase: TypeAlias = str
RoutePattern: TypeAlias = str
SSLContext: TypeAlias = ssl.SSLContext
SessionId: TypeAlias = str
StreamId: TypeAlias = int
Timeout: TypeAlias = float | None
"""Seconds; None waits without a limit of its own."""
TimeoutDict: TypeAlias = dict[str, float]
Timestamp: TypeAlias = float
"""Seconds since the epoch."""
URL: TypeAlias = str
URLParts: TypeAlias = tuple[str, int, str]
"""Host (no brackets), port, path with query."""
Weight: TypeAlias = int

# Statistics as dictionaries.
StreamStats: TypeAlias = dict[str, int | float | str]
SessionStats: TypeAlias = dict[str, int | float | str | list[StreamStats]]
ConnectionStats: TypeAlias = dict[str, int | float | str | list[SessionStats]]

# Callables. The classes of higher layers are forward references: this module
# must not import them.
DatagramHandler: TypeAlias = Callable[[bytes], Awaitable[None]]
ErrorHandler: TypeAlias = Callable[[Exception], Awaitable[None]]
EventHandler: TypeAlias = Callable[["Event"], Awaitable[None] | None]
"""A function or coroutine function of one event."""
SessionHandler: TypeAlias = Callable[["WebTransportSession"], Awaitable[None]]
RouteHandler: TypeAlias = SessionHandler
Routes: TypeAlias = dict[RoutePattern, RouteHandler]
StreamType: TypeAlias = "WebTransportStream | WebTransportReceiveStream | WebTransportSendStream"
StreamHandler: TypeAlias = Callable[
    ["WebTransportStream | WebTransportReceiveStream"], Awaitable[None]
]


@runtime_checkable
class AuthHandlerProtocol(Protocol):
    """Decides from the request's headers whether a session may be opened."""

    async def __call__(self, *, headers: Headers) -> bool: ...


@runtime_checkable
class EventEmitterProtocol(Protocol):
    """What an object that emits events looks like."""

    async def emit(self, *, event_type: EventType, data: EventData | None = None) -> None: ...

    def off(self, *, event_type: EventType, handler: EventHandler | None = None) -> None: ...

    def on(self, *, event_type: EventType, handler: EventHandler) -> None: ...


@runtime_checkable
class MiddlewareProtocol(Protocol):
    """Sees a session in state CONNECTING; returning False answers 403."""

    async def __call__(self, *, session: WebTransportSession) -> bool: ...


@runtime_checkable
class ReadableStreamProtocol(Protocol):
    """The receiving side of a stream."""

    def at_eof(self) -> bool: ...

    async def read(self, *, size: int = -1) -> bytes: ...

    async def readline(self, *, separator: bytes = b"\n") -> bytes: ...

    async def readexactly(self, *, n: int) -> bytes: ...

    async def readuntil(self, *, separator: bytes = b"\n") -> bytes: ...


@runtime_checkable
class Serializer(Protocol):
    """Turns objects into bytes and back."""

    def serialize(self, *, obj: Any) -> bytes: ...

    def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any: ...


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
