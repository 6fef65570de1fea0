"""URLs and addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from .._states import URL, Address, URLParts
from ..exceptions import ConfigurationError, UnreachableError, invalid_config
from ._checks import (
    check_instance,
    check_integer,
    check_text,
    validate_port,
)
from ._hosts import ascii_host, bracketed, ipv6_from_url, is_address
from ._system import explain_os_error
from ._text import printable

__all__ = [
    "build_webtransport_url",
    "is_ipv4_address",
    "is_ipv6_address",
    "parse_webtransport_url",
    "resolve_address",
    "validate_url",
    "without_password",
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
    """Build a URL.

    Args:
        host: Host name or address; an IPv6 address needs no brackets.
        port: UDP port; 443 is omitted from the URL.
        path: Path, with or without a query; percent-encoded where needed.
        secure: False gives ``http``, which no WebTransport client accepts.
        query_params: Names and values of the query.

    Raises:
        ConfigurationError: The port or the host is malformed, the path is not a string, or the
            query is not a mapping.
    """
    check_text("path", path)
    if query_params is not None:
        check_instance("query_params", query_params, Mapping)
    validate_port(port)
    authority = bracketed(ascii_host(host), in_url=True)
    if port != DEFAULT_HTTPS_PORT or not secure:
        authority += f":{port}"
    target = _quoted("path", path if path.startswith("/") else f"/{path}", _QUERY_SAFE)
    if query_params:
        try:
            target += ("&" if "?" in target else "?") + urlencode(query_params)
        except Exception as error:  # not UTF-8, or a __str__ of the application
            reason = "expected strings that UTF-8 can encode"
            raise invalid_config(key="query_params", value=query_params, reason=reason) from error
    parse_webtransport_url(f"https://{authority}{target}")
    return f"{'https' if secure else 'http'}://{authority}{target}"


def parse_webtransport_url(url: URL) -> URLParts:
    """Parse a URL strictly.

    Args:
        url: ``https://host[:port][/path][?query]``. The host is a name
            (international names are converted by UTS 46, non-transitional), an
            IPv4 address, or an IPv6 address in brackets, with a zone or without
            (``[fe80::1%25eth0]``, RFC 6874).

    Returns:
        Host in lower case and without brackets (``fe80::1%eth0``), port (443 when the URL has
        none), and path with query, never empty.

    Raises:
        ConfigurationError: With what is wrong and what is expected.
    """
    if not isinstance(url, str) or not url:
        _bad_url(url, "expected https://host[:port]/path")
    return _parse(url)


@lru_cache(256)
def _parse(url: str) -> URLParts:
    """Cached: a program connects to a few URLs many times, and parsing takes 20 us."""
    if not url.translate(_INVISIBLE).isprintable() or " " in url or "\\" in url:
        _bad_url(url, "spaces, control characters and backslashes are not allowed")
    if "#" in url:
        _bad_url(url, "a WebTransport URL has no fragment ('#...')")
    match = _PARTS.fullmatch(url)
    assert match is not None  # it matches every string
    scheme, authority, path, query = match.group("scheme", "authority", "path", "query")
    if (scheme or "").lower() != "https":
        _bad_url(url, f"the scheme is '{printable(scheme or '')}'; expected 'https'")
    if authority is None:
        _bad_url(url, "expected '//' after 'https:'")
    if "@" in authority:
        _bad_url(url, "user names and passwords are not allowed; send a header instead")
    host, port = _split_authority(url, authority)
    target = _quoted("url", path, _PATH_SAFE) or "/"
    if query:
        target += "?" + _quoted("url", query, _QUERY_SAFE)
    return host, port, target


def without_password(url: Any) -> Any:
    """A string that was passed as a URL, without what must not be shown."""
    return _PASSWORD.sub("***@", url) if isinstance(url, str) else url


def validate_url(url: URL) -> bool:
    """Tell whether :func:`parse_webtransport_url` accepts a URL."""
    try:
        parse_webtransport_url(url)
    except ConfigurationError:
        return False
    return True


def is_ipv4_address(host: str) -> bool:
    """Tell whether ``host`` is an IPv4 address in dotted decimal form."""
    return is_address(host, ipaddress.IPv4Address)


def is_ipv6_address(host: str) -> bool:
    """Tell whether ``host`` is an IPv6 address without brackets."""
    return is_address(host, ipaddress.IPv6Address)


async def resolve_address(host: str, port: int, *, family: int = socket.AF_UNSPEC) -> Address:
    """Find the first address of a host.

    Args:
        host: Host name or address.
        port: UDP port.
        family: ``socket.AF_INET``, ``AF_INET6`` or ``AF_UNSPEC`` for either.

    Raises:
        UnreachableError: The name has no such address.
        ConfigurationError: ``host`` is not a string, or ``port`` or ``family`` is out of range.

    Cancellation: safe.
    """
    check_text("host", host)
    check_integer("port", port, 0, 65535)
    check_instance("family", family, int)
    name = host if host.isascii() else ascii_host(host)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, port, family=family, type=socket.SOCK_DGRAM)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise UnreachableError(
            f"host '{printable(host)}' could not be resolved: {explain_os_error(error)}",
            remote_address=(host, port),
            reason=str(error),
        ) from error
    address = found[0][4]
    return str(address[0]), int(address[1])


# RFC 3986 appendix B. The standard library's own takes zones or refuses them, by version.
_PARTS = re.compile(
    r"(?:(?P<scheme>[^:/?]*):)?(?://(?P<authority>[^/?]*))?(?P<path>[^?]*)(?:\?(?P<query>.*))?",
    re.DOTALL,
)
# Up to the last '@' of the authority, whatever else is wrong with the URL.
_PASSWORD = re.compile(r"(?<=:)(?!//)[^/?#]*@")
# RFC 3986: characters that need no encoding in a path and query; '%' keeps encoded ones.
_PATH_SAFE = "/%:@!$&'()*+,;=~"
_QUERY_SAFE = _PATH_SAFE + "?"
# Not printable, but allowed in names: joiners, and the soft hyphen, which is removed.
_INVISIBLE = dict.fromkeys(map(ord, "\u200c\u200d\u00ad"))


def _quoted(key: str, text: str, safe: str) -> str:
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:  # a lone surrogate
        raise invalid_config(
            key=key, value=text, reason="expected a string that UTF-8 can encode"
        ) from None


def _bad_url(url: Any, reason: str) -> NoReturn:
    raise invalid_config(key="url", value=without_password(url), reason=reason)


def _split_authority(url: str, netloc: str) -> tuple[str, int]:
    if netloc.startswith("["):
        text, bracket, rest = netloc[1:].partition("]")
        if not bracket:
            _bad_url(url, "the ']' after the IPv6 address is missing")
        host = _checked(url, ipv6_from_url, text)
    else:
        text, colon, rest = netloc.partition(":")
        rest = colon + rest
        host = _checked(url, ascii_host, text)
    if rest and not rest.startswith(":"):
        _bad_url(url, f"unexpected '{printable(rest)}' after the IPv6 address")
    if not rest:
        return host, DEFAULT_HTTPS_PORT
    digits = rest[1:]
    if not (digits.isascii() and digits.isdigit()) or not 1 <= int(digits[:6]) <= 65535:
        _bad_url(url, f"the port is '{printable(digits)}'; expected 1 to 65535")
    return host, int(digits)


def _checked(url: str, convert: Callable[[str], str], text: str) -> str:
    try:
        return convert(text)
    except ConfigurationError as error:
        _bad_url(url, f"host '{printable(text)}': {error.reason}")
