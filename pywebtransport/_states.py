"""Shared vocabulary: states, event names, and aliases of plain values.

Nothing here imports another module of the package, so every layer may import it;
``pywebtransport.types`` is where users find the names.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

__all__ = [
    "URL",
    "Address",
    "Buffer",
    "BufferSize",
    "CertificateData",
    "ConnectionId",
    "ConnectionState",
    "ConnectionStats",
    "Data",
    "ErrorCode",
    "EventData",
    "EventType",
    "FlowControlWindow",
    "Headers",
    "HeadersToSend",
    "Priority",
    "PrivateKeyData",
    "ReasonPhrase",
    "RoutePattern",
    "SSLContext",
    "SessionCloseInfo",
    "SessionId",
    "SessionState",
    "SessionStats",
    "StreamDirection",
    "StreamId",
    "StreamState",
    "StreamStats",
    "Timeout",
    "TimeoutDict",
    "Timestamp",
    "URLParts",
    "Weight",
]


class ConnectionState(StrEnum):
    """The state of a QUIC connection."""

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
    """The state of a session; it only moves forward."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    DRAINING = "draining"
    CLOSED = "closed"


class StreamDirection(StrEnum):
    """The direction of a stream, seen from this end."""

    BIDIRECTIONAL = "bidirectional"
    SEND_ONLY = "send_only"
    RECEIVE_ONLY = "receive_only"


class StreamState(StrEnum):
    """The state of a stream, seen from this end."""

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
if TYPE_CHECKING:
    from typing import Protocol

    from typing_extensions import Buffer as _AnyBuffer  # type checkers bring it along

    class _Array(Protocol):
        """An array of numpy, whose annotations call it a buffer from Python 3.12 on only."""

        @property
        def __array_interface__(self) -> dict[str, Any]: ...

    Data: TypeAlias = _AnyBuffer | _Array | str
else:
    Data: TypeAlias = bytes | bytearray | memoryview | str
"""What may be sent: any C-contiguous buffer; ``str`` is encoded as UTF-8."""
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
"""Seconds; None sets no separate limit."""
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
