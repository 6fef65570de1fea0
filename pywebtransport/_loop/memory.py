"""An endpoint whose packets go through a network in memory instead of UDP sockets."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, TypeAlias

from .._transport import Packet, PacketNetwork, Transport
from ..exceptions import ServerError, UnreachableError
from ..utils._system import explain_os_error
from .endpoint import Endpoint, UdpSocket
from .resolve import RemoteAddress
from .sockets import bind_addresses

__all__ = ["MemoryEndpoint"]

_Address: TypeAlias = tuple[str, int]
_ANY_ADDRESS = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
# More packets may arrive at the same time than the engine accepts in one call.
_BATCH = 1024
_NO_SOCKETS = "the configuration names a network in memory, which has no sockets"


class MemorySocket(UdpSocket):
    """An address in a network: there is nothing to watch and nothing to close."""

    __slots__ = ()

    def __init__(self, family: int, address: _Address) -> None:
        self.family = socket.AddressFamily(family)
        self.address = address
        self.is_full = False


class MemoryEndpoint(Endpoint):
    """An endpoint of any number of connections over a ``PacketNetwork``.

    Args:
        network: Carries the packets.
        settings: As for ``Endpoint``.
        **switches: Other arguments of ``Endpoint``, except those for sockets.
    """

    def __init__(
        self, *, network: PacketNetwork, settings: dict[str, Any], **switches: Any
    ) -> None:
        self._network = network
        super().__init__(
            # There is no IP header to mark.
            settings=settings | {"ecn": False},
            packets_out=network.send,
            routed=True,
            **switches,
        )

    async def resolve(
        self, host: str, port: int, *, family: int = socket.AF_UNSPEC
    ) -> list[RemoteAddress]:
        """Return the addresses that the network knows for a host.

        Raises:
            UnreachableError: It knows none.
        """
        return self._found(host, port, family, self._network.resolve(host))

    async def bind(
        self,
        host: str | None,
        port: int,
        *,
        family: int = socket.AF_UNSPEC,
        tcp: list[socket.socket] | None = None,
    ) -> list[_Address]:
        """As ``Endpoint.bind``, in the network; a name that it does not know gets an address.

        The network has no TCP: ``tcp`` stays empty.
        """
        addresses = [
            (item.family, item.sockaddr) for item in bind_addresses(host, port, family=family) or ()
        ]
        if not addresses:
            assert host is not None
            addresses = list(self._found(host, port, family, self._network.name(host)))
        self._check_open("bind")
        bound: list[UdpSocket] = []
        try:
            for kind, sockaddr in addresses:
                bound.append(self._attach(kind, (sockaddr[0], port)))
                port = bound[0].address[1]
        except OSError as error:
            for udp in bound:
                self.close_socket(udp)
            raise ServerError(
                f"cannot bind {host} port {port}: {explain_os_error(error)}",
                bind_address=(host or "", port),
            ) from error
        return [udp.address for udp in bound]

    def take(self, sockets: list[socket.socket]) -> list[_Address]:
        """Refuse: a network in memory has no sockets.

        Raises:
            ServerError: Always.
        """
        raise ServerError(_NO_SOCKETS)

    def open_socket(self, family: int, local: tuple[Any, ...] | None = None) -> UdpSocket:
        """As ``Endpoint.open_socket``: add an address, for instance to migrate to."""
        self._check_open("open a socket")
        host, port = ("", 0) if local is None else local[:2]
        if host in ("", *_ANY_ADDRESS.values()):
            host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        try:
            return self._attach(family, (host, port))
        except OSError as error:
            raise UnreachableError(
                f"cannot bind {host} port {port}: {explain_os_error(error)}"
            ) from error

    def _origin(self, remote: RemoteAddress, udp: UdpSocket | None) -> tuple[None, _Address]:
        return None, (self.socket_for(remote.family) if udp is None else udp).address

    def migrate(self, connection: Transport, udp: UdpSocket) -> None:
        """As ``Endpoint.migrate``."""
        connection.migrate(None, udp.address, self._now())

    def _found(
        self, host: str, port: int, family: int, addresses: Sequence[str]
    ) -> list[RemoteAddress]:
        found = [
            RemoteAddress(kind, (address, port))
            for address in addresses
            for kind in (socket.AF_INET6 if ":" in address else socket.AF_INET,)
            if family in (socket.AF_UNSPEC, kind)
        ]
        if not found:
            raise UnreachableError(f"{host} is not a host of the network in memory")
        return found

    def _attach(self, family: int, address: _Address) -> UdpSocket:
        udp = MemorySocket(
            family, self._network.attach(address, self._packets_received, self._loop)
        )
        self._sockets.append(udp)
        return udp

    def _packets_received(self, packets: list[Packet]) -> None:
        for start in range(0, len(packets), _BATCH):
            if not self._closed:
                self._quic.receive_packets(packets[start : start + _BATCH], self._now())
        if not self._closed:
            self._settle()

    def _release_socket(self, udp: UdpSocket) -> None:
        self._network.detach(udp.address)

    def _watch_writable(self) -> None:
        """Nothing to watch: a network in memory takes every packet."""
