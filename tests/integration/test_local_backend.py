"""Workers share rooms and events through their supervisor, by default and without a server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.pubsub import PubSubManager, Subscription
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory
from tests.support.processes import ServerProcess, server_process
from tests.support.steps import until_true

PROGRAM = "tests.support.room_process"
# All on one of two workers: 2 * 2**-MANY = 2e-9.
MANY = 30


@contextmanager
def workers(certs: Certificates, loop_name: str, **changes: Any) -> Iterator[ServerProcess]:
    """Run the program with two workers; it must end cleanly on SIGTERM."""
    fields: dict[str, Any] = {
        "bind_host": "127.0.0.1",
        "bind_port": 0,
        "workers": 2,
        "retry": "off",
        "access_log": False,
        "drain_timeout": 0,
        "close_timeout": 0.5,
        **certs.server.files,
    }
    with server_process("-m", PROGRAM, json.dumps(fields | changes), loop_name) as process:
        yield process


class Members:
    """Sessions of the room, by the index of their worker."""

    def __init__(self, client: WebTransportClient, process: ServerProcess) -> None:
        self.stack = AsyncExitStack()
        self._client = client
        self._url = f"https://127.0.0.1:{process.port}/room"

    async def join(self) -> tuple[int, int, PubSubManager]:
        """Process ID and index of the worker, and the new member."""
        session = await self.stack.enter_async_context(self._client.connect(self._url))
        member = await self.stack.enter_async_context(PubSubManager(session))
        pid, index = await member.rpc.call("who")
        return pid, index, member

    async def join_all(self, count: int = 2) -> list[tuple[int, PubSubManager]]:
        """Process ID and one member for each worker."""
        found: dict[int, tuple[int, PubSubManager]] = {}
        for _ in range(MANY):
            pid, index, member = await self.join()
            found.setdefault(index, (pid, member))
            if len(found) == count:
                break
        return [found[index] for index in range(count)]


@asynccontextmanager
async def members(
    process: ServerProcess, client_config: ClientFactory, **changes: Any
) -> AsyncIterator[Members]:
    async with WebTransportClient(config=client_config(**changes)) as client:
        room = Members(client, process)
        async with room.stack:
            yield room


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def hear(subscription: Subscription, count: int) -> list[Any]:
    """The data of the next messages."""
    return [(await anext(subscription)).data for _ in range(count)]


async def test_a_room_on_different_workers_hears_all(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    with workers(certs, loop_name) as process:
        async with members(process, client_config) as room:
            (_, near), (_, far) = await room.join_all()
            async with near.subscribe("a.*") as here, far.subscribe("a.b") as there:
                for number in range(20):
                    await near.publish("a.b", [1, number])
                sent = [[1, number] for number in range(20)]
                assert await hear(here, 20) == await hear(there, 20) == sent
                await far.publish("a.b", "back")
                assert await hear(here, 1) == await hear(there, 1) == ["back"]
                # More than the sockets hold, from a call of the application; it all fits into the
                # queue of the subscription.
                async with far.subscribe("flood") as flood:
                    await near.rpc.call("flood", 10, 60_000)
                    assert [data[0] for data in await hear(flood, 10)] == list(range(10))
            # What is on an event bus with the same kind of backend stays apart.
            await near.rpc.call("emit", "hello")

            async def is_heard() -> bool:
                heard = [await member.rpc.call("heard") for member in (near, far)]
                return heard == [["hello"], ["hello"]]

            await until_true(is_heard)


@pytest.mark.loops("asyncio")
async def test_a_killed_worker_and_its_replacement(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    with workers(certs, loop_name) as process:
        async with members(process, client_config) as room:
            (pid, _), (_, survivor) = await room.join_all()
            async with survivor.subscribe("a") as there:
                os.kill(pid, signal.SIGKILL)
                after = int(process.wait_for(r"worker 0 \(process (\d+)\) serves")[1])
                async with members(process, client_config) as later:
                    while True:
                        served_by, _, newcomer = await later.join()
                        if served_by == after:
                            break
                    async with newcomer.subscribe("a") as here:
                        await survivor.publish("a", "to the newcomer")
                        await newcomer.publish("a", "from the newcomer")
                        expected = ["to the newcomer", "from the newcomer"]
                        assert sorted(await hear(here, 2)) == sorted(expected)
                        assert sorted(await hear(there, 2)) == sorted(expected)


@pytest.mark.loops("asyncio")
async def test_a_worker_that_is_told_to_go_is_heard_to_its_end(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    with workers(certs, loop_name, drain_timeout=30) as process:
        async with members(process, client_config) as room:
            (pid, leaving), (_, staying) = await room.join_all()
            async with staying.subscribe("a") as there, leaving.subscribe("a") as here:
                os.kill(pid, signal.SIGTERM)
                process.wait_for(r"worker 0 \(process \d+\) serves")
                # It drains: three workers are connected now.
                await leaving.publish("a", 1)
                await staying.publish("a", 2)
                assert sorted(await hear(there, 2)) == sorted(await hear(here, 2)) == [1, 2]


@pytest.mark.loops("asyncio")
async def test_a_slow_worker_loses_messages_and_is_told(
    certs: Certificates, client_config: ClientFactory
) -> None:
    """Messages of 36 MiB for a worker that reads nothing: the supervisor keeps less than half."""
    with workers(certs, "asyncio") as process:
        async with members(process, client_config, connection_idle_timeout=60.0) as room:
            (_, quick), (pid, slow) = await room.join_all()
            told = asyncio.Event()
            async with slow.subscribe("news", on_gap=lambda _: told.set()) as news:
                before = await quick.rpc.call("stats")
                memory = resident(process.pid)
                os.kill(pid, signal.SIGSTOP)
                try:
                    await quick.rpc.call("flood", 600, 60_000)
                    assert resident(process.pid) - memory < 24 * 2**20
                finally:
                    os.kill(pid, signal.SIGCONT)
                await told.wait()
                assert news.gaps == 1
                stats = await slow.rpc.call("stats")
                assert (stats["gaps"], stats["received"] + stats["lost"]) == (1, 600)
                # More than half of them: 16 MiB may wait, beside what is in the sockets.
                assert 300 < stats["lost"] < 600
                assert stats["gap_seconds"] > 0
                assert before["gaps"] == (await quick.rpc.call("stats"))["gaps"] == 0
                await quick.publish("news", "after")
                assert await hear(news, 1) == ["after"]
