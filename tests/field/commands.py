"""The other end of ``child.Child``: lines of JSON on standard input and output, in an event loop.

Programs run this file's neighbours by path, with another checkout's package on their path: nothing
here imports from ``tests``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["Turns", "figures", "say", "serve_commands"]

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def say(answer: dict[str, Any]) -> None:
    """Print one line for the parent."""
    print(json.dumps(answer), flush=True)


async def serve_commands(answer: Answer) -> None:
    """Answer commands until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            say(await answer(json.loads(line)))
    finally:
        transport.close()


def figures() -> dict[str, Any]:
    """What a leak would make grow, beside memory and descriptors; collects garbage first."""
    gc.collect()
    return {"tasks": len(asyncio.all_tasks()), "objects": len(gc.get_objects())}


class Turns:
    """How long the event loop was away at a time."""

    def __init__(self, interval: float = 0.005) -> None:
        self._interval = interval
        self._longest = 0.0

    async def watch(self) -> None:
        """For ever."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + self._interval
            await asyncio.sleep(self._interval)
            self._longest = max(self._longest, clock() - due)

    async def take(self) -> float:
        """Seconds of the longest turn since the last call."""
        await asyncio.sleep(2 * self._interval)  # one that has just ended is seen only now
        longest, self._longest = self._longest, 0.0
        return longest
