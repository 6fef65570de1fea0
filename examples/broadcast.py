"""A ticker: a server sends the time to every session, a client shows what it gets.

    python examples/broadcast.py server
    python examples/broadcast.py client URL HASH   # as the server prints them

Datagrams to slow receivers are dropped, never queued without bound; nobody waits for anybody.
"""

import asyncio
import contextlib
import sys
import time

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.datagram import DatagramBroadcaster
from pywebtransport.session import WebTransportSession
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

INTERVAL = 0.1


def make_app(certfile: str, keyfile: str, broadcaster: DatagramBroadcaster) -> ServerApp:
    app = ServerApp(config=ServerConfig.create(certfile=certfile, keyfile=keyfile))

    @app.route("/ticker")
    async def join(session: WebTransportSession) -> None:
        await broadcaster.add_transport(session.datagrams)  # leaves by itself at its end

    return app


async def tick(broadcaster: DatagramBroadcaster) -> None:
    while True:
        await broadcaster.broadcast(f"{time.time():.3f}", ttl=INTERVAL)
        await asyncio.sleep(INTERVAL)


async def serve(port: int) -> None:
    certfile, keyfile = generate_self_signed_cert(hostname="localhost")
    async with DatagramBroadcaster() as broadcaster, asyncio.TaskGroup() as tasks:
        tasks.create_task(tick(broadcaster))
        async with make_app(certfile, keyfile, broadcaster) as app:
            print(f"https://localhost:{port}/ticker {certificate_hash(certfile).hex()}", flush=True)
            await app.serve(host="localhost", port=port)


async def watch(url: str, certificate_hash: str, count: int = 5) -> None:
    config = ClientConfig.create(server_certificate_hashes=[certificate_hash])
    async with WebTransportClient(config=config) as client, await client.connect(url) as session:
        for _ in range(count):
            print((await session.datagrams.receive(timeout=5)).decode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        asyncio.run(watch(sys.argv[2], sys.argv[3]))
    else:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(4433))
