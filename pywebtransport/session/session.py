"""Compatibility path of the session classes: import them from ``pywebtransport.session``."""

from .._core.session import WebTransportSession
from .._core.session_stats import SessionStats

__all__ = ["SessionStats", "WebTransportSession"]
