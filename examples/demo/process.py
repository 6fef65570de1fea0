"""Starts the server as a separate process and stops it as a user would."""

import asyncio
import builtins
import json
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """The URL of the server and the hash of its certificate."""

    url: str
    certificate_hash: str
    pid: int


class ServerProcessError(RuntimeError):
    """The server process did not start, or did not end cleanly."""


@asynccontextmanager
async def server_process(*arguments: str) -> AsyncIterator[RunningServer]:
    """Run the demo server; on exit, interrupt it and check its exit code.

    Args:
        arguments: Command line of ``examples.demo.server``.

    Raises:
        ServerProcessError: It did not become ready in 30 s, or its exit code is not 0.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.demo.server", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None, "stdout is a pipe"
    try:
        line = await _within(START_TIMEOUT, process.stdout.readline(), "print its address")
        if not line:
            raise ServerProcessError(f"the server ended with exit code {await process.wait()}")
        yield RunningServer(pid=process.pid, **json.loads(line))
        process.send_signal(signal.SIGINT)
        code = await _within(STOP_TIMEOUT, process.wait(), "end after SIGINT")
        if code != 0:
            raise ServerProcessError(f"the server ended with exit code {code} after SIGINT")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _within(seconds: float, step: Coroutine[Any, Any, _T], what: str) -> _T:
    try:
        return await asyncio.wait_for(step, seconds)
    except builtins.TimeoutError:
        raise ServerProcessError(f"the server did not {what} within {seconds:.0f} s") from None
