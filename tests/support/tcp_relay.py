"""A TCP port that leads to another one, directly or as an HTTP proxy that takes CONNECT.

A client that connects to it finds no UDP there: that is how these tests keep a server from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from .ports import free_port_of_both
from .processes import PythonProcess

__all__ = ["TcpRelay", "http_proxy", "relay_process", "tcp_relay"]

_HEAD_END = b"\r\n\r\n"


class TcpRelay:
    """A relay that runs.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        arrived: Connections so far.
        open: Connections that have not ended.
        requests: Heads of the requests to a proxy.
    """

    def __init__(self, port: int, target: int | None, credentials: str | None) -> None:
        self.port = port
        self.arrived = 0
        self.open = 0
        self.requests: list[str] = []
        self._target = target
        self._credentials = credentials
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def until_idle(self) -> None:
        """Wait until all connections have ended."""
        while self.open:
            self._changed.clear()
            await self._changed.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.arrived += 1
        self.open += 1
        far: asyncio.StreamWriter | None = None
        try:
            port = self._target
            if port is None:
                port = await self._answer(reader, writer)
            if port is None:
                return
            far_reader, far = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, far))
                group.create_task(_copy(far_reader, writer))
        except* (OSError, asyncio.CancelledError, EOFError):
            pass
        finally:
            for each in (writer, far):
                if each is not None:
                    each.transport.abort()
            self.open -= 1
            self._changed.set()
            self._tasks.discard(task)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int | None:
        """Take a CONNECT request; return the port of its target, None: it was refused."""
        head = (await reader.readuntil(_HEAD_END)).decode("latin-1")
        self.requests.append(head)
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
        elif self._credentials and f"\r\nProxy-Authorization: {self._credentials}\r\n" not in head:
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                b"Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
            )
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            return int(target.rpartition(":")[2])
        await writer.drain()
        return None

    async def close(self) -> None:
        """End all connections."""
        while self._tasks:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def tcp_relay(target: int, *, port: int | None = None) -> AsyncIterator[TcpRelay]:
    """Open a port that leads to TCP port ``target`` of 127.0.0.1, and has no UDP.

    Args:
        target: The port behind it.
        port: Its number; None: a free one.
    """
    async with _relaying(target, None, port) as relay:
        yield relay


@contextmanager
def relay_process(target: int) -> Iterator[int]:
    """As ``tcp_relay``, in a process of its own; its port."""
    process = PythonProcess("-m", "tests.support.tcp_relay", str(target))
    try:
        yield int(process.read_line())
    finally:
        process.kill()


@asynccontextmanager
async def http_proxy(credentials: str | None = None) -> AsyncIterator[TcpRelay]:
    """Open an HTTP proxy.

    It takes every name for 127.0.0.1.

    Args:
        credentials: What ``proxy-authorization`` has to be; None: anything will do.
    """
    async with _relaying(None, credentials, None) as relay:
        yield relay


@asynccontextmanager
async def _relaying(
    target: int | None, credentials: str | None, port: int | None
) -> AsyncIterator[TcpRelay]:
    relay = TcpRelay(free_port_of_both() if port is None else port, target, credentials)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", relay.port)
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
        await server.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def _main(target: int) -> None:
    async with tcp_relay(target) as relay:
        print(relay.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
