"""A server that uses all processors: ``python workers.py [PORT [WORKERS]]``.

It tells each client which process serves its session.
"""

import argparse
import os
import sys

from pywebtransport import (
    ServerApp,
    ServerConfig,
    WebTransportError,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.server import current_worker
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("port", type=int, nargs="?", default=4433)
parser.add_argument("workers", type=int, nargs="?", default=os.cpu_count() or 1)
arguments = parser.parse_args()
certfile, keyfile = generate_self_signed_cert(hostname="localhost")
app = ServerApp(config=ServerConfig.create(certfile=certfile, keyfile=keyfile))


@app.on_startup
async def connect_database() -> None:
    """Runs in every worker process, after the fork."""


@app.route("/who")
async def who(session: WebTransportSession) -> None:
    worker = current_worker()
    index = worker.index if worker else 0  # with workers=1 there is no worker process

    async def answer(stream: WebTransportStream) -> None:
        await stream.write_all(f"worker {index}, process {os.getpid()}")

    await session.serve_streams(answer)


if __name__ == "__main__":
    print(f"https://localhost:{arguments.port}/who {certificate_hash(certfile).hex()}", flush=True)
    try:
        app.run(host="localhost", port=arguments.port, workers=arguments.workers)
    except WebTransportError as error:
        sys.exit(f"error: {error}")
