"""What a caller whose stream fails with the connection sees of its session."""

import asyncio

import pytest

from pywebtransport import ClientConfig, WebTransportError, WebTransportSession, WebTransportStream
from pywebtransport.exceptions import SessionClosedError
from pywebtransport.pubsub import Broker, PubSubManager, Subscription
from pywebtransport.testing import Network, VirtualClockLoop, session_pair
from pywebtransport.types import SessionState
from tests.support.endpoints import PairOfSessions
from tests.support.steps import until

STREAMS = 90


async def read(session: WebTransportSession) -> tuple[type[BaseException], bool, SessionState]:
    """Wait for bytes that never come; return the error, and what the session says then."""
    stream = await session.create_bidirectional_stream()
    await stream.write(b"x")
    with pytest.raises(WebTransportError) as caught:
        await stream.read()
    return caught.type, session.is_closed, session.state


async def read_then_listen(session: WebTransportSession, subscription: Subscription) -> object:
    """What a subscription says to a caller that has learned of the end from a stream."""
    await read(session)
    try:
        return await anext(subscription)
    except Exception as error:
        return type(error)


async def lose_a_broker() -> None:
    network = Network()
    config = ClientConfig(connection_idle_timeout=20, keep_alive=False)
    async with (
        Broker() as broker,
        session_pair(network=network, client_config=config) as (client, server),
    ):
        serving = asyncio.create_task(broker.serve(server))
        async with PubSubManager(client) as member:
            subscriptions: list[Subscription] = [
                await member.subscribe(f"a.{number}") for number in range(STREAMS)
            ]
            readers = [
                asyncio.create_task(read_then_listen(client, subscription))
                for subscription in subscriptions
            ]
            await asyncio.sleep(1)
            network.loss = 1.0
            seen = await asyncio.gather(*readers)
        await serving
    assert set(seen) == {SessionClosedError}


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


def test_a_subscription_of_a_lost_session_ends_with_an_error() -> None:
    """Also for callers that ask before the session is told."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(lose_a_broker())


def test_a_session_is_closed_once_a_stream_of_it_has_failed() -> None:
    """With many streams, their callers continue turns before the session is told."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(lose_the_network())


async def test_streams_that_came_before_the_loss_are_accepted(pair: PairOfSessions) -> None:
    """Also if they are handed over in a later turn, because many others are woken before."""
    limits = {"initial_max_streams_bidi": 300, "initial_max_streams_uni": 300}
    async with pair(server=limits) as (client, server):
        outgoing = []
        for _ in range(200):
            outgoing.append(await client.create_bidirectional_stream())
            await outgoing[-1].write(b"a")
        arriving = server.incoming_bidirectional_streams()
        readers = [asyncio.create_task(read_all(await anext(arriving))) for _ in outgoing]
        accepted: list[int] = []

        async def accept() -> None:
            async for stream in server.incoming_unidirectional_streams():
                accepted.append(stream.stream_id)

        accepting = asyncio.create_task(accept())
        await until(lambda: all(stream.bytes_acknowledged for stream in outgoing))
        sent = []
        for number, stream in enumerate(outgoing):
            await stream.write(b"b", wait_flush=False)
            if number % 30 == 0:
                sent.append(await client.create_unidirectional_stream())
                await sent[-1].write(b"x", wait_flush=False)
        client.flush_nowait()
        assert client.connection is not None
        client.connection._shut()
        await accepting
        assert accepted == [stream.stream_id for stream in sent]
        assert await asyncio.gather(*readers) == [b"ab"] * 200


async def read_all(stream: WebTransportStream) -> bytes:
    """What has arrived before the stream failed."""
    data = b""
    while True:
        try:
            data += await stream.read()
        except WebTransportError:
            return data
