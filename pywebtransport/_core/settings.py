"""Turn a configuration into the settings of the engine, TLS and HTTP/3 layers."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from .._header_map import HeaderMap
from .._loop import LbConfig
from .._quic import QuicTls
from .._states import HeadersToSend
from ..config import ClientConfig, ServerConfig
from ..constants import MAX_VARINT
from ..exceptions import CertificateError, UnreachableError
from ..h3._options import H3Options
from ..utils._system import has_free_descriptor, out_of_descriptors
from ..utils._tls_files import explained
from ..utils._trust_store import TrustStore, fallback_store, named_store

__all__ = [
    "client_tls",
    "h3_options",
    "lb_config",
    "quic_settings",
    "request_fields",
    "server_tls",
    "write_low_water",
]

_VERIFY = {ssl.CERT_NONE: 0, ssl.CERT_OPTIONAL: 1, ssl.CERT_REQUIRED: 2}

# Streams in addition to those of the application: CONNECT requests are bidirectional;
# control and QPACK streams (and a few for GREASE) are unidirectional.
_EXTRA_BIDI = 64
_EXTRA_UNI = 16

# Initial credit of a connection for streams of HTTP/3, beside one stream that nobody reads.
_CONTROL = 64 * 1024

# Outgoing bytes of all streams of a connection above which writers wait earlier.
_QUEUED = 16 * 1024 * 1024

# Auto-tuning may increase the connection window by this factor.
_AUTO_SCALE = 4


def write_low_water(config: ClientConfig | ServerConfig) -> int:
    """Return how many bytes may be queued on a stream when a waiting writer continues."""
    return config.write_resume_size


def quic_settings(config: ClientConfig | ServerConfig) -> dict[str, Any]:
    """Settings of the QUIC engine (``qe_settings``: nanoseconds, bytes, counts)."""
    is_server = isinstance(config, ServerConfig)
    stream_window = config.read_buffer_limit
    connection_window = max(config.initial_max_data, 2 * stream_window)
    bidi = min(config.initial_max_streams_bidi, config.max_incoming_streams)
    uni = min(config.initial_max_streams_uni, config.max_incoming_streams)
    settings: dict[str, Any] = {
        "idle_timeout": _ns(config.connection_idle_timeout),
        "keep_alive": _ns(config.keep_alive_interval or 0.0),
        # An idle connection needs little. More is given while bytes arrive.
        "initial_max_data": min(config.stream_window + _CONTROL, connection_window),
        "max_unread_data": connection_window,
        "initial_max_stream_data": config.stream_window,
        "max_data_window": min(
            connection_window * (_AUTO_SCALE if config.flow_control_window_auto_scale else 1),
            MAX_VARINT,
        ),
        "max_stream_window": stream_window
        if config.flow_control_window_auto_scale
        else config.stream_window,
        # Only servers receive requests; a server opens nothing but WebTransport streams.
        "max_streams_bidi": bidi + (_EXTRA_BIDI if is_server else 0),
        "max_streams_uni": uni + _EXTRA_UNI,
        "max_datagram_frame_size": config.max_datagram_size,
        "datagram_queue_count": config.datagram_queue_size,
        "stream_write_low": write_low_water(config),
        "max_queued_data": max(_QUEUED, 2 * config.write_buffer_limit),
        "pmtud": config.pmtud,
        "ecn": config.ecn,
        "cc": config.congestion_control_algorithm,
        "qlog": config.qlog_dir is not None,
        "debug": config.debug,
    }
    if config.udp_payload_size is not None:
        settings |= {"max_tx_udp_payload_size": config.udp_payload_size, "known_mtu": True}
    if isinstance(config, ServerConfig):
        settings |= {
            "retry": config.retry,
            "max_connections": config.max_connections,
            "max_half_open": config.max_half_open_connections,
            **_address_settings(config),
            "handshakes_per_address": config.max_handshakes_per_address,
            "handshake_timeout": _ns(config.handshake_timeout),
        }
        lb = lb_config(config)
        if lb is not None:
            settings |= lb.settings
    else:
        settings["handshake_timeout"] = _ns(config.connect_timeout)
    return settings


def lb_config(config: ServerConfig) -> LbConfig | None:
    """What a balancer reads in the connection IDs of a server; None: nothing."""
    server_id = config.lb_server_id
    return None if server_id is None else LbConfig(server_id, config.quic_lb_config_id)


def _address_settings(config: ServerConfig) -> dict[str, Any]:
    """Return the engine's limits per client address; 0: no limit."""
    connections = config.address_connections
    if connections is None:
        return {"max_connections_per_address": 0, "max_half_open_per_address": 0}
    return {"max_connections_per_address": connections}


def h3_options(config: ClientConfig | ServerConfig) -> H3Options:
    """Options of the HTTP/3 layer."""
    is_server = isinstance(config, ServerConfig)
    bidi = min(config.initial_max_streams_bidi, config.max_incoming_streams)
    return H3Options(
        dialects=frozenset(config.dialects),
        extra_enabling_settings=config.extra_enabling_settings,
        max_sessions=config.max_sessions if isinstance(config, ServerConfig) else 1,
        initial_max_data=config.initial_max_data,
        initial_max_streams_bidi=bidi,
        initial_max_streams_uni=min(config.initial_max_streams_uni, config.max_incoming_streams),
        max_early_streams=config.max_early_streams,
        max_early_bytes=config.max_early_bytes,
        max_field_section_size=config.max_field_section_size,
        early_timeout=config.pending_event_ttl,
        max_early_per_session=config.max_pending_events_per_session,
        max_early_total=config.max_total_pending_events,
        stream_increment_bidi=config.stream_flow_control_increment_bidi,
        stream_increment_uni=config.stream_flow_control_increment_uni,
        settings_timeout=config.handshake_timeout,
        header_timeout=config.handshake_timeout,
        write_high_water=config.write_buffer_limit,
        close_timeout=config.close_timeout,
        peer_bidi_streams=bidi + _EXTRA_BIDI if is_server else None,
    )


def request_fields(config: ClientConfig) -> HeadersToSend:
    """Return the header fields of every session request, with names in lower case."""
    fields: dict[str, Any] = {"user-agent": config.user_agent} if config.user_agent else {}
    lines = HeaderMap.of(config.headers)  # a program may have replaced it
    return fields | {name.lower(): lines.get_all(name) for name in lines}


def client_tls(config: ClientConfig) -> QuicTls:
    """The client's TLS configuration.

    Raises:
        CertificateError: A certificate, key or root file cannot be used.
        UnreachableError: There is no file descriptor left to read them.
    """
    # This is neither a wrong file nor an untrusted authority: a retry may succeed.
    if not has_free_descriptor():
        raise UnreachableError(f"cannot read certificates: {out_of_descriptors()}")
    # OPTIONAL only makes sense for servers: a server always sends a certificate.
    checked = config.verify_mode is not ssl.CERT_NONE

    def made(store: TrustStore | None) -> QuicTls:
        return QuicTls(
            is_server=False,
            alpn=config.alpn_protocols,
            certfile=config.certfile or None,
            keyfile=config.keyfile or None,
            ca_certs=config.ca_certs if store is None else store.name,
            ca_data=None if store is None else store.pem,
            verify=_VERIFY[ssl.CERT_REQUIRED if checked else ssl.CERT_NONE],
            certificate_hashes=config.pinned_hashes,
            keylog=config.keylog_file is not None,
        )

    by_system = checked and config.ca_certs is None and not config.pinned_hashes
    with _explaining(config.certfile, config.keyfile):
        tls = made(named_store() if by_system else None)
        # GnuTLS's own store comes first: a distribution may keep more in it than a file shows.
        return tls if tls.has_roots else made(fallback_store())


def server_tls(config: ServerConfig, *, ticket_key: bytes | None = None) -> QuicTls:
    """The server's TLS configuration, with its SNI certificates.

    Args:
        config: The server's configuration.
        ticket_key: Key of session tickets that several servers share.

    Raises:
        CertificateError: A certificate, key or root file cannot be used.
    """
    with _explaining(config.certfile, config.keyfile):
        tls = QuicTls(
            is_server=True,
            alpn=config.alpn_protocols,
            certfile=config.certfile or None,
            keyfile=config.keyfile or None,
            ca_certs=config.ca_certs,
            verify=_VERIFY[config.verify_mode],
            keylog=config.keylog_file is not None,
            ticket_key=ticket_key,
        )
    for name, (certfile, keyfile) in config.sni_certificates.items():
        with _explaining(certfile, keyfile):
            tls.add_sni(name, str(Path(certfile)), str(Path(keyfile)))
    return tls


@contextmanager
def _explaining(
    certfile: str | PathLike[str] | None, keyfile: str | PathLike[str] | None
) -> Iterator[None]:
    """Add details about files that TLS cannot use to the errors of its library."""
    try:
        yield
    except CertificateError as error:
        if not has_free_descriptor():
            raise CertificateError(
                f"{error.message}: {out_of_descriptors()}",
                certificate_path=error.certificate_path,
                certificate_error=out_of_descriptors(),
                details=error.details,
            ) from error
        if not certfile or not keyfile:
            raise
        better = explained(error, certfile, keyfile)
        if better is error:
            raise
        raise better from error


def _ns(seconds: float) -> int:
    """Convert to nanoseconds; 0 means off, so that a shorter time becomes 1."""
    return max(round(seconds * 1e9), 1) if seconds > 0 else 0
