"""WebTransport sessions."""

from .manager import SessionManager
from .session import SessionStats, WebTransportSession

__all__ = ["SessionManager", "SessionStats", "WebTransportSession"]
