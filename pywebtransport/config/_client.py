"""The configuration of clients."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self, Unpack, cast

from .._states import Headers
from .._version import __version__
from ..constants import (
    DEFAULT_AUTO_RECONNECT,
    DEFAULT_CLIENT_MAX_CONNECTIONS,
    DEFAULT_CLIENT_VERIFY_MODE,
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_FALLBACK_DELAY,
    DEFAULT_HAPPY_EYEBALLS_DELAY,
    DEFAULT_MAX_RETRIES,
    DEFAULT_MAX_RETRY_DELAY,
    DEFAULT_MAX_STREAMS,
    DEFAULT_RETRY_BACKOFF,
    DEFAULT_RETRY_DELAY,
    DEFAULT_STREAM_CREATION_TIMEOUT,
    FALLBACKS,
)
from ..exceptions import invalid_config
from ..utils._http_proxy import HttpProxy
from ..utils._urls import without_password
from ._base import COMMON_RULES, BaseConfig, amount, seconds
from ._fields import (
    CertificateHashes,
    Choice,
    Flag,
    HeaderFields,
    HttpProxyUrl,
    Number,
    Path,
    Rule,
    Text,
    VerifyMode,
)
from ._keywords import CertificateHash, ClientFields

__all__ = ["ClientConfig"]


@dataclass(kw_only=True)
class ClientConfig(BaseConfig):
    """How a client connects, and the limits of its sessions."""

    allow_pooling: bool = False
    """Let sessions to one authority share a connection. It is kept for further sessions until
    ``max_connections`` are open and another authority needs one. A connection over a WebSocket has
    one session, and is not shared. You cannot use this together with
    ``server_certificate_hashes``."""

    auto_reconnect: bool = DEFAULT_AUTO_RECONNECT
    """Make ``WebTransportClient.create`` return a client that reconnects."""

    certfile: str | None = None
    """PEM file of the certificate chain that identifies this client (mutual TLS)."""

    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    """Seconds that ``connect`` may take, from name resolution to the server's answer."""

    fallback: str | None = None
    """``websocket``: when a server is not reached by QUIC, for instance because a firewall drops
    UDP, connect by TCP and open the session over a WebSocket (QMux). The server needs
    ``websocket=True``. None: QUIC alone. This needs the extra ``fallback``. It applies to
    ``WebTransportClient``, ``connect`` and the clients that are based on them, not to a
    ``WebTransportConnection`` that you create. You cannot use it together with ``network``."""

    fallback_delay: float = DEFAULT_FALLBACK_DELAY
    """Seconds that QUIC gets before the client also connects by TCP. It does so at once when the
    address is refused or unreachable by UDP, and at the start if TCP was used for the last session
    with this server, not more than ten minutes ago."""

    fallback_proxy: str | None = field(default=None, repr=False)
    """HTTP proxy for the connections by TCP: ``http://[user:password@]host[:port]``. It gets a
    CONNECT request, and resolves the name of the server. None: connect to the server itself;
    environment variables such as ``https_proxy`` are not used. Not shown by ``repr``, since it may
    contain a password."""

    happy_eyeballs_delay: float = DEFAULT_HAPPY_EYEBALLS_DELAY
    """Seconds after which the next address of a host is tried in parallel (RFC 8305)."""

    headers: Headers = field(default_factory=dict, repr=False)
    """Header fields of every session request; a list of values becomes several lines. Not shown by
    ``repr``, since they may contain credentials."""

    keyfile: str | None = None
    """PEM file of the key of ``certfile``."""

    max_connections: int = DEFAULT_CLIENT_MAX_CONNECTIONS
    """Connections that one client may have open at a time."""

    max_retries: int = DEFAULT_MAX_RETRIES
    """How often a reconnecting client tries again, and how often any client resends a request that
    the server did not process (H3_REQUEST_REJECTED); 0: never."""

    max_retry_delay: float = DEFAULT_MAX_RETRY_DELAY
    """Longest pause between two attempts, in seconds."""

    max_streams: int = DEFAULT_MAX_STREAMS
    """Streams that this end may have open at a time in one session. Opening another one raises
    ``StreamLimitError``; with a ``timeout``, it waits that long first."""

    require_application_protocol: bool = False
    """Close a session with WT_ALPN_ERROR unless the server selected one of the
    ``application_protocols``."""

    retry_backoff: float = DEFAULT_RETRY_BACKOFF
    """Factor by which the pause grows from one attempt to the next."""

    retry_delay: float = DEFAULT_RETRY_DELAY
    """First pause between two attempts, in seconds."""

    server_certificate_hashes: Sequence[CertificateHash] = field(default_factory=list)
    """SHA-256 hashes of certificates to accept instead of checking the chain
    and the name. Each is 32 bytes, or a string: 64 hex digits, with or without colons, or
    base64. ``{"algorithm": "sha-256", "value": ...}`` is accepted, too. However they are
    given, the field holds a list of bytes."""

    stream_creation_timeout: float = DEFAULT_STREAM_CREATION_TIMEOUT
    """Seconds that opening a stream may wait for the peer's credit."""

    user_agent: str = f"pywebtransport/{__version__}"
    """The ``user-agent`` header; an empty string sends none."""

    verify_mode: ssl.VerifyMode | None = DEFAULT_CLIENT_VERIFY_MODE
    """``CERT_NONE`` accepts any server certificate; every other value, including None, requires a
    valid one."""

    _rules: ClassVar[Mapping[str, Rule]] = {
        **COMMON_RULES,
        "allow_pooling": Flag(),
        "auto_reconnect": Flag(),
        "certfile": Path(),
        "connect_timeout": seconds(),
        "fallback": Choice(FALLBACKS, optional=True),
        "fallback_delay": seconds(above=False),
        "fallback_proxy": HttpProxyUrl(),
        "happy_eyeballs_delay": seconds(above=False),
        "headers": HeaderFields(),
        "keyfile": Path(),
        "max_connections": amount("connections", 1, 1 << 31),
        "max_retries": amount("tries", 0, 1 << 31),
        "max_retry_delay": seconds(),
        "max_streams": amount("streams", 1, 1 << 31),
        "require_application_protocol": Flag(),
        "retry_backoff": Number(1.0, 1000.0, "times"),
        "retry_delay": seconds(),
        "server_certificate_hashes": CertificateHashes(),
        "stream_creation_timeout": seconds(),
        "user_agent": Text("text"),
        "verify_mode": VerifyMode(optional=True),
    }

    @classmethod
    def create(cls, **fields: Unpack[ClientFields]) -> Self:
        """Make a configuration from the fields given; type checkers know their names.

        Raises:
            ConfigurationError: A field is unknown or its value is not accepted.
        """
        return cls.from_dict({**fields})

    @classmethod
    def create_for_development(cls, *, verify_ssl: bool = False) -> Self:
        """Settings for development: debug logs, certificates not checked.

        Args:
            verify_ssl: Check the server's certificate anyway.
        """
        mode = ssl.CERT_REQUIRED if Flag().convert("verify_ssl", verify_ssl) else ssl.CERT_NONE
        return cls(verify_mode=mode, log_level="DEBUG", connect_timeout=10.0)

    @classmethod
    def create_for_production(
        cls,
        *,
        ca_certs: str | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
    ) -> Self:
        """Settings for production: certificates are checked, only warnings are logged.

        Args:
            ca_certs: PEM file of the authorities to trust; None: those of the system.
            certfile: PEM file of this client's certificate chain.
            keyfile: PEM file of its key.
        """
        return cls(
            verify_mode=ssl.CERT_REQUIRED,
            log_level="WARNING",
            ca_certs=ca_certs,
            certfile=certfile,
            keyfile=keyfile,
        )

    def update(self, **fields: Unpack[ClientFields]) -> Self:
        """A new configuration with some fields changed; this one stays as it is.

        Raises:
            ConfigurationError: A field is unknown or its value is not accepted.
        """
        return self._changed(fields)

    @property
    def pinned_hashes(self) -> list[bytes]:
        """``server_certificate_hashes`` as the field holds them."""
        return cast(list[bytes], self.server_certificate_hashes)

    @property
    def http_proxy(self) -> HttpProxy | None:
        """``fallback_proxy``, parsed."""
        url = self.fallback_proxy
        return None if url is None else HttpProxy.parse(url)

    def _check_together(self) -> None:
        super()._check_together()
        if self.fallback is not None and self.network is not None:
            raise invalid_config(
                key="fallback",
                value=self.fallback,
                reason="must be None together with network, which carries no TCP",
            )
        if self.fallback is None and self.fallback_proxy is not None:
            raise invalid_config(
                key="fallback_proxy",
                value=without_password(self.fallback_proxy),
                reason="needs fallback='websocket'",
            )
        self._require_pair(self.certfile, self.keyfile)
        if self.allow_pooling and self.server_certificate_hashes:
            raise invalid_config(
                key="allow_pooling",
                value=True,
                reason="must be False together with server_certificate_hashes",
            )
        if self.require_application_protocol and not self.application_protocols:
            raise invalid_config(
                key="require_application_protocol",
                value=True,
                reason="needs at least one of application_protocols",
            )
        if self.max_retry_delay < self.retry_delay:
            raise invalid_config(
                key="max_retry_delay",
                value=self.max_retry_delay,
                reason=f"must be at least retry_delay ({self.retry_delay:g} seconds)",
            )
