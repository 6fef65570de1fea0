"""The configuration of servers."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import ClassVar, Literal, Self, Unpack

from .._states import Address
from ..constants import (
    DEFAULT_ACCESS_LOG,
    DEFAULT_BIND_HOST,
    DEFAULT_CERTFILE,
    DEFAULT_DEV_PORT,
    DEFAULT_DRAIN_SPREAD,
    DEFAULT_DRAIN_TIMEOUT,
    DEFAULT_GC_POLICY,
    DEFAULT_KEYFILE,
    DEFAULT_MAX_HALF_OPEN_CONNECTIONS,
    DEFAULT_MAX_REQUESTS,
    DEFAULT_MAX_SESSIONS,
    DEFAULT_MAX_STREAMS_PER_CONNECTION,
    DEFAULT_MAX_WEBSOCKET_MESSAGE,
    DEFAULT_PER_ADDRESS,
    DEFAULT_QUIC_LB_CONFIG_ID,
    DEFAULT_REQUEST_TIMEOUT,
    DEFAULT_RETRY_POLICY,
    DEFAULT_SERVER_MAX_CONNECTIONS,
    DEFAULT_SERVER_VERIFY_MODE,
    DEFAULT_SESSION_CLEANUP_INTERVAL,
    DEFAULT_SHUTDOWN_TIMEOUT,
    DEFAULT_WEBSOCKET_PING_INTERVAL,
    DEFAULT_WORKERS,
    GC_POLICIES,
    MAX_QUIC_LB_SERVER_ID,
    MAX_VARINT,
    RETRY_POLICIES,
)
from ..exceptions import invalid_config
from ._balancer import server_id_of_environment
from ._base import COMMON_RULES, BaseConfig, amount, seconds
from ._fields import (
    Choice,
    Flag,
    Number,
    Objects,
    Origins,
    Path,
    Rule,
    ServerId,
    SharedSecrets,
    SniCertificates,
    Text,
    VerifyMode,
)
from ._keywords import Middleware, ServerFields

__all__ = ["ServerConfig"]


# The share of a limit that one client address may use, and the least that it gets.
_SHARE = 0.75
_SMALLEST_SHARE = 100


def _per_address(unit: str) -> Number:
    """The rule of a limit for each client address."""
    return Number(1, 1 << 31, unit, integer=True, optional=True, auto=True)


@dataclass(kw_only=True)
class ServerConfig(BaseConfig):
    """Where a server listens, its certificates, and the limits of its sessions."""

    access_log: bool = DEFAULT_ACCESS_LOG
    """Log one line per session request and HTTP request at level INFO."""

    allowed_origins: list[str] | None = None
    """Web origins that may open sessions, and WebSockets of ``ServerApp.mount``, such as
    ``https://example.org``. A request with another ``origin`` is answered with 403; a request
    without ``origin`` is accepted. ``*`` or None: all."""

    bind_host: str = DEFAULT_BIND_HOST
    """Host name or address to listen on. A name means all its addresses, an empty string every
    address."""

    bind_port: int = DEFAULT_DEV_PORT
    """UDP port to listen on, and TCP port of a mounted ASGI application and of ``websocket``; 0
    lets the system choose."""

    certfile: str = DEFAULT_CERTFILE
    """PEM file of the server's certificate chain, leaf first."""

    drain_spread: float = DEFAULT_DRAIN_SPREAD
    """Seconds over which a closing server tells its clients to drain, in batches, so that they do
    not all reconnect elsewhere at the same time; 0: all at once."""

    drain_timeout: float = DEFAULT_DRAIN_TIMEOUT
    """Seconds that the sessions of a client may continue after a closing server has told it to
    drain."""

    gc_policy: str = DEFAULT_GC_POLICY
    """Python's garbage collector: ``server`` keeps it from scanning all sessions again and again,
    and returns memory after a peak; ``off`` does not touch it. ``auto`` means ``server`` under
    ``ServerApp.run`` and in workers, where the process belongs to the server. The setting is in
    force for the whole process while a server with ``server`` listens."""

    keyfile: str = DEFAULT_KEYFILE
    """PEM file of the key of ``certfile``."""

    max_connections: int = DEFAULT_SERVER_MAX_CONNECTIONS
    """Connections at a time, without those whose handshake is not complete; further ones are
    refused with CONNECTION_REFUSED."""

    max_connections_per_address: int | Literal["auto"] | None = DEFAULT_PER_ADDRESS
    """Connections at a time of one client address; further ones are refused with
    CONNECTION_REFUSED before their handshake. For IPv6, the first 64 bits count. A connection
    counts for the address of its handshake. ``auto``: three quarters of ``max_connections``, at
    least 100. None: no limit, for instance behind a forwarder, where all clients have the same
    address."""

    max_half_open_connections: int = DEFAULT_MAX_HALF_OPEN_CONNECTIONS
    """Connections at a time whose handshake is not complete; packets of
    further ones are dropped. One client address gets 1,024 of them, unless
    ``max_connections_per_address`` is None."""

    max_handshakes_per_address: int = 0
    """New connections per second from one client address, with or without a validated
    token; 0: no limit."""

    max_request_body: int | None = None
    """Bytes of one request body that an application of ``ServerApp.mount`` may receive; a larger
    one is answered with 413, or the stream is reset if the answer has begun. None: no limit."""

    max_requests: int = DEFAULT_MAX_REQUESTS
    """HTTP requests at a time that an application of ``ServerApp.mount`` serves, with WebSockets,
    all connections together; further ones are answered with 503 and ``retry-after``."""

    max_sessions: int = DEFAULT_MAX_SESSIONS
    """Sessions at a time, all connections together. Further ones are answered with 429, or refused
    with H3_REQUEST_REJECTED on a connection that has this many by itself."""

    max_sessions_per_address: int | Literal["auto"] | None = DEFAULT_PER_ADDRESS
    """Sessions at a time of one client address, as in ``max_connections_per_address``;
    further ones are answered with 429 and ``retry-after``. ``auto``: three quarters of
    ``max_sessions``, at least 100. None: no limit."""

    max_streams_per_connection: int = DEFAULT_MAX_STREAMS_PER_CONNECTION
    """Streams that this end may have open at a time on one connection, all its sessions together.
    Opening another one raises ``StreamLimitError``; with a ``timeout``, it waits that long
    first."""

    max_websocket_message: int = DEFAULT_MAX_WEBSOCKET_MESSAGE
    """Bytes of one WebSocket message that an application of ``ServerApp.mount`` may receive, also
    after decompression; a larger one ends the WebSocket with code 1009."""

    middleware: list[Middleware] = field(default_factory=list)
    """Middleware that checks every session request, in this order."""

    quic_lb_config_id: int = DEFAULT_QUIC_LB_CONFIG_ID
    """The configuration of the balancer that ``quic_lb_server_id`` belongs to, 0 to 6. Connection
    IDs begin with it, so that a balancer can have an old and a new configuration at a time."""

    quic_lb_server_id: bytes | str | None = None
    """The ID by which a balancer knows this server: 1 to 13 bytes (12 with workers), or as many
    hexadecimal digits. Connection IDs then carry it in the second and the following bytes, in
    plain form (draft-ietf-quic-load-balancers), so that a balancer finds the server of a client
    whose address has changed. Each server needs another one. None: the one in the environment
    variable ``AWS_LBC_QUIC_SERVER_ID`` (base64), which the AWS Load Balancer Controller sets;
    without that, connection IDs are random."""

    request_timeout: float | None = DEFAULT_REQUEST_TIMEOUT
    """Seconds that an application of ``ServerApp.mount`` waits for the next bytes of a request
    body; then the answer is 408, or the stream is reset if the answer has begun. None: no
    limit."""

    retry: str = DEFAULT_RETRY_POLICY
    """Whether clients must prove their address with a Retry packet: ``off``,
    ``auto`` (under load) or ``always`` (RFC 9000 section 8.1.2)."""

    session_cleanup_interval: float = DEFAULT_SESSION_CLEANUP_INTERVAL
    """Seconds. Ignored; kept for compatibility. Closed sessions free themselves at once."""

    shared_secret: bytes | str | PathLike[str] | Sequence[bytes | str | PathLike[str]] | None = (
        field(default=None, repr=False)
    )
    """The secret from which the keys of stateless resets, address tokens and session tickets are
    derived: 32 bytes or more, a file that contains them (created with mode 0600 if it does not
    exist), or a list of these for changing the secret: the first is used for new tokens and
    tickets, up to three older ones only for those that clients still have. With the same secret,
    clients of a restarted server learn of the restart within a round trip of their next packet, and
    machines that serve one name accept each other's tokens and tickets. None: a secret of this
    user, in ``$STATE_DIRECTORY/shared-secret`` (systemd), or
    ``pywebtransport/shared-secret`` in ``$XDG_STATE_HOME`` or ``~/.local/state``. Not shown
    by ``repr``."""

    shutdown_timeout: float = DEFAULT_SHUTDOWN_TIMEOUT
    """Seconds that ``run()`` and ``run_workers()`` give to shutdown handlers, and to all other code
    of the application that has to end, after ``drain_spread``, ``drain_timeout`` and
    ``close_timeout``. Then the process ends with status 70."""

    sni_certificates: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Further certificates by server name: ``{"example.org": (certfile, keyfile)}``;
    ``*.example.org`` matches one label."""

    verify_mode: ssl.VerifyMode = DEFAULT_SERVER_VERIFY_MODE
    """Client certificates: ``CERT_NONE`` asks for none, ``CERT_OPTIONAL`` checks
    one that is given, ``CERT_REQUIRED`` requires one. The last two need ``ca_certs``."""

    websocket: bool = False
    """Serve sessions over TCP, too, for clients whose network blocks UDP: QMux in a WebSocket, on
    the TCP port of the same number. It needs the extra ``fallback``."""

    websocket_legacy: bool = False
    """With ``websocket``: also accept the older framing ``webtransport``, which some JavaScript
    clients still use. It has no flow control and no datagrams. A client that opens more streams
    than ``initial_max_streams_bidi`` or ``initial_max_streams_uni`` loses its session. The server
    stops reading from a client while ``initial_max_data`` bytes wait for the handler."""

    websocket_ping_interval: float | None = DEFAULT_WEBSOCKET_PING_INTERVAL
    """Seconds between two pings to the client of a WebSocket of ``ServerApp.mount``, and seconds
    that the client has to answer one; then the WebSocket ends with code 1011. None: no pings."""

    workers: int = DEFAULT_WORKERS
    """Processes that share the port; ``ServerApp.run`` or ``run_workers`` starts them. All other
    limits apply to each worker separately."""

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
        "max_request_body": Number(0, MAX_VARINT, "bytes", integer=True, optional=True),
        "max_requests": amount("requests", 1, 1 << 31),
        "max_sessions": amount("sessions", 1, 1 << 31),
        "max_sessions_per_address": _per_address("sessions"),
        "max_streams_per_connection": amount("streams", 1, 1 << 31),
        "max_websocket_message": amount("bytes", 1, 1 << 31),
        "middleware": Objects(),
        "quic_lb_config_id": Number(0, 6, "a configuration of the balancer", integer=True),
        "quic_lb_server_id": ServerId(),
        "request_timeout": seconds(optional=True),
        "retry": Choice(RETRY_POLICIES),
        "session_cleanup_interval": seconds(),
        "shared_secret": SharedSecrets(),
        "shutdown_timeout": seconds(above=False),
        "sni_certificates": SniCertificates(),
        "verify_mode": VerifyMode(),
        "websocket": Flag(),
        "websocket_legacy": Flag(),
        "websocket_ping_interval": seconds(optional=True),
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
        """Settings for development: debug logs; creates no file.

        Args:
            host: Host name or address to listen on.
            port: UDP port; 0 lets the system choose.
            certfile: PEM file of the certificate chain; None: you set it later.
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
        """Settings for production: only warnings are logged.

        Args:
            host: Host name or address to listen on.
            port: UDP port.
            certfile: PEM file of the certificate chain, leaf first.
            keyfile: PEM file of its key.
            ca_certs: PEM file of authorities; when given, client certificates
                that they signed are checked, but not required.

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
    def lb_server_id(self) -> bytes | None:
        """The ID for the balancer that is in force: ``quic_lb_server_id``, or from the environment.

        Raises:
            ConfigurationError: The one of the environment is malformed.
        """
        if self.quic_lb_server_id is not None:
            return bytes(self.quic_lb_server_id)  # type: ignore[arg-type]  # converted
        return server_id_of_environment()

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

    def update(self, **fields: Unpack[ServerFields]) -> Self:
        """A new configuration with some fields changed; this one stays as it is.

        Raises:
            ConfigurationError: A field is unknown or its value is not accepted.
        """
        return self._changed(fields)

    def _check_together(self) -> None:
        super()._check_together()
        self._require_pair(self.certfile, self.keyfile)
        if self.workers > 1 and len(self.quic_lb_server_id or b"") > MAX_QUIC_LB_SERVER_ID - 1:
            raise invalid_config(
                key="quic_lb_server_id",
                value=self.quic_lb_server_id,
                reason=f"with workers, at most {MAX_QUIC_LB_SERVER_ID - 1} bytes have room",
            )
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
