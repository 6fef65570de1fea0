"""A client's session that is given up takes its connection with it."""

from __future__ import annotations

from pywebtransport import WebTransportClient
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import ConnectionError
from pywebtransport.types import ConnectionState
from tests.support.endpoints import ClientFactory, Serving
from tests.support.steps import cancelled_at, until


async def test_closing_that_is_cancelled_closes_the_connection_too(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        index = 0
        while True:
            session = await client.connect(served.url())
            # Closing waits until this is acknowledged, as long as it is not cancelled.
            stream = await session.create_unidirectional_stream()
            await stream.write_all(b"the last word")
            reached = await cancelled_at(lambda session=session: session.close(code=3), index)
            assert session.close_info is not None
            assert session.close_info.code == 3
            await until(lambda: client.connections == ())
            await until(lambda: not served.server.connections)
            await session.close()
            if not reached:
                break
            index += 1
        assert index >= 1


async def test_connection_that_others_use_stays(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(allow_pooling=True)
    async with serving() as served, WebTransportClient(config=config) as client:
        first = await client.connect(served.url())
        second = await client.connect(served.url())
        stream = await first.create_unidirectional_stream()
        await stream.write_all(b"x")
        assert await cancelled_at(lambda: first.close(), 0)
        assert first.is_closed
        assert second.is_ready
        await second.close()
        assert len(client.connections) == 1


async def test_both_ends_tell_how_a_connection_ended(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        ends = [*client.connections, *served.server.connections]
        assert [end.error for end in ends] == [None, None]
        await session.close()
        await until(lambda: not served.server.connections)
        assert [end.state for end in ends] == [ConnectionState.CLOSED] * 2
        for end, who in zip(ends, ("this side", "the peer"), strict=True):
            error = end.error
            assert isinstance(error, ConnectionError)
            assert str(error).startswith(f"{who} closed the connection to 127.0.0.1:")
            assert error.remote is (who == "the peer")
            assert error.error_code == ErrorCodes.H3_NO_ERROR
            assert error.remote_address == end.remote_address
            assert end.error is error
        assert ends[0].remote_address == (ends[1].local_address or ())[:2]
