"""A member of a bus in a process of its own: ``... -m tests.support.event_bus_process URL LOOP``.

Announces itself with an event ``here``, answers each ``ping`` with a ``pong`` that tells its
process and what it was sent, and ends at an event ``end``.
"""

from __future__ import annotations

import asyncio
import os
import sys

import uvloop

from pywebtransport.events import Event, EventBus, RedisBackend


async def take_part(url: str) -> None:
    """Live on the bus until it is over."""
    over = asyncio.Event()
    async with EventBus(RedisBackend(url)) as bus:

        async def answer(event: Event) -> None:
            await bus.emit("pong", {"process": os.getpid(), "data": event.data})

        bus.subscribe("ping", answer)
        bus.subscribe("end", lambda event: over.set())
        await bus.emit("here", {"process": os.getpid()})
        await over.wait()


if __name__ == "__main__":
    _, redis_url, loop_name = sys.argv
    factory = uvloop.new_event_loop if loop_name == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(take_part(redis_url))
