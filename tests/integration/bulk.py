"""Bulk streams that never run dry, and how much they send while something else waits.

Waiting is measured in bytes of the bulk streams, not in seconds: both ends run in one process
on one loop, so what a small message waits for is what is sent and received before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pywebtransport.session import WebTransportSession
from pywebtransport.stream import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from tests.support.steps import take, take_unidirectional, until

KIB = 1024
MIB = 1024 * KIB
BLOCK = 64 * KIB
# Far more than what may come first: a message that had to wait for a buffer would show.
BUFFER = 32 * MIB
WINDOW = 64 * MIB
# Asked of the kernel, which grants twice as much: what was sent and not yet received.
SOCKET_BUFFER = MIB
# What a connection sends before others get their turn (``send_batch`` of the engine).
TURN = 256 * KIB

BOUND = 2 * (2 * SOCKET_BUFFER + 8 * TURN)
"""Bytes that bulk streams may send during a round trip of something else: what is in the kernel,
and what goes out in the few turns of the loop that a round trip takes; twice, for a packet that
is lost because the kernel's buffer is full."""

DEEP: dict[str, Any] = {
    "max_stream_buffer_size": WINDOW,
    "max_write_buffer_size": BUFFER,
    "stream_buffer_size": BUFFER // 2,
    "max_read_buffer_size": WINDOW,
    "flow_control_window_size": WINDOW,
    "initial_max_data": 16 * WINDOW,
    "socket_buffer_size": SOCKET_BUFFER,
}
"""Fields for both ends under which neither buffers nor credit slow a bulk stream down: at least
half of its 32 MiB write buffer waits at any time."""


def fields_for(direction: str, count: int) -> dict[str, Any]:
    """``DEEP`` for ``count`` bulk connections beside another one, which must not lose a packet.

    A connection that is quiet otherwise notices a loss only when a timer ends. Downwards each
    client has a socket of its own; upwards all share the server's, and what may be on its way
    has to fit into the kernel's buffer.
    """
    if direction == "down":
        return DEEP
    window = 4 * MIB // count
    return {
        **DEEP,
        "max_read_buffer_size": window,
        "flow_control_window_size": window,
        "socket_buffer_size": 4 * MIB,
    }


class Bulk:
    """Writes to a stream without end, and reads it at the other end.

    Attributes:
        stream: The sending end.
        received: Bytes that the application has read.
    """

    def __init__(self, stream: WebTransportSendStream, far: WebTransportReceiveStream) -> None:
        self.stream = stream
        self.received = 0
        self._far = far
        self._accepted = 0
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]

    @property
    def sent(self) -> int:
        """Bytes that were put into packets."""
        return self._accepted - self.stream.write_buffer_size

    async def stop(self) -> None:
        """End both tasks and the stream."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.stream.reset()
        self._far.stop_sending()

    async def _write(self) -> None:
        block = bytes(BLOCK)
        while True:
            await self.stream.write(block)
            self._accepted += BLOCK

    async def _read(self) -> None:
        while data := await self._far.read(4 * BLOCK):
            self.received += len(data)


@asynccontextmanager
async def bulk(
    near: WebTransportSession, far: WebTransportSession, count: int = 1
) -> AsyncIterator[list[Bulk]]:
    """``count`` bulk streams from ``near`` to ``far``, all under way."""
    streams: list[Bulk] = []
    try:
        for _ in range(count):
            stream = await near.create_unidirectional_stream()
            await stream.write(b"first")
            streams.append(Bulk(stream, await take_unidirectional(far)))
        await until(lambda: all(each.received > MIB for each in streams))
        yield streams
    finally:
        for each in streams:
            await each.stop()


class Echo:
    """A stream whose other end sends back what it gets."""

    def __init__(self, stream: WebTransportStream, far: WebTransportStream) -> None:
        self.stream = stream
        self._task = asyncio.create_task(self._answer(far))

    @classmethod
    async def open(cls, near: WebTransportSession, far: WebTransportSession) -> Echo:
        """A new stream from ``near``, whose first message has passed."""
        stream = await near.create_bidirectional_stream()
        await stream.write(b"first")
        echo = cls(stream, await take(far))
        await stream.readexactly(5)
        return echo

    async def ping(self, message: bytes) -> None:
        """There and back."""
        await self.stream.write(message)
        assert await self.stream.readexactly(len(message)) == message

    async def close(self) -> None:
        """End the stream and the task."""
        await self.stream.close()
        assert await self.stream.read_all() == b""
        await self._task

    async def _answer(self, far: WebTransportStream) -> None:
        async for chunk in far:
            await far.write(chunk)
        await far.close()


@asynccontextmanager
async def echo(near: WebTransportSession, far: WebTransportSession) -> AsyncIterator[Echo]:
    """An echo stream, closed at the end."""
    opened = await Echo.open(near, far)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(opened.close)
        yield opened


async def datagram_echo(session: WebTransportSession) -> None:
    """Send every datagram back; runs until it is cancelled."""
    while True:
        await session.datagrams.send(await session.datagrams.receive())


@asynccontextmanager
async def echoing_datagrams(far: WebTransportSession) -> AsyncIterator[None]:
    """``datagram_echo`` while the block runs."""
    task = asyncio.create_task(datagram_echo(far))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def sent_meanwhile(
    streams: Sequence[Bulk], operation: Callable[[int], Awaitable[object]], count: int
) -> list[int]:
    """Repeat an operation beside bulk streams.

    Args:
        streams: The bulk streams.
        operation: What is repeated; gets a number.
        count: How often.

    Returns:
        For each repetition the bytes that all bulk streams together sent meanwhile.
    """
    moved = []
    for number in range(count):
        before = sum(stream.sent for stream in streams)
        await operation(number)
        moved.append(sum(stream.sent for stream in streams) - before)
    return moved
