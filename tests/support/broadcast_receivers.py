"""Many receivers of datagrams: ``python -m tests.support.broadcast_receivers URL CA COUNT``.

Opens COUNT sessions, each on a connection of its own, prints ``ready``, and counts the datagrams
of each until the server closes the sessions. Then prints one line of JSON: ``received``, how many
sessions got how many datagrams; ``wrong``, datagrams that are not numbered as they should be.

With a fourth argument ``asyncio`` or ``uvloop`` its own loop is of that kind.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import uvloop

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import WebTransportError
from pywebtransport.session import WebTransportSession

CONNECTING = 64


async def count(session: WebTransportSession, received: Counter[int]) -> int:
    """Read to the end of the session; return how many were no 4-byte number and padding."""
    total = wrong = 0
    try:
        while True:
            for data in await session.datagrams.receive_many():
                total += 1
                wrong += len(data) < 4 or data[4:].count(0) != len(data) - 4
    except WebTransportError:
        received[total] += 1
        return wrong


async def run(url: str, ca: str, sessions: int) -> None:
    """Connect, report, count, report."""
    config = ClientConfig(
        ca_certs=ca, connect_timeout=50.0, allow_pooling=False, max_connections=sessions
    )
    received: Counter[int] = Counter()
    places = asyncio.Semaphore(CONNECTING)
    async with WebTransportClient(config=config) as client, asyncio.TaskGroup() as group:
        readers: list[asyncio.Task[int]] = []

        async def open_one() -> None:
            async with places:
                session = await client.connect(url)
            readers.append(group.create_task(count(session, received)))

        await asyncio.gather(*(open_one() for _ in range(sessions)))
        print("ready", flush=True)
        wrong = sum(await asyncio.gather(*readers))
    print(json.dumps({"received": received, "wrong": wrong}), flush=True)


def main() -> None:
    """Run to the end."""
    url, ca, sessions, loop_name = [*sys.argv[1:], "asyncio"][:4]
    factory = uvloop.new_event_loop if loop_name == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run(url, ca, int(sessions)))


if __name__ == "__main__":
    main()
