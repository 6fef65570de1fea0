"""Growth: does an operation cost the same among many streams and beside many idle sessions?

``python -m tests.benchmark.growth --output DIR [--quick]`` writes ``growth.json``,
``growth.md`` and, where matplotlib is installed, a plot per group, ``growth-*.svg``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.memory import Memory

from .growth_plots import draw
from .growth_series import Series, markdown
from .growth_work import Bench, Busy, WrongWork, bench, echo_new, echo_open, echo_queues

__all__ = ["FULL", "PARTS", "QUICK", "GrowthError", "Plan", "main", "measure", "measure_part"]

MICRO = 1e6
KIB = 1024
# Nothing is added over time; what is measured is all of the process.
MEMORY_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        loops: Event loops.
        repetitions: Of each point, at least.
        streams: Numbers of concurrent streams.
        echoes: Per point and repetition.
        sessions: Numbers of idle sessions.
        pings: Round trips of the busy session per point and repetition.
        mebibytes: Bulk transfer of the busy session per point and repetition.
        watched: Idle sessions whose memory is watched.
        rounds: Measurements of it, a keep-alive or more apart.
        keep_alive: Seconds between the keep-alives of the watched sessions.
    """

    loops: tuple[str, ...] = ("asyncio", "uvloop")
    repetitions: int = 5
    streams: tuple[int, ...] = (1, 10, 100, 1000)
    echoes: int = 20_000
    sessions: tuple[int, ...] = (10, 100, 1000, 10_000)
    pings: int = 5000
    mebibytes: int = 128
    watched: int = 2000
    rounds: int = 10
    keep_alive: float = 1.0


FULL = Plan()
QUICK = Plan(
    loops=("asyncio",),
    repetitions=3,
    echoes=4000,
    sessions=(10, 100, 1000),
    pings=1000,
    mebibytes=32,
    watched=300,
    rounds=5,
    keep_alive=0.5,
)

Say = Callable[[str], None]


class GrowthError(Exception):
    """A measurement failed; the message has what it said."""


def loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops that are installed."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    try:
        import uvloop
    except ImportError:
        return factories
    return {**factories, "uvloop": uvloop.new_event_loop}


def measure(plan: Plan, *, quick: bool) -> list[Series]:
    """Everything in the plan, each part on each loop in a process of its own.

    What one part has freed would serve the next, and its memory could not be told.

    Raises:
        GrowthError: A part failed.
    """
    installed = loop_factories()
    found: list[Series] = []
    for loop in plan.loops:
        if loop not in installed:
            say(f"{loop} is not installed: left out")
            continue
        for part in PARTS:
            command = [sys.executable, "-m", "tests.benchmark.growth", "--part", part, loop]
            done = subprocess.run(
                [*command, "--quick"] if quick else command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise GrowthError(f"{part} on {loop}: exit status {done.returncode}")
            found += [Series.from_dict(data) for data in json.loads(done.stdout)]
    return found


def measure_part(plan: Plan, part: str, loop: str) -> list[Series]:
    """One of ``PARTS`` on one event loop, in this process."""
    with asyncio.Runner(loop_factory=loop_factories()[loop]) as runner:
        return runner.run(PARTS[part](plan, loop, say))


def say(text: str) -> None:
    """Tell what is measured now."""
    print(text, file=sys.stderr, flush=True)


async def streams(plan: Plan, loop: str, say: Say) -> list[Series]:
    """Echoes on more and more streams of one session; repetitions take turns."""
    label, unit = "concurrent streams", "µs CPU/echo"
    new = Series("new-streams", "echo on a new stream", "streams", label, unit, loop)
    opened = Series("open-streams", "echo on an open stream", "streams", label, unit, loop)
    # Not ours: how much a program grows that does nothing but wake its tasks.
    queues = Series("queues", "echo over asyncio.Queue", "streams", label, unit, loop, judged=False)
    async with bench() as place, Busy.open(place) as busy:
        await echo_new(busy.session, plan.streams[0], plan.echoes // 10)
        for _ in range(plan.repetitions):
            for count in plan.streams:
                say(f"{loop}: {count} streams")
                new.add(count, (await echo_new(busy.session, count, plan.echoes)).cpu * MICRO)
                opened.add(count, (await echo_open(busy.session, count, plan.echoes)).cpu * MICRO)
                queues.add(count, (await echo_queues(count, plan.echoes)).cpu * MICRO)
    return [new, opened, queues]


async def sessions(plan: Plan, loop: str, say: Say) -> list[Series]:
    """One busy session beside more and more idle ones, and then beside fewer and fewer."""
    label = "idle sessions, each on its own connection"
    ping = Series("busy-ping", "64 B ping-pong", "sessions", label, "µs CPU/round trip", loop)
    bulk = Series("busy-bulk", "bulk upload", "sessions", label, "µs CPU/MiB", loop)
    p50 = Series("busy-p50", "64 B ping-pong, p50", "latency", label, "µs", loop)
    # The tail belongs to the machine as much as to us: it is shown, not judged.
    p99 = Series("busy-p99", "64 B ping-pong, p99", "latency", label, "µs", loop, judged=False)

    async def at(place: Bench, busy: Busy, count: int) -> None:
        say(f"{loop}: {count} idle sessions")
        await place.set_idle(count)
        gc.collect()
        await busy.ping_pong(plan.pings // 10)
        for _ in range(plan.repetitions):
            cost = await busy.ping_pong(plan.pings)
            ping.add(count, cost.cpu * MICRO)
            p50.add(count, cost.p50 * MICRO)
            p99.add(count, cost.p99 * MICRO)
            bulk.add(count, (await busy.bulk(plan.mebibytes)).cpu * MICRO)

    async with bench() as place, Busy.open(place) as busy:
        await busy.bulk(plan.mebibytes)
        for count in (*plan.sessions, *reversed(plan.sessions[:-1])):
            await at(place, busy, count)
    return [ping, bulk, p50, p99]


async def memory(plan: Plan, loop: str, say: Say) -> list[Series]:
    """Memory of idle sessions while keep-alives pass; what is measured is all of the process."""
    label = "keep-alives of every session"

    def series(name: str, title: str, unit: str) -> Series:
        return Series(name, title, "memory", label, unit, loop, tolerance=MEMORY_TOLERANCE)

    heap = series("idle-heap", "C heap", "KiB/session")
    blocks = series("idle-blocks", "Python objects", "blocks/session")
    resident = series("idle-resident", "resident", "KiB/session")
    async with bench(keep_alive=plan.keep_alive) as place:
        await place.set_idle(10)
        before = Memory.now()
        await place.set_idle(10 + plan.watched)
        for number in range(plan.rounds):
            say(f"{loop}: {plan.watched} idle sessions, keep-alive {number + 1} of {plan.rounds}")
            await _keep_alive(place, plan.keep_alive)
            now = Memory.now()
            heap.add(number + 1, (now.heap - before.heap) / plan.watched / KIB)
            blocks.add(number + 1, (now.blocks - before.blocks) / plan.watched)
            resident.add(number + 1, (now.resident - before.resident) / plan.watched / KIB)
    return [heap, blocks, resident]


async def _keep_alive(place: Bench, interval: float) -> None:
    """Return once every idle connection has sent something.

    Raises:
        WrongWork: One did not, for ten intervals.
    """
    before = place.idle_packets()
    for _ in range(100):
        await asyncio.sleep(interval / 10)
        now = place.idle_packets()
        if len(now) == len(before) and all(a < b for a, b in zip(before, now, strict=True)):
            return
    raise WrongWork("an idle session sent no keep-alive, or is gone")


PARTS = {"streams": streams, "sessions": sessions, "memory": memory}


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the files."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.growth", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", type=Path, help="directory of the files")
    where.add_argument(
        "--part", nargs=2, metavar=("PART", "LOOP"), help="measure one part; print it as JSON"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: half a minute")
    parsed = parser.parse_args(arguments)
    plan = QUICK if parsed.quick else FULL
    if parsed.part is not None:
        part, loop = parsed.part
        if part not in PARTS or loop not in loop_factories():
            parser.error(
                f"--part {part} {loop}: parts are {', '.join(PARTS)}, "
                f"loops {', '.join(loop_factories())}"
            )
        print(json.dumps([one.to_dict() for one in measure_part(plan, part, loop)]))
        return 0
    try:
        found = measure(plan, quick=parsed.quick)
    except GrowthError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    parsed.output.mkdir(parents=True, exist_ok=True)
    document = {
        "python": platform.python_version(),
        "machine": platform.platform(),
        "quick": parsed.quick,
        "flat": all(one.is_flat for one in found if one.judged),
        "series": [one.to_dict() for one in found],
    }
    (parsed.output / "growth.json").write_text(json.dumps(document, indent=2) + "\n")
    table = markdown(found)
    (parsed.output / "growth.md").write_text(table)
    print(table)
    try:
        draw(found, parsed.output)
    except ImportError:
        say("no plots: matplotlib is not installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
