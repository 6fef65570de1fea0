"""A bus across processes, through a real Redis server, and beside real sessions."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.events import (
    Event,
    EventBus,
    MemoryBackend,
    RedisBackend,
    create_event_bus,
)
from pywebtransport.exceptions import ConnectionError, SerializationError, UnreachableError
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.support.endpoints import ClientFactory, Serving
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.steps import take_unidirectional, until


@asynccontextmanager
async def member(url: str, loop_name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``tests.support.event_bus_process``; it must end by itself and without complaint."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.event_bus_process", url, loop_name),
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def room_server(directory: Path, *arguments: str) -> AsyncIterator[tuple[str, str]]:
    """``examples/shared_room.py`` as a server; URL and certificate hash."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "examples" / "shared_room.py"), *arguments),
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        url, certificate = (await process.stdout.readline()).decode().split()
        yield url, certificate
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def say(session: WebTransportSession, text: str) -> None:
    """Say something in the room of the example."""
    stream = await session.create_unidirectional_stream()
    await stream.write_all(text)


async def hear(session: WebTransportSession) -> str:
    """Wait for what is said next."""
    return (await (await take_unidirectional(session)).read_all()).decode()


def collect(bus: EventBus, event_type: str) -> list[Event]:
    """The events of a type, as they come."""
    heard: list[Event] = []
    bus.subscribe(event_type, heard.append)
    return heard


async def test_processes_share_events(redis_server: RedisServer, loop_name: str) -> None:
    async with EventBus(RedisBackend(redis_server.url)) as bus:
        here, pings, pongs = (collect(bus, name) for name in ("here", "ping", "pong"))
        async with (
            member(redis_server.url, loop_name) as first,
            member(redis_server.url, "asyncio") as second,
        ):
            await until(lambda: len(here) == 2)
            processes = {first.pid, second.pid}
            assert {event.data["process"] for event in here} == processes
            for number in range(20):
                await bus.emit("ping", {"number": number, "text": "ü"})
            await until(lambda: len(pongs) == 40)
            for process in processes:
                mine = [event.data for event in pongs if event.data["process"] == process]
                assert [data["data"]["number"] for data in mine] == list(range(20))
                assert mine[0]["data"]["text"] == "ü"
            # Its own events come back to the publisher the same way, once.
            assert [event.data["number"] for event in pings] == list(range(20))
            await bus.emit("end")


async def test_two_servers_share_a_chat_room(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The program of the documentation: what is said at one server is heard at both."""
    async with AsyncExitStack() as stack:
        members = []
        for name in ("one", "two"):
            url, certificate = await stack.enter_async_context(
                room_server(tmp_path_factory.mktemp(name), "0", redis_server.url)
            )
            config = ClientConfig.create(server_certificate_hashes=[certificate])
            client = await stack.enter_async_context(WebTransportClient(config=config))
            members.append(await client.connect(url))
            # Who hears itself is in the room.
            await say(members[-1], name)
            assert {await hear(member) for member in members} == {name}
        one, two = members
        for speaker, text in ((one, "hello"), (two, "welcome"), (one, "bye, ü")):
            await say(speaker, text)
            assert [await hear(one), await hear(two)] == [text, text]


@pytest.mark.loops("asyncio")
async def test_all_workers_of_a_server_share_a_chat_room(tmp_path: Path) -> None:
    """The same program without Redis: 20 members are on one worker once in 2**19 runs."""
    async with room_server(tmp_path, str(free_port())) as (url, certificate):
        config = ClientConfig.create(server_certificate_hashes=[certificate])
        async with WebTransportClient(config=config) as client:
            members = []
            while len(members) < 20:
                try:
                    members.append(await client.connect(url))
                except UnreachableError:  # it has printed this before it listens
                    continue
                await say(members[-1], "here")
                while await hear(members[-1]) != "here":
                    pass
            await say(members[0], "hello")
            for member in members:
                while await hear(member) != "hello":
                    pass


async def test_a_bus_comes_back_with_its_server(redis_server: RedisServer) -> None:
    gaps: asyncio.Queue[float] = asyncio.Queue()
    backend = RedisBackend(redis_server.url, reconnect_delay=0.01, on_gap=gaps.put_nowait)
    async with await create_event_bus(backend) as bus:
        heard = collect(bus, "a")
        await bus.emit("a", 1)
        await until(lambda: len(heard) == 1)
        redis_server.stop()
        await until(lambda: not backend.get_stats()["connected"])
        with pytest.raises(ConnectionError):
            await bus.emit("a", "lost")
        # Subscriptions are the bus's own business: they work without a server.
        more = collect(bus, "a")
        redis_server.start()
        await gaps.get()
        await bus.emit("a", 2)
        await until(lambda: len(heard) == 2)
        assert [event.data for event in heard] == [1, 2]
        assert [event.data for event in more] == [2]


async def test_a_slow_subscriber_is_bounded_and_keeps_nobody_waiting(
    redis_server: RedisServer,
) -> None:
    async with EventBus(RedisBackend(redis_server.url), max_queue_size=10) as bus:
        may_go_on = asyncio.Event()
        slow: list[int] = []

        async def handler(event: Event) -> None:
            await may_go_on.wait()
            slow.append(event.data)

        bus.subscribe("a", handler)
        quick = collect(bus, "a")
        await asyncio.gather(*(bus.emit("a", number) for number in range(200)))
        await until(lambda: len(quick) == 200)
        stats = bus.get_stats()
        assert (stats["queued"], stats["dropped"]) == (10, 189)
        may_go_on.set()
        await until(lambda: len(slow) == 11)
        assert slow == [0, *range(190, 200)]


async def test_foreign_messages_are_dropped_and_counted(redis_server: RedisServer) -> None:
    backend = RedisBackend(redis_server.url, max_payload_size=20_000)
    async with EventBus(backend) as bus:
        heard = collect(bus, "a")
        for payload in (b"", b"\xff", b"[]", b"[" * 10_000, b'{"type":"a"}', b"x" * 30_000):
            redis_server.command("PUBLISH", "pywebtransport:events:a", payload)
        await bus.emit("a", 1)
        await until(lambda: heard)
        assert bus.get_stats()["malformed"] == 5
        assert backend.get_stats()["oversize"] == 1
        with pytest.raises(SerializationError, match="max_payload_size is 20000"):
            await bus.emit("a", "x" * 30_000)
        with pytest.raises(SerializationError):
            await bus.emit("a", object())


async def test_one_backend_for_two_buses(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url) as backend:
        one = EventBus(backend, close_backend=False, channel_prefix="one:")
        two = EventBus(backend, close_backend=False, channel_prefix="two:")
        async with two:
            heard = collect(two, "a")
            async with one:
                await one.emit("a", "not for two")
            await two.emit("a", "for two")
            await until(lambda: heard)
            assert [event.data for event in heard] == ["for two"]


async def test_a_bus_tells_what_happens_to_sessions(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Events of real sessions, passed on to subscribers of this and other buses."""
    async with MemoryBackend() as backend:
        here = EventBus(backend, close_backend=False)
        elsewhere = EventBus(backend, close_backend=False)
        async with here, elsewhere:
            closed = collect(elsewhere, EventType.SESSION_CLOSED)

            async def handle(session: WebTransportSession) -> None:
                session.on(EventType.SESSION_CLOSED, here.publish)
                await session.wait_closed()

            async with (
                serving(handle) as served,
                WebTransportClient(config=client_config()) as client,
            ):
                session = await client.connect(served.url("/room"))
                await until(
                    lambda: any(
                        one.listener_count("session_closed") for one in served.server.sessions
                    )
                )
                await session.close(code=7, reason="enough")
                await until(lambda: closed)
            assert closed[0].data["code"] == 7
            assert closed[0].data["reason"] == "enough"
            assert closed[0].source.startswith("<WebTransportSession")
            assert closed[0].is_session_event
