"""The client side: ``WebTransportClient``, and ``WebTransportProxy`` for a way through a proxy."""

from .client import WebTransportClient
from .proxy import WebTransportProxy
from .stats import ClientStats

__all__ = ["ClientStats", "WebTransportClient", "WebTransportProxy"]
