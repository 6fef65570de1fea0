"""Request targets in absolute form (RFC 9112 section 3.2.2), as clients of proxies send them."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["split_absolute", "with_host"]

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)([/?][^#]*)?", re.I)


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """Return authority and origin form of a target; None if it has another form.

    Args:
        target: As it came, with the query.
    """
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        return None
    authority, rest = found.groups(b"")
    return authority, rest if rest.startswith(b"/") else b"/" + rest


def with_host(
    headers: list[tuple[bytes, bytes]], authority: bytes, version: str
) -> list[tuple[bytes, bytes]]:
    """The headers of a request with the host of its target, which counts.

    Args:
        headers: With names in lower case. A request of HTTP/1.1 with another number of ``host``
            fields than one is left as it is: it is refused.
        authority: Of the target.
        version: Of HTTP.
    """
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts == 0 and version == "1.0":
        return [(b"host", authority), *headers]
    if hosts != 1:
        return headers
    return [(name, authority if name == b"host" else value) for name, value in headers]
