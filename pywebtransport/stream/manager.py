"""Compatibility path of ``StreamManager``: import it from ``pywebtransport.stream``."""

from .._core.stream_manager import StreamManager

__all__ = ["StreamManager"]
