"""Compatibility names: messages over a stream."""

from .._core.structured_stream import StructuredStream

__all__ = ["StructuredStream"]
