"""A stream to a server behind a UDP proxy."""

from __future__ import annotations

from pywebtransport.client import WebTransportProxy
from pywebtransport.server import echo_handler
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.udp_proxy import UdpProxy


async def test_a_stream_through_a_proxy(
    serving: Serving, server_config: ServerFactory, client_config: ClientFactory
) -> None:
    udp_proxy = UdpProxy(server_config())
    await udp_proxy.listen()
    try:
        async with (
            serving(echo_handler) as served,
            WebTransportProxy.create(proxy_url=udp_proxy.url, config=client_config()) as proxy,
        ):
            stream = await proxy.connect_through_proxy(
                target_url=served.url("/echo"), proxy_headers={"x-token": "t"}, timeout=20.0
            )
            await stream.write_all(data=b"hello")
            assert await stream.read_all() == b"hello"
            await proxy.close()
    finally:
        await udp_proxy.close(drain_timeout=0)
