"""Compatibility path of the connection classes: import them from ``pywebtransport.connection``."""

from .._core.connection import WebTransportConnection
from .._core.info import ConnectionInfo

__all__ = ["ConnectionInfo", "WebTransportConnection"]
