"""A server that tells of its garbage collector: ``python -m tests.support.gc_process HOW FIELDS``.

``HOW`` is ``run`` (``ServerApp.run``, with workers if ``FIELDS``, JSON, say so), ``run_workers``,
or ``serve`` (embedded: in an event loop of the program's own). A stream of ``/`` is answered with
the number of frozen objects.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys

from pywebtransport import ServerApp, ServerConfig, WebTransportSession
from pywebtransport.server import run_workers


async def tell(session: WebTransportSession) -> None:
    """One answer for each stream."""
    async for stream in session.incoming_bidirectional_streams():
        await stream.read_all()
        await stream.write_all(str(gc.get_freeze_count()).encode())


def main(how: str, fields: str) -> None:
    """Serve until a signal comes."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    config = ServerConfig(**json.loads(fields))
    app = ServerApp(config=config)
    app.route("/")(tell)

    async def serve() -> None:
        async with app:
            await app.serve()

    if how == "run":
        app.run()
    elif how == "run_workers":
        run_workers(serve, config=config)
    else:
        asyncio.run(serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
