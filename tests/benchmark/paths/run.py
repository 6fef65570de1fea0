"""Build ``paths.c`` and run it: one path, some flows, one seed, figures."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Outcome", "Route", "build", "simulate"]

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[2] / "build" / "benchmark-paths"
_TIME_LIMIT = 300.0
# Seconds until a flow counts as in its stride.
WARM = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A path.

    Attributes:
        rtt: Milliseconds, without queues.
        mbit: Megabits per second of its bottleneck.
        buffer: Of the bottleneck, in what the path holds (rate times RTT).
        loss: Probability, each way.
        jitter: Milliseconds that a packet takes longer at most, without reordering.
        reorder: Probability that a packet is overtaken by others.
        police: Megabits per second of a token bucket, 0 without one.
        burst: Its bytes.
        outage: Milliseconds in the middle of the run in which nothing passes.
    """

    rtt: float
    mbit: float = 50.0
    buffer: float = 1.0
    loss: float = 0.0
    jitter: float = 0.0
    reorder: float = 0.0
    police: float = 0.0
    burst: float = 0.0
    outage: float = 0.0

    def arguments(self) -> list[str]:
        """For ``paths``."""
        # Less than ten packets are no buffer.
        queue = max(15_000, int(self.mbit * 1e6 / 8 * self.rtt / 1e3 * self.buffer))
        names = ("rtt", "mbit", "loss", "jitter", "reorder", "police", "burst", "outage")
        return [f"queue={queue}", *(f"{name}={getattr(self, name)}" for name in names)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one run.

    Attributes:
        version: Of ngtcp2.
        mbit: Of each flow, what arrived in each second, in megabits.
        delay_p50, delay_p99: Milliseconds that datagrams took beside the first flow; -1: none.
        dropped: Packets that the way to the server lost.
        packets: That all flows sent.
    """

    version: str
    mbit: list[list[float]]
    delay_p50: float
    delay_p99: float
    dropped: int
    packets: int

    def rate(self, flow: int = 0, start: int = WARM, end: int | None = None) -> float:
        """Mean over a part of the run, in Mbit/s."""
        return statistics.fmean(self.mbit[flow][start:end])

    def worst(self, flow: int = 0, start: int = WARM) -> float:
        """The slowest second."""
        return min(self.mbit[flow][start:])


def build(folder: Path = OUT) -> Path:
    """Compile the program into a folder if its sources changed.

    Raises:
        subprocess.CalledProcessError: It does not compile; ``stderr`` says why.
    """
    command = ["make", "--silent", "-C", str(HERE), f"OUT={folder}"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder / "paths"


def simulate(
    program: Path,
    route: Route,
    flows: Sequence[str],
    *,
    seconds: int,
    seed: int,
    more: Mapping[str, float] | None = None,
) -> Outcome:
    """Run once.

    Args:
        program: From ``build``.
        route: The path.
        flows: The congestion control of each connection.
        seconds: Of virtual time.
        seed: Decides which packets are lost.
        more: ``late`` and ``small``, see paths.c.

    Raises:
        subprocess.CalledProcessError: It failed, or a connection did; ``stderr`` says why.
    """
    command = [str(program), f"flows={','.join(flows)}", f"seconds={seconds}", f"seed={seed}"]
    command += route.arguments() + [f"{name}={value}" for name, value in (more or {}).items()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIME_LIMIT)
    found = json.loads(done.stdout)
    if any(flow["wrong"] for flow in found["flows"]):
        raise subprocess.CalledProcessError(1, command, stderr="bytes arrived that were not sent")
    return Outcome(
        version=found["version"],
        mbit=[flow["mbit"] for flow in found["flows"]],
        delay_p50=found["delay_p50"],
        delay_p99=found["delay_p99"],
        dropped=found["dropped"],
        packets=sum(flow["packets"] for flow in found["flows"]),
    )
