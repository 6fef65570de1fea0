"""What the growth measurements do: both ends in one process, on one loop.

The cost of an operation is the CPU time of the process, so it has both ends in it and no
waiting. Everything goes through the public API, with default settings but for the limits that
would refuse so many streams or sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportReceiveStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

__all__ = ["Bench", "Busy", "Cost", "WrongWork", "bench", "echo_new", "echo_open", "echo_queues"]

KIB = 1024
MIB = 1024 * KIB
MESSAGE = bytes(range(256)) * 4
PING = bytes(64)
BLOCK = 64 * KIB
READ = 256 * KIB
# Beyond what is measured; only limits, nothing is allocated for them.
MANY_STREAMS = 2000
MANY_SESSIONS = 20_000
# Connections that are opened or closed at the same time.
AT_ONCE = 50


class WrongWork(Exception):
    """Other bytes came back than were sent."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds per operation.

    Attributes:
        cpu: CPU time of both ends.
        p50, p99: Latency; 0 where an operation has none of its own.
    """

    cpu: float
    p50: float = 0.0
    p99: float = 0.0


class Bench:
    """A server, and clients for it.

    Attributes:
        url: Of the server, with the path of the echo.
        config: A configuration for clients.
        idle: Sessions that do nothing, each on a connection of its own.
    """

    def __init__(self, url: str, config: ClientConfig) -> None:
        self.url = url
        self.config = config
        self.idle: list[WebTransportSession] = []
        self._idle_client = WebTransportClient(config=config)

    async def set_idle(self, count: int) -> None:
        """Open or close idle sessions until there are ``count``."""
        while len(self.idle) < count:
            missing = min(AT_ONCE, count - len(self.idle))
            self.idle += await asyncio.gather(
                *(self._idle_client.connect(self.url) for _ in range(missing))
            )
        while len(self.idle) > count:
            extra = [self.idle.pop() for _ in range(min(AT_ONCE, len(self.idle) - count))]
            await asyncio.gather(*(session.close() for session in extra))

    def idle_packets(self) -> list[int]:
        """Packets that each idle connection of the client has sent so far."""
        connections = (session.connection for session in self.idle)
        return [one.info.packets_sent for one in connections if one is not None]

    async def close(self) -> None:
        """Close all idle sessions."""
        await self._idle_client.close()


@asynccontextmanager
async def bench(*, keep_alive: float = 30.0) -> AsyncIterator[Bench]:
    """A server on the running loop.

    Args:
        keep_alive: Seconds of silence after which clients send a PING.
    """
    with tempfile.TemporaryDirectory(prefix="pywebtransport-growth-") as directory:
        certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
        app = ServerApp(
            config=ServerConfig(
                bind_host="127.0.0.1",
                bind_port=0,
                certfile=certfile,
                keyfile=keyfile,
                access_log=False,
                max_connections=MANY_SESSIONS,
                max_sessions=MANY_SESSIONS,
                # All clients come from this machine.
                max_connections_per_address=None,
                max_sessions_per_address=None,
                initial_max_streams_bidi=MANY_STREAMS,
                max_incoming_streams=MANY_STREAMS,
            )
        )
        app.route("/")(_serve)
        config = ClientConfig(
            server_certificate_hashes=[certificate_hash(certfile)],
            max_connections=MANY_SESSIONS,
            max_streams=MANY_STREAMS,
            connection_keepalive_timeout=keep_alive,
        )
        async with app:
            await app.listen()
            address = app.server.local_address
            if address is None:
                raise WrongWork("the server does not listen")
            place = Bench(f"https://127.0.0.1:{address[1]}/", config)
            try:
                yield place
            finally:
                await place.close()
                await app.server.close(drain_timeout=0)


# -------------------------------------------------------------------- many streams


async def echo_new(session: WebTransportSession, at_once: int, total: int) -> Cost:
    """``total`` echoes of 1 KiB, each on a new stream, ``at_once`` at a time."""

    async def work() -> None:
        for _ in range(total // at_once):
            stream = await session.create_bidirectional_stream()
            await stream.write_all(MESSAGE)
            _expect(await stream.read_all(max_size=2 * KIB), MESSAGE)

    return Cost(await _cpu_of([work() for _ in range(at_once)]) / (total // at_once * at_once))


async def echo_open(session: WebTransportSession, count: int, total: int) -> Cost:
    """``total`` echoes of 1 KiB over ``count`` open streams, one message in flight on each."""
    streams = [await session.create_bidirectional_stream() for _ in range(count)]

    async def work(stream: WebTransportStream, rounds: int) -> None:
        for _ in range(rounds):
            await stream.write(MESSAGE)
            _expect(await stream.readexactly(len(MESSAGE)), MESSAGE)

    await _cpu_of([work(stream, 1) for stream in streams])
    cpu = await _cpu_of([work(stream, total // count) for stream in streams])
    for stream in streams:
        await stream.close()
        _expect(await stream.read_all(), b"")
    return Cost(cpu / (total // count * count))


async def echo_queues(count: int, total: int) -> Cost:
    """The same without a network: ``count`` pairs of tasks hand 1 KiB over and back.

    What this costs more with many pairs, any program on asyncio pays on this machine: the
    objects of all tasks do not fit into the processor's cache.
    """

    async def ask(there: asyncio.Queue[bytes], back: asyncio.Queue[bytes], rounds: int) -> None:
        for _ in range(rounds):
            await there.put(bytes(bytearray(MESSAGE)))
            _expect(await back.get(), MESSAGE)

    async def answer(there: asyncio.Queue[bytes], back: asyncio.Queue[bytes], rounds: int) -> None:
        for _ in range(rounds):
            await back.put(bytes(bytearray(await there.get())))

    rounds = total // count
    work: list[Coroutine[Any, Any, None]] = []
    for _ in range(count):
        there: asyncio.Queue[bytes] = asyncio.Queue()
        back: asyncio.Queue[bytes] = asyncio.Queue()
        work += [ask(there, back, rounds), answer(there, back, rounds)]
    return Cost(await _cpu_of(work) / (rounds * count))


async def _cpu_of(work: list[Coroutine[Any, Any, None]]) -> float:
    """CPU seconds until all coroutines ended; without those of making their tasks."""
    start = asyncio.Event()

    async def one(coroutine: Coroutine[Any, Any, None]) -> None:
        await start.wait()
        await coroutine

    async with asyncio.TaskGroup() as tasks:
        for coroutine in work:
            tasks.create_task(one(coroutine))
        await asyncio.sleep(0)  # let them reach their start
        started = time.process_time()
        start.set()
    return time.process_time() - started


# ---------------------------------------------------------- one busy among many idle


class Busy:
    """The session that works beside the idle ones; its client has a socket of its own."""

    def __init__(self, session: WebTransportSession) -> None:
        self.session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, place: Bench) -> AsyncIterator[Busy]:
        """A new client with one session."""
        async with (
            WebTransportClient(config=place.config) as client,
            client.connect(place.url) as session,
        ):
            yield cls(session)

    async def ping_pong(self, count: int) -> Cost:
        """64 bytes there and back on one stream, one message in flight."""
        stream = await self.session.create_bidirectional_stream()
        times = []
        started = time.process_time()
        for _ in range(count):
            begun = time.perf_counter()
            await stream.write(PING)
            _expect(await stream.readexactly(len(PING)), PING)
            times.append(time.perf_counter() - begun)
        cpu = time.process_time() - started
        await stream.close()
        _expect(await stream.read_all(), b"")
        return Cost(cpu / count, statistics.median(times), statistics.quantiles(times, n=100)[98])

    async def bulk(self, mebibytes: int) -> Cost:
        """One stream to the server; the operation is one MiB."""
        stream = await self.session.create_unidirectional_stream()
        block = bytes(BLOCK)
        started = time.process_time()
        for _ in range(mebibytes * MIB // BLOCK):
            await stream.write(block)
        await stream.close()
        answer = await anext(aiter(self.session.incoming_unidirectional_streams()))
        _expect(await answer.read_all(max_size=100), str(mebibytes * MIB).encode())
        return Cost((time.process_time() - started) / mebibytes)


def _expect(got: bytes, wanted: bytes) -> None:
    if got != wanted:
        raise WrongWork(f"{len(got)} bytes came back instead of {len(wanted)}, or other ones")


async def _serve(session: WebTransportSession) -> None:
    async def stream_task(stream: WebTransportReceiveStream) -> None:
        if isinstance(stream, WebTransportStream):
            while data := await stream.read(READ):
                await stream.write(data)
            await stream.close()
            return
        size = 0
        while data := await stream.read(READ):
            size += len(data)
        answer = await session.create_unidirectional_stream()
        await answer.write_all(str(size).encode())

    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as tasks:
            async for stream in session.incoming_streams():
                tasks.create_task(stream_task(stream))
