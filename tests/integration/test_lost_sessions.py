"""What a caller whose stream fails with the connection sees of its session."""

import asyncio

import pytest

from pywebtransport import ClientConfig, WebTransportError, WebTransportSession
from pywebtransport.exceptions import SessionClosedError
from pywebtransport.testing import Network, VirtualClockLoop, session_pair
from pywebtransport.types import SessionState

STREAMS = 90


async def read(session: WebTransportSession) -> tuple[type[BaseException], bool, SessionState]:
    """Wait for bytes that never come; return the error, and what the session says then."""
    stream = await session.create_bidirectional_stream()
    await stream.write(b"x")
    with pytest.raises(WebTransportError) as caught:
        await stream.read()
    return caught.type, session.is_closed, session.state


async def lose_the_network() -> None:
    network = Network()
    config = ClientConfig(connection_idle_timeout=20, keep_alive=False)
    async with session_pair(network=network, client_config=config) as (client, server):
        readers = [asyncio.create_task(read(client)) for _ in range(STREAMS)]
        arriving = server.incoming_streams()
        kept = [await anext(arriving) for _ in range(STREAMS)]
        network.loss = 1.0
        seen = await asyncio.gather(*readers)
        del kept
    assert {one[:2] for one in seen} == {(SessionClosedError, True)}
    assert {one[2] for one in seen} <= {SessionState.CLOSING, SessionState.CLOSED}


def test_a_session_is_closed_once_a_stream_of_it_has_failed() -> None:
    """With many streams, their callers continue turns before the session is told."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(lose_the_network())
