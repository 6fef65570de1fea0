"""What the programs in Python have in common: JSON, one object per line.

``{"id", "op", ...}`` comes in on standard input, ``{"id", "result"}`` or ``{"id", "error"}`` goes
out on standard output, in whatever order operations end. The operations are
those of ``Far`` in ``tests/interop/link.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

__all__ = ["Peer", "serve"]


class Peer(Protocol):
    """Its methods are the operations."""

    async def finish(self) -> None:
        """Release everything."""


def _reply(number: int, **outcome: Any) -> None:
    line = json.dumps({"id": number, **outcome}) + "\n"
    os.write(1, line.encode())


async def _run(peer: Peer, number: int, operation: str, arguments: dict[str, Any]) -> None:
    method: Callable[..., Awaitable[Any]] = getattr(peer, operation)
    try:
        _reply(number, result=await method(**arguments))
    except Exception as error:
        _reply(number, error=f"{type(error).__name__}: {error}")


async def serve(make: Callable[[], Peer]) -> None:
    """Carry out operations until standard input ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    peer = make()
    running: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        message = json.loads(line)
        task = asyncio.create_task(_run(peer, message.pop("id"), message.pop("op"), message))
        running.add(task)
        task.add_done_callback(running.discard)
    for task in running:
        task.cancel()
    await peer.finish()
