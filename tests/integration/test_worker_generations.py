"""Workers that are killed, drained and reloaded under a steady stream of new clients."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import ConnectionError, SessionError
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType, SessionCloseInfo
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory
from tests.support.processes import ServerProcess

from .test_workers import Answer, ask, by_worker, open_many, who, workers

# Clients that come at a time, each as soon as its predecessor has its answer.
STREAMS = 4


class Stream:
    """New clients without end; what became of each.

    Attributes:
        answers: Who served, in order, with the numbers of the clients.
        failures: What went wrong, with clients that began after ``exempt_until``.
    """

    def __init__(self, port: int, config: ClientConfig) -> None:
        self._url = f"https://127.0.0.1:{port}/who"
        self._config = config
        self._number = 0
        self._arrived = asyncio.Condition()
        self.answers: list[tuple[int, Answer]] = []
        self.failures: list[str] = []
        # A client in the middle of its handshake with a worker that is killed goes with it.
        self.exempt = 0

    async def more(self, count: int) -> list[Answer]:
        """Wait for so many further clients that came from now on, and give their answers.

        Not those of clients that are under way: any of them may take longer than others that come
        later.
        """
        last, start = self._number, len(self.answers)

        def further() -> list[Answer]:
            return [answer for number, answer in self.answers[start:] if number > last]

        async with self._arrived:
            await self._arrived.wait_for(lambda: len(further()) >= count)
        return further()

    def exempt_those_under_way(self) -> None:
        """Clients that have begun by now may fail."""
        self.exempt = self._number

    async def run(self) -> None:
        """One client after the other."""
        while True:
            self._number += 1
            number = self._number
            try:
                async with WebTransportClient(config=self._config) as client:
                    answer = await who(await client.connect(self._url))
            except (ConnectionError, SessionError, TimeoutError) as error:
                if number > self.exempt:
                    self.failures.append(f"{number}: {error!r}")
                continue
            async with self._arrived:
                self.answers.append((number, answer))
                self._arrived.notify_all()


@asynccontextmanager
async def new_clients(process: ServerProcess, config: ClientConfig) -> AsyncIterator[Stream]:
    """Clients that come while this runs; none of them may fail."""
    stream = Stream(process.port, config)
    tasks = [asyncio.create_task(stream.run()) for _ in range(STREAMS)]
    try:
        await stream.more(10)
        yield stream
        await stream.more(10)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert stream.failures == []


async def wait_for(process: ServerProcess, pattern: str) -> re.Match[str]:
    """As ``ServerProcess.wait_for``, while clients go on."""
    return await asyncio.to_thread(process.wait_for, pattern)


async def test_draining_workers_lose_no_new_client(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """Each worker in turn; its sessions go on until they end by themselves."""
    with workers(certs, loop_name, drain_timeout=600) as process:
        async with (
            WebTransportClient(config=client_config()) as client,
            new_clients(process, client_config()) as stream,
        ):
            found = await by_worker(await open_many(client, process.port))
            for index, held in found.items():
                victim = (await who(held[0])).pid
                draining = [
                    asyncio.create_task(session.wait_for(EventType.SESSION_DRAINING))
                    for session in held
                ]
                await asyncio.sleep(0)
                os.kill(victim, signal.SIGTERM)
                await wait_for(process, rf"worker {index} \(process {victim}\) leaves")
                serves = await wait_for(process, rf"worker {index} \(process (\d+)\) serves")
                successor = int(serves[1])
                await asyncio.gather(*draining)
                seen = {answer.pid for answer in await stream.more(100)}
                assert victim not in seen
                assert successor in seen
                # The old one still has its own, and ends with the last of them.
                assert {(await who(session)).pid for session in held} == {victim}
                for session in held:
                    await session.close()
                await wait_for(process, rf"worker {index} \(process {victim}\) ended with status 0")


async def test_all_workers_drain_at_once(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    with workers(certs, loop_name, drain_timeout=600) as process:
        async with (
            WebTransportClient(config=client_config()) as client,
            new_clients(process, client_config()) as stream,
        ):
            found = await by_worker(await open_many(client, process.port))
            old = [(await who(some[0])).pid for some in found.values()]
            draining = [
                asyncio.create_task(some[0].wait_for(EventType.SESSION_DRAINING))
                for some in found.values()
            ]
            await asyncio.sleep(0)
            for pid in old:
                os.kill(pid, signal.SIGTERM)
            for _ in old:
                await wait_for(process, r"worker \d \(process \d+\) serves")
            # Until then a worker has the clients that come.
            await asyncio.gather(*draining)
            assert not {answer.pid for answer in await stream.more(60)} & set(old)
            await client.close()
            for _ in old:
                await wait_for(process, r"worker \d \(process \d+\) ended with status 0")


async def test_new_client_is_refused_when_all_workers_end(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """No workers follow: the client is refused, instead of trying until its timeout."""
    with workers(certs, loop_name, drain_timeout=600) as process:
        async with WebTransportClient(config=client_config()) as client:
            found = await by_worker(await open_many(client, process.port))
            draining = [
                asyncio.create_task(some[0].wait_for(EventType.SESSION_DRAINING))
                for some in found.values()
            ]
            await asyncio.sleep(0)
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(*draining)
            for _ in range(10):
                async with WebTransportClient(config=client_config()) as late:
                    with pytest.raises(ConnectionError, match="not accepting connections"):
                        await late.connect(f"https://127.0.0.1:{process.port}/who")
            assert await ask(found[0][0])
        await asyncio.to_thread(process.join)


async def test_killed_workers_lose_no_later_client(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """Others take their clients until they are replaced."""
    with workers(certs, loop_name, workers=3) as process:
        async with new_clients(process, client_config(connect_timeout=5.0)) as stream:
            for _ in range(4):
                victim = (await stream.more(1))[0]
                os.kill(victim.pid, signal.SIGKILL)
                stream.exempt_those_under_way()
                await wait_for(process, rf"worker {victim.index} \(process \d+\) serves")
                assert victim.pid not in {answer.pid for answer in (await stream.more(30))}


async def test_reloading_certificates_loses_no_client(
    certs: Certificates, client_config: ClientFactory, loop_name: str, tmp_path: Path
) -> None:
    files = {"certfile": str(tmp_path / "a.crt"), "keyfile": str(tmp_path / "a.key")}
    for name, path in certs.server.files.items():
        shutil.copy(path, files[name])
    with workers(certs, loop_name, **files) as process:
        async with new_clients(process, client_config()) as stream:
            for _ in range(3):
                process.send_signal(signal.SIGHUP)
                for _ in range(2):
                    await wait_for(process, "certificates reloaded")
                await stream.more(20)


async def test_worker_without_a_free_seat_leaves_first(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """Its clients go to the others at once; its successor starts when it has ended."""
    with workers(certs, loop_name, drain_timeout=600) as process:
        async with (
            WebTransportClient(config=client_config(max_connections=1000)) as client,
            new_clients(process, client_config()) as stream,
        ):
            held: list[WebTransportSession] = []
            # Two workers have four seats: three generations of worker 0 fill them.
            for _ in range(2):
                held += (await by_worker(await open_many(client, process.port)))[0]
                os.kill((await who(held[-1])).pid, signal.SIGTERM)
                await wait_for(process, r"worker 0 \(process \d+\) serves")
            last = (await by_worker(await open_many(client, process.port)))[0]
            victim = (await who(last[0])).pid
            draining = asyncio.create_task(last[0].wait_for(EventType.SESSION_DRAINING))
            await asyncio.sleep(0)
            os.kill(victim, signal.SIGTERM)
            await draining
            assert {answer.index for answer in await stream.more(40)} == {1}
            for session in held + last:
                await session.close()
            await wait_for(process, r"worker 0 \(process \d+\) serves")
            await stream.more(10)
            assert {answer.index for answer in await stream.more(60)} == {0, 1}


async def test_idle_client_of_a_dead_worker_hears_of_it_by_its_keep_alive(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """The client sends nothing else; the other workers answer for the dead one."""
    config = client_config(connection_idle_timeout=600.0, connection_keepalive_timeout=0.2)
    with workers(certs, loop_name) as process:
        async with WebTransportClient(config=config) as client:
            found = await by_worker(await open_many(client, process.port))
            victim = (await who(found[0][0])).pid
            connections = [session.connection for session in found[0]]
            os.kill(victim, signal.SIGKILL)
            for session, connection in zip(found[0], connections, strict=True):
                await session.wait_closed()
                assert connection is not None
                assert "stateless reset" in str(connection.error)
            assert {(await who(session)).index for session in found[1]} == {1}


async def test_sessions_of_a_worker_that_is_told_to_go_are_closed_in_order(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """Over ``drain_spread``, and each at the end of its own ``drain_timeout``."""
    with workers(certs, loop_name, drain_spread=0.5, drain_timeout=0.5) as process:
        async with WebTransportClient(config=client_config()) as client:
            held = (await by_worker(await open_many(client, process.port)))[0]
            victim = (await who(held[0])).pid
            loop = asyncio.get_running_loop()
            times: dict[str, list[float]] = {"draining": [], "closed": []}

            async def watch(session: WebTransportSession) -> None:
                await session.wait_for(EventType.SESSION_DRAINING)
                times["draining"].append(loop.time())
                assert await ask(session)
                info = await session.wait_closed()
                assert info == SessionCloseInfo(0, "server shutdown", True)
                times["closed"].append(loop.time())

            tasks = [asyncio.create_task(watch(session)) for session in held]
            await asyncio.sleep(0)
            start = loop.time()
            os.kill(victim, signal.SIGTERM)
            await asyncio.gather(*tasks)
            # The last of three batches or more; a slow machine only makes it later.
            assert max(times["draining"]) - start > 0.3
            assert max(times["closed"]) - start > 0.8


@pytest.mark.parametrize("signals", [2])
async def test_second_signal_does_not_wait_for_a_successor(
    certs: Certificates, client_config: ClientFactory, loop_name: str, signals: int
) -> None:
    with workers(certs, loop_name) as process:
        async with WebTransportClient(config=client_config()) as client:
            held = (await by_worker(await open_many(client, process.port)))[1]
            victim = (await who(held[0])).pid
            for _ in range(signals):
                os.kill(victim, signal.SIGTERM)
            for session in held:
                assert await session.wait_closed() == SessionCloseInfo(0, "server shutdown", True)
            process.wait_for(rf"worker 1 \(process (?!{victim})\d+\) serves")
