"""URI templates of UDP proxies (RFC 9298 section 2): which path stands for which target."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote

from ..exceptions import ConfigurationError, invalid_config
from ..utils.urls import parse_webtransport_url, without_password

__all__ = ["DEFAULT_PATH", "ProxyTemplate"]

DEFAULT_PATH = "/.well-known/masque/udp/{target_host}/{target_port}/"

_AUTHORITY = re.compile(r"https://[^/?{]*")
# {name}, {?name,name} and {&name,name} of RFC 6570; the rest of it has no use here.
_EXPRESSION = re.compile(r"\{([?&]?)([^{}]*)\}")
_VARIABLES = ("target_host", "target_port")


class ProxyTemplate(NamedTuple):
    """A proxy and the paths of its tunnels.

    Attributes:
        host: Host of the proxy, without brackets.
        port: Its UDP port.
        path: Path and query with the variables ``target_host`` and ``target_port``.
    """

    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> ProxyTemplate:
        """Take the URL of a proxy apart.

        Args:
            url: ``https://host[:port]``, for the path of RFC 9298 section 3, or a URI
                template with ``target_host`` and ``target_port``.

        Raises:
            ConfigurationError: It is neither.
        """
        match = _AUTHORITY.match(url) if isinstance(url, str) else None
        path = "" if match is None else url[match.end() :]
        if "{" not in path and "}" not in path:
            host, port, plain = parse_webtransport_url(url)
            if plain != "/":
                raise _bad(url, "a path without {target_host} and {target_port}")
            return cls(host, port, DEFAULT_PATH)
        names = [
            name for _, group in _EXPRESSION.findall(path) for name in group.split(",") if name
        ]
        if sorted(names) != list(_VARIABLES):
            raise _bad(url, "a template must hold {target_host} and {target_port}, once each")
        if not path.startswith("/") or re.search(r"[{}]", _EXPRESSION.sub("", path)):
            raise _bad(url, "the template is malformed")
        template = cls("", 0, path)
        assert match is not None  # there is a path
        host, port, _ = parse_webtransport_url(match[0] + template.expand("example.org", 443))
        return cls(host, port, path)

    def expand(self, host: str, port: int) -> str:
        """Path and query of the tunnel to a target; the colons of an IPv6 address are encoded."""
        values = dict(zip(_VARIABLES, (quote(host, safe=""), str(port)), strict=True))

        def replace(match: re.Match[str]) -> str:
            operator, names = match.groups()
            if not operator:
                return ",".join(values[name] for name in names.split(","))
            return operator + "&".join(f"{name}={values[name]}" for name in names.split(","))

        return _EXPRESSION.sub(replace, self.path)


def _bad(url: str, reason: str) -> ConfigurationError:
    return invalid_config(
        key="proxy_url",
        value=without_password(url),
        reason=f"{reason}; expected https://host:port, or a template such as "
        f"https://host:port{DEFAULT_PATH}",
    )
