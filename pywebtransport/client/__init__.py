"""The client side: ``WebTransportClient``."""

from .client import WebTransportClient
from .stats import ClientStats

__all__ = ["ClientStats", "WebTransportClient"]
