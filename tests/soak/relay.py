"""A path that loses packets: ``python -m tests.soak.relay OPTIONS``, with JSON as argument.

Options: ``port`` of the server, ``loss`` (probability, each way) and ``seed``. Prints
``{"port": ...}``; the command ``figures`` tells what it did.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tests.field.commands import say, serve_commands
from tests.integration.relay import Faults, Relay


async def main(options: dict[str, Any]) -> None:
    """Relay until standard input ends."""
    faults = Faults(drop=options["loss"])
    async with Relay(("127.0.0.1", options["port"]), seed=options["seed"], up=faults) as relay:

        async def answer(command: dict[str, Any]) -> dict[str, Any]:
            return dict(relay.counts)

        say({"port": relay.port})
        await serve_commands(answer)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
