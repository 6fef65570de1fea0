"""Endpoints with the options of a configuration."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._loop import Endpoint, MemoryEndpoint, TunnelEndpoint, WorkerSockets
from .._quic import QuicConnection, QuicTls
from .._transport import CloseInfo, ConnectionHandler, SockAddr
from ..config import ClientConfig, ServerConfig
from ..exceptions import ConfigurationError
from ..utils._logs import BoundedLog, apply_log_level
from ..utils._private_files import open_private, why_not
from ..utils._text import printable, printable_line
from .memory import apply_limit, has_room
from .settings import quic_settings

__all__ = ["client_endpoint", "server_endpoint", "tunnel_endpoint"]

_logger = logging.getLogger("pywebtransport.connection")
# Its own logger: with ``debug``, it would hide everything else.
_trace_logger = logging.getLogger("pywebtransport.quic.trace")
# The first record of a connection: its side, and the ID that its client chose first.
_QLOG_HEADER = re.compile(
    rb'\x1e\{"qlog_.*"type":"(client|server)".*"group_id":"([0-9a-f]+)"', re.DOTALL
)


def client_endpoint(config: ClientConfig, tls: QuicTls) -> Endpoint:
    """Create an endpoint for outgoing connections."""
    apply_limit(config)
    return _endpoint(config, is_server=False, tls=tls)


def server_endpoint(
    config: ServerConfig,
    tls: QuicTls,
    accept: Callable[[QuicConnection], ConnectionHandler | None],
    seat: WorkerSockets | None = None,
    handshake_failed: Callable[[SockAddr, CloseInfo], object] | None = None,
) -> Endpoint:
    """An endpoint that accepts connections.

    Args:
        config: The server's.
        tls: TLS configuration of the server.
        accept: Returns the handler of a connection whose handshake is complete.
        seat: Sockets of this worker, if there are several workers.
        handshake_failed: Called for clients that get no connection.
    """
    apply_limit(config)

    def admit(quic: QuicConnection) -> ConnectionHandler | None:
        return accept(quic) if has_room(quic) else None

    return _endpoint(
        config,
        is_server=True,
        tls=tls,
        accept=admit,
        seat=seat,
        handshake_failed=handshake_failed,
    )


def tunnel_endpoint(
    config: ClientConfig,
    tls: QuicTls,
    *,
    send: Callable[[bytes], bool],
    local: tuple[str, int],
    on_close: Callable[[], object],
) -> TunnelEndpoint:
    """An endpoint for one connection whose packets go through a tunnel."""
    return TunnelEndpoint(
        send=send,
        local=local,
        settings=quic_settings(config) | {"ecn": False},  # there is no IP header to mark
        tls=tls,
        on_close=on_close,
        **_logs(config),
    )


def _endpoint(config: ClientConfig | ServerConfig, **arguments: Any) -> Endpoint:
    """Over UDP sockets, or over the network that the configuration names."""
    settings = quic_settings(config)
    if config.network is not None:
        return MemoryEndpoint(
            network=config.network, settings=settings, **arguments, **_logs(config)
        )
    return Endpoint(settings=settings, **arguments, **_switches(config))


def _switches(config: ClientConfig | ServerConfig) -> dict[str, Any]:
    """What a socket is asked for, and who hears what."""
    features: tuple[str, ...] = ("gso", "gro", "ecn", "pktinfo")
    if not config.gso:
        features = tuple(name for name in features if name not in ("gso", "gro"))
    if not config.ecn:
        features = tuple(name for name in features if name != "ecn")
    return {
        "socket_buffer_size": config.socket_buffer_size,
        "busy_poll": config.busy_poll_us,
        "socket_features": features,
        **_logs(config),
    }


def _logs(config: ClientConfig | ServerConfig) -> dict[str, Any]:
    apply_log_level(config.log_level)
    switches: dict[str, Any] = {}
    if config.keylog_file is not None:
        switches["keylog"] = _KeyLog(config.keylog_file)
    if config.qlog_dir is not None:
        switches["qlog"] = _QlogDir(config.qlog_dir)
    if config.debug:
        switches["log"] = _log_line
    return switches


def _log_line(line: str) -> None:
    """Log a line of the QUIC library; it may contain text from the peer."""
    _trace_logger.debug("%s", printable_line(line))


class _Appending:
    """Appends to files; a file that cannot be written is reported once, not each time.

    Only debug output is lost then: no connection ends because of it. A disk that is full from
    time to time is reported once a minute.

    Args:
        field: The field of the configuration, for the log.
    """

    def __init__(self, field: str) -> None:
        self._field = field
        self._failed = False
        self._log = BoundedLog(_logger, interval=60.0)

    def append(self, path: Path, data: bytes) -> None:
        """Append; only the owner may read a file created here: it reveals encrypted data."""
        try:
            with open(path, "ab", opener=open_private) as file:
                file.write(data)
        except OSError as error:
            if not self._failed:
                self._log.tell(
                    "lost",
                    logging.WARNING,
                    "%s '%s' cannot be written: %s; some output is missing from it",
                    self._field,
                    printable(path),
                    printable(why_not(path, error)),
                )
            self._failed = True
        else:
            self._failed = False


class _KeyLog(_Appending):
    """Appends TLS secrets in the format that Wireshark reads."""

    def __init__(self, path: str) -> None:
        super().__init__("keylog_file")
        self._path = Path(path)
        try:
            os.close(open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        except OSError as error:
            raise ConfigurationError(
                f"keylog_file {path!r} cannot be written: {why_not(path, error)}",
                config_key="keylog_file",
                config_value=path,
            ) from error

    def __call__(self, line: str) -> None:
        self.append(self._path, line.rstrip("\n").encode("ascii", "backslashreplace") + b"\n")


class _QlogDir(_Appending):
    """One qlog file per connection, named after the ID that its client chose first."""

    def __init__(self, path: str) -> None:
        super().__init__("qlog_dir")
        self._dir = Path(path)
        self._files: dict[int, Path] = {}
        if not self._dir.is_dir():
            raise ConfigurationError(
                f"qlog_dir {path!r} is not a directory",
                config_key="qlog_dir",
                config_value=path,
            )

    def __call__(self, connection: int, data: bytes, last: bool) -> None:
        found = _QLOG_HEADER.match(data)
        if found is not None or connection not in self._files:
            name = f"{connection:x}" if found is None else b"_".join(found.group(2, 1)).decode()
            self._files[connection] = self._dir / f"{name}.sqlog"
        self.append(self._files[connection], data)
        if last:
            del self._files[connection]
