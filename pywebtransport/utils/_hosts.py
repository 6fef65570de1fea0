"""Host names and addresses in URLs and on the network."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NoReturn
from urllib.parse import quote, unquote

import idna

from ..exceptions import ConfigurationError, invalid_config

__all__ = [
    "ascii_host",
    "authority_of",
    "bracketed",
    "host_and_port",
    "ipv6_from_url",
    "is_address",
    "without_zone",
]

# Longest spelling, before mapping, of a name of 253 characters (RFC 1035).
_MAX_NAME = 253
_MAX_LABEL = 63
_MAX_INPUT = 1000
_ACE = "xn--"
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LABEL = re.compile(r"[0-9a-z_]([0-9a-z_-]*[0-9a-z_])?")


def ascii_host(host: str) -> str:
    """Return a host in the form that DNS, TLS and HTTP need.

    International names are converted by UTS 46, non-transitional (``faß.de`` is
    ``xn--fa-hia.de``), as browsers do; a dot at the end stays.

    Args:
        host: Host name, IPv4 address, or IPv6 address, the latter with or without brackets and with
            or without a zone (``fe80::1%eth0``).

    Returns:
        The name in lower case, or the address in its short form, without brackets.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(host, str):
        _refuse(host, "expected a host name or address")
    return _ascii_host(host)


@lru_cache(256)
def _ascii_host(host: str) -> str:
    if not host:
        _refuse(host, "the host is missing")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare or bare is not host:
        return _ipv6(bare)
    if len(host) > _MAX_INPUT:
        _refuse(host, f"a host name has {_MAX_NAME} characters at most")
    name = host.lower() if host.isascii() else _mapped(host)
    labels = [_ascii_label(label, host) for label in name.removesuffix(".").split(".")]
    name = ".".join(labels) + ("." if name.endswith(".") else "")
    if len(name.removesuffix(".")) > _MAX_NAME:
        _refuse(host, f"it is not a host name: {_MAX_NAME} characters at most")
    # A name that ends in a number is an address, or a mistake (WHATWG URL section 3.5).
    if _NUMBER.fullmatch(labels[-1]) and not is_address(
        name.removesuffix("."), ipaddress.IPv4Address
    ):
        _refuse(host, "it is not an IPv4 address; expected four numbers, such as 192.0.2.1")
    return name


def bracketed(host: str, *, in_url: bool = False) -> str:
    """The host with brackets if it is an IPv6 address; ``in_url``: its zone by RFC 6874."""
    if ":" not in host:
        return host
    address, percent, zone = host.partition("%")
    if percent and in_url:
        return f"[{address}%25{quote(zone, safe='')}]"
    return f"[{host}]"


def host_and_port(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"{bracketed(host)}:{port}"


def authority_of(host: str, port: int) -> str:
    """Return the authority of an ``https`` URL: without the zone, and without port 443."""
    known = without_zone(host)
    return bracketed(known) if port == 443 else host_and_port(known, port)


def without_zone(host: str) -> str:
    """The host as a peer knows it: a zone only has a meaning on this machine (RFC 6874)."""
    return host.partition("%")[0] if ":" in host else host


def ipv6_from_url(text: str) -> str:
    """Return the address in the brackets of a URL, with the zone decoded (RFC 6874).

    Raises:
        ConfigurationError: It is not an IPv6 address, or the zone is malformed.
    """
    address, percent, zone = text.partition("%25")
    if not percent:
        if "%" in text:
            _refuse(text, "a zone begins with '%25' in a URL, such as [fe80::1%25eth0]")
        return _ipv6(text)
    return _ipv6(f"{address}%{unquote(zone)}")


def is_address(
    host: object, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]
) -> bool:
    """Tell whether a string is an address of a family."""
    if not isinstance(host, str):
        return False
    try:
        kind(host)
    except ValueError:
        return False
    return True


def _ipv6(text: str) -> str:
    address, percent, zone = text.partition("%")
    if not is_address(address, ipaddress.IPv6Address):
        _refuse(text, "it is not an IPv6 address")
    if percent and (
        not zone or not zone.isascii() or not zone.isprintable() or set(zone) & set(" %/[]\\")
    ):
        _refuse(text, "the zone after '%' must be the name or number of a network interface")
    return str(ipaddress.IPv6Address(address)) + percent + zone


def _mapped(host: str) -> str:
    try:
        return idna.uts46_remap(host, std3_rules=False)
    except (idna.IDNAError, UnicodeError) as error:
        _refuse(host, f"it is not a valid international name: {error}")


def _ascii_label(label: str, host: str) -> str:
    """One label that is mapped, in ASCII; UTS 46 section 4, steps 3 and 4."""
    encoded = label
    if not label.isascii():
        _check_label(label, host)
        encoded = _ACE + label.encode("punycode").decode("ascii")
    elif label.startswith(_ACE):
        try:
            decoded = label[len(_ACE) :].encode("ascii").decode("punycode")
        except UnicodeError:
            decoded = ""
        if decoded.isascii() or _mapped(decoded) != decoded:
            _refuse(host, f"{label!r} is not a valid international name")
        _check_label(decoded, host)
    if len(encoded) > _MAX_LABEL:
        _refuse(host, f"it is not a host name: {_MAX_LABEL} characters between two dots at most")
    if not _LABEL.fullmatch(encoded):
        _refuse(host, "it is not a host name or address")
    return encoded


def _check_label(label: str, host: str) -> None:
    """UTS 46 section 4.1, with CheckBidi and CheckJoiners; emoji are valid, as in browsers."""
    try:
        idna.check_nfc(label)
        idna.check_initial_combiner(label)
        for position, character in enumerate(label):
            if character in "\u200c\u200d" and not idna.valid_contextj(label, position):
                _refuse(host, "it is not a valid international name: a joiner is out of place")
        idna.check_bidi(label)
    except (idna.IDNAError, UnicodeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        _refuse(host, f"it is not a valid international name: {error}")


def _refuse(host: object, reason: str) -> NoReturn:
    raise invalid_config(key="host", value=host, reason=reason)
