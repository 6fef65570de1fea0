"""HTTP proxies that open tunnels, by their URLs."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from ..exceptions import ConfigurationError, invalid_config
from ._hosts import ascii_host, host_and_port, ipv6_from_url
from ._urls import without_password

__all__ = ["EXPECTED_PROXY", "HttpProxy"]

EXPECTED_PROXY = "http://[user:password@]host[:port]"
"""The form of the URL, for messages."""

_URL = re.compile(
    r"http://(?:(?P<user>[^@/?#\s]*)@)?(?:\[(?P<address>[^\]@]*)\]|(?P<name>[^:\[\]@/?#\s]+))"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
    re.IGNORECASE,
)
_HTTP_PORT = 80
# Longest URL that is looked at; a limit that only catches mistakes.
_LONGEST = 2000


@dataclass(frozen=True)
class HttpProxy:
    """An HTTP proxy that opens tunnels with CONNECT (RFC 9110 section 9.3.6).

    Attributes:
        url: For messages, without the password.
        host: Name or address, without brackets.
        port: TCP port.
        authorization: The value of ``proxy-authorization``; empty: none.
    """

    url: str
    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """``host:port``."""
        return host_and_port(self.host, self.port)

    @classmethod
    def parse(cls, url: object, key: str = "fallback_proxy") -> HttpProxy:
        """Parse ``http://[user:password@]host[:port]``; without a port, it is 80.

        Args:
            url: The URL. Reserved characters in the user name and password are percent-encoded.
            key: The argument, for the error.

        Raises:
            ConfigurationError: It is something else. The error does not show the password.
        """
        shown = without_password(url)

        def refused(why: str = "") -> ConfigurationError:
            reason = f"expected {EXPECTED_PROXY}, or None"
            return invalid_config(
                key=key, value=shown, reason=f"{why}; {reason}" if why else reason
            )

        if not (isinstance(url, str) and url.isprintable()):
            raise refused()
        match = _URL.fullmatch(url) if len(url) <= _LONGEST else None
        if match is None:
            raise refused()
        try:
            name, address = match["name"], match["address"]
            host = ascii_host(name) if address is None else ipv6_from_url(address)
        except ConfigurationError as error:
            raise refused(error.reason) from None
        port = int(match["port"] or _HTTP_PORT)
        if not 1 <= port <= 65535:
            raise refused(f"the port is {port}, and not 1 to 65535")
        if match["user"] is None:
            return cls(shown, host, port)
        user, _, password = (unquote_to_bytes(part) for part in match["user"].partition(":"))
        if b":" in user:  # RFC 7617 section 2: it would end there
            raise refused("the user name contains a colon")
        token = base64.b64encode(user + b":" + password).decode("ascii")
        return cls(shown, host, port, f"Basic {token}")
