"""Compatibility name: a configuration, built step by step."""

from __future__ import annotations

import ssl
from typing import Any, Self

from pywebtransport.config.client import ClientConfig
from pywebtransport.config.server import ServerConfig
from pywebtransport.exceptions import invalid_config

__all__ = ["ConfigBuilder"]


class ConfigBuilder:
    """Collects settings and makes a configuration of them.

    Arguments that are None leave the setting as it is. Every method returns
    the builder.

    Args:
        config_type: ``client`` or ``server``.

    Raises:
        ConfigurationError: ``config_type`` is neither.
    """

    def __init__(self, config_type: str = "client") -> None:
        if config_type not in ("client", "server"):
            raise invalid_config(
                key="config_type", value=config_type, reason="expected 'client' or 'server'"
            )
        self.config_type = config_type
        self._values: dict[str, Any] = {}

    def bind(self, *, host: str, port: int) -> Self:
        """Set the host and UDP port that a server listens on."""
        return self._set(bind_host=host, bind_port=port)

    def build(self) -> ClientConfig | ServerConfig:
        """Make the configuration.

        Raises:
            ConfigurationError: A setting is not accepted, or one was made that
                this type of configuration does not have.
        """
        if self.config_type == "client":
            return ClientConfig.create(**self._values)
        return ServerConfig.create(**self._values)

    def debug(self, *, enabled: bool = True, log_level: str = "DEBUG") -> Self:
        """Switch debugging; ``log_level`` is used when it is switched on."""
        return self._set(debug=enabled, log_level=log_level if enabled else None)

    def flow_control(
        self,
        *,
        window_size: int | None = None,
        window_auto_scale: bool | None = None,
        initial_max_data: int | None = None,
        initial_max_streams_bidi: int | None = None,
        initial_max_streams_uni: int | None = None,
        stream_increment_bidi: int | None = None,
        stream_increment_uni: int | None = None,
    ) -> Self:
        """Set windows (bytes) and stream limits (streams)."""
        return self._set(
            flow_control_window_size=window_size,
            flow_control_window_auto_scale=window_auto_scale,
            initial_max_data=initial_max_data,
            initial_max_streams_bidi=initial_max_streams_bidi,
            initial_max_streams_uni=initial_max_streams_uni,
            stream_flow_control_increment_bidi=stream_increment_bidi,
            stream_flow_control_increment_uni=stream_increment_uni,
        )

    def performance(
        self,
        *,
        max_streams: int | None = None,
        buffer_size: int | None = None,
        max_connections: int | None = None,
    ) -> Self:
        """Set the number of streams and connections, and the stream buffer (bytes).

        ``max_streams`` is ``max_streams`` of a client and
        ``max_streams_per_connection`` of a server.
        """
        streams = "max_streams" if self.config_type == "client" else "max_streams_per_connection"
        return self._set(
            **{streams: max_streams},
            stream_buffer_size=buffer_size,
            max_connections=max_connections,
        )

    def security(
        self,
        *,
        certfile: str | None = None,
        keyfile: str | None = None,
        ca_certs: str | None = None,
        verify_mode: ssl.VerifyMode | None = None,
    ) -> Self:
        """Set certificates (PEM files) and how the peer's certificate is checked."""
        return self._set(
            certfile=certfile, keyfile=keyfile, ca_certs=ca_certs, verify_mode=verify_mode
        )

    def timeout(
        self,
        *,
        connect: float | None = None,
        read: float | None = None,
        write: float | None = None,
    ) -> Self:
        """Set timeouts in seconds; ``connect`` is for clients."""
        return self._set(connect_timeout=connect, read_timeout=read, write_timeout=write)

    def _set(self, **values: Any) -> Self:
        self._values.update({key: value for key, value in values.items() if value is not None})
        return self
