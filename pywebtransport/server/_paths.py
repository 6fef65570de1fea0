"""Request paths with their percent-encoding undone, so that each spelling is the same path."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

__all__ = ["canonical_path", "decoded_path", "decoded_pattern", "decoded_value"]

# Stands for an encoded slash, which separates nothing. No path decodes to it: it is no character.
_SLASH = "\udc2f"
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)
# What a path may hold as it is (RFC 3986 section 3.3).
_SAFE = ":@!$&'()*+,;=~"
_ENCODED = re.compile("(?:%[0-9A-Fa-f]{2})+")


def canonical_path(path: str) -> str:
    """One spelling for all of a path (RFC 3986 section 6.2.2), to be compared with others.

    ``%2F`` stays, as it is no separator, and so do bytes that are no UTF-8; a percent
    sign that begins no encoded byte stands for itself.

    Args:
        path: Without a query; percent-encoded or not.
    """
    return "/".join(quote(unquote_to_bytes(part), safe=_SAFE) for part in _raw(path).split("/"))


def decoded_path(path: str) -> str:
    """A path for patterns: decoded, with a mark where a slash was encoded.

    What is no UTF-8 becomes U+FFFD.
    """
    if "%" not in path:
        return path
    return _SLASH.join(
        unquote_to_bytes(part).decode("utf-8", "replace")
        for part in _ENCODED_SLASH.split(_raw(path))
    )


def decoded_pattern(pattern: str) -> str:
    """A pattern for decoded paths: what is percent-encoded in it stands for what it means."""
    return _ENCODED.sub(lambda found: re.escape(decoded_path(found[0])), pattern)


def decoded_value(captured: str) -> str:
    """What a pattern captured, with every slash as such."""
    return captured.replace(_SLASH, "/")


def _raw(path: str) -> str:
    """Characters that UTF-8 cannot hold are no request's; they must not make an error either."""
    return path.encode("utf-8", "replace").decode("utf-8")
