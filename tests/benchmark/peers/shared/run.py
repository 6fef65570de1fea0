"""Runs one end: ``main(library, options)``. JSON lines on standard output, an end on input."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from .client import MEASUREMENTS
from .control import control_client, control_server
from .interface import Connected, Library, Options
from .server import Server

__all__ = ["at_end_of_input", "main", "say_ready", "serving"]


def main(library: Library, options: Options) -> None:
    """Serve until standard input ends, or measure once."""
    own_process = getattr(library, "run_server", None)
    if options.role == "server" and own_process is not None:
        own_process(options)
        return
    run = _serve if options.role == "server" else _measure
    with asyncio.Runner(loop_factory=_loop_factory(options.loop)) as runner:
        runner.run(run(library, options))
    # What threads of a library still do is of no interest; standard output is complete.
    sys.stdout.flush()
    os._exit(0)


@asynccontextmanager
async def serving(options: Options) -> AsyncIterator[Callable[[Connected], Awaitable[None]]]:
    """What serves a session of the job; meanwhile the client's questions are answered."""
    server = Server(options.job)

    async def handler(session: Connected) -> None:
        try:
            await server.handle(session)
        except Exception:
            # Mostly the ordinary end of a measurement; shown when the measurement failed.
            traceback.print_exc()

    answers = {
        "usage": server.usage,
        "memory": server.memory,
        "counts": server.counts,
        "reset": server.reset,
    }
    async with control_server(options.control, answers):
        yield handler


def say_ready(port: int, version: str) -> None:
    """Tell the runner that the server listens."""
    _say(port=port, version=version, python=sys.version.split()[0])


async def _serve(library: Library, options: Options) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    async with serving(options) as handler, library.serve(options, handler) as port:
        at_end_of_input(lambda: loop.call_soon_threadsafe(ended.set))
        say_ready(port, library.version())
        await ended.wait()


async def _measure(library: Library, options: Options) -> None:
    measure = MEASUREMENTS[options.job["measure"]]
    # Nobody waits for the figures any more.
    at_end_of_input(lambda: os._exit(1))
    async with control_client(options.control) as control, library.client(options) as client:
        try:
            figures = await measure(client, control, options.job)
        except Exception as error:
            _say(error=f"{type(error).__name__}: {error}")
        else:
            _say(figures=figures)
        # Closing everything down is not measured; the process ends all of it.
        sys.stdout.flush()
        os._exit(0)


def at_end_of_input(act: Callable[[], object]) -> None:
    """Call it when the runner has closed standard input, or has died."""

    def wait() -> None:
        sys.stdin.buffer.read()
        act()

    threading.Thread(target=wait, daemon=True).start()


def _say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
