"""WebTransport sessions."""

from .session import SessionStats, WebTransportSession

__all__ = ["SessionStats", "WebTransportSession"]
