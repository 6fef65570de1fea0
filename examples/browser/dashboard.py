"""Real-time dashboard: what this server does, in live charts.

    python examples/browser/dashboard.py

One task measures; a broker passes each sample to all pages. A page asks for the recent past when it
opens. A page that cannot keep up misses samples, and is told how many.
"""

import argparse
import asyncio
import time
from collections import deque
from dataclasses import dataclass

from _page import page, parser, positive, run

from pywebtransport import WebTransportSession
from pywebtransport.pubsub import Broker
from pywebtransport.rpc import RpcManager
from pywebtransport.server import WebTransportServer

KEPT = 240


@dataclass
class Sample:
    """What the charts show, at one moment."""

    at: float  # seconds since 1970
    pages: int  # that watch
    sent: float  # bytes a second, in UDP packets
    cpu: float  # percent of one processor that this server uses
    late: float  # milliseconds by which the event loop was late


class Meter:
    """Measures a server since the last time."""

    def __init__(self, server: WebTransportServer) -> None:
        self._server = server
        self._at, self._cpu, self._sent = time.monotonic(), time.process_time(), 0

    async def sample(self, late: float, pages: int) -> Sample:
        """The averages since the last call, and what is now."""
        sent = (await self._server.get_server_stats())["engine"]["bytes_sent"]
        now, cpu = time.monotonic(), time.process_time()
        passed = max(1e-3, now - self._at)
        rate, used = (sent - self._sent) / passed, 100 * (cpu - self._cpu) / passed
        self._at, self._cpu, self._sent = now, cpu, sent
        return Sample(time.time(), pages, rate, used, 1000 * late)


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

    async def measure(self, server: WebTransportServer) -> None:
        """Publish a sample now and then, as long as the server runs."""
        meter = Meter(server)
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self.interval
            await asyncio.sleep(self.interval)
            sample = await meter.sample(loop.time() - due, self.pages)
            self.samples.append(sample)
            await self.broker.publish("samples", sample)


async def main(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    dashboard = Dashboard(arguments.interval)
    async with dashboard.broker, page(__file__, dashboard.handle, arguments) as server:
        await dashboard.measure(server)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--interval", type=positive, default=0.5)
    run(main(options.parse_args()))
