"""A server with an ASGI application: ``python -m tests.support.asgi_process FIELDS [LOOP]``.

FIELDS is a JSON object of ``ServerConfig`` fields. Logs to standard output and serves until
SIGTERM. Paths:

- ``/who``: the answer is ``PID INDEX``: the worker that serves it.
- ``/exit``: the worker ends with status 3, without a word.
- ``/large``: the answer has as many bytes as the query says.
- ``/wait``: the answer comes when a file has been made whose name is the query.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import uvloop

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.server import current_worker

_PIECE = 1 << 16


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The application."""
    if scope["path"] == "/exit":
        os._exit(3)
    if scope["path"] == "/large":
        size = int(scope["query_string"])
        length = (b"content-length", b"%d" % size)
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        for _ in range(0, size, _PIECE):
            await send({"type": "http.response.body", "body": bytes(_PIECE), "more_body": True})
        await send({"type": "http.response.body"})
        return
    worker = current_worker()
    text = f"{os.getpid()} {None if worker is None else worker.index}".encode()
    length = (b"content-length", b"%d" % len(text))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    if scope["path"] == "/wait":
        logging.getLogger("pywebtransport.server").info("waiting")
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        while not Path(scope["query_string"].decode()).exists():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": text})


def main() -> None:
    """Serve until SIGTERM."""
    fields, loop_name = [*sys.argv[1:], "asyncio"][:2]
    logger = logging.getLogger("pywebtransport.server")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.INFO)
    app = ServerApp(config=ServerConfig(**json.loads(fields)))
    app.mount(application, lifespan="off", tcp=True)
    app.run(loop_factory=(uvloop if loop_name == "uvloop" else asyncio).new_event_loop)


if __name__ == "__main__":
    main()
