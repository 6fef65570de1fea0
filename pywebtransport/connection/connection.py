"""Compatibility names: the connection and what is known about it."""

from .._core.connection import WebTransportConnection
from .._core.info import ConnectionInfo

__all__ = ["ConnectionInfo", "WebTransportConnection"]
