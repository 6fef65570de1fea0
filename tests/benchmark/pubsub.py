"""What publishing and delivering a message costs, in processor time of server and client.

``python -m tests.benchmark.pubsub [--sessions N] [--messages N] [--rounds N] [--loop NAME]``

The server and all its clients run in two processes. A message is published when all subscribers
have the one before, so that each delivery is a packet of its own. To compare with, the server
writes the same bytes to one stream of each session. Processor time does not depend on how much
other work the machine has as much as the clock does, but it does depend on it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.pubsub import Broker, PubSubManager
from pywebtransport.rpc import RpcManager
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportSendStream
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

from .growth import loop_factories

__all__ = ["main", "measure"]

DATA = {"author": "ann", "text": "x" * 100}
FRAME = b"x" * 150
"""About as long as a delivered message."""
TOGETHER = 100
"""Messages that one client publishes at a time."""

Figures = dict[str, float]


async def serve(certfile: str, keyfile: str, pipe: Connection) -> None:
    """Tell the port, then the processor time whenever it is asked, until told to end."""
    config = ServerConfig(
        certfile=certfile,
        keyfile=keyfile,
        access_log=False,
        retry="off",
        max_connections_per_address=None,
        max_sessions_per_address=None,
    )
    app = ServerApp(config=config)
    broker = Broker()
    streams: list[WebTransportSendStream] = []

    @app.route("/")
    async def handle(session: WebTransportSession) -> None:
        rpc = RpcManager(session)

        async def write() -> None:
            for stream in streams:
                await stream.write(FRAME)

        async def add_stream() -> None:
            streams.append(await session.create_unidirectional_stream())

        rpc.register(write)
        rpc.register(add_stream)
        await broker.serve(session, rpc=rpc)

    async with broker, app:
        await app.listen(host="127.0.0.1", port=0)
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        def asked() -> None:
            if pipe.recv() == "end":
                over.set()
            else:
                pipe.send(time.process_time())

        loop.add_reader(pipe.fileno(), asked)
        pipe.send(app.server.local_addresses[0][1])
        await over.wait()
        loop.remove_reader(pipe.fileno())


def run_server(certfile: str, keyfile: str, pipe: Connection, loop: str) -> None:
    """The server's process."""
    with asyncio.Runner(loop_factory=loop_factories()[loop]) as runner:
        runner.run(serve(certfile, keyfile, pipe))


def ask(pipe: Connection) -> float:
    """The server's processor time up to now, in seconds."""
    pipe.send("figures")
    found: float = pipe.recv()
    return found


async def measure(url: str, digest: str, sessions: int, messages: int, pipe: Connection) -> Figures:
    """Return microseconds of processor time for each operation."""
    figures: Figures = {}
    config = ClientConfig(server_certificate_hashes=[digest], max_connections=10_000)
    async with WebTransportClient(config=config) as client:
        members = [PubSubManager(await client.connect(url)) for _ in range(sessions)]
        for member in members:
            await member.start()
        first = members[0]

        async def cost(name: str, count: int, work: Callable[[], Awaitable[object]]) -> None:
            await work()
            server, own = ask(pipe), time.process_time()
            await work()
            own = time.process_time() - own
            server = ask(pipe) - server
            figures[f"{name}, server"] = server / count * 1e6
            figures[f"{name}, client"] = own / count * 1e6

        async def publish_one_by_one() -> None:
            for _ in range(messages):
                await first.publish("nobody", DATA)

        async def publish_together() -> None:
            for _ in range(messages // TOGETHER):
                await asyncio.gather(*(first.publish("nobody", DATA) for _ in range(TOGETHER)))

        await cost("publish, one at a time", messages, publish_one_by_one)
        together = messages // TOGETHER * TOGETHER
        await cost(f"publish, {TOGETHER} at a time", together, publish_together)

        rounds = max(1, messages // sessions)
        subscriptions = [await member.subscribe("news") for member in members]

        async def deliver() -> None:
            for _ in range(rounds):
                await first.publish("news", DATA)
                for subscription in subscriptions:
                    await anext(subscription)

        await cost("delivery", rounds * sessions, deliver)
        # The managers take all unidirectional streams of their sessions.
        others = [await client.connect(url) for _ in range(sessions)]
        calls = [RpcManager(session) for session in others]
        for rpc in calls:
            await rpc.start()
            await rpc.call("add_stream")
        await calls[0].call("write")
        readers = [
            await anext(aiter(session.incoming_unidirectional_streams())) for session in others
        ]
        for reader in readers:
            await reader.readexactly(len(FRAME))

        async def write() -> None:
            for _ in range(rounds):
                await calls[0].call("write")
                for reader in readers:
                    await reader.readexactly(len(FRAME))

        await cost("stream write", rounds * sessions, write)
        for closing in (*members, *calls):
            await closing.close()
    return figures


def run(sessions: int, messages: int, loop: str, directory: str) -> Figures:
    """Start a server and measure once."""
    certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=run_server, args=(certfile, keyfile, theirs, loop), daemon=True
    )
    server.start()
    try:
        url = f"https://127.0.0.1:{ours.recv()}/"
        digest = certificate_hash(certfile).hex()
        with asyncio.Runner(loop_factory=loop_factories()[loop]) as runner:
            return runner.run(measure(url, digest, sessions, messages, ours))
    finally:
        ours.send("end")
        server.join(10)
        server.kill()


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.pubsub")
    parser.add_argument("--sessions", type=int, default=200, help="that subscribe")
    parser.add_argument("--messages", type=int, default=4000, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=loop_factories(), default="asyncio")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parsed = parser.parse_args(arguments)
    rounds: list[Figures] = []
    for _ in range(parsed.rounds):
        with tempfile.TemporaryDirectory(prefix="pywebtransport-pubsub-") as directory:
            rounds.append(run(parsed.sessions, parsed.messages, parsed.loop, directory))
    print("| microseconds of processor time for each | server | client |\n|---|---|---|")
    for name in dict.fromkeys(key.rpartition(", ")[0] for key in rounds[0]):
        cells = [
            f"{statistics.median(one[f'{name}, {end}'] for one in rounds):.1f}"
            for end in ("server", "client")
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    if parsed.json is not None:
        parsed.json.write_text(json.dumps(rounds, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
