"""What is measured, each against a server process of ``examples.demo.server``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from examples.demo.payload import blocks, checksum
from pywebtransport import ClientConfig, TimeoutError, WebTransportClient, WebTransportSession

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server, and a client that may use it."""

    url: str
    client: WebTransportClient
    config: ClientConfig


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure: its name, its unit, and how to get it."""

    name: str
    unit: str
    run: Callable[[Target], Awaitable[float]]


async def session_opens(target: Target, count: int = 200) -> float:
    """New connections with their handshake and a session, one after the other."""
    start = time.perf_counter()
    for _ in range(count):
        async with (
            WebTransportClient(config=target.config) as client,
            await client.connect(f"{target.url}/echo"),
        ):
            pass
    return count / (time.perf_counter() - start)


async def ping_pong(target: Target, count: int = 10000) -> float:
    """64 bytes there and back on one stream, one in flight."""
    message = bytes(64)
    async with await target.client.connect(f"{target.url}/echo") as session:
        stream = await session.create_bidirectional_stream()
        start = time.perf_counter()
        for _ in range(count):
            await stream.write(message)
            await stream.readexactly(len(message))
        elapsed = time.perf_counter() - start
        await stream.close()
    return count / elapsed


async def streams(target: Target, count: int = 10000, at_once: int = 100) -> float:
    """A stream per request of 1 KiB and its answer, 100 in flight."""
    message = bytes(1024)

    async def worker(session: WebTransportSession) -> None:
        for _ in range(count // at_once):
            stream = await session.create_bidirectional_stream()
            await stream.write_all(message)
            answer = await stream.read_all(max_size=len(message))
            if answer != message:
                raise AssertionError(f"sent {len(message)} bytes, got back {len(answer)}")

    async with await target.client.connect(f"{target.url}/echo") as session:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(worker(session))
        return count / (time.perf_counter() - start)


async def datagrams(target: Target, count: int = 50000, size: int = 1000) -> float:
    """Datagrams that came back per second while as many as possible are sent."""
    received = 0
    async with await target.client.connect(f"{target.url}/echo") as session:

        async def receive() -> float:
            nonlocal received
            last = time.perf_counter()
            try:
                while received < count:
                    received += len(await session.datagrams.receive_many(timeout=0.5))
                    last = time.perf_counter()
            except TimeoutError:  # the rest was lost or dropped
                pass
            return last

        start = time.perf_counter()
        receiver = asyncio.ensure_future(receive())
        payload = bytes(size)
        for _ in range(count):
            await session.datagrams.send(payload)
        elapsed = await receiver - start
    return received / elapsed


async def upload(target: Target, size: int = 512 * MIB) -> float:
    """One stream to the server."""
    expected = {"bytes": size, "crc32": checksum(size)}
    async with await target.client.connect(f"{target.url}/upload") as session:
        start = time.perf_counter()
        stream = await session.create_bidirectional_stream()
        for block in blocks(size):
            await stream.write(block)
        await stream.close()
        answer = json.loads(await stream.read_all(max_size=1024))
        elapsed = time.perf_counter() - start
    if answer != expected:
        raise AssertionError(f"expected {expected}, got {answer}")
    return size / elapsed / MIB


async def download(target: Target, size: int = 512 * MIB) -> float:
    """One stream from the server."""
    received = 0
    async with await target.client.connect(f"{target.url}/download") as session:
        start = time.perf_counter()
        stream = await session.create_bidirectional_stream()
        await stream.write_all(json.dumps({"bytes": size}).encode())
        while data := await stream.read(1 << 18):
            received += len(data)
        elapsed = time.perf_counter() - start
    if received != size + 4:  # the checksum follows
        raise AssertionError(f"expected {size + 4} bytes, got {received}")
    return size / elapsed / MIB


ALL = [
    Measurement(name="session opens, one at a time", unit="/s", run=session_opens),
    Measurement(name="ping-pong, 64 B, one in flight", unit="/s", run=ping_pong),
    Measurement(name="streams, 1 KiB echo, 100 in flight", unit="/s", run=streams),
    Measurement(name="datagram echoes, 1000 B", unit="/s", run=datagrams),
    Measurement(name="upload, one stream", unit="MiB/s", run=upload),
    Measurement(name="download, one stream", unit="MiB/s", run=download),
]
