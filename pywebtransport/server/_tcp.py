"""The place of a TCP side in a server: what it is asked for, and how its sockets are bound."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from .._loop import Endpoint, WorkerSockets, bind_tcp_beside
from ..exceptions import ServerError, WebTransportError
from ..utils._system import explain_os_error
from ._passed import duplicates

if TYPE_CHECKING:
    from .._states import Address
    from ..config import ServerConfig
    from ._stats import ServerStats

__all__ = ["TcpService", "listen_on"]


class TcpService(Protocol):
    """Serves the same application over TCP; ``asgi`` has the one that ``ServerApp.mount`` uses."""

    def choose(self, *, tcp: bool | None, http2: bool) -> None: ...
    def is_wanted(self, config: ServerConfig) -> bool: ...
    def without_sockets(self) -> None: ...
    async def start(self, sockets: list[socket.socket]) -> None: ...
    def reload(self, config: ServerConfig) -> None: ...
    async def stop(self, timeout: float) -> None: ...
    def abandon(self) -> None: ...
    def count(self, stats: ServerStats) -> None: ...
    @property
    def open_count(self) -> int: ...
    @property
    def protocols(self) -> str: ...


async def listen_on(
    where: Address | Sequence[socket.socket],
    endpoint: Endpoint,
    seat: WorkerSockets | None,
    config: ServerConfig,
    service: TcpService | None,
    on_bound: Callable[[list[Address]], object],
    check_open: Callable[[], object],
) -> list[Address]:
    """Let an endpoint serve UDP sockets, and a service the TCP sockets beside them.

    Args:
        where: Host and port, or sockets that are bound already.
        endpoint: Gets the UDP sockets.
        seat: Has the sockets, if this is a worker and they were bound for it.
        config: Of the server.
        service: The TCP side; None: UDP alone.
        on_bound: Called with the addresses, before a packet is read.
        check_open: Raises if the server was closed meanwhile.

    Returns:
        The bound addresses.

    Raises:
        ServerError: An address cannot be bound. Then, and for every other exception, what this call
            has opened is closed.
        ConfigurationError: The service needs TCP sockets that the seat does not have.
        CertificateError: The service cannot use a certificate.
    """
    tcp: list[socket.socket] = []
    before = endpoint.sockets
    try:
        addresses = await _bind(where, endpoint, seat, config, service, tcp)
        check_open()
        on_bound(addresses)
        if service is not None and tcp:
            given = list(tcp)
            tcp.clear()  # they belong to the service from now on
            await service.start(given)
            check_open()
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
    service: TcpService | None,
    tcp: list[socket.socket],
) -> list[Address]:
    """Bind the UDP sockets of the endpoint, and put the TCP sockets into ``tcp``."""
    wanted = service is not None and service.is_wanted(config)
    if seat is not None:
        addresses = endpoint.adopt()
        if wanted and service is not None:
            tcp[:], seat.tcp = seat.tcp, []
            if not tcp:
                service.without_sockets()
        return addresses
    if isinstance(where, tuple):
        host, port = where
        return await endpoint.bind(
            host, port, family=config.address_family, tcp=tcp if wanted else None
        )
    if wanted:
        tcp[:] = bind_tcp_beside(where)
    return endpoint.take(duplicates(where))
