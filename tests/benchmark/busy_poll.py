"""Round trips with and without ``busy_poll_us``: latency, and processor time of both ends.

``python -m tests.benchmark.busy_poll [--microseconds N ...] [--rounds N] [--loop NAME]``

A server and a client run in processes of their own, with each value in turn. On a machine with
other work, run it with real-time priority, so that this work does not take the processors:
``chrt -f 1 python -m tests.benchmark.busy_poll``.
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

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

from .growth import loop_factories

__all__ = ["Figures", "main", "measure"]

SMALL = bytes(64)
MESSAGE = bytes(1024)
# Before each measured part.
WARM_UP = 0.1
# Between two round trips that are apart, in seconds.
PAUSE = 0.002

Figures = dict[str, dict[str, float]]


async def echo(stream: WebTransportStream) -> None:
    async for chunk in stream:
        await stream.write(chunk)
    await stream.close()


async def handle(session: WebTransportSession) -> None:
    async def datagrams() -> None:
        async for datagram in session.datagrams:
            await session.datagrams.send(datagram)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(datagrams())
        async for stream in session.incoming_bidirectional_streams():
            tasks.create_task(echo(stream))


def serve(microseconds: int, loop: str, files: tuple[str, str], pipe: Connection) -> None:
    """The server's process: it tells its port, and its processor time when it is asked."""
    config = ServerConfig(
        bind_host="127.0.0.1",
        bind_port=0,
        certfile=files[0],
        keyfile=files[1],
        access_log=False,
        busy_poll_us=microseconds,
    )
    app = ServerApp(config=config)
    app.route("/")(handle)

    async def run() -> None:
        async with app:
            await app.listen()
            running = asyncio.get_running_loop()
            over = asyncio.Event()

            def asked() -> None:
                if pipe.recv() == "end":
                    over.set()
                else:
                    pipe.send(time.process_time())

            running.add_reader(pipe.fileno(), asked)
            address = app.server.local_address
            assert address is not None
            pipe.send(address[1])
            await over.wait()
            running.remove_reader(pipe.fileno())
            await app.server.close(drain_timeout=0)

    with asyncio.Runner(loop_factory=loop_factories()[loop]) as runner:
        runner.run(run())


async def load(
    microseconds: int, port: int, digest: bytes, count: int, pipe: Connection
) -> Figures:
    """Everything that the client does; the figures by kind of round trip, in microseconds."""
    config = ClientConfig(server_certificate_hashes=[digest], busy_poll_us=microseconds)
    async with (
        WebTransportClient(config=config) as client,
        client.connect(f"https://127.0.0.1:{port}/") as session,
    ):
        open_stream = await session.create_bidirectional_stream()

        async def ping() -> None:
            await open_stream.write(SMALL)
            await open_stream.readexactly(len(SMALL))

        async def datagram() -> None:
            await session.datagrams.send(SMALL)
            await session.datagrams.receive()

        async def stream() -> None:
            one = await session.create_bidirectional_stream()
            await one.write_all(MESSAGE)
            assert await one.read_all() == MESSAGE

        return {
            "64 bytes on an open stream": await trips(ping, count, pipe),
            "a datagram of 64 bytes": await trips(datagram, count, pipe),
            "a stream of 1 KiB": await trips(stream, count // 2, pipe),
            "a datagram, each 2 ms": await trips(datagram, count // 10, pipe, PAUSE),
        }


async def trips(
    make: Callable[[], Awaitable[None]], count: int, pipe: Connection, pause: float = 0.0
) -> dict[str, float]:
    """Latencies, and the processor time of both ends, pauses included."""
    times: list[float] = []
    for number in range(-round(count * WARM_UP), count):
        if number == 0:
            cpu = time.process_time() + ask(pipe)
            times.clear()
        if pause:
            await asyncio.sleep(pause)
        start = time.perf_counter()
        await make()
        times.append(time.perf_counter() - start)
    cpu = time.process_time() + ask(pipe) - cpu
    times.sort()
    return {
        "p50": times[count // 2] * 1e6,
        "p99": times[count * 99 // 100] * 1e6,
        "cpu": cpu / count * 1e6,
    }


def ask(pipe: Connection) -> float:
    """The server's processor time up to now, in seconds."""
    pipe.send("figures")
    found: float = pipe.recv()
    return found


def measure(microseconds: int, loop: str, count: int) -> Figures:
    """One round."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="pywebtransport-busy-poll-") as directory:
        files = generate_self_signed_cert(hostname="localhost", output_dir=directory)
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(microseconds, loop, files, theirs))
        process.start()
        try:
            port = ours.recv()
            with asyncio.Runner(loop_factory=loop_factories()[loop]) as runner:
                figures = runner.run(
                    load(microseconds, port, certificate_hash(files[0]), count, ours)
                )
            ours.send("end")
            process.join(60)
        finally:
            process.kill()
            process.join()
    return figures


def table(rounds: dict[int, list[Figures]]) -> str:
    """Medians of the rounds: latency (50th and 99th percentile) and processor time."""
    lines = [
        "| round trips | " + " | ".join(f"`busy_poll_us={each}`" for each in rounds) + " |",
        "|---" * (len(rounds) + 1) + "|",
    ]
    for kind in next(iter(rounds.values()))[0]:
        cells = []
        for found in rounds.values():
            p50, p99, cpu = (
                statistics.median(figures[kind][name] for figures in found)
                for name in ("p50", "p99", "cpu")
            )
            cells.append(f"{p50:.0f}, {p99:.0f} µs; CPU {cpu:.0f} µs")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure in turn and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.busy_poll")
    parser.add_argument("--microseconds", type=int, nargs="+", default=[0, 60])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=4000, help="round trips of each kind")
    parser.add_argument("--loop", choices=loop_factories(), default="asyncio")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parsed = parser.parse_args(arguments)
    rounds: dict[int, list[Figures]] = {each: [] for each in parsed.microseconds}
    for number in range(parsed.rounds):
        for each, found in rounds.items():
            print(f"round {number + 1}: busy_poll_us={each}", file=sys.stderr, flush=True)
            found.append(measure(each, parsed.loop, parsed.count))
    print(table(rounds))
    if parsed.json is not None:
        parsed.json.write_text(json.dumps(rounds, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
