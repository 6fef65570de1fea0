"""A process that is told to end ends, whatever code of the application does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.exceptions import WebTransportError
from pywebtransport.rpc import RpcManager
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory
from tests.support.processes import ServerProcess

PROGRAM = "tests.support.stuck_process"
STUCK = 70
TIMES: dict[str, Any] = {"drain_timeout": 0.1, "close_timeout": 0.5, "shutdown_timeout": 0.5}
SESSION = r"of session [\w-]+ \(/\) "
PLACE = r"at \S*stuck_process\.py:\d+"


@asynccontextmanager
async def program(
    certs: Certificates, kind: str, loop_name: str, **fields: Any
) -> AsyncIterator[ServerProcess]:
    """The program in ``PROGRAM``; after the block it has to end by itself."""
    config = {"bind_host": "127.0.0.1", "bind_port": 0, **certs.server.files, **TIMES, **fields}
    process = ServerProcess("-m", PROGRAM, kind, loop_name, json.dumps(config))
    try:
        yield process
        # Not in this thread: clients of the test answer meanwhile.
        await asyncio.to_thread(process.stop)
    finally:
        process.kill()


async def request(client: WebTransportClient, process: ServerProcess, kind: str) -> None:
    """Have the code run that does not end."""
    url = f"https://127.0.0.1:{process.port}/"
    if kind in ("middleware", "blocked_loop"):  # nothing is answered
        task = asyncio.create_task(client.connect(url))
        await asyncio.to_thread(process.wait_for, "^stuck$")
        task.cancel()
        with suppress(asyncio.CancelledError, WebTransportError):
            await task
        return
    session = await client.connect(url)
    if kind == "remote_call":
        async with RpcManager(session) as manager:
            await manager.notify("stubborn")
            await asyncio.to_thread(process.wait_for, "^stuck$")
        return
    await asyncio.to_thread(process.wait_for, "^stuck$")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("handler", f"stubborn_handler {SESSION}", id="handler"),
        pytest.param("middleware", f"stubborn_middleware {SESSION}", id="middleware"),
        pytest.param("listener", "stubborn_listener ", id="listener"),
        pytest.param("remote_call", f"stubborn_method {SESSION}", id="remote_call"),
        pytest.param("thread", r"in thread \S+: .*stubborn_thread ", id="thread"),
        pytest.param("blocked_loop", f"blocking_handler {SESSION}", id="blocked_loop"),
    ],
)
async def test_what_serves_a_session_does_not_hold_the_process(
    certs: Certificates,
    client_config: ClientFactory,
    loop_name: str,
    kind: str,
    name: str,
    workers: int,
) -> None:
    config = client_config(close_timeout=0.1)
    async with (
        program(certs, kind, loop_name, workers=workers) as process,
        WebTransportClient(config=config) as client,
    ):
        await request(client, process, kind)
    assert process.returncode == STUCK
    assert re.search(f"ERROR .*{name}{PLACE}", process.output), process.output
    # The supervisor itself is not stuck: it ends in order.
    assert ("run() is over" in process.output) == (workers > 1)
    assert process.errors == ""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("hook", "stubborn_hook ", id="hook"),
        pytest.param("sleeping_hook", "sleeping_hook ", id="sleeping_hook"),
        pytest.param("startup", "stubborn_startup ", id="startup"),
        pytest.param("background", "stubborn_job ", id="background"),
        pytest.param("generator", "stubborn_generator ", id="generator"),
    ],
)
async def test_what_the_program_starts_and_ends_with_does_not_hold_the_process(
    certs: Certificates, loop_name: str, kind: str, name: str
) -> None:
    async with program(certs, kind, loop_name) as process:
        if kind == "startup":
            await asyncio.to_thread(process.wait_for, "^stuck$")
    assert process.returncode == STUCK
    assert re.search(f"ERROR .*{name}{PLACE}", process.output), process.output


TWO_ALARMS = """
import logging, os, signal
from pywebtransport import ServerConfig
from pywebtransport.server._exiting import ExitGuard

class Handler(logging.StreamHandler):
    def emit(self, record):
        os.kill(os.getpid(), signal.SIGALRM)  # the supervisor's, beside the worker's own
        super().emit(record)

logging.basicConfig(handlers=[Handler()])
with ExitGuard(ServerConfig, logging.getLogger()) as guard:
    guard.listen()
    os.kill(os.getpid(), signal.SIGALRM)
    signal.pause()
"""


async def test_a_second_alarm_does_not_cut_the_report_short() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TWO_ALARMS, stderr=asyncio.subprocess.PIPE
    )
    _, report = await process.communicate()
    assert b"the process ends now with status 70" in report
    assert process.returncode == STUCK


async def test_a_report_that_nobody_reads_does_not_hold_the_process() -> None:
    """Its pipe is full: the alarm ends the process."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TWO_ALARMS, stderr=writing
        )
        assert await process.wait() == STUCK
    finally:
        os.close(reading)
        os.close(writing)


async def test_what_ends_in_its_time_is_left_alone(certs: Certificates, loop_name: str) -> None:
    """A hook may take longer than ``close_timeout``."""
    async with program(certs, "patient", loop_name, close_timeout=0.1, shutdown_timeout=30) as one:
        pass
    assert (one.returncode, one.errors) == (0, "")
    assert "ended\n" in one.output
    assert one.output.endswith("run() is over\n")
