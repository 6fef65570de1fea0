"""aioquic as a UDP proxy (CONNECT-UDP) that knows nothing of WebTransport, in this process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.h3.connection import H3_ALPN, H3Connection, Setting
from aioquic.h3.events import DatagramReceived, DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent

from tests.support.certificates import Certificates

__all__ = ["AioquicProxy", "aioquic_proxy"]

_PATH = re.compile(r"/\.well-known/masque/udp/([^/]+)/(\d+)/")
_PACKET_SIZE = 1400
_MAX_UDP_PAYLOAD = 1300


class _Http(H3Connection):
    """With datagrams, without WebTransport."""

    def _get_local_settings(self) -> dict[int, int]:
        settings: dict[int, int] = super()._get_local_settings()
        return settings | {Setting.H3_DATAGRAM: 1}


class _Relay(asyncio.DatagramProtocol):
    def __init__(self, client: _Client, stream_id: int) -> None:
        self.client = client
        self.stream_id = stream_id
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) <= _MAX_UDP_PAYLOAD:  # what is larger does not fit the path
            self.client.http.send_datagram(self.stream_id, b"\0" + data)
            self.client.transmit()


class _Client(QuicConnectionProtocol):
    def __init__(self, proxy: AioquicProxy, quic: QuicConnection) -> None:
        super().__init__(quic)
        self.proxy = proxy
        self.http = _Http(quic)
        self.relays: dict[int, _Relay] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        for http_event in self.http.handle_event(event):
            self._http_event_received(http_event)

    def _http_event_received(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            fields = {name.decode(): value.decode() for name, value in event.headers}
            self.proxy.requests.append(fields)
            task = asyncio.get_running_loop().create_task(self._open(event.stream_id, fields))
            self.proxy.tasks.add(task)
            task.add_done_callback(self.proxy.tasks.discard)
        elif isinstance(event, DatagramReceived):
            relay = self.relays.get(event.stream_id)
            if relay is not None and event.data[:1] == b"\0":
                relay.transport.sendto(event.data[1:])
        elif isinstance(event, DataReceived) and event.stream_ended:
            self.close_relay(event.stream_id)

    async def _open(self, stream_id: int, fields: dict[str, str]) -> None:
        match = _PATH.fullmatch(fields[":path"])
        status = b"404"
        if match is not None and fields[":protocol"] == "connect-udp":
            relay = _Relay(self, stream_id)
            await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: relay, remote_addr=(match[1], int(match[2]))
            )
            self.relays[stream_id] = relay
            status = b"200"
        self.http.send_headers(stream_id, [(b":status", status)], end_stream=status != b"200")
        self.transmit()

    def close_relay(self, stream_id: int) -> None:
        relay = self.relays.pop(stream_id, None)
        if relay is not None:
            relay.transport.close()

    def vanish(self) -> None:
        """Let go of the connection without waiting for its closing period."""
        for stream_id in tuple(self.relays):
            self.close_relay(stream_id)
        if self._quic._close_event is None:
            self.close(0x100)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class AioquicProxy:
    """What the proxy has seen."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[dict[str, str]] = []
        self.clients: list[_Client] = []
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def relays(self) -> int:
        """How many tunnels are open."""
        return sum(len(client.relays) for client in self.clients)


@asynccontextmanager
async def aioquic_proxy(certs: Certificates) -> AsyncIterator[AioquicProxy]:
    """A proxy on a free port of ``127.0.0.1``."""
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=H3_ALPN,
        max_datagram_frame_size=65536,
        max_datagram_size=_PACKET_SIZE,
    )
    configuration.load_cert_chain(certs.server.certfile, certs.server.keyfile)
    proxy = AioquicProxy()

    def create(quic: QuicConnection, stream_handler: object = None) -> _Client:
        client = _Client(proxy, quic)
        proxy.clients.append(client)
        return client

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: QuicServer(configuration=configuration, create_protocol=create),
        local_addr=("127.0.0.1", 0),
    )
    try:
        proxy.port = transport.get_extra_info("sockname")[1]
        yield proxy
    finally:
        for client in proxy.clients:
            client.vanish()
        transport.close()
