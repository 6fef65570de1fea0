"""Sessions over WebSocket between two of our ends, over real sockets and TLS."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import WebTransportSession
from pywebtransport._core.fallback import establish_over
from pywebtransport._core.memory import process_figures
from pywebtransport._loop import resolve
from pywebtransport._loop.tcp import dial
from pywebtransport.connection import WebTransportConnection
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    ConfigurationError,
    ConnectionError,
    SessionClosedError,
    StreamResetError,
    StreamStoppedError,
)
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.types import ConnectionState
from pywebtransport.utils._budget import PROCESS
from pywebtransport.utils._tls_contexts import client_tls_over_tcp
from tests.support.certificates import Certificates
from tests.support.endpoints import Served, make_client_config, serving
from tests.support.steps import take, take_unidirectional, until

MIB = 1024 * 1024

Pair = Callable[..., AbstractAsyncContextManager[tuple[WebTransportSession, WebTransportSession]]]


async def connect(certs: Certificates, served: Served, **fields: Any) -> WebTransportSession:
    """A session over WebSocket; its connection is closed with it."""
    config = make_client_config(certs, **fields)
    (address,) = await resolve(served.host, served.port, family=config.address_family)
    link = await dial(address, server_name=served.host, tls=client_tls_over_tcp(config), timeout=10)
    connection = WebTransportConnection(config=config)
    await establish_over(connection, link, served.host, served.port)
    session = await connection.create_session("/")
    await session.ready()
    return session


@pytest.fixture
def pair(certs: Certificates) -> Pair:
    """Both ends of a session: the client's and the server's."""

    @asynccontextmanager
    async def make(
        client: dict[str, Any] | None = None, **server: Any
    ) -> AsyncIterator[tuple[WebTransportSession, WebTransportSession]]:
        arrived: asyncio.Future[WebTransportSession] = asyncio.get_running_loop().create_future()

        async def handler(session: WebTransportSession) -> None:
            arrived.set_result(session)

        async with serving(certs, handler, websocket=True, **server) as served:
            near = await connect(certs, served, **(client or {}))
            try:
                yield near, await arrived
            finally:
                await near.close()

    return make


async def send(session: WebTransportSession, data: bytes) -> None:
    stream = await session.create_unidirectional_stream()
    for start in range(0, len(data), 100_000):
        await stream.write(data[start : start + 100_000])
    await stream.close()


async def receive(session: WebTransportSession) -> bytes:
    stream = await take_unidirectional(session)
    return b"".join([chunk async for chunk in stream.read_iter(65536)])


async def test_many_bytes_go_both_ways_at_once(pair: Pair) -> None:
    there, back = os.urandom(20 * MIB), os.urandom(20 * MIB)
    async with pair() as (near, far):
        _, _, got_there, got_back = await asyncio.gather(
            send(near, there), send(far, back), receive(far), receive(near)
        )
        for got, data in ((got_there, there), (got_back, back)):
            assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


async def test_two_hundred_streams_at_once(pair: Pair) -> None:
    async def answer(stream: WebTransportStream) -> None:
        await stream.write_all(await stream.read_all())

    async def ask(session: WebTransportSession, number: int) -> None:
        stream = await session.create_bidirectional_stream()
        data = b"%d" % number * 200
        await stream.write_all(data)
        assert await stream.read_all() == data

    limits = {"initial_max_streams_bidi": 200}
    async with pair({"max_streams": 200}, **limits) as (near, far):
        serving_streams = asyncio.create_task(far.serve_streams(answer))
        await asyncio.gather(*(ask(near, number) for number in range(200)))
        await near.close()
        await serving_streams


@pytest.mark.parametrize("code", [0, 31, 2**32 - 1])
async def test_codes_of_streams(pair: Pair, code: int) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"!")
        other = await take(far)
        assert await other.readexactly(1) == b"!"
        stream.reset(code)
        with pytest.raises(StreamResetError) as reset:
            await other.read()
        stream.stop_sending(code)
        assert await other.wait_stopped() == code
        with pytest.raises(StreamStoppedError) as stopped:
            await other.write(b"x")
        assert reset.value.error_code == stopped.value.error_code == code


async def test_close_waits_until_the_peer_knows(pair: Pair) -> None:
    async with pair() as (near, far):
        connection = near.connection
        assert connection is not None
        await near.close(code=7, reason="enough")
        # The peer has answered: its session has ended before.
        assert far.close_info is not None
        assert (far.close_info.code, far.close_info.reason) == (7, "enough")
        assert connection.state is ConnectionState.CLOSED


async def test_a_connection_that_is_cut_says_so(pair: Pair) -> None:
    async with pair() as (near, far):
        connection = near.connection
        assert connection is not None
        reading = asyncio.ensure_future(near.datagrams.receive())
        await asyncio.sleep(0)
        far._connection._quic.abandon()  # type: ignore[union-attr]
        with pytest.raises(SessionClosedError):
            await reading
        info = await near.wait_closed()
        assert (info.code, info.remote) == (None, True)
        await connection.wait_closed()
        assert connection.state is ConnectionState.FAILED
        assert isinstance(connection.error, ConnectionError)


async def test_a_reader_that_stops_bounds_what_is_held(pair: Pair) -> None:
    limits = {"max_read_buffer_size": 256 * 1024, "initial_max_data": MIB}
    async with pair(**limits) as (near, far):
        before = process_figures()["unread"]
        streams = [await near.create_unidirectional_stream() for _ in range(8)]
        writing = [asyncio.create_task(stream.write_all(bytes(MIB))) for stream in streams]
        others = [await take_unidirectional(far) for _ in streams]
        # More is not taken, however long nobody reads: this answer has passed everything.
        await near.datagrams.send(b"ping")
        await far.datagrams.receive()
        assert process_figures()["unread"] - before <= MIB
        got = await asyncio.gather(*(other.read_all(max_size=MIB) for other in others))
        assert [len(data) for data in got] == [MIB] * 8
        await asyncio.gather(*writing)


async def test_a_full_process_closes_the_connection_that_holds_the_most(
    certs: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived: list[WebTransportSession] = []
    held: list[WebTransportReceiveStream] = []

    async def handler(session: WebTransportSession) -> None:
        arrived.append(session)
        async for stream in session.incoming_unidirectional_streams():
            held.append(stream)

    async with serving(certs, handler, websocket=True) as served:
        greedy = await connect(certs, served)
        modest = await connect(certs, served)
        monkeypatch.setattr(PROCESS, "limit", process_figures()["unread"] + PROCESS.used + MIB)
        streams = [await greedy.create_unidirectional_stream() for _ in range(8)]
        for stream in streams:
            await stream.write(bytes(MIB // 4), wait_flush=False)
        info = await greedy.wait_closed()
        assert (info.code, info.remote) == (None, True)
        assert "memory for peers is used up" in info.reason
        await modest.datagrams.send(b"still here")
        far = next(one for one in arrived if not one.is_closed)
        assert await far.datagrams.receive() == b"still here"
        await modest.close()
        held.clear()


async def test_codes_pass_between_the_transports(certs: Certificates) -> None:
    """A stream that feeds one of the other transport passes its end on with the same code."""
    from pywebtransport import WebTransportClient

    arrived: dict[str, WebTransportSession] = {}

    async def handler(session: WebTransportSession) -> None:
        arrived[session.transport] = session

    async with (
        serving(certs, handler, websocket=True) as served,
        WebTransportClient(config=make_client_config(certs)) as client,
    ):
        near = {
            "quic": await client.connect(served.url()),
            "websocket": await connect(certs, served),
        }
        await until(lambda: len(arrived) == 2)
        for one, other in (("quic", "websocket"), ("websocket", "quic")):
            source = await near[one].create_unidirectional_stream()
            await source.write(b"x")
            incoming = await take_unidirectional(arrived[one])
            assert await incoming.readexactly(1) == b"x"
            outgoing = await arrived[other].create_unidirectional_stream()
            await outgoing.write(b"x")
            sink = await take_unidirectional(near[other])
            assert await sink.readexactly(1) == b"x"
            source.reset(1234)
            with pytest.raises(StreamResetError):
                await incoming.read()
            incoming.pass_reset_to(outgoing)
            with pytest.raises(StreamResetError) as caught:
                await sink.read()
            assert caught.value.error_code == 1234
            assert caught.value.details["code"] == near[other]._code_to_wire(1234)
        # What has no code of an application on one side has the usual one on the other.
        quic, websocket = arrived["quic"]._h3, arrived["websocket"]._h3
        assert quic.code_passed(2**40, websocket) == ErrorCodes.H3_REQUEST_CANCELLED
        assert websocket.code_passed(7, quic) == 0
        assert quic.code_passed(7, quic) == 7
        assert websocket.code_passed(2**40, websocket) == 2**40
        await near["websocket"].close()


async def test_another_thread_is_told_so(pair: Pair) -> None:
    async with pair() as (near, _):
        stream = await near.create_bidirectional_stream()
        await asyncio.sleep(0)  # what opening it has queued is sent
        raised: list[BaseException] = []

        async def write() -> None:
            await stream.write(b"x")

        def work() -> None:
            try:
                asyncio.run(write())
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert isinstance(raised[0], ConfigurationError)
        assert raised[0].config_key == "loop"
        assert near.is_ready
        await stream.abort()


def test_the_socket_is_given_back_although_the_event_loop_has_ended(certs: Certificates) -> None:
    """The suite's check of descriptors and warnings sees what is not."""
    found: Future[Served] = Future()
    over = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with serving(certs, websocket=True, close_timeout=0.05) as served:
            found.set_result(served)
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        own = asyncio.new_event_loop()
        session = own.run_until_complete(connect(certs, found.result(10)))
        connection = session.connection
        assert connection is not None
        own.close()
        connection.abandon()
        with pytest.raises(ConfigurationError, match=r"event loop .* has ended"):
            session.drain()
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join()
