"""The garbage collector among many sessions: pauses and memory, with and without ``gc_policy``.

``python -m tests.benchmark.collector [--sessions N] [--rounds N] [--json FILE]``

A server runs in a process of its own, with ``gc_policy="off"`` and ``"server"`` in turn. Clients
in another open sessions, each on its own connection, while one session makes round trips of 64
bytes, one each 5 ms, and goes on for 5 seconds among them. Then all but a tenth of the sessions
end, and the server's memory is looked at. The clients do without a garbage collector, so that
pauses are the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.utils import certificate_hash, generate_self_signed_cert
from tests.support.memory import Memory

__all__ = ["main", "measure"]

POLICIES = ("off", "server")
PING = bytes(64)
# Connections that are opened or closed at the same time.
AT_ONCE = 4
# Between two round trips, and how long they go on once all sessions are open; seconds.
PAUSE = 0.005
AFTER = 5.0
# For the server to find a quiet moment after the peak; seconds.
SETTLE = 10.0
MIB = 1 << 20


class Pauses:
    """How long full collections of this process take."""

    def __init__(self) -> None:
        self._began = 0.0
        self.clear()
        gc.callbacks.append(self._heard)

    def clear(self) -> None:
        """Forget those of the start."""
        self.longest = self.total = 0.0

    def _heard(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.thread_time()
            return
        took = time.thread_time() - self._began
        self.longest = max(self.longest, took)
        self.total += took


def serve(policy: str, certfile: str, keyfile: str, pipe: Connection) -> None:
    """The server's process: it tells its port, and its figures when it is asked."""
    pauses = Pauses()
    config = ServerConfig(
        bind_host="127.0.0.1",
        bind_port=0,
        certfile=certfile,
        keyfile=keyfile,
        access_log=False,
        gc_policy=policy,
        max_connections=1 << 20,
        max_sessions=1 << 20,
    )
    app = ServerApp(config=config)

    @app.route("/")
    async def echo(session: WebTransportSession) -> None:
        async for stream in session.incoming_bidirectional_streams():
            async for chunk in stream:
                await stream.write(chunk)

    async def run() -> None:
        async with app:
            await app.listen()
            pauses.clear()
            loop = asyncio.get_running_loop()
            over = asyncio.Event()

            def asked() -> None:
                if pipe.recv() == "end":
                    over.set()
                else:
                    pipe.send((resident(), pauses.longest, pauses.total))

            loop.add_reader(pipe.fileno(), asked)
            address = app.server.local_address
            assert address is not None
            pipe.send(address[1])
            await over.wait()
            loop.remove_reader(pipe.fileno())
            await app.server.close(drain_timeout=0)

    asyncio.run(run())


def resident() -> int:
    """Bytes of this process in memory, without a collection before."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def load(port: int, digest: bytes, count: int, pipe: Connection) -> dict[str, float]:
    """Everything that the clients do; the figures of one round."""
    config = ClientConfig(
        server_certificate_hashes=[digest], max_connections=1 << 20, connect_timeout=120.0
    )
    url = f"https://127.0.0.1:{port}/"
    trips: list[float] = []
    async with WebTransportClient(config=config) as client:
        busy = await (await client.connect(url)).create_bidirectional_stream()

        async def ping() -> None:
            while True:
                start = time.perf_counter()
                await busy.write(PING)
                await busy.readexactly(len(PING))
                trips.append(time.perf_counter() - start)
                await asyncio.sleep(PAUSE)

        pinging = asyncio.create_task(ping())
        idle: list[WebTransportSession] = []
        while len(idle) < count:
            idle += await asyncio.gather(*(client.connect(url) for _ in range(AT_ONCE)))
        await asyncio.sleep(AFTER)
        pinging.cancel()
        await asyncio.wait({pinging})
        peak, longest, total = ask(pipe)
        while len(idle) > count / 10:
            some = [idle.pop() for _ in range(AT_ONCE)]
            await asyncio.gather(*(session.close() for session in some))
        await asyncio.sleep(SETTLE)
        after, _, _ = ask(pipe)
    trips.sort()
    return {
        "p50": trips[len(trips) // 2],
        "p99": trips[int(len(trips) * 0.99)],
        "p999": trips[int(len(trips) * 0.999)],
        "max": trips[-1],
        "longest collection": longest,
        "all collections": total,
        "peak": peak,
        "after": after,
    }


def ask(pipe: Connection) -> tuple[int, float, float]:
    """The server's memory and collections now."""
    pipe.send("figures")
    found: tuple[int, float, float] = pipe.recv()
    return found


def measure(policy: str, count: int) -> dict[str, float]:
    """One round."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="pywebtransport-collector-") as directory:
        certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(policy, certfile, keyfile, theirs))
        process.start()
        try:
            port = ours.recv()
            gc.collect()
            gc.disable()
            try:
                figures = asyncio.run(load(port, certificate_hash(certfile), count, ours))
            finally:
                gc.enable()
            ours.send("end")
            process.join(60)
        finally:
            process.kill()
            process.join()
    Memory.now()  # collects what the round left behind here
    return figures


def table(rounds: dict[str, list[dict[str, float]]]) -> str:
    """Medians, and the range in parentheses."""
    lines = ["| | off | server |", "|---|---|---|"]
    for name in next(iter(rounds.values()))[0]:
        cells = []
        for policy in POLICIES:
            values = [figures[name] for figures in rounds[policy]]
            scale, unit = (1 / MIB, "MiB") if name in ("peak", "after") else (1e3, "ms")
            low, middle, high = (
                each * scale for each in (min(values), statistics.median(values), max(values))
            )
            cells.append(f"{middle:.1f} ({low:.1f} to {high:.1f}) {unit}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure in turn and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.collector")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for all figures")
    parsed = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {policy: [] for policy in POLICIES}
    for number in range(parsed.rounds):
        for policy in POLICIES:
            print(f"round {number + 1}: {policy}", file=sys.stderr, flush=True)
            rounds[policy].append(measure(policy, parsed.sessions))
    print(table(rounds))
    if parsed.json is not None:
        parsed.json.write_text(json.dumps(rounds, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
