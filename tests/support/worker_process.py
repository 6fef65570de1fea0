"""A server with workers: ``python -m tests.support.worker_process FIELDS [LOOP]``.

FIELDS is a JSON object of ``ServerConfig`` fields. Logs to standard output and serves until
SIGTERM. Every bidirectional stream is answered, datagrams come back. Paths:

- ``/who``: the answer is ``PID INDEX CONNECTIONS``: who serves, and its connections.
- ``/stats``: the answer is the index (null without workers), the workers that died, and what the
  engine counted, as JSON.
- ``/exit``: the worker ends with status 3, without a word.
- ``/certificates``: the stream has two lines, certificate and key to use from now on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys

import uvloop

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.exceptions import WebTransportError
from pywebtransport.server import current_worker
from pywebtransport.session import WebTransportSession

logger = logging.getLogger("pywebtransport.server")


def make_app(config: ServerConfig) -> ServerApp:
    """Handlers are closures, as in many programs: nothing here can be pickled."""
    app = ServerApp(config=config)

    @app.on_startup
    def started() -> None:
        logger.info("started in %d", os.getpid())

    @app.on_shutdown
    async def ended() -> None:
        logger.info("ended in %d", os.getpid())

    @app.route("/who")
    async def who(session: WebTransportSession) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(echo_datagrams(session))
            async for stream in session.incoming_bidirectional_streams():
                await stream.read_all()
                worker = current_worker()
                assert worker is not None
                text = f"{os.getpid()} {worker.index} {len(app.server.connections)}"
                await stream.write_all(text.encode())

    @app.route("/stats")
    async def stats(session: WebTransportSession) -> None:
        async for stream in session.incoming_bidirectional_streams():
            await stream.read_all()
            figures = await app.server.get_server_stats()
            worker = current_worker()
            await stream.write_all(
                json.dumps(
                    {
                        "index": None if worker is None else worker.index,
                        "workers_died": figures["workers_died"],
                        **figures["engine"],
                    }
                ).encode()
            )

    @app.route("/exit")
    async def leave(session: WebTransportSession) -> None:
        async for _ in session.incoming_bidirectional_streams():
            os._exit(3)

    @app.route("/certificates")
    async def certificates(session: WebTransportSession) -> None:
        async for stream in session.incoming_bidirectional_streams():
            certfile, keyfile = (await stream.read_all()).decode().splitlines()
            app.server.reload_certificates(certfile=certfile, keyfile=keyfile)
            await stream.write_all(b"done")

    return app


async def echo_datagrams(session: WebTransportSession) -> None:
    """Until the session ends."""
    try:
        while True:
            await session.datagrams.send(await session.datagrams.receive())
    except WebTransportError:
        return


def main() -> None:
    """Serve until SIGTERM."""
    fields, loop_name = [*sys.argv[1:], "asyncio"][:2]
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.INFO)
    app = make_app(ServerConfig(**json.loads(fields)))
    app.run(loop_factory=(uvloop if loop_name == "uvloop" else asyncio).new_event_loop)


if __name__ == "__main__":
    main()
