"""A path on which nothing comes back is named while it still looks connected."""

from __future__ import annotations

from pywebtransport import WebTransportClient
from tests.integration.relay import Faults, Relay
from tests.support.endpoints import ClientFactory, Serving


async def test_a_silent_path_is_named_by_session_and_connection(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(close_timeout=0.1) as served,
        Relay((served.host, served.port), seed=1, up=Faults()) as relay,
        WebTransportClient(config=client_config(close_timeout=0.1)) as client,
    ):
        session = await client.connect(f"https://127.0.0.1:{relay.port}/")
        connection = session.connection
        assert connection is not None
        stream = await session.create_unidirectional_stream()
        await stream.write(b"arrives", end_stream=True)
        await stream.wait_acknowledged()
        assert not any("dead" in issue for issue in await session.diagnose_issues())

        relay.blocked = True
        stream = await session.create_unidirectional_stream()
        await stream.write(b"vanishes", end_stream=True)
        connection.flush_nowait()
        found = (await connection.diagnose_issues())["issues"]
        assert any("the path looks dead" in issue for issue in found), found
        assert any("the path looks dead" in issue for issue in await session.diagnose_issues())
        assert session.is_ready
