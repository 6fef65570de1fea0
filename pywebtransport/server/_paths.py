"""Percent-decodes request paths, so that all spellings of a path are equal."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

__all__ = ["canonical_path", "decoded_path", "decoded_pattern", "decoded_value"]

# Stands for an encoded slash, which is not a separator. No path decodes to it: it is a surrogate.
_SLASH = "\udc2f"
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)
# Characters that need no encoding in a path (RFC 3986 section 3.3).
_SAFE = ":@!$&'()*+,;=~"
_ENCODED = re.compile("(?:%[0-9A-Fa-f]{2})+")


def canonical_path(path: str) -> str:
    """Return the normal spelling of a path (RFC 3986 section 6.2.2), for comparisons.

    ``%2F`` stays, since it is not a separator, and so do bytes that are not UTF-8. A percent sign
    that does not begin an encoded byte stands for itself.

    Args:
        path: Without a query; percent-encoded or not.
    """
    return "/".join(quote(unquote_to_bytes(part), safe=_SAFE) for part in _raw(path).split("/"))


def decoded_path(path: str) -> str:
    """A decoded path for patterns, with a marker for each encoded slash.

    Bytes that are not UTF-8 become U+FFFD.
    """
    if "%" not in path:
        return path
    return _SLASH.join(
        unquote_to_bytes(part).decode("utf-8", "replace")
        for part in _ENCODED_SLASH.split(_raw(path))
    )


def decoded_pattern(pattern: str) -> str:
    """A pattern for decoded paths: percent-encoded characters in it are decoded."""
    return _ENCODED.sub(lambda found: re.escape(decoded_path(found[0])), pattern)


def decoded_value(captured: str) -> str:
    """A captured value, with markers replaced by slashes."""
    return captured.replace(_SLASH, "/")


def _raw(path: str) -> str:
    """Replace characters that UTF-8 cannot encode: no request has them, and they must not raise."""
    return path.encode("utf-8", "replace").decode("utf-8")
