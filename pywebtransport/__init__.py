"""WebTransport for Python: streams and datagrams over HTTP/3, for asyncio.

The names most programs need are here; the modules below hold the rest. The server side is imported
when one of its names is first used, so that clients start sooner.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from .session import WebTransportSession
from .stream import (
    StructuredStream,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)

if TYPE_CHECKING:
    from .server import ServerApp, create_development_server, serve

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

_OF_THE_SERVER = ("ServerApp", "create_development_server", "serve")


def __getattr__(name: str) -> Any:
    """Import the server side when it is first used."""
    if name not in (*_OF_THE_SERVER, "server"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.server")
    for each in _OF_THE_SERVER:
        globals()[each] = getattr(module, each)
    return globals()[name]  # Python has set "server" itself


def __dir__() -> list[str]:
    """List the names that are imported later, too."""
    return sorted({*globals(), *__all__, "server"})
