"""A chat server: rooms by path, a line for each message, everybody hears everybody."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict

from pywebtransport import (
    URL,
    Headers,
    ServerApp,
    SessionId,
    StreamId,
    WebTransportClient,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.steps import until


class ChatServer:
    def __init__(self, app: ServerApp) -> None:
        self.rooms: dict[str, dict[SessionId, WebTransportSession]] = defaultdict(dict)
        self.log: list[str] = []
        app.pattern_route(pattern=r"/rooms/(?P<room>[a-z]+)")(self.handle)
        app.on_startup(self.opened)
        app.on_shutdown(self.closed)

    async def opened(self) -> None:
        self.log.append("opened")

    async def closed(self) -> None:
        self.log.append("closed")

    async def handle(self, session: WebTransportSession) -> None:
        room = self.rooms[session.path_params[0]]
        room[session.session_id] = session
        name = session.headers.get("x-name", "somebody")
        try:
            async for stream in session.incoming_streams():
                assert isinstance(stream, WebTransportStream)
                await self.listen(room, name, stream)
        finally:
            del room[session.session_id]

    async def listen(
        self, room: dict[SessionId, WebTransportSession], name: str, stream: WebTransportStream
    ) -> None:
        await stream.write(data=f"welcome {name}\n")
        while line := await stream.readline():
            for member in list(room.values()):
                news = await member.create_unidirectional_stream()
                await news.write_all(data=name.encode() + b": " + line)
        await stream.close()


class Member:
    def __init__(self, client: WebTransportClient, url: URL, name: str) -> None:
        self.client, self.url = client, url
        self.headers: Headers = {"x-name": name}

    async def join(self) -> bytes:
        self.session = await self.client.connect(url=self.url, headers=self.headers)
        self.stream = await self.session.create_bidirectional_stream()
        await self.stream.write(data=b"")
        await self.stream.flush()
        return b""

    async def say(self, text: str) -> None:
        await self.stream.write(data=text + "\n")

    async def hear(self) -> bytes:
        async for news in self.session.incoming_streams():
            assert isinstance(news, WebTransportReceiveStream)
            assert not isinstance(news, WebTransportSendStream)
            return await news.read_all(max_size=1000)
        raise AssertionError("the session ended")

    async def leave(self) -> None:
        await self.stream.close()
        assert await self.stream.read_all() == b""
        await self.session.close(code=0, reason="bye")


async def test_everybody_in_the_room_hears_everybody(
    serving: Serving, server_config: ServerFactory, client_config: ClientFactory
) -> None:
    app = ServerApp(config=server_config())
    chat = ChatServer(app)
    async with serving(app) as served, WebTransportClient(config=client_config()) as client:
        assert chat.log == ["opened"]
        ann = Member(client, served.url("/rooms/red"), "ann")
        bob = Member(client, served.url("/rooms/red"), "bob")
        eve = Member(client, served.url("/rooms/blue"), "eve")
        identifiers: set[StreamId] = set()
        for member in (ann, bob, eve):
            await member.join()
            await member.say("hello")
            assert await member.stream.readuntil(separator=b"\n") == b"welcome " + (
                member.headers["x-name"].encode() + b"\n"
            )
            identifiers.add(member.stream.stream_id)
        # Streams are numbered within their own connection.
        assert len(identifiers) == 1
        heard = {await bob.hear() for _ in range(1)}
        assert heard <= {b"ann: hello\n", b"bob: hello\n"}
        assert await eve.hear() == b"eve: hello\n"
        await ann.say("is anybody there?")
        said = b"ann: is anybody there?\n"
        for member in (ann, bob):
            async with asyncio.timeout(20):
                while await member.hear() != said:
                    pass
        for member in (ann, bob, eve):
            await member.leave()
            assert member.session.is_closed
            info = await member.session.wait_closed()
            assert (info.code, info.reason, info.remote) == (0, "bye", False)
    assert chat.log == ["opened", "closed"]
    assert not any(chat.rooms.values())


async def test_the_application_serves_until_it_is_cancelled(
    server_config: ServerFactory, client_config: ClientFactory
) -> None:
    app = ServerApp(config=server_config())

    @app.route(path="/time")
    async def tell_time(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write(data=b"noon", end_stream=True)

    async with app:
        await app.startup()  # entering did it already: nothing happens twice
        serving_task = asyncio.create_task(app.serve(host="127.0.0.1", port=0))
        await until(lambda: app.server.local_address)
        assert app.server.local_address is not None
        host, port = app.server.local_address
        async with (
            WebTransportClient(config=client_config()) as client,
            await client.connect(url=f"https://{host}:{port}/time", timeout=20) as session,
        ):
            stream = await anext(aiter(session.incoming_streams()))
            assert await stream.readexactly(n=4) == b"noon"
            assert await stream.read(size=1) == b""
        serving_task.cancel()
        (ended,) = await asyncio.gather(serving_task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)
        await app.shutdown()
    assert not app.server.is_serving


def test_run_serves_until_a_signal(
    server_config: ServerFactory, client_config: ClientFactory
) -> None:
    app = ServerApp(config=server_config())
    answers: list[bytes] = []
    visits: list[asyncio.Task[None]] = []

    @app.route(path="/time")
    async def tell_time(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(data=b"noon")

    async def visit() -> None:
        await until(lambda: app.server.local_address)
        assert app.server.local_address is not None
        host, port = app.server.local_address
        async with (
            WebTransportClient(config=client_config()) as client,
            await client.connect(url=f"https://{host}:{port}/time") as session,
        ):
            stream = await anext(aiter(session.incoming_streams()))
            answers.append(await stream.read_all())
        os.kill(os.getpid(), signal.SIGTERM)

    @app.on_startup
    async def begin() -> None:
        visits.append(asyncio.create_task(visit()))

    app.run(host="127.0.0.1", port=0)
    assert answers == [b"noon"]
    assert visits[0].done()
