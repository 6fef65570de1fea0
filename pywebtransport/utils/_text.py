"""Text from outside in logs and error messages."""

from __future__ import annotations

from .._plain import one_line, printable, printable_line, printable_path

__all__ = ["one_line", "printable", "printable_line", "printable_path"]
