"""peregrine-server: an ASGI server in Swift; it has no client.

The server owns its process and the event loop: ``run_server`` gives it the process, and ``app`` is
the ASGI application that its worker runs. The client belongs to another library.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import peregrine
from peregrine.webtransport import WebTransportSession, WebTransportStream

from .shared.interface import Options, Stream
from .shared.run import at_end_of_input, say_ready, serving

_OPTIONS = "BENCHMARK_OPTIONS"
_CONNECTIONS = 20000


def version() -> str:
    """The installed version."""
    return importlib.metadata.version("peregrine-server")


class Session:
    """One session."""

    __slots__ = ("_session", "incoming", "send_datagram")

    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self.incoming = session.incoming_streams
        self.send_datagram = session.send_datagram

    @staticmethod
    def wrap(stream: WebTransportStream) -> Stream:
        receive = stream.receive

        async def finish(data: bytes) -> None:
            await stream.send(data, end=True)

        async def read() -> bytes:
            return await receive() or b""

        return Stream(stream.send, finish, read, stream.read)

    async def receive_datagrams(self, sink: Callable[[Iterable[bytes]], object]) -> None:
        async for data in self._session.datagrams():
            sink((data,))

    async def echo_datagrams(self) -> None:
        send = self._session.send_datagram
        async for data in self._session.datagrams():
            await send(data)

    async def wait_closed(self) -> None:
        async for _ in self._session.incoming_streams():
            pass


def run_server(options: Options) -> None:
    """Serve with one worker process, until standard input of the worker ends."""
    os.environ[_OPTIONS] = json.dumps(asdict(options))
    address = ["--host", "127.0.0.1", "--port", str(options.port), "--http3"]
    identity = ["--tls-cert", options.certfile, "--tls-key", options.keyfile]
    limits = ["--max-connections", str(_CONNECTIONS), "--log-level", "warning"]
    loop = ["--no-uvloop"] if options.loop == "asyncio" else []
    # The package that holds this module.
    place = ["--python-path", str(Path(__file__).resolve().parents[1])]
    application = ["--protocol", "asgi", f"{__name__}:app"]
    peregrine.run([*address, *identity, *limits, *loop, *place, *application])


class _Application:
    """What the worker runs; it begins to serve when the worker starts."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._handle = await self._stack.enter_async_context(serving(self._options))
        at_end_of_input(partial(_end, os.getppid()))
        task = asyncio.get_running_loop().create_task(self._announce())
        self._tasks.add(task)

    async def serve(self, session: WebTransportSession) -> None:
        await session.accept()
        await self._handle(Session(session))
        # The session ends with its application.
        async for _ in session.incoming_streams():
            pass

    async def _announce(self) -> None:
        await asyncio.to_thread(_await_bound, self._options.port)
        say_ready(self._options.port, version())


_application: _Application | None = None


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application."""
    global _application
    if scope["type"] == "lifespan":
        async for kind in _messages(receive):
            if kind == "lifespan.startup":
                _application = _Application(Options(**json.loads(os.environ[_OPTIONS])))
                await _application.start()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    elif scope["type"] == "webtransport":
        assert _application is not None
        await _application.serve(WebTransportSession(scope, receive, send))


async def _messages(receive: Any) -> AsyncIterator[str]:
    while True:
        yield (await receive())["type"]


def _await_bound(port: int) -> None:
    """The server binds its port some time after the start; nothing tells when."""
    while _is_free(port):
        time.sleep(0.002)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _end(parent: int) -> None:
    """End the process that would start another worker, unless it has ended, and this one."""
    if os.getppid() == parent:
        os.kill(parent, signal.SIGKILL)
    os._exit(0)
