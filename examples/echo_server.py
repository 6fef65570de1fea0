"""An echo server: sends every datagram and every stream back to the client."""

import argparse
import asyncio
import contextlib
import sys

from pywebtransport import (
    ServerApp,
    ServerConfig,
    WebTransportError,
    WebTransportReceiveStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("port", type=int, nargs="?", default=4433)
port = parser.parse_args().port
certfile, keyfile = generate_self_signed_cert(hostname="localhost")
app = ServerApp(config=ServerConfig.create(certfile=certfile, keyfile=keyfile))


async def echo_datagrams(session: WebTransportSession) -> None:
    with contextlib.suppress(WebTransportError):  # the session ended
        async for datagram in session.datagrams:
            await session.datagrams.send(datagram)


async def echo_stream(stream: WebTransportStream) -> None:
    async for data in stream:
        await stream.write(data)


async def echo_one_way(stream: WebTransportReceiveStream) -> None:
    data = await stream.read_all(max_size=1_000_000)
    async with await stream.session.create_unidirectional_stream() as reply:
        await reply.write(data)


@app.route("/echo")
async def echo(session: WebTransportSession) -> None:
    async with asyncio.TaskGroup() as tasks:  # its tasks end when the session ends
        tasks.create_task(echo_datagrams(session))
        tasks.create_task(session.serve_streams(echo_stream))
        tasks.create_task(session.serve_streams(echo_one_way, unidirectional=True))


if __name__ == "__main__":
    print(f"https://localhost:{port}/echo {certificate_hash(certfile).hex()}", flush=True)
    try:
        app.run(host="localhost", port=port)
    except WebTransportError as error:
        sys.exit(f"error: {error}")
