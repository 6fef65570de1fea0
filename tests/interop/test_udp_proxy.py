"""Sessions through the UDP proxy of another stack."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport.client import WebTransportProxy
from pywebtransport.exceptions import ProxyError
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.payload import digest, payload
from tests.support.steps import echo_bidirectional, until

from .aioquic_proxy import aioquic_proxy

MIB = 1 << 20


async def test_session_through_a_proxy_without_webtransport(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    async with (
        serving(echo_bidirectional) as served,
        aioquic_proxy(certs) as proxy,
        WebTransportProxy(proxy.url, config=client_config(close_timeout=2.0)) as tunnels,
    ):
        first, second = await asyncio.gather(
            tunnels.connect(served.url("/a")), tunnels.connect(served.url("/b"))
        )
        assert proxy.relays == 2
        assert len(proxy.clients) == 1
        assert proxy.requests[0][":protocol"] == "connect-udp"
        assert proxy.requests[0]["capsule-protocol"] == "?1"
        for session in (first, second):
            stream = await session.create_bidirectional_stream()
            data = payload(MIB)
            writing = asyncio.ensure_future(stream.write_all(data))
            assert digest(await stream.read_all()) == digest(data)
            await writing
        await first.close()
        await until(lambda: proxy.relays == 1)
        await second.close()
        await until(lambda: proxy.relays == 0)


async def test_refusal_of_another_stack(client_config: ClientFactory, certs: Certificates) -> None:
    async with aioquic_proxy(certs) as proxy:
        template = proxy.url + "/nowhere/{target_host}/{target_port}"
        async with WebTransportProxy(template, config=client_config()) as tunnels:
            with pytest.raises(ProxyError) as caught:
                await tunnels.connect("https://127.0.0.1:9/")
            assert caught.value.status_code == 404
