"""URLs and addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

from pywebtransport.exceptions import ConfigurationError, UnreachableError, invalid_config
from pywebtransport.types import URL, Address, URLParts
from pywebtransport.utils.checks import validate_port

__all__ = [
    "build_webtransport_url",
    "is_ipv4_address",
    "is_ipv6_address",
    "parse_webtransport_url",
    "resolve_address",
    "validate_url",
]

DEFAULT_HTTPS_PORT = 443


def build_webtransport_url(
    *,
    host: str,
    port: int,
    path: str = "/",
    secure: bool = True,
    query_params: dict[str, str] | None = None,
) -> URL:
    """Put a URL together.

    Args:
        host: Host name or address; an IPv6 address needs no brackets.
        port: UDP port, left out of the URL when it is 443.
        path: Path, with a query or without; percent-encoded where needed.
        secure: False gives ``http``, which no WebTransport client accepts.
        query_params: Names and values of the query.

    Raises:
        ConfigurationError: The port or the host is not possible.
    """
    validate_port(port)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    authority = f"[{bare}]" if is_ipv6_address(bare) else bare
    if port != DEFAULT_HTTPS_PORT or not secure:
        authority += f":{port}"
    target = quote(path if path.startswith("/") else f"/{path}", safe=_QUERY_SAFE)
    if query_params:
        target += ("&" if "?" in target else "?") + urlencode(query_params)
    parse_webtransport_url(f"https://{authority}{target}")
    return f"{'https' if secure else 'http'}://{authority}{target}"


def parse_webtransport_url(url: URL) -> URLParts:
    """Take a URL apart, strictly.

    Args:
        url: ``https://host[:port][/path][?query]``. The host is a name
            (international names are converted to ASCII), an IPv4 address, or an
            IPv6 address in brackets.

    Returns:
        Host in lower case and without brackets, port (443 when the URL has
        none), and path with query, never empty.

    Raises:
        ConfigurationError: With what is wrong and what is expected.
    """
    if not isinstance(url, str) or not url:
        _bad_url(url, "expected https://host[:port]/path")
    return _parse(url)


@lru_cache(256)
def _parse(url: str) -> URLParts:
    """A program connects to few URLs many times; taking one apart costs 20 us."""
    if not url.isprintable() or " " in url or "\\" in url:
        _bad_url(url, "spaces, control characters and backslashes are not allowed")
    if "#" in url:
        _bad_url(url, "a WebTransport URL has no fragment ('#...')")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        _bad_url(url, str(error))
    if parts.scheme != "https":
        _bad_url(url, f"the scheme is {parts.scheme!r}; expected 'https'")
    if not url[len("https:") :].startswith("//"):
        _bad_url(url, "expected '//' after 'https:'")
    if "@" in parts.netloc:
        _bad_url(url, "user names and passwords are not allowed; send a header instead")
    host, port = _split_authority(url, parts.netloc)
    target = quote(parts.path, safe=_PATH_SAFE) or "/"
    if parts.query:
        target += "?" + quote(parts.query, safe=_QUERY_SAFE)
    return host, port, target


def validate_url(url: URL) -> bool:
    """Tell whether :func:`parse_webtransport_url` accepts a URL."""
    try:
        parse_webtransport_url(url)
    except ConfigurationError:
        return False
    return True


def is_ipv4_address(host: str) -> bool:
    """Tell whether ``host`` is an IPv4 address in dotted decimal form."""
    return _is_address(host, ipaddress.IPv4Address)


def is_ipv6_address(host: str) -> bool:
    """Tell whether ``host`` is an IPv6 address without brackets."""
    return _is_address(host, ipaddress.IPv6Address)


async def resolve_address(host: str, port: int, *, family: int = socket.AF_UNSPEC) -> Address:
    """Find the first address of a host.

    Args:
        host: Host name or address.
        port: UDP port.
        family: ``socket.AF_INET``, ``AF_INET6`` or ``AF_UNSPEC`` for either.

    Raises:
        UnreachableError: The name has no such address.

    Cancellation: safe.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise UnreachableError(
            f"Host {host!r} could not be resolved: {error}",
            remote_address=(host, port),
            reason=str(error),
        ) from error
    address = found[0][4]
    return str(address[0]), int(address[1])


# RFC 3986: what a path and a query may hold as it is; '%' keeps what is encoded already.
_PATH_SAFE = "/%:@!$&'()*+,;=~"
_QUERY_SAFE = _PATH_SAFE + "?"
_LABEL = re.compile(r"[0-9a-z_]([0-9a-z_-]{0,61}[0-9a-z_])?")


def _bad_url(url: Any, reason: str) -> NoReturn:
    raise invalid_config(key="url", value=url, reason=reason)


def _split_authority(url: str, netloc: str) -> tuple[str, int]:
    if netloc.startswith("["):
        host, bracket, rest = netloc[1:].partition("]")
        if not bracket or not is_ipv6_address(host) or "%" in host:
            _bad_url(url, f"{host!r} is not an IPv6 address")
        host = str(ipaddress.IPv6Address(host))
    else:
        host, colon, rest = netloc.partition(":")
        rest = colon + rest
        host = _ascii_host(url, host)
    if rest and not rest.startswith(":"):
        _bad_url(url, f"unexpected {rest!r} after the IPv6 address")
    if not rest:
        return host, DEFAULT_HTTPS_PORT
    digits = rest[1:]
    if not (digits.isascii() and digits.isdigit()) or not 1 <= int(digits[:6]) <= 65535:
        _bad_url(url, f"the port is {digits!r}; expected 1 to 65535")
    return host, int(digits)


def _ascii_host(url: str, host: str) -> str:
    if not host:
        _bad_url(url, "the host is missing")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            _bad_url(url, f"host {host!r} is not a valid international name: {error}")
    host = host.lower()
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        _bad_url(url, f"{host!r} is not a host name or address")
    # A name that ends in a number is an address, or a mistake (WHATWG URL section 3.5).
    if labels[-1].isdigit() and not is_ipv4_address(host):
        _bad_url(url, f"{host!r} is not an IPv4 address")
    return host


def _is_address(host: Any, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> bool:
    if not isinstance(host, str):
        return False
    try:
        kind(host)
    except ValueError:
        return False
    return True
