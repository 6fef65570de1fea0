"""ASGI over HTTP/3 beside other servers, each on one processor.

``python -m tests.benchmark.asgi [--only PART ...] [--seconds N] [--rounds N] [--loop NAME]
[--output DIR]``

A server runs on one processor and the client on the others. Rates are those that the client saw.
Processor time is the server's, so that "per core" is what it does when nothing else limits it:
it depends less on what the client can do, and on other work of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pywebtransport.utils import generate_self_signed_cert
from tests.support.processes import ROOT

from ..growth import loop_factories
from ..machine import describe
from ..workers import workers_of

__all__ = ["CONTENDERS", "Contender", "main", "measure"]

CONNECTIONS, IN_FLIGHT = 32, 8
WARM_UP = 1.0
MIB = 1 << 20
PARTS = ("requests", "bodies", "memory")
_START = 30.0
_LIMIT = 180.0

Figures = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A server with an application.

    Attributes:
        title: In tables.
        server: Of ``serve.py``; also the package that must be installed.
        version: Of HTTP.
        application: Of ``serve.py``.
    """

    title: str
    server: str
    version: str
    application: str = "bare"


CONTENDERS = {
    "bare": Contender("pywebtransport, HTTP/3, bare ASGI", "ours", "3"),
    "starlette": Contender("pywebtransport, HTTP/3, Starlette", "ours", "3", "starlette"),
    "hypercorn-h3": Contender("hypercorn, HTTP/3 (aioquic), bare ASGI", "hypercorn", "3"),
    "hypercorn-h2": Contender("hypercorn, HTTP/2, bare ASGI", "hypercorn", "2"),
    "uvicorn-h1": Contender("uvicorn, HTTP/1.1, bare ASGI", "uvicorn", "1.1"),
    "granian-h1": Contender("granian (Rust), HTTP/1.1, bare ASGI", "granian", "1.1"),
    "granian-h2": Contender("granian (Rust), HTTP/2, bare ASGI", "granian", "2"),
}


class Failure(Exception):
    """A server or client did not do what it should; says why."""


@contextlib.contextmanager
def serving(one: Contender, loop: str, directory: str) -> Iterator[dict[str, Any]]:
    """Run a server on the last processor; yields what its client has to know."""
    certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
    processors = sorted(os.sched_getaffinity(0))
    port = _free_port()
    options = {
        "server": one.server,
        "version": one.version,
        "application": one.application,
        "loop": loop,
        "port": port,
        "certfile": certfile,
        "keyfile": keyfile,
        "processor": processors[-1],
    }
    with (Path(directory) / "server.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmark.asgi.serve", json.dumps(options)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n" or not _listens(one, port, process):
                log.seek(0)
                raise Failure(f"it did not start: {log.read()[-500:]}")
            pids = [*{process.pid, *workers_of(process.pid)}]
            yield {"port": port, "pids": pids, "processors": processors[:-1] or processors}
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(one: Contender, port: int, process: subprocess.Popen[str]) -> bool:
    """Wait until others listen on TCP; ours has said that it is ready."""
    end = time.monotonic() + _START
    while one.server != "ours" and time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        time.sleep(0.05)
    return one.server == "ours"


def _free_port() -> int:
    """A port that is free for TCP and for UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


def measure(one: Contender, job: dict[str, Any], loop: str) -> Figures:
    """Start a server, let a client do a job, and return its figures.

    Raises:
        Failure: With the reason.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pywebtransport-asgi-") as directory,
        serving(one, loop, directory) as server,
    ):
        module = "load_h3" if one.version == "3" else "load_tcp"
        whole = {"version": one.version, "connections": CONNECTIONS, **job, **server}
        command = [sys.executable, "-m", f"tests.benchmark.asgi.{module}", json.dumps(whole)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"not complete after {_LIMIT:g} s") from None
        if done.returncode:
            raise Failure(done.stderr.strip()[-500:])
    found: Figures = json.loads(done.stdout)
    if "error" in found:
        raise Failure(found["error"])
    return found


def _jobs(options: argparse.Namespace) -> Iterator[tuple[str, Contender, dict[str, Any]]]:
    """What to measure: part and title, server, job."""
    if "requests" in options.only:
        load = {"name": "requests", "in_flight": IN_FLIGHT, "seconds": options.seconds}
        load["warmup"] = min(WARM_UP, options.seconds)
        for name, one in CONTENDERS.items():
            yield f"requests/{name}", one, load
    ours = CONTENDERS["bare"]
    if "bodies" in options.only:
        for way in ("download", "upload"):
            for session in (False, True):
                job = {
                    "name": way,
                    "size": options.size * MIB,
                    "session": session,
                    "connections": 1,
                }
                yield f"bodies/{way}/{'session' if session else 'request'}", ours, job
    if "memory" in options.only:
        yield "memory/request", ours, {"name": "waiting", "count": options.idle}


def tables(rounds: list[dict[str, Figures]]) -> str:
    """Medians as Markdown."""

    def median(name: str, figure: str) -> float:
        return statistics.median(one[name][figure] for one in rounds if figure in one.get(name, {}))

    def has(name: str) -> bool:
        return any("error" not in one.get(name, {"error": ""}) for one in rounds)

    lines: list[str] = []
    names = list(dict.fromkeys(name for one in rounds for name in one))
    if any(name.startswith("requests/") for name in names):
        lines += [
            f"{CONNECTIONS} connections, {IN_FLIGHT} requests at a time on each (HTTP/1.1: one), "
            "TLS, a body of 13 bytes:",
            "",
            "| server | requests/s | server's processor time each | per core | p50 | p99 |",
            "|---|---|---|---|---|---|",
        ]
    for name in names:
        part, _, key = name.partition("/")
        if part == "requests" and has(name):
            each = statistics.median(
                one[name]["cpu"] / one[name]["count"] for one in rounds if "cpu" in one[name]
            )
            lines.append(
                f"| {CONTENDERS[key].title} | {median(name, 'rate'):,.0f} | {each * 1e6:.1f} µs | "
                f"{1 / each:,.0f}/s | {median(name, 'p50') / 1e3:.2f} ms | "
                f"{median(name, 'p99') / 1e3:.2f} ms |"
            )
    if has("bodies/download/request"):
        lines += [
            "",
            "| large bodies | request | stream of a session | ratio | processor time, ratio |",
            "|---|---|---|---|---|",
        ]
        for way in ("download", "upload"):
            names = [f"bodies/{way}/{kind}" for kind in ("request", "session")]
            rates = [median(name, "rate") for name in names]
            costs = [median(name, "cpu") for name in names]
            shown = " | ".join(f"{rate / MIB:,.0f} MiB/s" for rate in rates)
            ratios = f"{rates[0] / rates[1]:.2f} | {costs[0] / costs[1]:.2f}"
            lines.append(f"| {way} | {shown} | {ratios} |")
    if has("memory/request"):
        kib = median("memory/request", "bytes") / 1024
        lines += ["", f"An idle request takes {kib:.1f} KiB of the server's memory."]
    errors = {name: one[name]["error"] for one in rounds for name in one if "error" in one[name]}
    lines += ["", *(f"- {name}: {error}" for name, error in errors.items())]
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.asgi")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    parser.add_argument("--server", nargs="+", choices=CONTENDERS, help="these servers")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--size", type=int, default=256, help="of large bodies, in MiB")
    parser.add_argument("--idle", type=int, default=2000, help="requests that wait")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=loop_factories(), default="asyncio")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--output", type=Path, help="directory for asgi.json and asgi.md")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.size = 1, 1.0, 64
    rounds: list[dict[str, Figures]] = []
    for _ in range(options.rounds):
        found: dict[str, Figures] = {}
        for name, one, job in _jobs(options):
            part, _, key = name.partition("/")
            if options.server and part == "requests" and key not in options.server:
                continue
            if one.server != "ours" and importlib.util.find_spec(one.server) is None:
                found[name] = {"error": f"{one.server} is not installed"}
                continue
            try:
                found[name] = measure(one, job, options.loop)
            except Failure as error:
                found[name] = {"error": str(error)}
            print(name, found[name], file=sys.stderr, flush=True)
        rounds.append(found)
    text = tables(rounds)
    print(text, end="")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        document = {"machine": describe(), "loop": options.loop, "rounds": rounds}
        (options.output / "asgi.json").write_text(json.dumps(document, indent=1) + "\n")
        (options.output / "asgi.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
