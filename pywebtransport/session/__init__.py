"""WebTransport sessions."""

from .._core.session import WebTransportSession
from .._core.session_stats import SessionStats
from .manager import SessionManager

__all__ = ["SessionManager", "SessionStats", "WebTransportSession"]
