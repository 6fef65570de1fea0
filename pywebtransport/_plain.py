"""Values from anywhere as text for messages and as what JSON can hold; nothing here raises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any

__all__ = ["one_line", "plain", "shorten", "shown", "status_text"]

# Of a plain value: nesting, and bits of an integer that is written in full.
_MAX_DEPTH = 20
_MAX_BITS = 10_000


def status_text(code: Any) -> str:
    """``404 (Not Found)``."""
    try:
        return f"{int(code)} ({HTTPStatus(code).phrase})"
    except (TypeError, ValueError):
        return shown(code)


def shown(value: object) -> str:
    """As ``utils.text.printable``."""
    from pywebtransport.utils.text import printable  # its package imports this module

    return printable(value)


def one_line(value: object, limit: int = 2000) -> str:
    """A text on one line of at most ``limit`` characters; what is not printable is escaped."""
    text = value if isinstance(value, str) else shorten(value)
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(item if item.isprintable() else ascii(item)[1:-1] for item in text)


def shorten(value: Any, limit: int = 200) -> str:
    """``repr`` of a value, cut to ``limit`` characters."""
    try:
        text = repr(value)
    except Exception:  # such as that of an integer with more than 4,300 digits
        return f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def plain(value: Any, depth: int = 0) -> Any:
    """``value`` as something JSON can hold."""
    if depth > _MAX_DEPTH:
        return shorten(value)
    match value:
        case Enum():
            return plain(value.value, depth + 1)
        case float() if not math.isfinite(value):
            return str(value)  # JSON has no such number
        case int() if not isinstance(value, bool) and value.bit_length() > _MAX_BITS:
            return shorten(value)
        case None | bool() | int() | float() | str():
            return value
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case Mapping():
            return {
                key if isinstance(key, str) else shown(key): plain(item, depth + 1)
                for key, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [plain(item, depth + 1) for item in value]
        case _:
            return shorten(value)
