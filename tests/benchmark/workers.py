"""Two workers against one: how many connects and streams, with the clients in other processes.

``python -m tests.benchmark.workers [--share 0.25] [--workers 1 2] [--rounds N] [--loop NAME]``

Clients need about as much processor time as workers. On a machine with few processors, two workers
would therefore compete with the clients, and the result would say little. So each worker gets only
a share of a processor, by a control group, and what two such workers do is compared with what one
does. This needs root, and so many processors that workers and clients together do not fill them.
``--share 0`` does without.

The processor time of the workers is measured as well: an operation should cost the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportStream,
)
from pywebtransport.utils import certificate_hash, generate_self_signed_cert
from tests.support.processes import ROOT, ServerProcess

from .growth import loop_factories

__all__ = ["main", "measure"]

MESSAGE = bytes(1024)
# In each client process.
CONNECTING = 25
SESSIONS = 24
STREAMS = 4
WARM_UP = 1.0
# Microseconds in which a worker may use its share.
PERIOD = 10_000
# Of the processor, compared with that of an ordinary process, so that others do not disturb.
WEIGHT = 100
CGROUPS = Path("/sys/fs/cgroup")

Figures = dict[str, dict[str, float]]


# ---------------------------------------------------------------- the server's processes


async def echo(stream: WebTransportStream) -> None:
    await stream.write_all(await stream.read_all())


def serve(fields: dict[str, Any], loop: str) -> None:
    """Serve until SIGTERM."""
    logger = logging.getLogger("pywebtransport.server")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.INFO)
    app = ServerApp(config=ServerConfig(**fields))
    app.route("/")(lambda session: session.serve_streams(echo))
    app.run(loop_factory=loop_factories()[loop])


def workers_of(pid: int) -> list[int]:
    """The worker processes of a server, or the server itself if it has none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] or [pid]


def processor_time(pids: list[int]) -> float:
    """Seconds that some processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# --------------------------------------------------------------------- control groups


@contextlib.contextmanager
def group(name: str, share: float | None) -> Iterator[Callable[[int], None]]:
    """A control group of Linux, version 1 or 2.

    Args:
        name: Of its directory.
        share: Part of a processor that its processes may use; None: no limit.

    Yields:
        What moves a process into it.
    """
    is_old = (CGROUPS / "cpu").is_dir()
    path = (CGROUPS / "cpu" if is_old else CGROUPS) / f"pywebtransport-{os.getpid()}-{name}"
    path.mkdir()
    moved: list[int] = []
    try:
        quota = None if share is None else round(share * PERIOD)
        if is_old:
            (path / "cpu.cfs_period_us").write_text(str(PERIOD))
            (path / "cpu.cfs_quota_us").write_text(str(quota or -1))
            (path / "cpu.shares").write_text(str(1024 * WEIGHT))
        else:
            (path / "cpu.max").write_text(f"{quota or 'max'} {PERIOD}")
            (path / "cpu.weight").write_text(str(100 * WEIGHT))

        def move(pid: int) -> None:
            (path / "cgroup.procs").write_text(str(pid))
            moved.append(pid)

        yield move
    finally:
        for pid in moved:
            with contextlib.suppress(OSError):  # it has ended
                (path.parent / "cgroup.procs").write_text(str(pid))
        path.rmdir()


def _stay(pid: int) -> None:
    """A process that is in no group of its own."""


# -------------------------------------------------------------------------- the clients


async def load(kind: str, url: str, digest: str, seconds: float) -> int:
    """Connect, or echo on new streams, all the time; return how often within ``seconds``."""
    config = ClientConfig(
        server_certificate_hashes=[digest], max_connections=10_000, connect_timeout=60.0
    )
    count = 0
    async with WebTransportClient(config=config) as client:

        async def connect() -> None:
            session = await client.connect(url)
            await session.close()

        works: list[Callable[[], Awaitable[None]]] = [connect] * CONNECTING
        if kind == "streams":
            sessions = [await client.connect(url) for _ in range(SESSIONS)]

            def on(number: int) -> Callable[[], Awaitable[None]]:
                async def stream() -> None:
                    one = await sessions[number].create_bidirectional_stream()
                    await one.write_all(MESSAGE)
                    assert await one.read_all() == MESSAGE

                return stream

            works = [on(number) for number in range(SESSIONS) for _ in range(STREAMS)]

        async def repeat(work: Callable[[], Awaitable[None]]) -> None:
            nonlocal count
            while True:
                await work()
                count += 1

        tasks = [asyncio.create_task(repeat(work)) for work in works]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.sleep(WARM_UP)
        started = count
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        done = count - started
        for task in tasks:
            task.cancel()
        failed = [
            result
            for result in await asyncio.gather(*tasks, return_exceptions=True)
            if not isinstance(result, asyncio.CancelledError)
        ]
        if failed:
            raise RuntimeError(f"{len(failed)} failed, for instance {failed[0]!r}")
    return done


# ------------------------------------------------------------------------- one measurement


def measure(
    count: int, *, share: float, clients: int, seconds: float, loop: str, directory: str
) -> Figures:
    """What so many workers do: operations per second, and processor time of each, by kind."""
    certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
    digest = certificate_hash(certfile).hex()
    fields = {
        "bind_host": "127.0.0.1",
        "bind_port": 0,
        "certfile": certfile,
        "keyfile": keyfile,
        "workers": count,
        "access_log": False,
        "retry": "off",
        "drain_timeout": 0,
        "close_timeout": 0.5,
        "max_connections_per_address": None,
        "max_sessions_per_address": None,
    }
    server = ServerProcess("-m", "tests.benchmark.workers", "--serve", json.dumps(fields), loop)
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        url = f"https://127.0.0.1:{server.port}/"
        pids = workers_of(server.pid)
        assert len(pids) == count
        move_client: Callable[[int], None] = _stay
        if share:
            for number, pid in enumerate(pids):
                stack.enter_context(group(str(number), share))(pid)
            move_client = stack.enter_context(group("clients", None))
        figures = {}
        for kind in ("connects", "streams"):
            done, cpu = run_clients([kind, url, digest, str(seconds), loop], pids, clients,
                                    move_client)  # fmt: skip
            figures[kind] = {"rate": done / seconds, "cpu": cpu / done}
        server.stop()
        server.assert_clean_end()
    return figures


def run_clients(
    arguments: list[str], pids: list[int], count: int, move: Callable[[int], None]
) -> tuple[int, float]:
    """Run the clients; return what they did, and what the workers used meanwhile."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmark.workers", "--load", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in processes:
            move(process.pid)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        time.sleep(WARM_UP)
        before = processor_time(pids)
        time.sleep(float(arguments[3]))
        cpu = processor_time(pids) - before
        done = sum(int(process.communicate(timeout=60)[0]) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return done, cpu


# ------------------------------------------------------------------------------- report


def table(rounds: dict[int, list[Figures]]) -> str:
    """Medians, and the ratio to the first column."""
    lines = [
        "| | " + " | ".join(f"{count} workers" for count in rounds) + " |",
        "|---" * (len(rounds) + 1) + "|",
    ]
    for kind in ("connects", "streams"):
        rates, costs = (
            [statistics.median(one[kind][name] for one in found) for found in rounds.values()]
            for name in ("rate", "cpu")
        )
        cells = [f"{rate:,.0f} ({rate / rates[0]:.2f}x)" for rate in rates]
        lines.append(f"| {kind} per second | {' | '.join(cells)} |")
        cells = [f"{cost * 1e6:.0f} µs ({cost / costs[0]:.2f}x)" for cost in costs]
        lines.append(f"| processor time of the workers for each | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure in turn and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--share", type=float, default=0.25, help="of a processor; 0: no limit")
    parser.add_argument("--clients", type=int, default=2, help="client processes")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=loop_factories(), default="asyncio")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=5, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.serve is not None:
        serve(json.loads(parsed.serve[0]), parsed.serve[1])
        return 0
    if parsed.load is not None:
        kind, url, digest, seconds, loop = parsed.load
        with asyncio.Runner(loop_factory=loop_factories()[loop]) as runner:
            print(runner.run(load(kind, url, digest, float(seconds))))
        return 0
    rounds: dict[int, list[Figures]] = {count: [] for count in parsed.workers}
    for number in range(parsed.rounds):
        for count, found in rounds.items():
            print(f"round {number + 1}: {count} workers", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="pywebtransport-workers-") as directory:
                found.append(
                    measure(
                        count,
                        share=parsed.share,
                        clients=parsed.clients,
                        seconds=parsed.seconds,
                        loop=parsed.loop,
                        directory=directory,
                    )
                )
    print(table(rounds))
    if parsed.json is not None:
        parsed.json.write_text(json.dumps(rounds, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
