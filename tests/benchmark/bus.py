"""Buses between processes: publishes, deliveries, latency and processor time, on this machine.

``python -m tests.benchmark.bus`` starts real servers and prints a table. Each process subscribes to
20 rooms and publishes to all. With ``--copies``, so many processes have subscribed to each room.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from pywebtransport.events import EventBackend, NatsBackend, RedisBackend
from tests.support.nats_server import NatsServer
from tests.support.redis_server import RedisServer

BUSES = ("redis", "redis-3", "nats")
ROOMS = 20
SIZE = 100
# Of the measurement of latency, messages per second and process.
RATE = 100
# At a time, of the measurement of throughput.
WINDOW = 50
STAMP = struct.Struct("!d")


@contextlib.contextmanager
def servers(bus: str) -> Iterator[tuple[list[str], list[int]]]:
    """URLs and process IDs of the servers of a bus."""
    kind = NatsServer if bus == "nats" else RedisServer
    with contextlib.ExitStack() as stack:
        found: list[Any] = []
        for _ in range(3 if bus == "redis-3" else 1):
            found.append(kind())
            stack.callback(found[-1].close)
        yield [one.url for one in found], [one.pid for one in found]


@contextlib.asynccontextmanager
async def backend(bus: str, urls: list[str]) -> AsyncIterator[EventBackend]:
    """A backend of this process."""
    made = NatsBackend(urls) if bus == "nats" else RedisBackend(urls=urls)
    async with made:
        yield made


async def work(bus: str, urls: list[str], index: int, count: int, seconds: float) -> None:
    """One process: tell that it is ready, and measure when it is told to begin."""
    delays: list[float] = []
    delivered = 0

    def take(channel: str, payload: bytes) -> None:
        nonlocal delivered
        delivered += 1
        delays.append(time.monotonic() - STAMP.unpack_from(payload)[0])

    rooms = [f"room.{number}" for number in range(count)]
    async with backend(bus, urls) as bus_backend:
        for number in range(ROOMS):
            await bus_backend.subscribe(rooms[(index * ROOMS + number) % len(rooms)], take)
        print("ready", flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )

        async def publish() -> None:
            payload = STAMP.pack(time.monotonic()) + bytes(SIZE - STAMP.size)
            await bus_backend.publish(random.choice(rooms), payload)

        # Latency, at a rate that keeps nobody busy.
        await reader.readline()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await publish()
            await asyncio.sleep(random.expovariate(RATE))
        latency = sorted(delays)
        print(json.dumps(latency), flush=True)

        # Throughput.
        await reader.readline()
        delivered = published = 0
        begun, end = time.process_time(), time.monotonic() + seconds

        async def press() -> None:
            nonlocal published
            while time.monotonic() < end:
                await publish()
                published += 1

        await asyncio.gather(*(press() for _ in range(WINDOW)))
        took = time.process_time() - begun
        print(json.dumps([published, delivered, took]), flush=True)
        await reader.readline()


def measure(bus: str, count: int, copies: int, seconds: float) -> dict[str, float]:
    """Measure one bus with a number of processes."""
    with servers(bus) as (urls, pids):
        rooms = max(ROOMS, ROOMS * count // copies)
        arguments = [sys.executable, "-m", __spec__.name, "--work", bus, *urls]
        processes = [
            subprocess.Popen(
                [
                    *arguments,
                    "--index",
                    str(index),
                    "--rooms",
                    str(rooms),
                    "--seconds",
                    str(seconds),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]
        try:
            assert [line(one) for one in processes] == ["ready"] * count
            go(processes)
            delays = sorted(delay for one in processes for delay in json.loads(line(one)))
            before = sum(map(processor_time, pids))
            go(processes)
            results = [json.loads(line(one)) for one in processes]
            server = sum(map(processor_time, pids)) - before
            go(processes)
        finally:
            for one in processes:
                one.kill()
                one.wait()
                for pipe in (one.stdin, one.stdout):
                    assert pipe is not None
                    pipe.close()
    published, delivered, took = map(sum, zip(*results, strict=True))
    return {
        "publishes": published / seconds,
        "deliveries": delivered / seconds,
        "p50": 1e3 * delays[len(delays) // 2],
        "p99": 1e3 * delays[len(delays) * 99 // 100],
        "server": 1e6 * server / published,
        "process": 1e6 * took / (published + delivered),
    }


def line(process: subprocess.Popen[str]) -> str:
    """The next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(processes: list[subprocess.Popen[str]]) -> None:
    """Let all of them go on."""
    for one in processes:
        assert one.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            one.stdin.write("\n")
            one.stdin.flush()


def processor_time(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(rows: list[tuple[str, int, dict[str, float]]]) -> str:
    """The results in Markdown."""
    head = ("bus", "processes", "publishes/s", "deliveries/s", "p50", "p99", "server", "process")
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for bus, count, one in rows:
        lines.append(
            f"{bus} | {count} | {one['publishes']:,.0f} | {one['deliveries']:,.0f} | "
            f"{one['p50']:.2f} ms | {one['p99']:.2f} ms | {one['server']:.1f} µs | "
            f"{one['process']:.1f} µs"
        )
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bus", nargs="+", choices=BUSES, default=BUSES)
    parser.add_argument("--processes", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--copies", type=int, default=2, help="processes of each room")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rooms", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        bus, *urls = arguments.work
        asyncio.run(work(bus, urls, arguments.index, arguments.rooms, arguments.seconds))
        return
    rows = []
    for bus in arguments.bus:
        for count in arguments.processes:
            rows.append((bus, count, measure(bus, count, arguments.copies, arguments.seconds)))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
