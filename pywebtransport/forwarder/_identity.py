"""Header fields that name a client, and that only a proxy may set."""

from __future__ import annotations

import ipaddress
import re

from ..utils._hosts import without_zone

__all__ = ["forwarded_fields", "says_who"]

# Fields of proxies and hosting providers, in addition to "x-forwarded" and all that begins with it.
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
    """Return the fields that the upstream gets instead.

    Args:
        host: The client's address; None: unknown.
        authority: The authority that the client requested, as sent.
    """
    fields = {"x-forwarded-host": authority, "x-forwarded-proto": "https"}
    node = "unknown"
    if host is not None:
        address = _plain_address(host)
        fields["x-forwarded-for"] = fields["x-real-ip"] = address
        node = f'"[{address}]"' if ":" in address else address
    parts = [f"for={node}"]
    # The string of the client must not break out of the quotes; otherwise leave it out.
    if _PLAIN.fullmatch(authority):
        parts.append(f'host="{authority}"')
    fields["forwarded"] = ";".join([*parts, "proto=https"])
    return fields


def _plain_address(host: str) -> str:
    """The address without its zone, which is only valid here; mapped IPv4 as IPv4."""
    host = without_zone(host)
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return host if mapped is None else str(mapped)
