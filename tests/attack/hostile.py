"""The attacker's process: ``python -m tests.attack.hostile OPTIONS``, with JSON as argument.

Options: ``attack``, ``port``, and ``certfile`` and ``keyfile`` for a hostile server. Prints
``{"ready": true, "port": ...}`` when all is prepared, begins with the command ``go``, and
``stop`` ends it with an account.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import traceback
from typing import Any

from tests.field.commands import say

from .field import Field
from .registry import load


class Orders:
    """Commands of the parent, one at a time."""

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader()

    async def open(self) -> None:
        """Listen to standard input."""
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), sys.stdin)

    async def wait(self) -> None:
        """For the next one, or the end."""
        await self._reader.readline()


async def main(options: dict[str, Any]) -> None:
    """Attack until told to stop."""
    orders = Orders()
    await orders.open()
    ready = asyncio.Event()

    async def begin() -> None:
        say({"ready": True, "port": field.port})
        await orders.wait()
        ready.set()

    field = Field(options["port"], begin, options.get("files", {}))
    attack = load()[options["attack"]]
    task = asyncio.ensure_future(attack.run(field))
    began = asyncio.ensure_future(ready.wait())
    await asyncio.wait([task, began], return_when=asyncio.FIRST_COMPLETED)
    if not ready.is_set():
        task.result()
        raise RuntimeError(f"{attack.name} ended before it began")
    stop = asyncio.ensure_future(orders.wait())
    await asyncio.wait([stop])
    task.cancel()
    problem = ""
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await task
        except Exception as error:
            traceback.print_exc()
            problem = f"{type(error).__name__}: {error}"
    say({**field.report(), "problem": problem})


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
