"""Endpoints that poll: the same results, and a loop that sleeps again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport._loop.polling import BusyPoll
from pywebtransport.session import WebTransportSession
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.processes import ROOT, server_process
from tests.support.steps import echo_bidirectional, until

LONG = 10_000


def poll_of(session: WebTransportSession) -> BusyPoll:
    assert session.connection is not None
    assert session.connection._endpoint is not None
    poll = session.connection._endpoint._poll
    assert poll is not None
    return poll


async def test_several_endpoints_poll_on_one_loop(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Three servers and two clients; while they poll, a task has all the turns it wants."""
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(serving(echo_bidirectional, busy_poll_us=LONG))
            for _ in range(3)
        ]
        sessions = []
        for _ in range(2):
            config = client_config(busy_poll_us=LONG, allow_pooling=False)
            client = await stack.enter_async_context(WebTransportClient(config=config))
            sessions += [await client.connect(served.url()) for served in servers]
        working = asyncio.create_task(work())

        async def talk(session: WebTransportSession) -> None:
            for number in range(20):
                stream = await session.create_bidirectional_stream()
                await stream.write_all(b"%d" % number)
                assert await stream.read_all() == b"%d" % number

        await asyncio.gather(*map(talk, sessions))
        assert turns > 20
        working.cancel()
        await until(lambda: not any(poll_of(session).is_active for session in sessions))


async def test_an_endpoint_that_is_closed_polls_no_more(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(echo_bidirectional, busy_poll_us=LONG) as served:
        async with WebTransportClient(config=client_config(busy_poll_us=LONG)) as client:
            session = await client.connect(served.url())
            poll = poll_of(session)
        assert not poll.is_active


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
def test_the_benchmark_measures_both(loop_name: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = ["--rounds", "1", "--count", "20", "--loop", loop_name, "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmark.busy_poll", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "`busy_poll_us=0` | `busy_poll_us=60`" in done.stdout
    found = json.loads(file.read_text())
    assert set(found) == {"0", "60"}
    for (figures,) in found.values():
        assert len(figures) == 4
        assert all(one["p99"] >= one["p50"] > 0 and one["cpu"] > 0 for one in figures.values())


def test_workers_poll_as_well(certs: Certificates) -> None:
    """Packets that another worker hands over are answered, too."""
    fields = {
        **certs.server.files,
        "bind_host": "127.0.0.1",
        "bind_port": 0,
        "workers": 2,
        "busy_poll_us": 60,
        "access_log": False,
    }

    async def ask(port: int) -> set[str]:
        config = ClientConfig(
            ca_certs=certs.authority.certfile, busy_poll_us=60, allow_pooling=False
        )
        pids: set[str] = set()
        while len(pids) < 2:
            async with WebTransportClient(config=config) as client:
                session = await client.connect(f"https://127.0.0.1:{port}/who")
                await session.datagrams.send(b"x")
                assert await session.datagrams.receive() == b"x"
                stream = await session.create_bidirectional_stream()
                await stream.write_all(b"who")
                pids.add((await stream.read_all()).split()[0].decode())
        return pids

    with server_process("-m", "tests.support.worker_process", json.dumps(fields)) as server:
        assert len(asyncio.run(ask(server.port))) == 2
        server.stop()
        server.assert_clean_end()
