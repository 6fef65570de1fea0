"""What the documentation promises and no other test shows; see ``tests/docs_promises.toml``."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport import ConnectionError, WebTransportClient
from pywebtransport.exceptions import SessionRejectedError
from tests.integration.effects import Tap
from tests.support.endpoints import ClientFactory, Serving
from tests.support.steps import until

ZERO_RTT = 1  # RFC 9000 section 17.2.3; QUIC version 1


@pytest.mark.loops("asyncio")
async def test_unproven_address_gets_three_times_its_bytes_at_most(
    serving: Serving, client_config: ClientFactory
) -> None:
    """The client never hears of the server, which repeats its first flight."""
    async with serving() as served, Tap((served.host, served.port)) as tap:
        tap.deaf = True
        async with WebTransportClient(config=client_config()) as client:
            attempt = asyncio.ensure_future(client.connect(f"https://127.0.0.1:{tap.port}/"))
            await until(lambda: len(tap.up) >= 3)
            attempt.cancel()
            await asyncio.wait({attempt})
        assert tap.down
        assert sum(size for size, _ in tap.down) <= 3 * sum(size for size, _ in tap.up)


@pytest.mark.loops("asyncio")
async def test_client_that_resumes_sends_nothing_early(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, Tap((served.host, served.port)) as tap:
        async with WebTransportClient(config=client_config()) as client:
            for _ in range(2):
                session = await client.connect(f"https://127.0.0.1:{tap.port}/")
                await session.datagrams.send(b"x")
                await until(lambda: client._credentials)
                await session.close()
        kinds = {first >> 4 & 3 for first in tap.first_bytes if first & 0x80}
        assert 0 in kinds  # Initial
        assert ZERO_RTT not in kinds


async def test_refused_connections_and_sessions_are_counted(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(max_connections=2, max_sessions=1) as served,
        WebTransportClient(config=client_config()) as client,
        WebTransportClient(config=client_config(allow_pooling=True)) as keeping,
    ):
        await client.connect(served.url())
        with pytest.raises(SessionRejectedError):
            await keeping.connect(served.url())
        with pytest.raises(ConnectionError):
            await client.connect(served.url())
        stats = await served.server.get_server_stats()
        assert stats["sessions_rejected"] == 1
        assert stats["engine"]["refused"] == 1
