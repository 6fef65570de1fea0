"""Compatibility names: messages as datagrams."""

from .._core.structured_datagrams import StructuredDatagramTransport

__all__ = ["StructuredDatagramTransport"]
