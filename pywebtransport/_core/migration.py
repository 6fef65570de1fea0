"""Moving a client's connection to another local address."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from .._loop import Endpoint, UdpSocket
from ..config import ServerConfig
from ..exceptions import ConnectionError, invalid_config
from ..utils._checks import check_integer, check_text

if TYPE_CHECKING:
    from .connection import WebTransportConnection

__all__ = ["migrate"]


async def migrate(
    connection: WebTransportConnection, local_host: str | None, local_port: int
) -> None:
    """As ``WebTransportConnection.migrate``."""
    if local_host is not None:
        _check_literal(local_host)
    check_integer("local_port", local_port, 0, 65535)
    endpoint, quic = connection._endpoint, connection._quic
    if connection.transport == "websocket":
        raise ConnectionError("a connection over WebSocket cannot migrate: only one over QUIC can")
    if endpoint is None or quic is None or not connection.is_connected:
        raise ConnectionError(f"cannot migrate: the connection is {connection.state}")
    if isinstance(connection.config, ServerConfig):
        raise ConnectionError("only clients can migrate() (RFC 9000 section 9)")
    if connection._migration is not None:
        raise ConnectionError("another migration is under way")
    remote = quic.remote_address
    is_v6 = remote is not None and ":" in remote[0]
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    local: tuple[Any, ...] | None = None
    if local_host is not None or local_port:
        local = (local_host or ("::" if is_v6 else "0.0.0.0"), local_port)
    udp = endpoint.open_socket(family, local)
    outcome = connection._migration = asyncio.get_running_loop().create_future()
    # Not part of this coroutine: the move may complete after a cancellation.
    outcome.add_done_callback(partial(_migrated, connection, endpoint, udp))
    try:
        endpoint.migrate(quic, udp)
    except BaseException:
        outcome.set_result(False)
        raise
    if not await asyncio.shield(outcome):
        raise ConnectionError(
            f"the path from {udp.address[0]}:{udp.address[1]} to {remote} was not validated; "
            "the connection stays on the old path",
            remote_address=remote,
        )


def _check_literal(host: str) -> None:
    try:
        ipaddress.ip_address(check_text("local_host", host))
    except ValueError as error:  # ConfigurationError is one
        raise invalid_config(
            key="local_host", value=host, reason="expected an IP address"
        ) from error


def _migrated(
    connection: WebTransportConnection,
    endpoint: Endpoint,
    udp: UdpSocket,
    outcome: asyncio.Future[bool],
) -> None:
    """A migration has succeeded or failed: close the socket that is no longer needed."""
    connection._migration = None
    unused: UdpSocket | None = udp
    if outcome.result():
        unused, connection._own_socket = connection._own_socket, udp
    if endpoint.is_closed:
        return
    if unused is not None:
        endpoint.close_socket(unused)
    if connection._owns_endpoint and outcome.result():
        for old in endpoint.sockets:
            if old is not udp:
                endpoint.close_socket(old)
