"""Compatibility path of ``StructuredStream``: import it from ``pywebtransport.stream``."""

from .._core.structured_stream import StructuredStream

__all__ = ["StructuredStream"]
