"""Several servers and one chat: publish/subscribe through a real Redis."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.events import RedisBackend
from pywebtransport.exceptions import UnreachableError
from pywebtransport.pubsub import Broker, PubSubError, PubSubManager, TopicForbiddenError
from tests.support.endpoints import ClientFactory, Serving
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.steps import until

ROOT = Path(__file__).resolve().parents[2]
CHAT = str(ROOT / "examples" / "chat.py")
END_TIMEOUT = 30.0


class Chat:
    """One run of the example: a server or a client."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", CHAT, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = self.hash = ""

    @property
    def input(self) -> IO[str]:
        assert self.process.stdin is not None
        return self.process.stdin

    def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def say(self, text: str) -> None:
        """Type a line."""
        self.input.write(text + "\n")
        self.input.flush()

    def finish(self) -> tuple[int, str, str]:
        """Exit status and what it still printed, to both outputs."""
        output, errors = self.process.communicate(timeout=END_TIMEOUT)
        return self.process.returncode, output, errors


Start = Callable[..., Chat]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start("client", ...)`` runs the example; what still runs at the end is killed."""
    runs: list[Chat] = []

    def run(*arguments: str) -> Chat:
        runs.append(Chat(*arguments))
        return runs[-1]

    yield run
    for chat in runs:
        chat.process.kill()
        chat.process.communicate()


@pytest.fixture
def servers(start: Start, redis_server: RedisServer) -> Iterator[list[Chat]]:
    """Two server processes that share a Redis; they must end without complaint."""
    both = []
    for _ in range(2):
        port = free_port()
        chat = start("server", "--port", str(port), "--redis", redis_server.url)
        found = re.fullmatch(r"(https://localhost:\d+/chat) ([0-9a-f]{64})", chat.line())
        assert found is not None
        chat.url, chat.hash = found.groups()
        both.append(chat)
    yield both
    for chat in both:
        chat.process.send_signal(signal.SIGTERM)
        assert chat.finish() == (0, "", "")


async def connect(stack: AsyncExitStack, server: Chat) -> PubSubManager:
    """A client of a server process, which prints its address just before it listens."""
    config = ClientConfig.create(server_certificate_hashes=[server.hash])
    client = await stack.enter_async_context(WebTransportClient(config=config))
    while True:
        try:
            session = await client.connect(server.url)
        except UnreachableError:
            continue
        await stack.enter_async_context(session)
        return await stack.enter_async_context(PubSubManager(session))


async def test_two_server_processes_share_a_room(servers: list[Chat]) -> None:
    async with AsyncExitStack() as stack:
        near, far = [await connect(stack, server) for server in servers]
        async with (
            near.subscribe("rooms.python") as here,
            far.subscribe("rooms.python") as there,
            far.subscribe("rooms.other") as elsewhere,
        ):
            expected = []
            for number in range(20):
                speaker = (near, far)[number % 2]
                await speaker.publish("rooms.python", {"number": number})
                expected.append({"number": number})
                # One word after the other: different servers have no common order.
                assert (await anext(here)).data == (await anext(there)).data == {"number": number}
            await near.publish("rooms.other", "only there")
            assert (await anext(elsewhere)).data == "only there"
            with pytest.raises(TopicForbiddenError):
                await near.subscribe("rooms.*")
            with pytest.raises(TopicForbiddenError):
                await near.publish("elsewhere", 1)


def test_the_example_s_clients_talk_through_two_servers(servers: list[Chat], start: Start) -> None:
    async def wait_for_servers() -> None:
        async with AsyncExitStack() as stack:
            for server in servers:
                await connect(stack, server)

    asyncio.run(wait_for_servers())
    ann, bob, eve = (
        start("client", server.url, server.hash, "--name", name, "--room", room)
        for server, name, room in (
            (servers[0], "ann", "python"),
            (servers[1], "bob", "python"),
            (servers[1], "eve", "garden"),
        )
    )
    for chat, room in ((ann, "python"), (bob, "python"), (eve, "garden")):
        assert chat.line() == f"you are in {room}"
    ann.say("hello, is anybody here?")
    assert bob.line() == "ann: hello, is anybody here?"
    bob.say("yes: grüße")
    assert ann.line() == "bob: yes: grüße"
    for chat in (ann, bob, eve):
        assert chat.finish() == (0, "", "")


async def test_a_restart_of_redis_is_a_gap_and_no_end(
    serving: Serving, client_config: ClientFactory, redis_server: RedisServer
) -> None:
    """Sessions and subscriptions stay; messages come again once Redis is there again."""
    async with AsyncExitStack() as stack:
        members: list[PubSubManager] = []
        for _ in range(2):
            backend = RedisBackend(redis_server.url, reconnect_delay=0.01)
            broker = await stack.enter_async_context(Broker(backend))
            served = await stack.enter_async_context(serving(broker.serve))
            client = await stack.enter_async_context(WebTransportClient(config=client_config()))
            session = await stack.enter_async_context(client.connect(served.url()))
            members.append(await stack.enter_async_context(PubSubManager(session)))
        near, far = members
        subscription = await stack.enter_async_context(far.subscribe("a.*"))
        await near.publish("a.b", "before")
        assert (await anext(subscription)).data == "before"
        redis_server.restart()
        arrived = asyncio.create_task(anext(subscription))
        while not arrived.done():
            try:
                await near.publish("a.b", "after")
            except PubSubError:
                await asyncio.sleep(0.001)
        assert (await arrived).data == "after"
        assert not any(member.session.is_closed for member in members)


async def test_one_encoding_serves_all_servers(
    serving: Serving, client_config: ClientFactory, redis_server: RedisServer
) -> None:
    """What travels through Redis are the very bytes that subscribers get."""
    async with AsyncExitStack() as stack:
        listener = RedisBackend(redis_server.url)
        await stack.enter_async_context(listener)
        seen: list[tuple[str, bytes]] = []
        await listener.subscribe("pubsub:*", lambda channel, data: seen.append((channel, data)))
        broker = await stack.enter_async_context(Broker(RedisBackend(redis_server.url)))
        served = await stack.enter_async_context(serving(broker.serve))
        client = await stack.enter_async_context(WebTransportClient(config=client_config()))
        session = await stack.enter_async_context(client.connect(served.url()))
        member = await stack.enter_async_context(PubSubManager(session))
        subscription = await stack.enter_async_context(member.subscribe("a"))
        await member.publish("a", [1])
        assert (await anext(subscription)).data == [1]
        await until(lambda: seen)
        payload = b'{"topic":"a","data":[1]}'
        assert seen == [("pubsub:a", b"\x00\x11\x00\x00\x00" + bytes([len(payload)]) + payload)]
