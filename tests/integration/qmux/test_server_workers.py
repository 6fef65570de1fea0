"""Sessions over WebSocket with worker processes: spread, a restart, a death, the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import websockets

from tests.integration.test_workers import MANY, workers
from tests.support.asgi_tcp import tls_of
from tests.support.certificates import Certificates
from tests.support.processes import ServerProcess
from tests.support.qmux_server import PARAMETERS, QMuxClient
from tests.support.steps import until_true


class Who(NamedTuple):
    """The worker that serves a session."""

    pid: int
    number: int


@contextlib.asynccontextmanager
async def session(certs: Certificates, process: ServerProcess) -> AsyncIterator[QMuxClient]:
    """A session with one of the workers."""
    async with websockets.connect(
        f"wss://127.0.0.1:{process.port}/who",
        ssl=tls_of(certs),
        proxy=None,
        compression=None,
        subprotocols=[websockets.Subprotocol("qmux-02")],
    ) as socket:
        client = QMuxClient(socket)
        await client.send(PARAMETERS)
        yield client


async def who(client: QMuxClient, stream_id: int = 0) -> Who:
    """Ask on a stream of its own."""
    pid, index, _ = (await client.echo(stream_id, b"?")).split()
    return Who(int(pid), int(index))


async def ask(certs: Certificates, process: ServerProcess) -> Who:
    """The worker that gets a new session."""
    async with session(certs, process) as client:
        return await who(client)


async def test_sessions_spread_over_the_workers(certs: Certificates, loop_name: str) -> None:
    with workers(certs, loop_name, websocket=True) as process:
        found = {await ask(certs, process) for _ in range(MANY)}
        assert {each.number for each in found} == {0, 1}
        assert len({each.pid for each in found}) == 2


async def test_a_worker_is_replaced(certs: Certificates, loop_name: str) -> None:
    """Its sessions go on until they end, and no client is refused meanwhile."""
    with workers(certs, loop_name, websocket=True, drain_timeout=600) as process:
        async with session(certs, process) as old:
            before = await who(old)
            stopped = asyncio.Event()

            async def come() -> None:
                while not stopped.is_set():
                    await ask(certs, process)

            async def is_replaced() -> bool:
                found = [await ask(certs, process) for _ in range(10)]
                return len({each.pid for each in found} - {before.pid}) == 2

            coming = [asyncio.ensure_future(come()) for _ in range(2)]
            os.kill(before.pid, signal.SIGTERM)
            await asyncio.to_thread(process.wait_for, rf"worker {before.number} .* serves")
            await until_true(is_replaced)
            assert await who(old, 4) == before
            stopped.set()
            await asyncio.gather(*coming)


async def test_a_worker_dies(certs: Certificates, loop_name: str) -> None:
    """Its sessions end, and others are served."""
    with workers(certs, loop_name, websocket=True) as process:
        async with session(certs, process) as client:
            before = await who(client)
            os.kill(before.pid, signal.SIGKILL)
            code, _ = await client.end()
            assert code == 1006
        await asyncio.to_thread(process.wait_for, rf"worker {before.number} .* serves")
        found = {(await ask(certs, process)).number for _ in range(MANY)}
        assert found == {0, 1}


async def test_all_workers_end(certs: Certificates, loop_name: str) -> None:
    """Each closes its sessions in order."""
    with workers(certs, loop_name, websocket=True) as process:
        async with contextlib.AsyncExitStack() as stack:
            clients: list[Any] = [
                await stack.enter_async_context(session(certs, process)) for _ in range(8)
            ]
            for client in clients:
                await who(client)
            stopping = asyncio.ensure_future(asyncio.to_thread(process.stop))
            for code, frames in await asyncio.gather(*(client.end() for client in clients)):
                assert code == 1000
                assert (frames[-1].type, frames[-1].data) == (0x1D, b"server shutdown")
            await stopping
