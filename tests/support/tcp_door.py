"""A TCP port whose visitors are counted: silent, or with TLS and one answer to each request."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .certificates import Pair
from .ports import free_port_of_both

__all__ = ["TcpDoor", "black_hole", "tcp_door"]

_HEAD_END = b"\r\n\r\n"


class TcpDoor:
    """What has happened at the port.

    Attributes:
        port: Its number.
        arrived: TCP connections so far; with TLS, those whose handshake was complete.
        requests: The heads of the requests.
        open: Connections that have not ended.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.arrived = 0
        self.requests: list[bytes] = []
        self.open = 0
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to happen."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def change(self) -> None:
        """Something has happened."""
        self._changed.set()


@asynccontextmanager
async def tcp_door(
    pair: Pair | None = None,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    answer: bytes | None = None,
) -> AsyncIterator[TcpDoor]:
    """Open a port.

    Args:
        pair: The certificate; None: there is no TLS, and no answer.
        port: Its number; None: one where nobody listens for UDP either.
        host: Its address.
        answer: What each request gets before the connection is closed; None: nothing, and it stays.
    """
    context = None
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certfile, pair.keyfile)
        context.set_alpn_protocols(["http/1.1"])
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        door.arrived += 1
        door.open += 1
        door.change()
        try:
            head = b""
            while pair is not None and _HEAD_END not in head:
                more = await reader.read(4096)
                if not more:
                    return
                head += more
            if pair is not None:
                door.requests.append(head)
                door.change()
            if answer is not None:
                writer.write(answer)
                await writer.drain()
                writer.close()
            while await reader.read(4096):
                pass
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            door.open -= 1
            door.change()
            tasks.discard(task)

    number = free_port_of_both() if port is None else port
    server = await asyncio.start_server(serve, host, number, ssl=context)
    door = TcpDoor(number)
    try:
        yield door
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        while tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()


@asynccontextmanager
async def black_hole(port: int, host: str = "127.0.0.1") -> AsyncIterator[None]:
    """Open a UDP port that takes packets and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, port))
        yield
