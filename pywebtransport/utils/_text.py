"""Text from outside in logs and error messages."""

from __future__ import annotations

from .._plain import printable, printable_line, printable_path

__all__ = ["printable", "printable_line", "printable_path"]
