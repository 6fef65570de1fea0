"""Clients that keep sessions, and open them by a function of the application."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.client import PooledClient, ReconnectingClient
from pywebtransport.exceptions import ClientError, ConfigurationError, UnreachableError
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, Serving

pytestmark = pytest.mark.loops("virtual")


async def test_a_reconnecting_client_opens_sessions_by_a_function(
    serving: Serving, client_config: ClientFactory
) -> None:
    calls: list[str] = []

    async def connect(client: WebTransportClient, url: str) -> WebTransportSession:
        calls.append(url)
        if len(calls) == 1:
            raise UnreachableError("not yet")
        return await client.connect(url, headers={"x-attempt": str(len(calls))})

    async def nothing(client: WebTransportClient, url: str) -> None:
        """It should return a session."""

    config = client_config(retry_delay=0.01, max_retry_delay=0.02)
    async with serving() as served:
        url = served.url()
        async with ReconnectingClient(
            url, config=client_config(retry_delay=0.01, max_retry_delay=0.02), connect=connect
        ) as client:
            session = await client.get_session(wait_timeout=None)
            assert session is not None
            (far,) = served.server.sessions
            assert far.headers["x-attempt"] == "2"
            assert not session.is_closed
        assert calls == [url, url]
        with pytest.raises(ConfigurationError, match="connect"):
            ReconnectingClient(url, config=client_config(), connect=5)  # type: ignore[arg-type]
        wrong: Any
        for wrong, text in (
            (lambda client, url: None, "async def connect"),
            (nothing, "it returned a NoneType, expected a WebTransportSession"),
        ):
            async with ReconnectingClient(url, config=config, connect=wrong) as client:
                with pytest.raises(ClientError, match=text):
                    await client.get_session(wait_timeout=None)


async def test_a_pool_opens_sessions_by_a_function(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def connect(client: WebTransportClient, url: str) -> WebTransportSession:
        return await client.connect(url, headers={"x-by": "function"})

    async def nothing(client: WebTransportClient, url: str) -> None:
        """It should return a session."""

    async with serving() as served:
        async with (
            PooledClient.create(client_config(), connect=connect) as pool,
            pool.session(served.url()),
        ):
            (far,) = served.server.sessions
            assert far.headers["x-by"] == "function"
        wrong: Any = nothing
        async with PooledClient.create(client_config(), connect=wrong) as pool:
            with pytest.raises(ConfigurationError, match="it returned a NoneType"):
                await pool.get_session(served.url())
            assert pool.get_stats()["active_sessions"] == 0
