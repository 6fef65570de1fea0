"""The configuration of servers."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, ClassVar, Literal, Self, Unpack

from pywebtransport._states import Address
from pywebtransport.config._keywords import Middleware, ServerFields
from pywebtransport.config.base import COMMON_RULES, BaseConfig, amount, seconds
from pywebtransport.config.fields import (
    Choice,
    Flag,
    Number,
    Objects,
    Origins,
    Path,
    Rule,
    SharedSecrets,
    SniCertificates,
    Text,
    VerifyMode,
)
from pywebtransport.constants import (
    DEFAULT_ACCESS_LOG,
    DEFAULT_BIND_HOST,
    DEFAULT_CERTFILE,
    DEFAULT_DEV_PORT,
    DEFAULT_DRAIN_SPREAD,
    DEFAULT_DRAIN_TIMEOUT,
    DEFAULT_GC_POLICY,
    DEFAULT_KEYFILE,
    DEFAULT_MAX_HALF_OPEN_CONNECTIONS,
    DEFAULT_MAX_SESSIONS,
    DEFAULT_MAX_STREAMS_PER_CONNECTION,
    DEFAULT_PER_ADDRESS,
    DEFAULT_RETRY_POLICY,
    DEFAULT_SERVER_MAX_CONNECTIONS,
    DEFAULT_SERVER_VERIFY_MODE,
    DEFAULT_SESSION_CLEANUP_INTERVAL,
    DEFAULT_SHUTDOWN_TIMEOUT,
    DEFAULT_WORKERS,
    GC_POLICIES,
    RETRY_POLICIES,
)
from pywebtransport.exceptions import invalid_config

__all__ = ["ServerConfig"]


# Of what all clients may have, so much one address may; and at least so many.
_SHARE = 0.75
_SMALLEST_SHARE = 100


def _per_address(unit: str) -> Number:
    """The rule of a limit for each client address."""
    return Number(1, 1 << 31, unit, integer=True, optional=True, auto=True)


@dataclass(kw_only=True)
class ServerConfig(BaseConfig):
    """Where a server listens, who it is, and the limits of its sessions."""

    access_log: bool = DEFAULT_ACCESS_LOG
    """Log one line per session request at level INFO."""

    allowed_origins: list[str] | None = None
    """Web origins that may open sessions, such as ``https://example.org``; a
    request with another ``origin`` is answered 403, one without any passes.
    ``*`` or None: all."""

    bind_host: str = DEFAULT_BIND_HOST
    """Host name or address to listen on; a name listens on all its addresses,
    an empty one on every address."""

    bind_port: int = DEFAULT_DEV_PORT
    """UDP port to listen on; 0 lets the system choose."""

    certfile: str = DEFAULT_CERTFILE
    """PEM file of the server's certificate chain, leaf first."""

    drain_spread: float = DEFAULT_DRAIN_SPREAD
    """Seconds over which closing the server tells its clients to drain, in batches, so
    that they do not all come back elsewhere in one moment; 0: all at once."""

    drain_timeout: float = DEFAULT_DRAIN_TIMEOUT
    """Seconds that closing the server leaves to a client's sessions after telling
    it to drain."""

    gc_policy: str = DEFAULT_GC_POLICY
    """Python's garbage collector: ``server`` keeps it from looking at all sessions again and
    again, and returns memory after a peak; ``off`` leaves it alone. ``auto`` is ``server``
    where the process is the server's own, under ``ServerApp.run`` and in workers. It is a
    matter of the whole process: ``server`` holds while one server that says so listens."""

    keyfile: str = DEFAULT_KEYFILE
    """PEM file of the key of ``certfile``."""

    max_connections: int = DEFAULT_SERVER_MAX_CONNECTIONS
    """Connections at a time, those whose handshake is not complete aside; further ones
    are refused with CONNECTION_REFUSED."""

    max_connections_per_address: int | Literal["auto"] | None = DEFAULT_PER_ADDRESS
    """Connections at a time of one client address; further ones are refused with
    CONNECTION_REFUSED before their handshake. Of IPv6 the first 64 bits count, and
    what a connection counts for is the address of its handshake. ``auto``: three
    quarters of ``max_connections``, at least 100. None: no limit, such as behind a
    forwarder, from whose address all clients come."""

    max_half_open_connections: int = DEFAULT_MAX_HALF_OPEN_CONNECTIONS
    """Connections at a time whose handshake is not complete; packets of
    further ones are dropped. One client address gets 1,024 of them, unless
    ``max_connections_per_address`` is None."""

    max_handshakes_per_address: int = 0
    """New connections per second from one client address, with or without a validated
    token; 0: no limit."""

    max_sessions: int = DEFAULT_MAX_SESSIONS
    """Sessions at a time, all connections together; further ones are answered 429, or
    refused with H3_REQUEST_REJECTED on a connection that has as many by itself."""

    max_sessions_per_address: int | Literal["auto"] | None = DEFAULT_PER_ADDRESS
    """Sessions at a time of one client address, as in ``max_connections_per_address``;
    further ones are answered 429 with ``retry-after``. ``auto``: three quarters of
    ``max_sessions``, at least 100. None: no limit."""

    max_streams_per_connection: int = DEFAULT_MAX_STREAMS_PER_CONNECTION
    """Streams that this end may have open at a time on one connection, all its
    sessions together; opening another raises ``StreamLimitError``, or waits for as
    long as its ``timeout`` says."""

    middleware: list[Middleware] = field(default_factory=list)
    """Middleware that every session request passes, in this order."""

    retry: str = DEFAULT_RETRY_POLICY
    """Whether clients must prove their address with a Retry packet: ``off``,
    ``auto`` (under load) or ``always`` (RFC 9000 section 8.1.2)."""

    session_cleanup_interval: float = DEFAULT_SESSION_CLEANUP_INTERVAL
    """Seconds. Accepted for compatibility; closed sessions free themselves at once."""

    shared_secret: bytes | str | PathLike[str] | Sequence[bytes | str | PathLike[str]] | None = (
        field(default=None, repr=False)
    )
    """What the keys of stateless resets, address tokens and session tickets are derived
    from: 32 bytes or more, a file that holds them (made with mode 0600 when there is
    none), or a list of these to change from one to another: the first is used for what
    is given out, up to three older ones for what comes back. With the same secret, a server
    that was started again tells its clients so within a round trip of their next packet,
    and machines that serve one name take each other's tokens and tickets. None: a secret
    of this user's own, in ``$STATE_DIRECTORY/shared-secret`` (systemd), or
    ``pywebtransport/shared-secret`` in ``$XDG_STATE_HOME`` or ``~/.local/state``. Not shown
    by ``repr``."""

    shutdown_timeout: float = DEFAULT_SHUTDOWN_TIMEOUT
    """Seconds that ``run()`` and ``run_workers()`` leave to shutdown handlers, and to
    whatever else of the application has to end, after ``drain_spread``,
    ``drain_timeout`` and ``close_timeout``; then the process ends with status 70."""

    sni_certificates: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Further certificates by server name: ``{"example.org": (certfile, keyfile)}``;
    ``*.example.org`` matches one label."""

    verify_mode: ssl.VerifyMode = DEFAULT_SERVER_VERIFY_MODE
    """Client certificates: ``CERT_NONE`` asks for none, ``CERT_OPTIONAL`` checks
    one that is given, ``CERT_REQUIRED`` demands one. The last two need ``ca_certs``."""

    workers: int = DEFAULT_WORKERS
    """Processes that share the port: ``ServerApp.run`` or ``run_workers`` starts
    them. The other limits are each worker's own."""

    _rules: ClassVar[Mapping[str, Rule]] = {
        **COMMON_RULES,
        "access_log": Flag(),
        "allowed_origins": Origins(),
        "bind_host": Text("host name or address"),
        "bind_port": amount("a UDP port", 0, 65535),
        "certfile": Path(none=""),
        "drain_spread": seconds(above=False),
        "drain_timeout": seconds(above=False),
        "gc_policy": Choice(GC_POLICIES),
        "keyfile": Path(none=""),
        "max_connections": amount("connections", 1, 1 << 31),
        "max_connections_per_address": _per_address("connections"),
        "max_half_open_connections": amount("connections", 1, 1 << 31),
        "max_handshakes_per_address": amount("connections per second", 0, 1 << 31),
        "max_sessions": amount("sessions", 1, 1 << 31),
        "max_sessions_per_address": _per_address("sessions"),
        "max_streams_per_connection": amount("streams", 1, 1 << 31),
        "middleware": Objects(),
        "retry": Choice(RETRY_POLICIES),
        "session_cleanup_interval": seconds(),
        "shared_secret": SharedSecrets(),
        "shutdown_timeout": seconds(above=False),
        "sni_certificates": SniCertificates(),
        "verify_mode": VerifyMode(),
        # The worker's index travels in one byte of its connection IDs.
        "workers": amount("processes", 1, 256),
    }

    @classmethod
    def create(cls, **fields: Unpack[ServerFields]) -> Self:
        """Make a configuration from the fields given; type checkers know their names.

        Raises:
            ConfigurationError: A field is unknown or its value is not accepted.
        """
        return cls.from_dict({**fields})

    @classmethod
    def create_for_development(
        cls,
        *,
        host: str = "localhost",
        port: int = 4433,
        certfile: str | None = None,
        keyfile: str | None = None,
    ) -> Self:
        """Settings for trying things out: debug logs; no file is made.

        Args:
            host: Host name or address to listen on.
            port: UDP port; 0 lets the system choose.
            certfile: PEM file of the certificate chain; None: to be set later.
            keyfile: PEM file of its key.
        """
        return cls(
            bind_host=host,
            bind_port=port,
            certfile=certfile or "",
            keyfile=keyfile or "",
            log_level="DEBUG",
        )

    @classmethod
    def create_for_production(
        cls,
        *,
        host: str,
        port: int,
        certfile: str,
        keyfile: str,
        ca_certs: str | None = None,
    ) -> Self:
        """Settings for real use: only warnings are logged.

        Args:
            host: Host name or address to listen on.
            port: UDP port.
            certfile: PEM file of the certificate chain, leaf first.
            keyfile: PEM file of its key.
            ca_certs: PEM file of authorities; when given, client certificates
                that they signed are checked, though not demanded.

        Raises:
            ConfigurationError: certfile or keyfile is empty, or a value is not accepted.
        """
        for key, value in (("certfile", certfile), ("keyfile", keyfile)):
            if not value:
                raise invalid_config(
                    key=key, value=value, reason="a production server needs a certificate"
                )
        return cls(
            bind_host=host,
            bind_port=port,
            certfile=certfile,
            keyfile=keyfile,
            ca_certs=ca_certs,
            verify_mode=ssl.CERT_OPTIONAL if ca_certs else ssl.CERT_NONE,
            log_level="WARNING",
        )

    @property
    def address_connections(self) -> int | None:
        """Connections that one client address may have at a time; None: no limit."""
        return _share(self.max_connections_per_address, self.max_connections)

    @property
    def address_sessions(self) -> int | None:
        """Sessions that one client address may have at a time; None: no limit."""
        return _share(self.max_sessions_per_address, self.max_sessions)

    def get_bind_address(self) -> Address:
        """Host and UDP port to listen on."""
        return (self.bind_host, self.bind_port)

    def merge(self, other: ServerConfig | dict[str, Any]) -> Self:
        """A new configuration in which ``other`` wins.

        Args:
            other: A dictionary: all of its fields win. A configuration: those
                of its fields win that differ from their defaults.

        Raises:
            ConfigurationError: A field is unknown or its value is not accepted.
        """
        return self._merged(other)

    def update(self, **fields: Unpack[ServerFields]) -> Self:
        """A new configuration with some fields changed; this one stays as it is.

        Raises:
            ConfigurationError: A field is unknown or its value is not accepted.
        """
        return self._changed(fields)

    def _check_together(self) -> None:
        super()._check_together()
        self._require_pair(self.certfile, self.keyfile)
        if self.verify_mode is not ssl.CERT_NONE and not self.ca_certs:
            raise invalid_config(
                key="verify_mode",
                value=self.verify_mode.name,
                reason="client certificates are checked against ca_certs, which is not set",
            )


def _share(limit: int | Literal["auto"] | None, of_all: int) -> int | None:
    if limit == "auto":
        return max(int(of_all * _SHARE), _SMALLEST_SHARE)
    return limit
