"""Text from outside in logs and error messages."""

from __future__ import annotations

from .._plain import printable, printable_line

__all__ = ["printable", "printable_line"]
