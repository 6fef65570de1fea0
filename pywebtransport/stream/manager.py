"""Compatibility names: the open streams of a session."""

from .._core.stream_manager import StreamManager

__all__ = ["StreamManager"]
