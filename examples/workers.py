"""A server on all processors: ``python workers.py [PORT [WORKERS]]``.

Each session is told which process serves it.
"""

import os
import sys

from pywebtransport import ServerApp, ServerConfig, WebTransportSession
from pywebtransport.server import current_worker
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

port = int(sys.argv[1]) if len(sys.argv) > 1 else 4433
workers = int(sys.argv[2]) if len(sys.argv) > 2 else os.cpu_count() or 1
certfile, keyfile = generate_self_signed_cert(hostname="localhost")
app = ServerApp(config=ServerConfig.create(certfile=certfile, keyfile=keyfile))


@app.on_startup
async def connect_database() -> None:
    """Runs in every worker, after the processes have parted."""


@app.route("/who")
async def who(session: WebTransportSession) -> None:
    worker = current_worker()
    index = worker.index if worker else 0  # with workers=1 there are none
    async for stream in session.incoming_bidirectional_streams():
        async with stream:
            await stream.write_all(f"worker {index}, process {os.getpid()}")


if __name__ == "__main__":
    print(f"https://localhost:{port}/who {certificate_hash(certfile).hex()}", flush=True)
    app.run(host="localhost", port=port, workers=workers)
