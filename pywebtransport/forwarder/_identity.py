"""Header fields in which only a proxy may name its client."""

from __future__ import annotations

import ipaddress
import re

from ..utils._hosts import without_zone

__all__ = ["forwarded_fields", "says_who"]

# Beside "x-forwarded" and all that begins with it: what proxies and hosters use for the same.
_NAMES = frozenset(
    {
        "cf-connecting-ip",
        "client-ip",
        "fastly-client-ip",
        "forwarded",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-original-host",
        "x-real-ip",
    }
)
_PLAIN = re.compile(r"[0-9A-Za-z._:\[\]-]+")


def says_who(name: str) -> bool:
    """Whether a request field names the client for the upstream.

    Servers that convert names to variables (CGI, WSGI) treat ``_`` and ``-`` as equal.
    """
    plain = name.lower().replace("_", "-")
    return plain in _NAMES or plain.startswith("x-forwarded")


def forwarded_fields(host: str | None, authority: str) -> dict[str, str]:
    """The fields that the upstream gets instead.

    Args:
        host: The client's address; None: it is not known.
        authority: Whom the client asked for, in its own words.
    """
    fields = {"x-forwarded-host": authority, "x-forwarded-proto": "https"}
    node = "unknown"
    if host is not None:
        address = _plain_address(host)
        fields["x-forwarded-for"] = fields["x-real-ip"] = address
        node = f'"[{address}]"' if ":" in address else address
    parts = [f"for={node}"]
    # The client's words stay inside of the quotes, or are left out.
    if _PLAIN.fullmatch(authority):
        parts.append(f'host="{authority}"')
    fields["forwarded"] = ";".join([*parts, "proto=https"])
    return fields


def _plain_address(host: str) -> str:
    """Without its zone, which means something here only; IPv4 as such."""
    host = without_zone(host)
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return host if mapped is None else str(mapped)
