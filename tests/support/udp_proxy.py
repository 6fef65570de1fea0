"""A UDP proxy (CONNECT-UDP over HTTP/3, RFC 9298) for tests, over the HTTP/3 layer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from pywebtransport._core.driver import Driver
from pywebtransport.config import ServerConfig
from pywebtransport.h3._tunnel import H3Tunnel
from pywebtransport.server import WebTransportServer

PATH = re.compile(r"/\.well-known/masque/udp/([^/]+)/(\d{1,5})/")
# Larger than what the packets inside need: both ends of the tunnel know the loopback interface.
PACKET_SIZE = 1452
# Asked before a tunnel is opened: (host, port, request headers) -> status, 200 to go on.
Policy = Callable[[str, int, Mapping[str, str]], int]


def allow_all(host: str, port: int, headers: Mapping[str, str]) -> int:
    """The policy of an open proxy."""
    return 200


class UdpProxy(WebTransportServer):
    """Opens a UDP socket for each tunnel and relays packets both ways.

    Attributes:
        relays: The tunnels that are open.
        requests: (host, port, request headers) of every tunnel asked for.
        packets: Number of packets from clients.
        seen: Every UDP payload that was relayed, when ``record`` is set.
    """

    def __init__(self, config: ServerConfig, *, policy: Policy = allow_all) -> None:
        super().__init__(config=config.update(udp_payload_size=PACKET_SIZE))
        self.policy = policy
        self.relays: set[Relay] = set()
        self.requests: list[tuple[str, int, Mapping[str, str]]] = []
        self.packets = 0
        self.record = False
        self.seen: list[bytes] = []
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self.local_address is not None
        return f"https://127.0.0.1:{self.local_address[1]}"

    async def close(self, *, drain_timeout: float | None = None) -> None:
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await super().close(drain_timeout=drain_timeout)
        for relay in tuple(self.relays):
            relay.tunnel_closed(None)

    def _accept(self, quic: Any) -> Driver:
        driver = super()._accept(quic)
        h3: Any = driver.layer
        h3.tunnel_requested = self._requested
        return driver

    def _requested(self, tunnel: H3Tunnel) -> None:
        match = PATH.fullmatch(tunnel.path)
        if match is None:
            tunnel.reject(404)
            return
        host, port = unquote(match[1]), int(match[2])
        self.requests.append((host, port, tunnel.request_headers))
        status = self.policy(host, port, tunnel.request_headers)
        if status != 200:
            tunnel.reject(status, {"proxy-status": "test-proxy; error=destination_ip_prohibited"})
            return
        task = asyncio.get_running_loop().create_task(self._relay(tunnel, host, port))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _relay(self, tunnel: H3Tunnel, host: str, port: int) -> None:
        relay = Relay(self, tunnel)
        tunnel.events = relay
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: relay, remote_addr=(host, port)
            )
        except OSError:
            tunnel.reject(502)
            return
        if tunnel.is_closed:
            relay.tunnel_closed(None)
            return
        self.relays.add(relay)
        tunnel.accept()


class Relay(asyncio.DatagramProtocol):
    """One tunnel and its socket."""

    def __init__(self, proxy: UdpProxy, tunnel: H3Tunnel) -> None:
        self._proxy = proxy
        self.tunnel = tunnel
        self._transport: asyncio.DatagramTransport | None = None

    # The socket.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._proxy.record:
            self._proxy.seen.append(data)
        self.tunnel.send(data)  # dropped and counted when the queue is full

    def error_received(self, exc: Exception) -> None:
        """ICMP: the target's port is closed; the client finds out by its own timeout."""

    # The tunnel.

    def tunnel_established(self) -> None:
        raise AssertionError("a client's event")

    def tunnel_rejected(self, *_: object) -> None:
        raise AssertionError("a client's event")

    def packets_received(self, packets: list[bytes]) -> None:
        assert self._transport is not None
        self._proxy.packets += len(packets)
        if self._proxy.record:
            self._proxy.seen += packets
        for packet in packets:
            self._transport.sendto(packet)

    def tunnel_writable(self) -> None:
        """What did not fit was dropped."""

    def tunnel_closed(self, error: Exception | None) -> None:
        self._proxy.relays.discard(self)
        if self._transport is not None:
            self._transport.close()
