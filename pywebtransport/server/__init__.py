"""The server side: ``ServerApp`` over ``WebTransportServer``."""

from .app import ServerApp
from .middleware import MiddlewareManager
from .router import RequestRouter
from .server import WebTransportServer
from .stats import ServerStats

__all__ = [
    "MiddlewareManager",
    "RequestRouter",
    "ServerApp",
    "ServerStats",
    "WebTransportServer",
]
