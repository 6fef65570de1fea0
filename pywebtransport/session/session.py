"""Compatibility names: the session and its statistics."""

from .._core.session import WebTransportSession
from .._core.session_stats import SessionStats

__all__ = ["SessionStats", "WebTransportSession"]
