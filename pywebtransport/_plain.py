"""Values from anywhere as text for messages and as what JSON can hold; nothing here raises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any

__all__ = ["one_line", "plain", "rejection_text", "shorten", "shown", "status_text"]

# Of a plain value: nesting, and bits of an integer that is written in full.
_MAX_DEPTH = 20
_MAX_BITS = 10_000


def status_text(code: Any) -> str:
    """``404 (Not Found)``."""
    try:
        return f"{int(code)} ({HTTPStatus(code).phrase})"
    except (TypeError, ValueError):
        return shown(code)


def rejection_text(status: Any, headers: Mapping[str, Any] | None, url: str | None) -> str:
    """What is to be said of a session that was refused with an HTTP status.

    Args:
        status: Of the answer.
        headers: Of the answer.
        url: What was asked for; None at the server, where no advice is needed.
    """
    if url is None:
        return f"The session was rejected with HTTP status {status_text(status)}"
    return (
        f"The session with {shown(url)} was rejected with HTTP status {status_text(status)}"
        f"{_advice(status, headers or {})}"
    )


def _advice(status: Any, headers: Mapping[str, Any]) -> str:
    match status:
        case 301 | 302 | 303 | 307 | 308 if headers.get("location"):
            place = shown(headers["location"])
            return f"; it points to '{place}', but WebTransport follows no redirect: connect there"
        case 401 | 407:
            return "; send the credentials that it asks for in a header"
        case 403:
            return "; the server does not allow it to this client, or not from its origin"
        case 404 | 405:
            return "; check the path: the server takes no sessions there"
        case 429 | 503:
            after = headers.get("retry-after")
            return "; try again later" + (f" (retry-after: {shown(after)})" if after else "")
        case _:
            return ""


def shown(value: object) -> str:
    """As ``utils.text.printable``."""
    from pywebtransport.utils.text import printable  # its package imports this module

    return printable(value)


def one_line(text: str, limit: int = 2000) -> str:
    """``text`` on one line of at most ``limit`` characters; what is not printable is escaped."""
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
