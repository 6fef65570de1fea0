"""What both configurations share: fields, checks, copies, conversion."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..constants import (
    CONGESTION_CONTROL_ALGORITHMS,
    DEFAULT_ALPN_PROTOCOLS,
    DEFAULT_BUFFER_SIZE,
    DEFAULT_BUSY_POLL_US,
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_CONGESTION_CONTROL_ALGORITHM,
    DEFAULT_CONNECTION_CLEANUP_INTERVAL,
    DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
    DEFAULT_CONNECTION_IDLE_TIMEOUT,
    DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT,
    DEFAULT_DATAGRAM_QUEUE_SIZE,
    DEFAULT_DEBUG,
    DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE,
    DEFAULT_FLOW_CONTROL_WINDOW_SIZE,
    DEFAULT_HANDSHAKE_TIMEOUT,
    DEFAULT_INITIAL_MAX_DATA,
    DEFAULT_INITIAL_MAX_STREAMS_BIDI,
    DEFAULT_INITIAL_MAX_STREAMS_UNI,
    DEFAULT_KEEP_ALIVE,
    DEFAULT_LOG_LEVEL,
    DEFAULT_MAX_CONNECTION_MEMORY,
    DEFAULT_MAX_DATAGRAM_SIZE,
    DEFAULT_MAX_EARLY_BYTES,
    DEFAULT_MAX_EARLY_STREAMS,
    DEFAULT_MAX_FIELD_SECTION_SIZE,
    DEFAULT_MAX_INCOMING_STREAMS,
    DEFAULT_MAX_PENDING_EVENTS_PER_SESSION,
    DEFAULT_MAX_READ_BUFFER_SIZE,
    DEFAULT_MAX_SESSION_MEMORY,
    DEFAULT_MAX_TOTAL_PENDING_EVENTS,
    DEFAULT_MAX_WRITE_BUFFER_SIZE,
    DEFAULT_PENDING_EVENT_TTL,
    DEFAULT_READ_TIMEOUT,
    DEFAULT_SOCKET_BUFFER_SIZE,
    DEFAULT_STREAM_CLEANUP_INTERVAL,
    DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI,
    DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI,
    DEFAULT_WRITE_TIMEOUT,
    DIALECTS,
    IP_FAMILIES,
    LOG_LEVELS,
    MAX_BUFFER_SIZE,
    MAX_STREAM_COUNT,
    MAX_VARINT,
)
from ..exceptions import ConfigurationError, invalid_config
from ._fields import (
    Choice,
    Choices,
    Flag,
    Network,
    Number,
    Path,
    Rule,
    SettingNumbers,
    SharedSecrets,
    SniCertificates,
    Texts,
    unknown_field,
)

if TYPE_CHECKING:
    from .._transport import PacketNetwork

__all__ = ["BaseConfig"]

_FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}

LARGEST_BUFFER = 1 << 40
"""Bytes; a limit that only catches mistakes."""
LONGEST_TIME = 1e9
"""Seconds; a limit that only catches mistakes."""
SHORTEST_TIMER = 0.001
"""Seconds; the resolution of the timers of QUIC, in which 0 would switch them off."""
LONGEST_BUSY_POLL = 10_000
"""Microseconds; longer polls would take a processor for themselves."""
LARGEST_COUNT = 1 << 16
"""Waiting items; a limit that only catches mistakes."""


def seconds(*, low: float = 0.0, above: bool = True, optional: bool = False) -> Number:
    """The rule of a duration."""
    return Number(low, LONGEST_TIME, "seconds", above=above, optional=optional)


def timer() -> Number:
    """The rule of a duration that QUIC or HTTP/3 measures."""
    return Number(SHORTEST_TIMER, LONGEST_TIME, "seconds")


def amount(
    unit: str, low: int = 1, high: int = LARGEST_BUFFER, *, optional: bool = False
) -> Number:
    """The rule of an integer with a unit."""
    return Number(low, high, unit, integer=True, optional=optional)


COMMON_RULES: Mapping[str, Rule] = {
    "alpn_protocols": Texts("protocol name", 255, empty=False),
    "application_protocols": Texts("protocol name", 512),
    "busy_poll_us": amount("microseconds", 0, LONGEST_BUSY_POLL),
    "ca_certs": Path(),
    "close_timeout": seconds(),
    "congestion_control_algorithm": Choice(CONGESTION_CONTROL_ALGORITHMS),
    "connection_cleanup_interval": seconds(),
    "connection_idle_check_interval": seconds(),
    "connection_idle_timeout": timer(),
    "connection_keepalive_timeout": timer(),
    "datagram_max_age": seconds(optional=True),
    "datagram_queue_size": amount("datagrams", 1, 1 << 24),
    "debug": Flag(),
    "dialects": Choices(DIALECTS),
    "ecn": Flag(),
    "extra_enabling_settings": SettingNumbers(DIALECTS),
    "flow_control_window_auto_scale": Flag(),
    "flow_control_window_size": amount("bytes", 1024),
    "gso": Flag(),
    "handshake_timeout": timer(),
    "initial_max_data": Number(1, MAX_VARINT, "bytes", integer=True, zero=DEFAULT_INITIAL_MAX_DATA),
    "initial_max_streams_bidi": Number(
        1, MAX_STREAM_COUNT, "streams", integer=True, zero=DEFAULT_INITIAL_MAX_STREAMS_BIDI
    ),
    "initial_max_streams_uni": Number(
        1, MAX_STREAM_COUNT, "streams", integer=True, zero=DEFAULT_INITIAL_MAX_STREAMS_UNI
    ),
    "ip_family": Choice(IP_FAMILIES),
    "keep_alive": Flag(),
    "keylog_file": Path("new file"),
    "log_level": Choice(LOG_LEVELS),
    "max_connection_memory": amount("bytes", 65536),
    "max_datagram_size": amount("bytes", 1, 65535),
    "max_early_bytes": amount("bytes", 1024),
    "max_early_streams": amount("streams", 0, LARGEST_COUNT),
    "max_field_section_size": amount("bytes", 1024, 1 << 24),
    "max_incoming_streams": amount("streams", 1, 1 << 31),
    "max_memory": amount("bytes", 65536, optional=True),
    "max_pending_events_per_session": amount("early arrivals", 0, LARGEST_COUNT),
    "max_read_buffer_size": amount("bytes", 1024),
    "max_session_memory": amount("bytes", 65536),
    "max_stream_buffer_size": amount("bytes", 1024),
    "max_total_pending_events": amount("early arrivals", 0, 16 * LARGEST_COUNT),
    "max_write_buffer_size": amount("bytes", 1024),
    "network": Network(),
    "pending_event_ttl": timer(),
    "pmtud": Flag(),
    "qlog_dir": Path("directory"),
    "read_timeout": seconds(optional=True),
    "socket_buffer_size": amount("bytes", 4096, 1 << 30),
    "stream_buffer_size": amount("bytes", 1024, 1 << 31),
    "stream_cleanup_interval": seconds(),
    "stream_flow_control_increment_bidi": amount("streams", 1, MAX_STREAM_COUNT),
    "stream_flow_control_increment_uni": amount("streams", 1, MAX_STREAM_COUNT),
    "udp_payload_size": amount("bytes", 1200, 65527, optional=True),
    "write_timeout": seconds(optional=True),
}


@dataclass(kw_only=True)
class BaseConfig:
    """The fields and methods that :class:`ClientConfig` and :class:`ServerConfig` share.

    Values are checked when the object is made and again by :meth:`validate`,
    which also looks at the files that are named; making an object touches no
    file. Times are seconds, sizes are bytes. Clients and servers read their
    configuration when they are made: give them another one, from ``update``,
    instead of changing it afterwards.
    """

    alpn_protocols: list[str] = field(default_factory=lambda: list(DEFAULT_ALPN_PROTOCOLS))
    """TLS application protocols in order of preference; WebTransport needs ``h3``."""

    application_protocols: list[str] = field(default_factory=list)
    """WebTransport application protocols in order of preference: what a client
    offers (``WT-Available-Protocols``) and what a server picks from. Empty:
    no negotiation."""

    busy_poll_us: int = DEFAULT_BUSY_POLL_US
    """Microseconds for which the event loop goes on looking for packets, without sleeping, after
    it received or sent some. This shortens round trips and costs processor time, see the page about
    busy polling. 0: off. 60 is a good value on a local network."""

    ca_certs: str | None = None
    """PEM file of the certificate authorities to trust. None: those of the
    system, for a client."""

    close_timeout: float = DEFAULT_CLOSE_TIMEOUT
    """Seconds that closing waits for the peer to see the close; after that the
    connection is dropped."""

    congestion_control_algorithm: str = DEFAULT_CONGESTION_CONTROL_ALGORITHM
    """``bbr``, ``cubic`` or ``reno``: decides how fast this end sends. The page about lossy paths
    helps you choose."""

    connection_cleanup_interval: float = DEFAULT_CONNECTION_CLEANUP_INTERVAL
    """Seconds. Ignored; kept for compatibility. Closed connections free themselves at once."""

    connection_idle_check_interval: float = DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL
    """Seconds. Ignored; kept for compatibility. Idle connections end by their own timer."""

    connection_idle_timeout: float = DEFAULT_CONNECTION_IDLE_TIMEOUT
    """Seconds after which a connection without a packet from the peer is lost, counted
    from the last one, or from what was sent first after that: with ``keep_alive`` a peer
    that vanished is given up after at most one and a half times as long. The smaller
    value of both ends counts (RFC 9000 section 10.1)."""

    connection_keepalive_timeout: float = DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT
    """Seconds without packets after which a PING is sent when ``keep_alive`` is
    on; at most half of ``connection_idle_timeout`` is used."""

    datagram_max_age: float | None = None
    """Seconds that a datagram may wait in a queue, either way, before it is
    dropped and counted as expired. None: no limit."""

    datagram_queue_size: int = DEFAULT_DATAGRAM_QUEUE_SIZE
    """Datagrams that may wait per session, each way: for the network, and for
    the application, where the oldest is dropped and counted."""

    debug: bool = DEFAULT_DEBUG
    """Log the trace of the QUIC library at level DEBUG, on the logger
    ``pywebtransport.quic.trace``; slow."""

    dialects: list[int] = field(default_factory=lambda: list(DIALECTS))
    """The drafts of WebTransport over HTTP/3 to speak, out of 2, 7, 14 and 16.
    The newest that both ends speak is used."""

    ecn: bool = True
    """Mark packets for explicit congestion notification (RFC 9000 section 13.4)."""

    extra_enabling_settings: dict[int, int] = field(default_factory=dict)
    """Further HTTP/3 settings that announce WebTransport: number of the setting -> the
    dialect that it stands for, one of ``dialects``. Both ends send them, and
    understand them, like those of the drafts: ``{0x2C7CF001: 16}`` speaks to peers
    of a draft that differs from draft-16 by that number alone."""

    flow_control_window_auto_scale: bool = DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE
    """Let receive windows grow when the path needs it, up to ``read_buffer_limit``
    for a stream."""

    flow_control_window_size: int = DEFAULT_FLOW_CONTROL_WINDOW_SIZE
    """Initial number of bytes that the peer may send on one stream before the application reads
    them."""

    gso: bool = True
    """Send and receive several packets per system call where the kernel can (GSO, GRO)."""

    handshake_timeout: float = DEFAULT_HANDSHAKE_TIMEOUT
    """Seconds that the QUIC handshake may take at a server, and after it the peer's
    SETTINGS at both ends, and the header of each HTTP request at a server. A client's
    handshake may take its ``connect_timeout``."""

    initial_max_data: int = DEFAULT_INITIAL_MAX_DATA
    """Bytes that the peer may send on all streams of one session together before the application
    reads them. A connection may hold as many unread bytes, or two full streams if that is more. It
    begins with credit for ``flow_control_window_size`` and 64 KiB more, and gets more while bytes
    arrive. 0 means the default."""

    initial_max_streams_bidi: int = DEFAULT_INITIAL_MAX_STREAMS_BIDI
    """Bidirectional streams that the peer may have open at a time in one session, at most
    ``max_incoming_streams``. All sessions of a connection share this number plus 64. 0 means the
    default."""

    initial_max_streams_uni: int = DEFAULT_INITIAL_MAX_STREAMS_UNI
    """Unidirectional streams that the peer may have open at a time in one session, at most
    ``max_incoming_streams``. All sessions of a connection share this number plus 16. 0 means the
    default."""

    ip_family: str = "any"
    """Addresses to connect to, or to listen on: ``any`` (IPv6 and IPv4), ``ipv4`` or
    ``ipv6``."""

    keep_alive: bool = DEFAULT_KEEP_ALIVE
    """Keep quiet connections alive with PING frames."""

    keylog_file: str | None = None
    """File to which TLS secrets are appended in the NSS key log format, for
    decrypting captures. Only its owner may read it: its mode is set to 0600, even if it exists
    already. A symbolic link is not followed. Never use it in production."""

    log_level: str = DEFAULT_LOG_LEVEL
    """``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``: the level of the
    logger ``pywebtransport``, which all clients and servers of a process share. It is set when you
    create one of them. ``INFO``, the default, leaves the level to your program, and a level that
    your program has set for this logger is kept. No handler is
    installed: see ``pywebtransport.utils.setup_logging``."""

    max_connection_memory: int = DEFAULT_MAX_CONNECTION_MEMORY
    """Bytes that one connection may hold on behalf of its peer, beside the windows of its
    streams: ``max_session_memory`` of all its sessions together, and early arrivals."""

    max_datagram_size: int = DEFAULT_MAX_DATAGRAM_SIZE
    """Bytes of the largest DATAGRAM frame that is accepted (RFC 9221). What can
    be sent depends on the path: see ``session.max_datagram_size``."""

    max_early_bytes: int = DEFAULT_MAX_EARLY_BYTES
    """Bytes kept for each stream that arrived before its session, and for all the
    datagrams together that arrived before one session."""

    max_early_streams: int = DEFAULT_MAX_EARLY_STREAMS
    """Streams kept per connection that arrived before their session; further
    ones are refused with WT_BUFFERED_STREAM_REJECTED."""

    max_field_section_size: int = DEFAULT_MAX_FIELD_SECTION_SIZE
    """Bytes of the largest header section that is accepted (RFC 9114 section 4.2.2)."""

    max_incoming_streams: int = DEFAULT_MAX_INCOMING_STREAMS
    """Streams of the peer that may wait in one session until the application accepts them; further
    ones are refused."""

    max_memory: int | None = None
    """Bytes that all connections of the process together may hold on behalf of their
    peers: what counts for ``max_connection_memory``, and what was received on streams and
    is not read yet. Connections get less credit when little is left. Above the limit, those that
    hold the most are closed with H3_EXCESSIVE_LOAD. All clients and servers of a process share this
    limit, which is set when you create one of them. None, the default, leaves it as it is,
    initially 1 GiB."""

    max_pending_events_per_session: int = DEFAULT_MAX_PENDING_EVENTS_PER_SESSION
    """Early arrivals kept for one session that is not established yet: up to this many streams, and
    as many datagrams. Further streams are refused with WT_BUFFERED_STREAM_REJECTED;
    further datagrams are dropped, and counted by ``connection.diagnose_issues``."""

    max_read_buffer_size: int = DEFAULT_MAX_READ_BUFFER_SIZE
    """Bytes received on one stream that may wait for the application: the maximum of its window,
    which starts at ``flow_control_window_size`` and grows while the application keeps up."""

    max_session_memory: int = DEFAULT_MAX_SESSION_MEMORY
    """Bytes that one session may hold on behalf of its peer, beside the windows of its
    streams: datagrams that wait for the application, and messages, which count with their decoded
    size."""

    max_stream_buffer_size: int = MAX_BUFFER_SIZE
    """Bytes that one stream may hold in each direction: ``max_read_buffer_size``
    and ``max_write_buffer_size`` count only up to it."""

    max_total_pending_events: int = DEFAULT_MAX_TOTAL_PENDING_EVENTS
    """Early arrivals (streams and datagrams) kept for all sessions of one
    connection together; further ones are refused or dropped too."""

    max_write_buffer_size: int = DEFAULT_MAX_WRITE_BUFFER_SIZE
    """Bytes written to one stream that may wait for the network; above this, ``write`` waits. All
    streams of a connection share 16 MiB, or twice this value if that is more; then it waits
    earlier."""

    network: PacketNetwork | None = field(default=None, repr=False)
    """A ``pywebtransport.testing.Network`` that carries the packets, for tests. None:
    UDP sockets."""

    pending_event_ttl: float = DEFAULT_PENDING_EVENT_TTL
    """Seconds that early arrivals wait for their session."""

    pmtud: bool = True
    """Probe for the largest packet that the path carries (RFC 9000 section 14.3)."""

    qlog_dir: str | None = None
    """Directory for one qlog file per connection. None: no qlog."""

    read_timeout: float | None = DEFAULT_READ_TIMEOUT
    """Seconds that one read from a stream may wait. None: no limit."""

    socket_buffer_size: int = DEFAULT_SOCKET_BUFFER_SIZE
    """Buffer size in bytes that is requested from the kernel for each UDP socket, each way; the
    kernel may grant less."""

    stream_buffer_size: int = DEFAULT_BUFFER_SIZE
    """Bytes left in a stream's write buffer at which a waiting ``write`` goes on."""

    stream_cleanup_interval: float = DEFAULT_STREAM_CLEANUP_INTERVAL
    """Seconds. Ignored; kept for compatibility. Closed streams free themselves at once."""

    stream_flow_control_increment_bidi: int = DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI
    """The stream limit of the peer is raised by this number once as many of its bidirectional
    streams have ended. A peer that has few streams left gets them sooner, and one that has none
    left gets each at once. This applies to drafts with flow control in the session (14 and 16);
    with older ones the QUIC library decides."""

    stream_flow_control_increment_uni: int = DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI
    """The same for unidirectional streams."""

    udp_payload_size: int | None = None
    """Largest UDP payload in bytes that you know the path to carry: packets have this size from the
    start, without probing. None: 1200 bytes at first, then the size that ``pmtud`` finds."""

    write_timeout: float | None = DEFAULT_WRITE_TIMEOUT
    """Seconds that one write to a stream may wait for room. None: no limit."""

    _rules: ClassVar[Mapping[str, Rule]] = COMMON_RULES

    def __new__(cls, **values: Any) -> Self:
        # Runs before the generated __init__, which would raise a plain TypeError.
        cls._check_names(values)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        self._check_fields()
        self._check_together()

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._rules:
            raise unknown_field(name, value, self._rules, type(self).__name__)
        object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any]) -> Self:
        """Make a configuration from a dictionary, for instance the result of :meth:`to_dict`.

        Args:
            config_dict: Field names and values; missing fields get their defaults.

        Raises:
            ConfigurationError: A field is unknown or its value is not accepted.
        """
        if not isinstance(config_dict, Mapping):
            raise _not_fields("config_dict", config_dict)
        cls._check_names(config_dict)
        return cls(**config_dict)

    def to_dict(self) -> dict[str, Any]:
        """All fields as values that JSON can hold; callables and ``network`` stay objects."""
        return {name: self._rules[name].export(getattr(self, name)) for name in self._names()}

    def copy(self) -> Self:
        """An independent copy."""
        return type(self)(**self._values())

    def merge(self, other: Self | dict[str, Any]) -> Self:
        """Return a new configuration in which ``other`` takes precedence.

        Args:
            other: A dictionary: all its fields take precedence. A configuration: those of its
                fields that differ from their defaults take precedence.

        Raises:
            ConfigurationError: A field is unknown or its value is not accepted.
        """
        if isinstance(other, type(self)):
            changed = {
                name: getattr(other, name)
                for name, default in other._defaults().items()
                if getattr(other, name) != default
            }
            return self._changed(changed)
        if isinstance(other, Mapping):
            return self._changed(other)
        raise ConfigurationError(
            f"{type(self).__name__} cannot be merged with {type(other).__name__}; "
            f"expected a {type(self).__name__} or a dictionary",
            config_key="other",
            config_value=other,
        )

    def validate(self) -> None:
        """Check every field, that fields fit together, and that the named files exist.

        Raises:
            ConfigurationError: With the field, its value and what is accepted.
        """
        self._check_fields()
        self._check_together()
        for name, rule in self._rules.items():
            if isinstance(rule, Path | SharedSecrets | SniCertificates):
                rule.exists(name, getattr(self, name))

    @property
    def address_family(self) -> socket.AddressFamily:
        """``ip_family`` as the socket module has it."""
        return _FAMILIES[self.ip_family]

    @property
    def keep_alive_interval(self) -> float | None:
        """Seconds of silence after which a PING is sent; None when ``keep_alive`` is off."""
        if not self.keep_alive:
            return None
        return min(self.connection_keepalive_timeout, self.connection_idle_timeout / 2)

    @property
    def read_buffer_limit(self) -> int:
        """Bytes received on one stream that may wait for the application."""
        return min(self.max_read_buffer_size, self.max_stream_buffer_size)

    @property
    def stream_window(self) -> int:
        """Bytes of the first receive window of a stream."""
        return min(self.flow_control_window_size, self.read_buffer_limit)

    @property
    def write_buffer_limit(self) -> int:
        """Bytes written to one stream that may wait for the network."""
        return min(self.max_write_buffer_size, self.max_stream_buffer_size)

    @property
    def write_resume_size(self) -> int:
        """Bytes left in a stream's write buffer at which a waiting ``write`` goes on."""
        return min(self.stream_buffer_size, self.write_buffer_limit // 2)

    def _changed(self, values: Mapping[str, Any]) -> Self:
        self._check_names(values)
        return type(self)(**{**self._values(), **values})

    def _check_fields(self) -> None:
        for name, rule in self._rules.items():
            object.__setattr__(self, name, rule.convert(name, getattr(self, name)))

    def _check_together(self) -> None:
        """Check that fields fit together; subclasses add to it."""
        for number, draft in self.extra_enabling_settings.items():
            if draft not in self.dialects:
                raise invalid_config(
                    key="extra_enabling_settings",
                    value={number: draft},
                    reason=f"dialect {draft} is not among dialects {self.dialects}",
                )

    def _require_pair(self, certfile: str | None, keyfile: str | None) -> None:
        if certfile and not keyfile:
            raise invalid_config(key="keyfile", value=keyfile, reason="certfile needs its keyfile")
        if keyfile and not certfile:
            raise invalid_config(
                key="certfile", value=certfile, reason="keyfile needs its certfile"
            )

    @classmethod
    def _check_names(cls, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if name not in cls._rules:
                raise unknown_field(name, value, cls._rules, cls.__name__)

    @classmethod
    def _names(cls) -> list[str]:
        return [item.name for item in fields(cls)]

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {item.name: _default(item) for item in fields(cls)}

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names()}


def _not_fields(key: str, value: Any) -> ConfigurationError:
    return invalid_config(
        key=key,
        value=value,
        reason=f"expected a dictionary of field names and values, not a {type(value).__name__}",
    )


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default
