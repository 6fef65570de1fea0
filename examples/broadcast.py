"""A ticker: a server sends the time to every session, and a client shows what it receives.

Datagrams for slow receivers are dropped when their queue is full, so nobody waits for a slow one.
"""

import argparse
import asyncio
import contextlib
import sys
import time

from pywebtransport import ServerApp, ServerConfig, WebTransportError, connect
from pywebtransport.datagram import DatagramBroadcaster
from pywebtransport.session import WebTransportSession
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

INTERVAL = 0.1


def make_app(certfile: str, keyfile: str, broadcaster: DatagramBroadcaster) -> ServerApp:
    app = ServerApp(config=ServerConfig.create(certfile=certfile, keyfile=keyfile))

    @app.route("/ticker")
    async def join(session: WebTransportSession) -> None:
        await broadcaster.add_transport(session.datagrams)  # removed when the session ends

    return app


async def tick(broadcaster: DatagramBroadcaster) -> None:
    while True:
        await broadcaster.broadcast(f"{time.time():.3f}", ttl=INTERVAL)
        await asyncio.sleep(INTERVAL)


async def serve(port: int) -> None:
    certfile, keyfile = generate_self_signed_cert(hostname="localhost")
    async with (
        DatagramBroadcaster() as broadcaster,
        make_app(certfile, keyfile, broadcaster) as app,
    ):
        await app.listen(host="localhost", port=port)
        print(f"https://localhost:{port}/ticker {certificate_hash(certfile).hex()}", flush=True)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(tick(broadcaster))
            tasks.create_task(app.server.serve_forever())


async def watch(url: str, certificate_hash: str, count: int = 5) -> None:
    async with connect(url, server_certificate_hashes=[certificate_hash]) as session:
        for _ in range(count):
            print((await session.datagrams.receive(timeout=5)).decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    server = commands.add_parser("server", help="send the time to all sessions")
    server.add_argument("port", type=int, nargs="?", default=4433)
    server.set_defaults(run=serve)
    client = commands.add_parser(
        "client", help="show what arrives; takes the URL and hash that the server prints"
    )
    client.add_argument("url")
    client.add_argument("certificate_hash", metavar="hash")
    client.set_defaults(run=watch)
    arguments = vars(parser.parse_args())
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(arguments.pop("run")(**arguments))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
