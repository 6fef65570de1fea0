"""The client side: ``WebTransportClient``, and what is built upon it."""

from ._connect import connect
from .browser import WebTransportBrowser
from .client import WebTransportClient
from .monitor import ClientMonitor
from .pool import ClientPool
from .pooled import PooledClient
from .proxy import WebTransportProxy
from .reconnecting import ReconnectingClient
from .stats import ClientStats
from .utils import benchmark_client_performance, test_client_connectivity

__all__ = [
    "ClientMonitor",
    "ClientPool",
    "ClientStats",
    "PooledClient",
    "ReconnectingClient",
    "WebTransportBrowser",
    "WebTransportClient",
    "WebTransportProxy",
    "benchmark_client_performance",
    "connect",
    "test_client_connectivity",
]
