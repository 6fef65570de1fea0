"""What is measured: the jobs of client and server, the figures that count, and the targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "EXTRAS",
    "GROUPS",
    "SCENARIOS",
    "TARGETS",
    "Extra",
    "Metric",
    "Path",
    "Scenario",
    "Target",
]

GROUPS = {
    "bulk": "Bulk transfer",
    "requests": "Ping-pong and streams",
    "datagrams": "Datagrams",
    "connect": "Connecting",
    "memory": "Memory of idle sessions",
    "lossy": "Bulk transfer on a path with loss",
}


@dataclass(frozen=True, kw_only=True)
class Extra:
    """A program beside the scenarios: ``python -m tests.benchmark.NAME --output DIR [--quick]``.

    It writes ``NAME.json``, ``NAME.md`` and maybe plots, ``NAME-*.svg``.

    Attributes:
        name: Of the module and the files.
        title: Of its section.
        seconds: About how long it takes; the second figure is for the quick mode.
    """

    name: str
    title: str
    seconds: tuple[float, float]


EXTRAS = {
    extra.name: extra
    for extra in (
        Extra(name="core", title="The engine in C, without Python", seconds=(30.0, 8.0)),
        Extra(name="instructions", title="Instructions of this project", seconds=(150.0, 40.0)),
        Extra(name="growth", title="Growth", seconds=(240.0, 30.0)),
        Extra(name="asgi", title="Servers of ASGI applications", seconds=(240.0, 45.0)),
        Extra(name="fallback", title="Sessions over WebSocket", seconds=(150.0, 20.0)),
        Extra(name="imports", title="Importing the package", seconds=(6.0, 2.0)),
    )
}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a measurement; ``more`` tells which direction is good."""

    name: str
    title: str
    unit: str
    more: bool


@dataclass(frozen=True, kw_only=True)
class Path:
    """A path through the relay: loss probability each way, and seconds of delay each way."""

    loss: float
    delay: float


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One measurement.

    Attributes:
        name: On the command line and in JSON.
        group: Of ``GROUPS``: one section and one plot.
        title: In tables.
        job: For the programs, see ``peers/shared``.
        seconds: How long the measured part takes, and its warm-up.
        metrics: The figures to show; the first is the one of the plot.
        limit: Seconds for everything; what takes longer has failed.
        path: Through the relay, or None for the loopback interface as it is.
        quick: Fields of the job that the quick mode replaces; None leaves the scenario out.
        loops: Measured on both event loops; otherwise on asyncio only.
    """

    name: str
    group: str
    title: str
    job: dict[str, Any]
    seconds: tuple[float, float]
    metrics: tuple[Metric, ...]
    limit: float = 30.0
    path: Path | None = None
    quick: dict[str, Any] | None = field(default_factory=dict)
    loops: bool = True

    def job_for(self, quick: bool) -> dict[str, Any]:
        """The complete job."""
        seconds, warmup = self.seconds
        job = {**self.job, "seconds": seconds, "warmup": warmup}
        if quick:
            job |= {"seconds": seconds * 0.4, "warmup": warmup * 0.5, **(self.quick or {})}
        return job


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the ratio of this project to the best peer has to be."""

    scenario: str
    metric: str
    ratio: float
    against: str = ""
    no_loss: bool = False

    @property
    def other(self) -> str:
        """The metric of the peer to compare with."""
        return self.against or self.metric


RATE = Metric(name="rate", title="rate", unit="/s", more=True)
SPEED = Metric(name="rate", title="speed", unit="MiB/s", more=True)
DELIVERED = Metric(name="rate", title="delivered", unit="/s", more=True)
P50 = Metric(name="p50", title="p50", unit="us", more=False)
P99 = Metric(name="p99", title="p99", unit="us", more=False)
CPU_PER_GIB = Metric(name="cpu_per_gib", title="CPU of both ends", unit="s/GiB", more=False)
CPU_PER_OPERATION = Metric(
    name="cpu_per_operation", title="CPU of both ends", unit="us each", more=False
)
LOSS = Metric(name="loss", title="lost", unit="%", more=False)
# Resident memory counts pages that processes share in full, proportional memory in parts.
RSS = Metric(name="rss", title="server, resident, per session", unit="KiB", more=False)
PSS = Metric(name="pss", title="server, proportional, per session", unit="KiB", more=False)

_BULK = (SPEED, CPU_PER_GIB)
_LATENCY = (RATE, P50, P99, CPU_PER_OPERATION)
_MODERATE = Path(loss=0.001, delay=0.005)
_HEAVY = Path(loss=0.01, delay=0.005)


def _bulk(name: str, title: str, *, up: bool, size: int, parallel: int = 1) -> Scenario:
    ends = {"serve": "sink", "measure": "upload"} if up else {"serve": "source"}
    job = {"measure": "download", **ends, "size": size, "parallel": parallel}
    return Scenario(
        name=name, group="bulk", title=title, job=job, seconds=(1.5, 0.3), metrics=_BULK
    )


def _connect(name: str, title: str, *, at_once: int, await_close: bool = True) -> Scenario:
    job = {"serve": "accept", "measure": "connects", "at_once": at_once}
    return Scenario(
        name=name,
        group="connect",
        title=title,
        job={**job, "await_close": await_close},
        seconds=(1.5, 0.2),
        metrics=_LATENCY,
        quick={} if await_close else None,
    )


def _lossy(direction: str, name: str, path: Path) -> Scenario:
    up = direction == "upload"
    return Scenario(
        name=f"{direction}-loss-{name}",
        group="lossy",
        title=f"{direction}, {path.loss:.1%} loss each way, {path.delay * 2e3:g} ms",
        job={
            "serve": "sink" if up else "source",
            "measure": direction,
            "size": 1 << 16,
        },
        # What was written by the deadline still has to arrive: that takes seconds more.
        seconds=(2.0, 0.0),
        metrics=(SPEED,),
        path=path,
        loops=False,
        quick={"seconds": 0.8} if path is _HEAVY and up else None,
    )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        _bulk("upload", "upload, 64 KiB writes", up=True, size=1 << 16),
        _bulk("download", "download, 64 KiB writes", up=False, size=1 << 16),
        _bulk("upload-small", "upload, 1 KiB writes", up=True, size=1 << 10),
        _bulk("upload-large", "upload, 1 MiB writes", up=True, size=1 << 20),
        _bulk("upload-parallel", "upload, 10 streams", up=True, size=1 << 16, parallel=10),
        Scenario(
            name="ping-pong",
            group="requests",
            title="ping-pong, 64 B on one stream",
            job={"serve": "echo", "measure": "ping_pong", "size": 64},
            seconds=(1.2, 0.3),
            metrics=_LATENCY,
        ),
        Scenario(
            name="streams",
            group="requests",
            title="streams, 1 KiB echo, one at a time",
            job={"serve": "request", "measure": "streams", "size": 1024, "at_once": 1},
            seconds=(1.2, 0.3),
            metrics=_LATENCY,
        ),
        Scenario(
            name="streams-100",
            group="requests",
            title="streams, 1 KiB echo, 100 in flight",
            job={"serve": "request", "measure": "streams", "size": 1024, "at_once": 100},
            seconds=(1.2, 0.3),
            metrics=_LATENCY,
        ),
        Scenario(
            name="datagram-echo",
            group="datagrams",
            title="datagram echo, 64 B",
            job={"serve": "datagram_echo", "measure": "datagram_echo", "size": 64},
            seconds=(1.2, 0.3),
            metrics=(P50, P99, RATE, CPU_PER_OPERATION),
        ),
        Scenario(
            name="datagrams",
            group="datagrams",
            title="datagrams, 1000 B one way",
            job={"serve": "datagram_sink", "measure": "datagrams", "size": 1000},
            seconds=(1.0, 0.2),
            metrics=(DELIVERED, LOSS, CPU_PER_OPERATION),
        ),
        _connect("connect", "connect, session, close, one at a time", at_once=1),
        _connect("connect-50", "connect, session, close, 50 at a time", at_once=50),
        _connect(
            "connect-on",
            "connect, session, one at a time, close not awaited",
            at_once=1,
            await_close=False,
        ),
        Scenario(
            name="idle-sessions",
            group="memory",
            title="idle sessions, each on its connection",
            job={
                "serve": "hold",
                "measure": "idle_sessions",
                "count": 1000,
                "warmup_count": 20,
                "at_once": 20,
                "settle": 1.0,
            },
            seconds=(0.0, 0.0),
            metrics=(RSS, PSS),
            limit=90.0,
            loops=False,
            quick={"count": 200, "settle": 0.3},
        ),
        _lossy("upload", "0.1", _MODERATE),
        _lossy("download", "0.1", _MODERATE),
        _lossy("upload", "1", _HEAVY),
        _lossy("download", "1", _HEAVY),
    )
}

TARGETS = (
    Target(scenario="upload", metric="rate", ratio=4.0),
    Target(scenario="download", metric="rate", ratio=4.0),
    Target(scenario="ping-pong", metric="rate", ratio=2.5),
    Target(scenario="ping-pong", metric="p99", ratio=1.0, against="p50"),
    Target(scenario="streams", metric="rate", ratio=2.5),
    Target(scenario="streams-100", metric="rate", ratio=6.0),
    Target(scenario="datagram-echo", metric="p50", ratio=0.5),
    Target(scenario="datagram-echo", metric="p99", ratio=0.5),
    Target(scenario="datagrams", metric="rate", ratio=6.0, no_loss=True),
    Target(scenario="connect", metric="rate", ratio=1.4),
    Target(scenario="connect-50", metric="rate", ratio=1.5),
    Target(scenario="idle-sessions", metric="rss", ratio=0.8),
    Target(scenario="upload", metric="cpu_per_gib", ratio=0.35),
    Target(scenario="download", metric="cpu_per_gib", ratio=0.35),
)
