"""Real-time dashboard: what this machine does, in live charts.

    python examples/browser/dashboard.py

One task measures; a broker passes each sample to all pages. A page asks for the recent past when it
opens. A page that cannot keep up misses samples, and is told how many.
"""

import argparse
import asyncio
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from _page import page, parser, positive, run

from pywebtransport import WebTransportSession
from pywebtransport.pubsub import Broker
from pywebtransport.rpc import RpcManager

KEPT = 240
PROC = Path("/proc")


@dataclass
class Sample:
    """What the charts show, at one moment."""

    at: float  # seconds since 1970
    cpu: float  # percent of all processors
    memory: float  # percent in use
    received: float  # bytes a second, all network interfaces
    late: float  # milliseconds by which the event loop was late
    pages: int


class Meter:
    """Measures this machine since the last time."""

    def __init__(self) -> None:
        self._cpu = self._processors()
        self._received = self._bytes()
        self._at = time.monotonic()

    def sample(self, late: float, pages: int) -> Sample:
        """The averages since the last call, and what is now."""
        (busy, whole), received, now = self._processors(), self._bytes(), time.monotonic()
        used = 100 * (busy - self._cpu[0]) / max(1, whole - self._cpu[1])
        rate = (received - self._received) / max(1e-3, now - self._at)
        self._cpu, self._received, self._at = (busy, whole), received, now
        return Sample(time.time(), used, self._memory(), max(0.0, rate), 1000 * late, pages)

    def _processors(self) -> tuple[int, int]:
        times = [int(word) for word in (PROC / "stat").read_text().split("\n")[0].split()[1:9]]
        return sum(times) - times[3] - times[4], sum(times)  # all but idle and waiting

    def _memory(self) -> float:
        lines = (line.split() for line in (PROC / "meminfo").read_text().splitlines())
        values = {line[0]: int(line[1]) for line in lines}
        return 100 * (1 - values["MemAvailable:"] / values["MemTotal:"])

    def _bytes(self) -> int:
        lines = (PROC / "net" / "dev").read_text().splitlines()[2:]
        return sum(int(line.split(":")[1].split()[0]) for line in lines)


class Dashboard:
    """The recent samples, and the pages that watch."""

    def __init__(self, interval: float) -> None:
        self.broker = Broker(authorize=self.may)
        self.interval = interval
        self.samples: deque[Sample] = deque(maxlen=KEPT)
        self.pages = 0

    def may(self, session: WebTransportSession, action: str, topic: str) -> bool:
        """Pages may only watch."""
        return action == "subscribe" and topic == "samples"

    def recent(self) -> list[Sample]:
        """Remote method: the last samples, the oldest first."""
        return list(self.samples)

    async def handle(self, session: WebTransportSession) -> None:
        """Serve one page until it leaves."""
        rpc = RpcManager(session)
        rpc.register(self.recent)
        self.pages += 1
        try:
            await self.broker.serve(session, rpc=rpc)
        finally:
            self.pages -= 1

    async def measure(self) -> None:
        """Publish a sample now and then, as long as the server runs."""
        meter = Meter()
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self.interval
            await asyncio.sleep(self.interval)
            sample = meter.sample(loop.time() - due, self.pages)
            self.samples.append(sample)
            await self.broker.publish("samples", sample)


async def main(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    dashboard = Dashboard(arguments.interval)
    async with dashboard.broker, page(__file__, dashboard.handle, arguments):
        await dashboard.measure()


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--interval", type=positive, default=0.5)
    run(main(options.parse_args()))
