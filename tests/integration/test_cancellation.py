"""Cancelled at each await of each public coroutine: nothing stays behind, later work succeeds.

``cancelled_at(operation, n)`` cancels at await number n; the loops go on until an operation ends
before it reaches that await, so that every await of the path was hit once. The checks after each
test find what a cancellation left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from pywebtransport import ServerApp, WebTransportClient
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import (
    DatagramError,
    StreamError,
    WebTransportError,
)
from pywebtransport.server import WebTransportServer
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.support.endpoints import ClientFactory, PairOfSessions, ServerFactory, Serving
from tests.support.payload import payload
from tests.support.steps import cancelled_at, round_trip, take, take_unidirectional, until

MIB = 1024 * 1024
MOST_AWAITS = 200

Operation = Callable[[], Coroutine[Any, Any, Any]]


async def each_await(attempt: Callable[[int], Awaitable[bool]]) -> int:
    """Call ``attempt(0)``, ``attempt(1)``, ... until it says that the await was not reached."""
    for index in range(MOST_AWAITS):
        if not await attempt(index):
            return index
    raise AssertionError(f"still cancelled at await {MOST_AWAITS}")


# ------------------------------------------------------------------------ client, server


@pytest.mark.parametrize("pooling", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_connect(
    serving: Serving, client_config: ClientFactory, pooling: bool, host: str
) -> None:
    config = client_config(allow_pooling=pooling)
    async with serving(host="localhost") as served:

        async def attempt(index: int) -> bool:
            async with WebTransportClient(config=config) as client:

                async def connect() -> None:
                    session = await client.connect(served.url(host=host))
                    await session.close()

                reached = await cancelled_at(connect, index)
                async with client.connect(served.url("/later", host=host)) as session:
                    far = next(s for s in served.server.sessions if s.path == "/later")
                    await round_trip(session, far, b"later")
                await until(lambda: not served.server.sessions)
                return reached

        assert await each_await(attempt) >= 2
        await until(lambda: not served.server.connections)


async def test_connection_connect_and_wait(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:

        async def attempt(index: int) -> bool:
            connection = WebTransportConnection(config=client_config())

            async def use() -> None:
                await connection.connect(host="127.0.0.1", port=served.port)
                await connection.wait_ready()
                session_id = await connection.wait_for_ready_session()
                session = WebTransportSession(connection, session_id=session_id)
                await session.ready()
                await session.close()
                await connection.wait_closed()

            try:
                return await cancelled_at(use, index)
            finally:
                await connection.close()

        assert await each_await(attempt) >= 2


async def test_client_close(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:

        async def attempt(index: int) -> bool:
            client = WebTransportClient(config=client_config())
            sessions = [await client.connect(served.url()) for _ in range(2)]
            stream = await sessions[0].create_unidirectional_stream()
            await stream.write_all(payload(100_000))
            reached = await cancelled_at(client.close, index)
            assert client.is_closed
            assert all(session.is_closed for session in sessions)
            await client.close()
            await served_nothing(served.server)
            return reached

        assert await each_await(attempt) >= 1


async def served_nothing(server: WebTransportServer) -> None:
    """Return once the server has no session and no connection left."""
    await until(lambda: not server.sessions and not server.connections)


async def test_server_listen_and_close(
    client_config: ClientFactory, server_config: ServerFactory
) -> None:
    async def attempt(index: int) -> bool:
        app = ServerApp(config=server_config(close_timeout=1.0))
        app.router.set_default_handler(lambda session: session.wait_closed())

        async def serve() -> None:
            async with app, WebTransportClient(config=client_config()) as client:
                await app.listen(host="localhost")
                assert app.server.local_address is not None
                session = await client.connect(f"https://127.0.0.1:{app.server.local_address[1]}/")
                stream = await session.create_unidirectional_stream()
                await stream.write_all(b"x")
                await app.server.close(drain_timeout=0)
                await app.server.wait_closed()

        reached = await cancelled_at(serve, index)
        assert not app.server.is_serving
        return reached

    assert await each_await(attempt) >= 2


async def test_server_close_while_draining(serving: Serving, client_config: ClientFactory) -> None:
    async def attempt(index: int) -> bool:
        async with serving() as served, WebTransportClient(config=client_config()) as client:
            session = await client.connect(served.url())
            ending = asyncio.create_task(end_when_draining(session))
            reached = await cancelled_at(lambda: served.server.close(drain_timeout=100), index)
            assert not served.server.is_serving
            await session.close()
            await ending
            return reached

    assert await each_await(attempt) >= 2


async def end_when_draining(session: WebTransportSession) -> None:
    """Close the session when its end was announced, or when it is over already."""
    closed = asyncio.create_task(session.wait_closed())
    draining = asyncio.create_task(session.wait_for(EventType.SESSION_DRAINING))
    await asyncio.wait({closed, draining}, return_when=asyncio.FIRST_COMPLETED)
    await session.close()
    await closed
    draining.cancel()
    await asyncio.wait({draining})


async def test_serve_and_serve_forever(
    client_config: ClientFactory, server_config: ServerFactory
) -> None:
    async def attempt(index: int) -> bool:
        app = ServerApp(config=server_config())

        async def stop() -> None:
            await until(lambda: app.server.is_serving)
            await app.server.close(drain_timeout=0)

        async with app:
            stopping = asyncio.create_task(stop())
            try:
                return await cancelled_at(app.serve, index)
            finally:
                stopping.cancel()
                await asyncio.wait({stopping})

    assert await each_await(attempt) >= 1


# --------------------------------------------------------------------- session, connection


@pytest.mark.parametrize("end", ["client", "server"])
async def test_session_close(pair: PairOfSessions, end: str) -> None:
    async def attempt(index: int) -> bool:
        async with pair() as (client, server):
            near, far = (client, server) if end == "client" else (server, client)
            stream = await near.create_unidirectional_stream()
            await stream.write_all(payload(300_000))
            reached = await cancelled_at(lambda: near.close(code=5, reason="x"), index)
            assert near.is_closed
            info = await far.wait_closed()
            assert (info.code, info.reason) == (5, "x")
            return reached

    assert await each_await(attempt) >= 1


async def test_connection_close_and_wait_closed(pair: PairOfSessions) -> None:
    async def attempt(index: int) -> bool:
        async with pair() as (near, far):
            assert near.connection is not None
            connection = near.connection
            stream = await near.create_unidirectional_stream()
            await stream.write_all(b"x")
            reached = await cancelled_at(lambda: connection.close(code=6), index)
            await connection.wait_closed()
            assert (await far.wait_closed()).code == 6
            return reached

    assert await each_await(attempt) >= 1


async def test_migrate(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        assert near.connection is not None
        connection = near.connection

        async def attempt(index: int) -> bool:
            reached = await cancelled_at(connection.migrate, index)
            await round_trip(near, far, b"later")
            # The move goes on without its caller.
            await until(lambda: connection._migration is None)
            return reached

        assert await each_await(attempt) >= 1
        assert connection._endpoint is not None
        assert len(connection._endpoint.sockets) == 2


async def test_waiting_for_a_session_to_be_ready(
    serving: Serving, client_config: ClientFactory
) -> None:
    may_answer = asyncio.Event()

    async def hesitate(session: WebTransportSession) -> bool:
        if session.path == "/slow":
            await may_answer.wait()
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(hesitate)
        first = await client.connect(served.url())
        assert first.connection is not None
        second = await first.connection.create_session("/slow")
        assert await cancelled_at(second.ready, 0)
        may_answer.set()
        await second.ready()
        far = next(s for s in served.server.sessions if s.path == "/slow")
        await round_trip(second, far, b"later")


# A wait that does not end by itself: cancelled while it waits, then everything still works.


async def cancelled_while_waiting(operation: Operation) -> None:
    """Cancel at the first await, and again after some turns of the loop."""
    assert await cancelled_at(operation, 0)
    task = asyncio.create_task(operation())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_waits_of_a_session(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        assert near.connection is not None
        connection = near.connection
        operations: list[Operation] = [
            near.wait_closed,
            near.monitor_health,
            lambda: near.wait_for(EventType.SESSION_CLOSED),
            lambda: anext(aiter(near.incoming_streams())),
            lambda: anext(aiter(near.incoming_bidirectional_streams())),
            lambda: anext(aiter(near.incoming_unidirectional_streams())),
            near.datagrams.receive,
            near.datagrams.receive_many,
            near.datagrams.receive_json,
            near.datagrams.receive_with_metadata,
            lambda: near.datagrams.receive(timeout=1000),
            connection.wait_closed,
            connection.monitor_health,
        ]
        for operation in operations:
            await cancelled_while_waiting(operation)
            await round_trip(near, far, b"later")
        await far.datagrams.send(b"for a later receiver")
        assert await near.datagrams.receive() == b"for a later receiver"


async def test_opening_a_stream_beyond_the_limit(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_bidi": 1, "initial_max_streams_uni": 1}) as (
        near,
        far,
    ):
        held = await near.create_bidirectional_stream()
        held_uni = await near.create_unidirectional_stream()
        await cancelled_while_waiting(near.create_bidirectional_stream)
        await cancelled_while_waiting(near.create_unidirectional_stream)
        # Cancelled openers leave their turn to the next one.
        first = asyncio.create_task(near.create_bidirectional_stream())
        second = asyncio.create_task(near.create_bidirectional_stream())
        await asyncio.sleep(0)
        await held.write_all(b"")
        other = await take(far)
        assert await other.read_all() == b""
        await other.close()
        assert await held.read_all() == b""
        await held_uni.write_all(b"")
        assert await (await take_unidirectional(far)).read_all() == b""
        first.cancel()
        stream = await second
        assert first.done()
        await stream.write_all(b"second")
        assert await (await take(far)).read_all() == b"second"
        await asyncio.wait({first})


# --------------------------------------------------------------------------------- streams


async def test_reads_lose_no_byte(pair: PairOfSessions) -> None:
    """Each read is cancelled at every await, then repeated; all bytes come, in order."""
    data = payload(64 * 1024)
    async with pair() as (near, far):

        async def attempt_with(name: str, index: int) -> bool:
            stream = await near.create_unidirectional_stream()
            writing = asyncio.create_task(trickle(stream, data))
            other = await take_unidirectional(far)
            reads: dict[str, Operation] = {
                "read": lambda: other.read(10),
                "readexactly": lambda: other.readexactly(30_000),
                "readuntil": lambda: other.readuntil(data[20_000:20_010]),
                "readline": lambda: other.readline(data[20_000:20_010]),
                "anext": lambda: anext(aiter(other)),
            }
            taken: list[bytes] = []

            async def operation() -> None:
                taken.append(await reads[name]())

            reached = await cancelled_at(operation, index)
            rest = await other.read_all()
            assert b"".join(taken) + rest == data
            await writing
            return reached

        for name in ("read", "readexactly", "readuntil", "readline", "anext"):
            await each_await(lambda index, name=name: attempt_with(name, index))


async def trickle(stream: Any, data: bytes) -> None:
    """Write in pieces, each in a packet of its own turn."""
    for offset in range(0, len(data), 5000):
        await stream.write(data[offset : offset + 5000])
        await stream.flush()
        await asyncio.sleep(0)
    await stream.close()


async def test_readinto_and_read_all(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write(b"!")
        other = await take_unidirectional(far)
        assert await other.read() == b"!"
        buffer = bytearray(10)
        await cancelled_while_waiting(lambda: other.readinto(buffer))
        await cancelled_while_waiting(other.read_all)
        await cancelled_while_waiting(lambda: anext(aiter(other.read_iter())))
        await stream.write_all(b"all there")
        assert await other.readinto(buffer) == 9
        assert bytes(buffer[:9]) == b"all there"
        assert await other.read() == b""


@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_blocked_writes(pair: PairOfSessions, kind: type[bytes | bytearray]) -> None:
    """The bytes of a cancelled write are sent whole, or, of a mutable buffer, up to some point."""
    data = payload(4 * MIB)
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        await cancelled_while_waiting_once(lambda: stream.write(kind(data)))
        await cancelled_while_waiting(stream.flush)
        other = await take_unidirectional(far)
        reading = asyncio.create_task(other.read_all())
        await stream.write_all(b"the end")
        received = await reading
        body = received.removesuffix(b"the end")
        assert received != body
        assert data.startswith(body)
        if kind is bytes:
            assert body == data
        await stream.wait_acknowledged()


async def cancelled_while_waiting_once(operation: Operation) -> None:
    """Let an operation begin to wait, then cancel it."""
    task = asyncio.create_task(operation())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_one_of_several_writers(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        writing = [asyncio.create_task(stream.write(bytes([n]) * MIB)) for n in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = [task for task in writing if not task.done()]
        waiting[0].cancel()
        other = await take_unidirectional(far)
        reading = asyncio.create_task(other.read_all())
        await asyncio.wait(writing)
        await stream.close()
        assert await reading == b"".join(bytes([n]) * MIB for n in range(5))
        assert sum(task.cancelled() for task in writing) == 1


async def test_waiting_for_acknowledgement(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write(payload(4 * MIB), end_stream=True, wait_flush=False)
        await cancelled_while_waiting(stream.wait_acknowledged)
        reading = asyncio.create_task((await take_unidirectional(far)).read_all())
        await asyncio.gather(stream.wait_acknowledged(), reading)


async def test_copying_aborts_both_sides(pair: PairOfSessions) -> None:
    from pywebtransport.stream.utils import copy_stream_data

    async with pair() as (near, far):
        source = await near.create_unidirectional_stream()
        await source.write(b"!")
        incoming = await take_unidirectional(far)
        target = await far.create_unidirectional_stream()
        copying = asyncio.create_task(copy_stream_data(source=incoming, destination=target))
        copied = await take_unidirectional(near)
        assert await copied.read() == b"!"
        copying.cancel()
        await asyncio.wait({copying})
        with pytest.raises(StreamError):
            await copied.read()
        await until(lambda: not source.is_writable)
        await round_trip(near, far, b"later")


# ------------------------------------------------------------------------------- datagrams


async def test_blocked_datagram_sends(pair: PairOfSessions) -> None:
    async with pair(client={"datagram_queue_size": 5}) as (near, far):
        transport = near.datagrams
        sends: list[Operation] = [
            lambda: transport.send(b"cancelled"),
            lambda: transport.send_multiple([b"cancelled"]),
            lambda: transport.send_json("cancelled"),
        ]

        async def fill_and(send: Operation) -> None:
            while await transport.try_send(b"filler"):
                pass
            await send()

        for send in sends:
            assert await cancelled_at(lambda send=send: fill_and(send), 0)
        await transport.send(b"last")
        received = []
        while not received or received[-1] != b"last":
            received.append(await far.datagrams.receive())
        assert set(received) == {b"filler", b"last"}


async def test_cancelled_receiver_passes_its_datagram_on(pair: PairOfSessions) -> None:
    """Woken and cancelled in the same turn: the next receiver gets the datagram."""
    async with pair() as (near, far):
        first = asyncio.create_task(far.datagrams.receive())
        second = asyncio.create_task(far.datagrams.receive())
        await asyncio.sleep(0)
        far.datagrams.on(EventType.DATAGRAM_RECEIVED, lambda event: first.cancel())
        await near.datagrams.send(b"for whoever is left")
        assert await second == b"for whoever is left"
        await asyncio.wait({first})
        assert first.cancelled()


async def test_heartbeat_and_closing_the_transport(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        beating = near.datagrams.start_heartbeat(interval=1000)
        await far.datagrams.receive()
        assert await cancelled_at(near.datagrams.close, 0)
        await asyncio.wait({beating})
        with pytest.raises(DatagramError, match="were closed"):
            await near.datagrams.send(b"x")
        await round_trip(near, far, b"later")


# -------------------------------------------------------------------------- whole sessions


async def test_whole_conversation_cancelled_at_every_await(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def handler(session: WebTransportSession) -> None:
        async for stream in session.incoming_bidirectional_streams():
            await stream.write_all(await stream.read_all())

    async with serving(handler) as served:

        async def converse() -> None:
            async with (
                WebTransportClient(config=client_config()) as client,
                client.connect(served.url()) as session,
                await session.create_bidirectional_stream() as stream,
            ):
                await stream.write_all(b"question")
                assert await stream.read_all() == b"question"
                await session.datagrams.send(b"bye")

        async def attempt(index: int) -> bool:
            reached = await cancelled_at(converse, index)
            await served_nothing(served.server)
            return reached

        assert await each_await(attempt) >= 2
        await converse()


async def test_handler_cancelled_by_the_end_of_the_server(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def handler(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        while True:
            await stream.write(bytes(100_000))

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        sessions = [await client.connect(served.url()) for _ in range(3)]
        held = [await take_unidirectional(session) for session in sessions]
        await served.server.close(drain_timeout=0)
        for session in sessions:
            info = await session.wait_closed()
            assert info.remote
        assert [stream.is_closed for stream in held] == [True] * 3
        with pytest.raises(WebTransportError):
            await sessions[0].create_bidirectional_stream()
