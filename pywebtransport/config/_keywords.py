"""The fields of the configurations as keyword arguments, so that type checkers know their names.

The types are those that the fields accept, which for some is more than they hold: a path may be
a ``Path``, and a list any sequence.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypeAlias, TypedDict

from .._transport import PacketNetwork

__all__ = ["CertificateHash", "ClientFields", "CommonFields", "Middleware", "ServerFields"]

StrPath: TypeAlias = str | PathLike[str]
CertificateHash: TypeAlias = str | bytes | Mapping[str, str | bytes]
# As ``types.MiddlewareProtocol``, but this layer does not know the type of sessions.
Middleware: TypeAlias = Callable[..., Coroutine[Any, Any, bool]]


class CommonFields(TypedDict, total=False):
    """The fields of :class:`BaseConfig`."""

    alpn_protocols: Sequence[str]
    application_protocols: Sequence[str]
    busy_poll_us: int
    ca_certs: StrPath | None
    close_timeout: float
    congestion_control_algorithm: str
    connection_cleanup_interval: float
    connection_idle_check_interval: float
    connection_idle_timeout: float
    connection_keepalive_timeout: float
    datagram_max_age: float | None
    datagram_queue_size: int
    debug: bool
    dialects: Sequence[int]
    ecn: bool
    extra_enabling_settings: Mapping[int, int]
    flow_control_window_auto_scale: bool
    flow_control_window_size: int
    gso: bool
    handshake_timeout: float
    initial_max_data: int
    initial_max_streams_bidi: int
    initial_max_streams_uni: int
    ip_family: str
    keep_alive: bool
    keylog_file: StrPath | None
    log_level: str
    max_connection_memory: int
    max_datagram_size: int
    max_early_bytes: int
    max_early_streams: int
    max_field_section_size: int
    max_incoming_streams: int
    max_memory: int | None
    max_pending_events_per_session: int
    max_read_buffer_size: int
    max_session_memory: int
    max_stream_buffer_size: int
    max_total_pending_events: int
    max_write_buffer_size: int
    network: PacketNetwork | None
    pending_event_ttl: float
    pmtud: bool
    qlog_dir: StrPath | None
    read_timeout: float | None
    socket_buffer_size: int
    stream_buffer_size: int
    stream_cleanup_interval: float
    stream_flow_control_increment_bidi: int
    stream_flow_control_increment_uni: int
    udp_payload_size: int | None
    write_timeout: float | None


class ClientFields(CommonFields, total=False):
    """The fields of :class:`ClientConfig`, for ``**fields: Unpack[ClientFields]``."""

    allow_pooling: bool
    auto_reconnect: bool
    certfile: StrPath | None
    connect_timeout: float
    fallback: str | None
    fallback_delay: float
    fallback_proxy: str | None
    happy_eyeballs_delay: float
    headers: Mapping[str, str | Sequence[str]]
    keyfile: StrPath | None
    max_connections: int
    max_retries: int
    max_retry_delay: float
    max_streams: int
    require_application_protocol: bool
    retry_backoff: float
    retry_delay: float
    server_certificate_hashes: Sequence[CertificateHash]
    stream_creation_timeout: float
    user_agent: str
    verify_mode: ssl.VerifyMode | str | None


class ServerFields(CommonFields, total=False):
    """The fields of :class:`ServerConfig`, for ``**fields: Unpack[ServerFields]``."""

    access_log: bool
    allowed_origins: Sequence[str] | None
    bind_host: str
    bind_port: int
    certfile: StrPath | None
    drain_spread: float
    drain_timeout: float
    gc_policy: str
    keyfile: StrPath | None
    max_connections: int
    max_connections_per_address: int | Literal["auto"] | None
    max_half_open_connections: int
    max_handshakes_per_address: int
    max_request_body: int | None
    max_requests: int
    max_sessions: int
    max_sessions_per_address: int | Literal["auto"] | None
    max_streams_per_connection: int
    max_websocket_message: int
    middleware: Sequence[Middleware]
    quic_lb_config_id: int
    quic_lb_server_id: bytes | str | None
    request_timeout: float | None
    retry: str
    session_cleanup_interval: float
    shared_secret: bytes | StrPath | Sequence[bytes | StrPath] | None
    shutdown_timeout: float
    sni_certificates: Mapping[str, tuple[StrPath, StrPath]]
    verify_mode: ssl.VerifyMode | str
    websocket: bool
    websocket_legacy: bool
    websocket_ping_interval: float | None
    workers: int
