"""``asgi.Session``: the native session on our server, the same methods over events on others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport import ConfigurationError, WebTransportClient, WebTransportSession
from pywebtransport.asgi import Session
from pywebtransport.exceptions import (
    SessionClosedError,
    SessionError,
    SessionRejectedError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)
from tests.support.endpoints import ClientFactory
from tests.support.leaks import ExpectedLogs
from tests.support.steps import take, take_unidirectional, until

from .conftest import Mounting

Scene = Callable[[Any, WebTransportSession], Awaitable[None]]
HOW = ["native", "events", "plain events"]
both = pytest.mark.parametrize("how", HOW)


class Theatre:
    """An application that gives its session to the test.

    Args:
        how: ``native``; ``events``, as on another server; ``plain events``, as on one that knows
            neither ``pause`` nor ``tag``.
    """

    def __init__(self, how: str) -> None:
        self.how = how
        self.sessions: asyncio.Queue[Any] = asyncio.Queue()
        self.done = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.how != "native":
            extensions = dict(scope["extensions"])
            extension = dict(extensions["webtransport"])
            del extension["session"]
            scope = {**scope, "extensions": {**extensions, "webtransport": extension}}
        if self.how == "plain events":
            receive, send = _older(receive, send)
        session = Session(scope, receive, send)
        assert isinstance(session, WebTransportSession) is (self.how == "native")
        self.sessions.put_nowait(session)
        await self.done.wait()


def _older(receive: Any, send: Any) -> tuple[Any, Any]:
    async def received() -> Any:
        event = dict(await receive())
        for name in ("tag", "end_stream", "bidirectional"):
            event.pop(name, None)
        return event

    async def sent(message: Any) -> None:
        kind = message["type"]
        if kind.endswith((".pause", ".resume")):
            raise ValueError(f"unknown type {kind}")
        await send({name: value for name, value in message.items() if name != "tag"})

    return received, sent


@pytest.fixture
def play(
    mounting: Mounting, client_config: ClientFactory
) -> Callable[[str, Scene], Awaitable[None]]:
    """Play a scene with both ends of a session."""

    async def run(how: str, scene: Scene) -> None:
        theatre = Theatre(how)
        async with (
            mounting(theatre) as served,
            WebTransportClient(config=client_config(application_protocols=["a", "b"])) as client,
        ):
            connecting = asyncio.ensure_future(client.connect(served.url("/path?x=1")))
            session = await theatre.sessions.get()
            await session.accept(headers={"x-answer": "yes"}, application_protocol="b")
            try:
                await scene(session, await connecting)
            finally:
                theatre.done.set()

    return run


Play = Callable[[str, Scene], Awaitable[None]]


@both
async def test_facts_of_the_request(play: Play, how: str) -> None:
    async def scene(session: Any, client: WebTransportSession) -> None:
        assert session.path == "/path?x=1"
        assert session.query_params["x"] == "1"
        assert tuple(session.offered_protocols) == ("a", "b")
        assert session.application_protocol == client.application_protocol == "b"
        assert client.headers["x-answer"] == "yes"
        assert "user-agent" in session.headers or session.headers is not None
        assert session.origin == client.origin
        assert session.remote_address[0] == "127.0.0.1"
        assert session.is_ready
        assert not session.is_closed
        assert session.close_info is None
        assert session.max_datagram_size > 1000
        with pytest.raises(SessionError, match="cannot accept"):
            await session.accept()

    await play(how, scene)


@both
async def test_streams_of_the_peer(play: Play, how: str) -> None:
    async def scene(session: Any, client: WebTransportSession) -> None:
        stream = await client.create_bidirectional_stream()
        await stream.write(b"line one\nline two\n0123456789")
        far = await anext(aiter(session.incoming_streams()))
        assert far.stream_id == stream.stream_id
        assert await far.readline() == b"line one\n"
        assert await far.readline() == b"line two\n"
        assert await far.readexactly(4) == b"0123"
        assert await far.read(3) == b"456"
        assert far.is_readable
        await stream.write_all(b"ab")
        assert await far.read_all() == b"789ab"
        assert far.at_eof()
        assert await far.read() == b""
        await far.write("text")
        await far.write_all(bytearray(b" and bytes"))
        assert await stream.read_all() == b"text and bytes"
        with pytest.raises(StreamError):
            await far.write(b"more")
        await far.close()
        short = await client.create_unidirectional_stream()
        await short.write_all(b"abc")
        far = await anext(aiter(session.incoming_unidirectional_streams()))
        with pytest.raises(StreamError) as ended:
            await far.readexactly(4)
        assert ended.value.details["partial"] == b"abc"

    await play(how, scene)


@both
async def test_streams_of_the_application(play: Play, how: str) -> None:
    async def scene(session: Any, client: WebTransportSession) -> None:
        made = await asyncio.gather(
            session.create_bidirectional_stream(),
            session.create_unidirectional_stream(),
            session.create_bidirectional_stream(send_order=2),
        )
        for stream in made:
            await stream.write_all(b"%d" % stream.stream_id)
        by_id = {stream.stream_id: stream for stream in made}
        for _ in range(2):
            near = await take(client)
            assert await near.read_all() == b"%d" % near.stream_id
            await near.write_all(b"back")
            assert await by_id[near.stream_id].read_all() == b"back"
        assert await (await take_unidirectional(client)).read_all() == b"%d" % made[1].stream_id

    await play(how, scene)


@both
async def test_many_tasks_wait_at_the_same_time(play: Play, how: str) -> None:
    async def scene(session: Any, client: WebTransportSession) -> None:
        async def answer(stream: Any) -> None:
            async for piece in stream:
                await stream.write(piece)

        async def echo_datagrams() -> None:
            async for datagram in session.datagrams:
                await session.datagrams.send(datagram)

        async def ask(number: int) -> None:
            stream = await client.create_bidirectional_stream()
            for step in range(3):
                text = b"%d %d" % (number, step)
                await stream.write(text)
                assert await stream.readexactly(len(text)) == text
            await stream.close()
            assert await stream.read_all() == b""

        serving = asyncio.create_task(session.serve_streams(answer))
        datagrams = asyncio.create_task(echo_datagrams())
        ending = asyncio.create_task(session.wait_closed())
        draining = asyncio.create_task(session.wait_draining())
        await asyncio.gather(*map(ask, range(20)))
        await client.datagrams.send(b"x")
        assert await client.datagrams.receive() == b"x"
        await client.drain()
        assert await draining
        await client.close(code=3, reason="enough")
        info = await ending
        assert (info.code, info.reason, info.remote) == (3, "enough", True)
        await serving
        await datagrams
        with pytest.raises(SessionClosedError):
            await session.create_bidirectional_stream()
        with pytest.raises(SessionClosedError):
            await session.datagrams.receive()
        with pytest.raises(SessionClosedError):
            await session.datagrams.send(b"x")
        assert [stream async for stream in session.incoming_streams()] == []

    await play(how, scene)


@both
async def test_a_handler_that_raises_ends_its_stream_alone(
    play: Play, expected_logs: ExpectedLogs, how: str
) -> None:
    expected_logs("stream handler .*answer raised ValueError: a bug")

    async def scene(session: Any, client: WebTransportSession) -> None:
        async def answer(stream: Any) -> None:
            text = await stream.read()
            if text == b"bug":
                raise ValueError("a bug")
            await stream.write(text)

        serving = asyncio.create_task(session.serve_streams(answer, error_code=33))
        for _ in range(2):
            stream = await client.create_bidirectional_stream()
            await stream.write(b"bug")
            with pytest.raises(StreamResetError) as reset:
                await stream.read()
            assert reset.value.error_code == 33
            assert await stream.wait_stopped() == 33
            stream = await client.create_bidirectional_stream()
            await stream.write(b"fine")
            assert await stream.read_all() == b"fine"
        waiting = await client.create_bidirectional_stream()
        await waiting.write(b"x")
        assert await waiting.read() == b"x"
        last = await client.create_bidirectional_stream()  # its handler still reads
        await last.write(b"")
        await client.close()
        await serving

    await play(how, scene)


@both
async def test_resets_and_stops(play: Play, how: str) -> None:
    async def scene(session: Any, client: WebTransportSession) -> None:
        stream = await client.create_bidirectional_stream()
        await stream.write(b"x")
        far = await anext(aiter(session.incoming_bidirectional_streams()))
        assert await far.read() == b"x"
        stream.reset(5)
        with pytest.raises(StreamResetError) as reset:
            await far.read()
        assert reset.value.error_code == 5
        assert not far.is_readable
        stream.stop_sending(6)
        other = await client.create_bidirectional_stream()
        await other.write(b"y")  # comes after the stop
        second = await anext(aiter(session.incoming_bidirectional_streams()))
        assert await second.read() == b"y"
        await until(lambda: far.is_stopped)
        with pytest.raises(StreamStoppedError) as stopped:
            await far.write(b"x")
        assert stopped.value.error_code == 6
        assert far.is_stopped
        assert not far.is_writable
        await second.abort(7)
        assert await other.wait_stopped() == 7
        with pytest.raises(StreamResetError) as reset:
            await other.read()
        assert reset.value.error_code == 7
        with pytest.raises(StreamError):
            await second.read()
        third = await client.create_bidirectional_stream()
        await third.write(b"z")
        async with await anext(aiter(session.incoming_bidirectional_streams())) as last:
            await last.write(b"all")
        assert await third.read_all() == b"all"
        assert await third.wait_stopped() == 0

    await play(how, scene)


@both
async def test_a_cancelled_wait_loses_nothing(play: Play, how: str) -> None:
    async def scene(session: Any, client: WebTransportSession) -> None:
        stream = await client.create_bidirectional_stream()
        await stream.write(b"x")
        far = await anext(aiter(session.incoming_streams()))
        assert await far.read() == b"x"
        waiting = [
            asyncio.create_task(far.readexactly(5)),
            asyncio.create_task(session.datagrams.receive()),
            asyncio.create_task(session.wait_draining()),
        ]
        await asyncio.sleep(0)
        for task in waiting[:2]:
            task.cancel()
        await asyncio.wait(waiting[:2])
        reading = asyncio.create_task(far.readexactly(5))
        await stream.write(b"12345")
        await client.datagrams.send(b"d")
        assert await reading == b"12345"
        assert await session.datagrams.receive() == b"d"
        await session.close(code=9, reason="over")
        await waiting[2]
        info = await client.wait_closed()
        assert (info.code, info.reason) == (9, "over")
        await session.close()
        assert session.is_closed

    await play(how, scene)


@both
async def test_a_stream_that_nobody_reads_leaves_the_others_alone(play: Play, how: str) -> None:
    async def scene(session: Any, client: WebTransportSession) -> None:
        flooded = await client.create_bidirectional_stream()
        flood = asyncio.create_task(flooded.write_all(bytes(5_000_000)))
        unread = await anext(aiter(session.incoming_streams()))
        other = await client.create_bidirectional_stream()
        await other.write(b"hello")
        far = await anext(aiter(session.incoming_streams()))
        assert await far.read() == b"hello"
        await far.write(b"back")
        assert await other.read() == b"back"
        assert len(await unread.read_all()) == 5_000_000
        await flood
        # A pause does not stay.
        await unread.write_all(b"end")
        assert await flooded.read_all() == b"end"

    await play(how, scene)


async def test_a_flood_is_paused_where_the_server_can(play: Play) -> None:
    async def scene(session: Any, client: WebTransportSession) -> None:
        flooded = await client.create_unidirectional_stream()
        flood = asyncio.create_task(flooded.write_all(bytes(50_000_000)))
        waiting = asyncio.create_task(session.datagrams.receive())
        unread = await anext(aiter(session.incoming_streams()))
        await client.datagrams.send(b"x")
        await waiting
        native_window = client.config.read_buffer_limit
        assert flooded.bytes_sent - flooded.write_buffer_size < native_window + 2_000_000
        assert not flood.done()
        size = 0
        async for piece in unread:
            size += len(piece)
        assert size == 50_000_000
        await flood

    await play("events", scene)


@both
async def test_the_longest_that_is_read(play: Play, how: str) -> None:
    async def scene(session: Any, client: WebTransportSession) -> None:
        stream = await client.create_unidirectional_stream()
        await stream.write_all(b"0123456789")
        far = await anext(aiter(session.incoming_unidirectional_streams()))
        with pytest.raises(StreamError, match="longer than max_size=4"):
            await far.read_all(max_size=4)
        assert await far.read_all() == b"0123456789"

    await play(how, scene)


@both
async def test_a_request_is_refused(
    mounting: Mounting, client_config: ClientFactory, how: str
) -> None:
    theatre = Theatre(how)
    async with (
        mounting(theatre) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        connecting = asyncio.ensure_future(client.connect(served.url()))
        session = await theatre.sessions.get()
        await session.reject(status_code=429, headers={"retry-after": "5"})
        with pytest.raises(SessionRejectedError) as refused:
            await connecting
        assert refused.value.status_code == 429
        assert refused.value.headers["retry-after"] == "5"
        assert session.is_closed
        theatre.done.set()


def test_only_a_session_has_a_session() -> None:
    with pytest.raises(ConfigurationError, match="scope = 'http'"):
        Session({"type": "http"}, None, None)  # type: ignore[arg-type]
