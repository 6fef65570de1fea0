"""Converts arbitrary values to strings for messages and logs, and to JSON values.

Nothing here raises. Every module may import this one, including ``exceptions``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any

__all__ = [
    "one_line",
    "plain",
    "printable",
    "printable_line",
    "printable_path",
    "rejection_text",
    "shorten",
    "status_text",
]

# Limits of plain values: nesting, and bits of an integer that is written in full.
_MAX_DEPTH = 20
_MAX_BITS = 10_000
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"', "'": "\\'"}


def printable(value: object, limit: int = 200) -> str:
    r"""Convert any value to one safe line for a log record or a message.

    Control characters, line ends, bidirectional overrides and lone surrogates are
    written as escapes, so that no input can forge a record or drive a terminal;
    quotes and backslashes are escaped, so that quoted strings end where they should.

    Args:
        value: Any value. Bytes are read as UTF-8 with escapes; other objects are converted by
            ``str``.
        limit: Longest string in characters; the rest is replaced by its length.

    Returns:
        The string, without quotes. This never raises: if the conversion of a value fails, its type
        is named instead.
    """
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            # A character has at most four bytes.
            whole = bytes(value[: 4 * limit + 4]).decode("utf-8", "backslashreplace")
            length = max(len(whole), len(value))
        else:
            whole = value if isinstance(value, str) else str(value)
            length = len(whole)
    except Exception:  # a __str__ of the application
        return f"<{type(value).__name__}>"
    kept = whole[:limit]
    if not kept.isprintable() or not _NAMED.keys().isdisjoint(kept):
        kept = "".join(map(_escaped, kept))
    return kept if length <= limit else f"{kept}... ({length} characters)"


def printable_line(line: str) -> str:
    """Escape the characters of a log line of this package that are not printable.

    Unlike :func:`printable` it leaves quotes and backslashes as they are.
    """
    if line.isprintable():
        return line
    return "".join(item if item.isprintable() else _escaped(item) for item in line)


def status_text(code: Any) -> str:
    """``404 (Not Found)``."""
    try:
        return f"{int(code)} ({HTTPStatus(code).phrase})"
    except (TypeError, ValueError):
        return printable(code)


def printable_path(target: str) -> str:
    """A path or URL for a log: without its query, where browsers have to put their tokens."""
    path, separator, _ = target.partition("?")
    return printable(path) + ("?…" if separator else "")


def rejection_text(status: Any, headers: Mapping[str, Any] | None, url: str | None) -> str:
    """Describe the refusal of a session by an HTTP status.

    Args:
        status: Status of the answer.
        headers: Header fields of the answer.
        url: The requested URL; None at the server, where no advice is needed.
    """
    if url is None:
        return f"The session was rejected with HTTP status {status_text(status)}"
    shown = printable_path(url)
    return (
        f"The session with {shown} was rejected with HTTP status {status_text(status)}"
        f"{_advice(status, headers or {})}"
    )


def _advice(status: Any, headers: Mapping[str, Any]) -> str:
    match status:
        case 301 | 302 | 303 | 307 | 308 if headers.get("location"):
            place = printable(headers["location"])
            return f"; it points to '{place}', but WebTransport follows no redirect: connect there"
        case 401 | 407:
            return "; send the credentials that it asks for in a header"
        case 403:
            return "; the server does not allow it to this client, or not from its origin"
        case 404 | 405:
            return "; check the path: the server takes no sessions there"
        case 429 | 503:
            after = headers.get("retry-after")
            return "; try again later" + (f" (retry-after: {printable(after)})" if after else "")
        case _:
            return ""


def one_line(value: object, limit: int = 2000) -> str:
    """Cut a string to one line of ``limit`` characters, and escape what is not printable."""
    text = value if isinstance(value, str) else shorten(value)
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text)} characters)"
    return printable_line(text)


def shorten(value: Any, limit: int = 200) -> str:
    """``repr`` of a value, cut to ``limit`` characters."""
    try:
        text = repr(value)
    except Exception:  # for instance of an integer with more than 4,300 digits
        return f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def plain(value: Any, depth: int = 0) -> Any:
    """Convert ``value`` to a JSON value."""
    if depth > _MAX_DEPTH:
        return shorten(value)
    match value:
        case Enum():
            return plain(value.value, depth + 1)
        case float() if not math.isfinite(value):
            return str(value)  # not a JSON number
        case int() if not isinstance(value, bool) and value.bit_length() > _MAX_BITS:
            return shorten(value)
        case None | bool() | int() | float() | str():
            return value
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case Mapping():
            return {
                key if isinstance(key, str) else printable(key): plain(item, depth + 1)
                for key, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [plain(item, depth + 1) for item in value]
        case _:
            return shorten(value)


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
