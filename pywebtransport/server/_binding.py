"""Binds the sockets of a server: UDP ones, and TCP ones on the same ports."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .._loop import Endpoint, WorkerSockets, bind_tcp_beside
from ..exceptions import ServerError, WebTransportError
from ..utils._system import explain_os_error
from ._passed import duplicates, split_sockets

if TYPE_CHECKING:
    from .._states import Address
    from ..config import ServerConfig
    from ._tcp import TcpPort

__all__ = ["listen_on"]


async def listen_on(
    where: Address | Sequence[socket.socket],
    endpoint: Endpoint,
    seat: WorkerSockets | None,
    config: ServerConfig,
    port: TcpPort,
    on_bound: Callable[[list[Address]], object],
    check_open: Callable[[], object],
) -> list[Address]:
    """Let an endpoint serve UDP sockets, and a server's TCP port the TCP sockets beside them.

    Args:
        where: Host and port, or sockets that are bound already.
        endpoint: Gets the UDP sockets.
        seat: Has the sockets, if this is a worker and they were bound for it.
        config: Of the server.
        port: The TCP port of the server; it says whether TCP is wanted.
        on_bound: Called with the addresses, before a packet is read.
        check_open: Raises if the server was closed meanwhile.

    Returns:
        The bound addresses.

    Raises:
        ServerError: An address cannot be bound. Then, and for every other exception, what this call
            has opened is closed.
        ConfigurationError: TCP is needed, and the seat has no TCP sockets; or there are TCP sockets
            without need, or not on the ports of the UDP sockets.
        CertificateError: A certificate cannot be used over TCP.
    """
    tcp: list[socket.socket] = []
    before = endpoint.sockets
    try:
        addresses, is_passed = await _bind(where, endpoint, seat, config, port, tcp)
        check_open()
        on_bound(addresses)
        if tcp:
            given = list(tcp)
            tcp.clear()  # they belong to the port from now on
            port.start(given, is_passed=is_passed)
    except BaseException as error:
        for sock in tcp:
            sock.close()
        for udp in endpoint.sockets:
            if udp not in before:
                endpoint.close_socket(udp)
        if isinstance(error, OSError) and not isinstance(error, WebTransportError):
            raise ServerError(
                f"the server cannot listen over TCP: {explain_os_error(error)}",
                details={"errno": error.errno},
            ) from error
        raise
    return addresses


async def _bind(
    where: Address | Sequence[socket.socket],
    endpoint: Endpoint,
    seat: WorkerSockets | None,
    config: ServerConfig,
    port: TcpPort,
    tcp: list[socket.socket],
) -> tuple[list[Address], bool]:
    """Bind the UDP sockets of the endpoint, and put the TCP sockets into ``tcp``.

    Returns:
        The addresses, and whether another program keeps the TCP sockets open.
    """
    wanted = port.is_wanted(config)
    if seat is not None:
        addresses = endpoint.adopt()
        if wanted:
            tcp[:], seat.tcp = seat.tcp, []
            if not tcp:
                port.without_sockets()
        return addresses, seat.tcp_is_passed
    if isinstance(where, tuple):
        host, number = where
        addresses = await endpoint.bind(
            host, number, family=config.address_family, tcp=tcp if wanted else None
        )
        return addresses, False
    udp, passed = split_sockets(where, tcp=wanted)
    if passed:
        tcp[:] = duplicates(passed)
    elif wanted:
        tcp[:] = bind_tcp_beside(udp)
    return endpoint.take(duplicates(udp)), bool(passed)
