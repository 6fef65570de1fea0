"""Sessions over WebSocket, for networks without UDP, beside plain WebSockets.

``python -m tests.benchmark.fallback --output DIR [--quick] [--rounds N] [--seconds S]
[--sessions N]`` writes ``fallback.json`` and
``fallback.md``. Server and client are two processes. The plain WebSockets are those of the library
``websockets``, which carries our sessions, too: both ends echo what comes, over TLS and without
compression. In each round, the two take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import WebTransportError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

from .peers.shared.usage import collect_and_measure, cpu_seconds

__all__ = ["TARGETS", "main", "measure", "table"]

OURS, PLAIN = "session over WebSocket", "plain WebSocket"
BLOCK = bytes(1 << 16)
MESSAGE = bytes(64)
REQUEST = bytes(1024)
AT_ONCE = 100
MIB = 1 << 20

Figures = dict[str, float]

# Workload -> unit, and whether more is better.
WORKLOADS = {
    "bulk echo, 64 KiB writes": ("MiB/s", True),
    "ping-pong, 64 B": ("round trips/s", True),
    f"1 KiB echo, {AT_ONCE} in flight": ("/s", True),
    "idle session, memory of the server": ("KiB", False),
}
BULK, PING, STREAMS, IDLE = WORKLOADS
# Workload -> ratio to plain WebSockets, or an absolute figure for a rate of streams.
TARGETS = {BULK: 0.7, PING: 0.6, STREAMS: 10_000.0, IDLE: 1.0}


# ---------------------------------------------------------------------------- servers


@asynccontextmanager
async def our_server(certfile: str, keyfile: str) -> AsyncIterator[int]:
    """Serve sessions; nothing answers on the UDP port of the address."""
    config = ServerConfig(
        certfile=certfile,
        keyfile=keyfile,
        access_log=False,
        websocket=True,
        max_connections=20_000,
        max_sessions=20_000,
        max_connections_per_address=None,
        max_sessions_per_address=None,
    )
    app = ServerApp(config=config)

    async def echo(stream: WebTransportStream) -> None:
        async for data in stream:
            await stream.write(data)

    @app.route("/")
    async def handle(session: WebTransportSession) -> None:
        with suppress(WebTransportError):
            await session.serve_streams(echo)

    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        udp.bind(("127.0.0.2", port))
        async with app:
            await app.listen(sockets=[udp, tcp])
            yield port


@asynccontextmanager
async def plain_server(certfile: str, keyfile: str) -> AsyncIterator[int]:
    """Echo messages."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certfile, keyfile)

    async def echo(socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in socket:
                await socket.send(message)

    async with serve(echo, "127.0.0.1", 0, ssl=context, compression=None) as server:
        yield next(iter(server.sockets)).getsockname()[1]


SERVERS = {OURS: our_server, PLAIN: plain_server}


def run_server(kind: str, certfile: str, keyfile: str, pipe: Connection) -> None:
    """The server's process: it tells its port, and what it used when it is asked."""

    async def run() -> None:
        async with SERVERS[kind](certfile, keyfile) as port:
            loop = asyncio.get_running_loop()
            over = asyncio.Event()

            def asked() -> None:
                question = pipe.recv()
                if question == "end":
                    over.set()
                else:
                    pipe.send(
                        cpu_seconds() if question == "cpu" else float(collect_and_measure()["rss"])
                    )

            loop.add_reader(pipe.fileno(), asked)
            pipe.send(port)
            await over.wait()
            loop.remove_reader(pipe.fileno())

    asyncio.run(run())


# ---------------------------------------------------------------------------- clients


class OurClient:
    """Streams of sessions over WebSocket."""

    def __init__(self, client: WebTransportClient, port: int) -> None:
        self._client = client
        self._url = f"https://127.0.0.1:{port}/"

    async def connect(self) -> WebTransportSession:
        session = await self._client.connect(self._url)
        assert session.transport == "websocket"
        return session

    async def bulk(self, seconds: float) -> int:
        """Return how many bytes came back."""
        async with await self.connect() as session:
            stream = await session.create_bidirectional_stream()

            async def write() -> None:
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    await stream.write(BLOCK)
                await stream.close()

            writing = asyncio.create_task(write())
            received = 0
            async for data in stream:
                received += len(data)
            await writing
            return received

    async def ping(self, seconds: float) -> int:
        """Return the number of round trips."""
        async with await self.connect() as session:
            stream = await session.create_bidirectional_stream()
            count, deadline = 0, time.monotonic() + seconds
            while time.monotonic() < deadline:
                await stream.write(MESSAGE)
                await stream.readexactly(len(MESSAGE))
                count += 1
            await stream.close()
            return count

    async def requests(self, seconds: float) -> int:
        """Return the number of streams."""
        async with await self.connect() as session:
            deadline = time.monotonic() + seconds

            async def ask() -> int:
                count = 0
                while time.monotonic() < deadline:
                    stream = await session.create_bidirectional_stream()
                    await stream.write_all(REQUEST)
                    answer = await stream.read_all()
                    assert len(answer) == len(REQUEST)
                    count += 1
                return count

            return sum(await asyncio.gather(*(ask() for _ in range(AT_ONCE))))


class PlainClient:
    """Messages over plain WebSockets."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self._context = context
        self._url = f"wss://127.0.0.1:{port}/"

    async def connect(self) -> ClientConnection:
        return await connect(self._url, ssl=self._context, compression=None)

    async def bulk(self, seconds: float) -> int:
        """Return how many bytes came back."""
        async with await self.connect() as ws:

            async def write() -> None:
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    await ws.send(BLOCK)
                await ws.send(b"")

            writing = asyncio.create_task(write())
            received = 0
            while data := await ws.recv():
                received += len(data)
            await writing
            return received

    async def ping(self, seconds: float) -> int:
        """Return the number of round trips."""
        async with await self.connect() as ws:
            count, deadline = 0, time.monotonic() + seconds
            while time.monotonic() < deadline:
                await ws.send(MESSAGE)
                await ws.recv()
                count += 1
            return count

    async def requests(self, seconds: float) -> int:
        """Return the number of messages: as many are in flight as streams."""
        async with await self.connect() as ws:
            count, deadline = 0, time.monotonic() + seconds
            for _ in range(AT_ONCE):
                await ws.send(REQUEST)
            while time.monotonic() < deadline:
                await ws.recv()
                await ws.send(REQUEST)
                count += 1
            for _ in range(AT_ONCE):
                await ws.recv()
            return count + AT_ONCE


@asynccontextmanager
async def client_of(kind: str, port: int, certfile: str) -> AsyncIterator[OurClient | PlainClient]:
    """A client that trusts the certificate."""
    if kind == PLAIN:
        context = ssl.create_default_context(cafile=certfile)
        context.check_hostname = False
        yield PlainClient(context, port)
        return
    config = ClientConfig(
        server_certificate_hashes=[certificate_hash(certfile)],
        fallback="websocket",
        max_connections=20_000,
    )
    async with WebTransportClient(config=config) as client:
        yield OurClient(client, port)


# ------------------------------------------------------------------------ measurements


def ask(pipe: Connection, what: str) -> float:
    """What the server used up to now."""
    pipe.send(what)
    found: float = pipe.recv()
    return found


async def rates(client: OurClient | PlainClient, pipe: Connection, seconds: float) -> Figures:
    """What is done in a time, one kind of work after the other."""
    figures: Figures = {}
    works: dict[str, tuple[Callable[[float], Awaitable[int]], int]] = {
        BULK: (client.bulk, MIB),
        PING: (client.ping, 1),
        STREAMS: (client.requests, 1),
    }
    for name, (work, per) in works.items():
        await work(seconds / 4)
        server, own, started = ask(pipe, "cpu"), cpu_seconds(), time.monotonic()
        count = await work(seconds) / per
        figures[name] = count / (time.monotonic() - started)
        figures[f"{name}, cpu of the client"] = (cpu_seconds() - own) / count
        figures[f"{name}, cpu of the server"] = (ask(pipe, "cpu") - server) / count
    return figures


async def idle(client: OurClient | PlainClient, pipe: Connection, count: int) -> Figures:
    """Memory of a server that does nothing else."""
    async with AsyncExitStack() as stack:
        for _ in range(max(1, count // 5)):  # what the first ones cost once is not counted
            await stack.enter_async_context(await client.connect())
        before = ask(pipe, "memory")
        for _ in range(count):
            await stack.enter_async_context(await client.connect())
        return {IDLE: (ask(pipe, "memory") - before) / count / 1024}


def measure(
    kind: str, work: Callable[[OurClient | PlainClient, Connection], Awaitable[Figures]]
) -> Figures:
    """Let clients in this process work with a new server."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="pywebtransport-fallback-") as directory:
        certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
        ours, theirs = context.Pipe()
        server = context.Process(target=run_server, args=(kind, certfile, keyfile, theirs))
        server.start()
        try:
            port = ours.recv()

            async def run() -> Figures:
                async with client_of(kind, port, certfile) as client:
                    return await work(client, ours)

            figures = asyncio.run(run())
            ours.send("end")
            server.join(30)
            return figures
        finally:
            server.kill()
            server.join()


def table(rounds: dict[str, list[Figures]]) -> str:
    """Medians as Markdown, with ratios and targets."""

    def median(kind: str, name: str) -> float:
        return statistics.median(one[name] for one in rounds[kind])

    lines = [
        f"Python {sys.version.partition(' ')[0]}, medians of {len(rounds[OURS])} rounds. Processor "
        "time is that of client + server for each MiB, round trip or stream.",
        "",
        f"| | {OURS} | {PLAIN} | ratio | target | processor time | of the plain one |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (unit, more) in WORKLOADS.items():
        own, plain = (median(kind, name) for kind in (OURS, PLAIN))
        target = TARGETS[name]
        wanted = f"{'>=' if more else '<='} " + (f"{target:g}x" if target < 2 else f"{target:,g}")
        times = ["", ""]
        if name != IDLE:
            times = [
                " + ".join(
                    f"{1e6 * median(kind, f'{name}, cpu of the {end}'):.1f}"
                    for end in ("client", "server")
                )
                + " us"
                for kind in (OURS, PLAIN)
            ]
        cells = (f"{own:,.1f} {unit}", f"{plain:,.1f} {unit}", f"{own / plain:.2f}x", wanted)
        lines.append(f"| {name} | {' | '.join([*cells, *times])} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure in turn, write the files and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.fallback", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="directory")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="default: 3; quick: 1")
    parser.add_argument(
        "--seconds", type=float, help="of each kind of work; default: 2; quick: 0.8"
    )
    parser.add_argument("--sessions", type=int, help="that are idle; default: 500; quick: 100")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    rounds: dict[str, list[Figures]] = {OURS: [], PLAIN: []}
    works = (
        partial(rates, seconds=options.seconds or (0.8 if options.quick else 2.0)),
        partial(idle, count=options.sessions or (100 if options.quick else 500)),
    )
    for _ in range(options.rounds or (1 if options.quick else 3)):
        for kind, found in rounds.items():
            found.append({**measure(kind, works[0]), **measure(kind, works[1])})
    document: dict[str, Any] = {"python": sys.version.partition(" ")[0], "rounds": rounds}
    (options.output / "fallback.json").write_text(json.dumps(document, indent=1) + "\n")
    text = table(rounds)
    (options.output / "fallback.md").write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
