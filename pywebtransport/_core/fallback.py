"""Connections over WebSocket, for networks without UDP: QMux in place of QUIC and HTTP/3."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol

from .._loop import LinkOptions
from .._qmux._connection import QMuxConnection
from .._qmux._limits import QMuxLimits
from .._qmux._link import Link
from .._qmux._session import ClientUpgrade, ServerUpgrade
from .._qmux._sessions import QMuxSessions
from .._states import ConnectionState
from ..config import ServerConfig
from ..exceptions import ConnectionError
from ..utils._checks import validate_port
from ..utils._deadlines import Deadlines
from ..utils._failures import error_kind
from ..utils._hosts import ascii_host, authority_of, host_and_port
from ..utils._logs import shared_log
from . import memory
from .driver import Driver
from .settings import write_low_water

if TYPE_CHECKING:
    from ..config import ClientConfig
    from .connection import WebTransportConnection

__all__ = [
    "ClientEnd",
    "ServerEnd",
    "attach_qmux",
    "establish_over",
    "link_options",
    "qmux_limits",
    "serve_over",
]

_logger = logging.getLogger("pywebtransport.connection")

# Bytes of the largest record, in both directions.
_RECORD = 65535
# Outgoing bytes of all streams of a connection above which writers wait earlier.
_QUEUED = 16 * 1024 * 1024


class _End(Link, Protocol):
    def attach(self, records: QMuxConnection, /) -> None:
        """Pass records to this connection from now on."""


class ServerEnd(_End, ServerUpgrade, Protocol):
    """The server's end of a link, with an upgrade request that waits for its answer."""


class ClientEnd(_End, ClientUpgrade, Protocol):
    """The client's end of a link whose TLS connection is up."""


def qmux_limits(config: ClientConfig | ServerConfig) -> QMuxLimits:
    """Return the limits of a QMux connection: those of QUIC, as far as both have them."""
    stream_window = config.read_buffer_limit
    grows = config.flow_control_window_auto_scale
    return QMuxLimits(
        data_window=config.initial_max_data,
        max_data_window=config.initial_max_data,
        stream_window=config.stream_window,
        max_stream_window=stream_window if grows else config.stream_window,
        max_streams_bidi=min(config.initial_max_streams_bidi, config.max_incoming_streams),
        max_streams_uni=min(config.initial_max_streams_uni, config.max_incoming_streams),
        max_datagram_frame_size=min(config.max_datagram_size, _RECORD),
        max_record_size=_RECORD,
        idle_timeout=config.connection_idle_timeout or 0.0,
        keep_alive=config.keep_alive_interval or 0.0,
        handshake_timeout=config.handshake_timeout,
        datagram_queue=config.datagram_queue_size,
        write_low_water=write_low_water(config),
        max_queued_data=max(_QUEUED, 2 * config.write_buffer_limit),
    )


def link_options(config: ClientConfig | ServerConfig) -> LinkOptions:
    """Return the limits of a link that carries such a connection."""
    return LinkOptions(
        max_record_size=_RECORD,
        handshake_timeout=config.handshake_timeout,
        close_timeout=config.close_timeout,
    )


def attach_qmux(
    driver: Driver,
    link: ServerEnd | ClientEnd,
    config: ClientConfig | ServerConfig,
    *,
    is_client: bool,
) -> QMuxConnection:
    """Build a QMux connection and its session on a link, and attach both to a driver.

    Args:
        driver: The driver of a connection that is not connected yet.
        link: The end of this side; it passes its records to the connection from now on.
        config: Limits and timeouts.
        is_client: This end is the client.
    """
    loop = asyncio.get_running_loop()
    quic = QMuxConnection(
        link,
        qmux_limits(config),
        is_client=is_client,
        call_later=Deadlines.of(loop).call_later,
        turns=driver.share_turns(),
        on_error=partial(_report, loop),
    )
    quic.handler = driver
    quic.on_received = memory.look
    layer = QMuxSessions(
        quic,
        driver,
        link,
        is_client=is_client,
        legacy=getattr(config, "websocket_legacy", False),
    )
    driver.join(quic, layer)
    link.attach(quic)
    return quic


def _report(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    """A handler or a sink raised: no other connection is affected."""
    if loop.is_closed() and isinstance(error, RuntimeError):
        return  # all waiting callers ended with the loop: nobody is left to report to
    # A peer can repeat what triggers a bug here.
    note = shared_log(_logger).admit(error_kind(error))
    if note is not None:
        loop.call_exception_handler(
            {
                "message": f"exception in a handler of a connection over WebSocket{note}",
                "exception": error,
            }
        )


def serve_over(connection: WebTransportConnection, link: ServerEnd, network: str) -> None:
    """Server: serve a new connection on a link that has an upgrade request.

    Set ``on_request`` and ``on_closed`` of the connection before: ``on_request`` is called from
    here, with the session that the request asks for.

    Args:
        connection: A new one.
        link: The server's end; its answer is that of the session.
        network: The value of ``client_network``.
    """
    memory.apply_limit(connection.config)
    driver = Driver(connection)
    attach_qmux(driver, link, connection.config, is_client=False)
    connection.adopt(driver, None, network)
    memory.watch(connection)
    driver.handshake_completed()


async def establish_over(
    connection: WebTransportConnection, link: ClientEnd, host: str, port: int
) -> None:
    """Client: use a link whose TLS connection is up. The connection is CONNECTED then.

    ``create_session`` sends the upgrade request, once.

    Args:
        connection: A new one.
        link: The client's end.
        host: Host name or IP address of the server.
        port: Its TCP port.

    Raises:
        ConnectionError: The connection was used before.

    Cancellation: never waits.
    """
    if connection.state is not ConnectionState.IDLE:
        raise ConnectionError(f"cannot connect: the connection is {connection.state}")
    host = ascii_host(host)
    validate_port(port)
    memory.apply_limit(connection.config)
    connection._authority = authority_of(host, port)
    driver = Driver(connection, where=host_and_port(host, port))
    attach_qmux(driver, link, connection.config, is_client=True)
    connection.adopt(driver, None, "")
    memory.watch(connection)
