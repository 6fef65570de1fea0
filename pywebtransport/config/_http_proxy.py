"""The URL of an HTTP proxy, as a configuration holds it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from urllib.parse import unquote_to_bytes

from ..exceptions import ConfigurationError, invalid_config
from ..utils._hosts import ascii_host, host_and_port
from ..utils._urls import without_password

__all__ = ["HttpProxy", "HttpProxyUrl"]

_URL = re.compile(
    r"http://(?:(?P<user>[^@/?#\s]*)@)?(?P<host>\[[^\]@]*\]|[^:\[\]@/?#\s]+):(?P<port>[0-9]{1,5})/?",
    re.IGNORECASE,
)
# Longest URL that is looked at; a limit that only catches mistakes.
_LONGEST = 2000
_EXPECTED = "http://[user:password@]host:port"


class HttpProxy(NamedTuple):
    """An HTTP proxy that takes CONNECT requests (RFC 9110 section 9.3.6).

    Attributes:
        host: Its name or address, without brackets.
        port: Its TCP port.
        authorization: Value of ``proxy-authorization``; None: none is sent.
    """

    host: str
    port: int
    authorization: str | None

    @property
    def name(self) -> str:
        """``host:port``, for messages."""
        return host_and_port(self.host, self.port)

    @classmethod
    def parse(cls, key: str, url: str) -> HttpProxy:
        """Parse ``http://[user:password@]host:port``.

        Args:
            key: The field, for the error.
            url: Reserved characters of the user name and the password are percent-encoded.

        Raises:
            ConfigurationError: It is something else. The error does not show the password.
        """
        known = isinstance(url, str) and len(url) <= _LONGEST and url.isascii()
        match = _URL.fullmatch(url) if known and url.isprintable() else None
        if match is None:
            raise _refused(key, url)
        try:
            host = ascii_host(match["host"])
        except ConfigurationError as error:
            raise _refused(key, url, error.reason) from None
        port = int(match["port"])
        if not 1 <= port <= 65535:
            raise _refused(key, url, f"the port is {port}, and not 1 to 65535")
        if match["user"] is None:
            return cls(host, port, None)
        name, _, password = (unquote_to_bytes(part) for part in match["user"].partition(":"))
        if b":" in name:  # RFC 7617 section 2
            raise _refused(key, url, "the user name contains a colon")
        pair = base64.b64encode(name + b":" + password).decode("ascii")
        return cls(host, port, f"Basic {pair}")


@dataclass(frozen=True)
class HttpProxyUrl:
    """The rule of a field that names an HTTP proxy."""

    expected: ClassVar[str] = f"{_EXPECTED}, or None"

    def convert(self, key: str, value: Any) -> str | None:
        """Return the URL as it was given, or None."""
        if value is not None:
            HttpProxy.parse(key, value)
        checked: str | None = value
        return checked

    def export(self, value: str | None) -> str | None:
        """Return the URL; ``convert`` accepts it."""
        return value


def _refused(key: str, url: Any, why: str = "") -> ConfigurationError:
    reason = f"expected {HttpProxyUrl.expected}"
    return invalid_config(
        key=key, value=without_password(url), reason=f"{why}; {reason}" if why else reason
    )
