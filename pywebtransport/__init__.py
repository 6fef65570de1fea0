"""WebTransport for Python: streams and datagrams over HTTP/3, for asyncio.

The names most programs need are here; the modules below hold the rest.
"""

from ._states import (
    URL,
    Address,
    ConnectionState,
    EventType,
    Headers,
    SessionId,
    SessionState,
    StreamDirection,
    StreamId,
    StreamState,
)
from ._version import __version__
from .client import WebTransportClient, connect
from .config import ClientConfig, ServerConfig
from .datagram import (
    DatagramReliabilityLayer,
    StructuredDatagramTransport,
    WebTransportDatagramTransport,
)
from .events import Event, EventEmitter
from .exceptions import (
    AuthenticationError,
    CertificateError,
    ClientError,
    ConfigurationError,
    ConnectionError,
    DatagramError,
    FlowControlError,
    HandshakeError,
    ProtocolError,
    SerializationError,
    ServerError,
    SessionError,
    StreamError,
    TimeoutError,
    WebTransportError,
)
from .serializer._protocol import Serializer
from .server import ServerApp, create_development_server, serve
from .session import WebTransportSession
from .stream import (
    StructuredStream,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)

__all__ = [
    "URL",
    "Address",
    "AuthenticationError",
    "CertificateError",
    "ClientConfig",
    "ClientError",
    "ConfigurationError",
    "ConnectionError",
    "ConnectionState",
    "DatagramError",
    "DatagramReliabilityLayer",
    "Event",
    "EventEmitter",
    "EventType",
    "FlowControlError",
    "HandshakeError",
    "Headers",
    "ProtocolError",
    "SerializationError",
    "Serializer",
    "ServerApp",
    "ServerConfig",
    "ServerError",
    "SessionError",
    "SessionId",
    "SessionState",
    "StreamDirection",
    "StreamError",
    "StreamId",
    "StreamState",
    "StructuredDatagramTransport",
    "StructuredStream",
    "TimeoutError",
    "WebTransportClient",
    "WebTransportDatagramTransport",
    "WebTransportError",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportSession",
    "WebTransportStream",
    "__version__",
    "connect",
    "create_development_server",
    "serve",
]
