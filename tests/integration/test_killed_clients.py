"""A client process that was killed is forgotten within the idle timeout, with all that it had."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pywebtransport.session import WebTransportSession
from tests.support.certificates import Certificates
from tests.support.endpoints import Served, Serving
from tests.support.leaks import engine_objects
from tests.support.processes import ROOT
from tests.support.steps import take, until

IDLE = 2.0
# What an application may do instead of its work: clean up.
MARGIN = 1.0


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.idle_client", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@asynccontextmanager
async def client_process(certs: Certificates, url: str) -> AsyncIterator[None]:
    """A client with an open session; it is killed at the end of the block."""
    process = start(url, certs.authority.certfile)
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        assert line == "open\n"
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("kind", ["read", "write"])
async def test_it_is_forgotten_with_all_that_it_had(
    serving: Serving, certs: Certificates, kind: str, keep_alive: bool
) -> None:
    ended: list[BaseException] = []

    async def handler(session: WebTransportSession) -> None:
        stream = await take(session)
        await stream.readexactly(1)
        await stream.write(b"!")
        try:
            if kind == "read":
                await stream.read()
            while True:
                await stream.write(bytes(65536))
        except BaseException as error:
            ended.append(error)
            raise

    fields = {"connection_idle_timeout": IDLE, "keep_alive": keep_alive}
    async with serving(handler, **fields) as served:
        before = engine_objects()
        async with client_process(certs, served.url()):
            (connection,) = served.server.connections
            (session,) = served.server.sessions
        loop = asyncio.get_running_loop()
        killed = loop.time()
        await session.wait_closed()
        await until(lambda: ended and not served.server.connections)
        # The keep-alive that it does not answer any more has as long as the client itself.
        assert loop.time() - killed < IDLE * (1.5 if keep_alive else 1.0) + MARGIN
        await nothing_left(served, before)
        del connection, session


async def nothing_left(served: Served, before: object) -> None:
    server = served.server
    await until(lambda: not (server.sessions or server._tasks))
    stats = await server.get_server_stats()
    assert stats["active_connections"] == stats["active_sessions"] == 0
    assert stats["engine"]["connections"] == 0
    assert (await server.session_manager.get_stats())["active_sessions"] == 0
